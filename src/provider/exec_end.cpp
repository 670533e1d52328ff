#include "provider/exec_end.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "provider/confinement.h"
#include "provider/json_text.h"
#include "provider/upstream_failure.h"

namespace turnpike::provider {
namespace {

using policy::FailureClass;

constexpr std::size_t kMessageBytesMax = 500;

// Paths tell about the server and nothing to the user: each absolute path becomes its last name.
std::string without_folders(std::string_view text) {
  std::string result;
  bool fresh = true;  // at the beginning of a word
  for (std::size_t at = 0; at < text.size();) {
    if (!fresh || text[at] != '/') {
      fresh = std::string_view{" \t\n\"'`(=:[<,"}.find(text[at]) != std::string_view::npos;
      result += text[at++];
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(" \t\n\"'`)=:]>,", at), text.size());
    const std::string_view path = text.substr(at, end - at);
    result += path.substr(path.rfind('/') + 1);
    at = end;
    fresh = false;
  }
  return result;
}

std::string megabytes(std::uint64_t bytes) {
  return bytes % (1U << 20U) == 0 ? fmt::format("{} MiB", bytes >> 20U) : fmt::format("{} bytes", bytes);
}

Outcome too_many_processes(const std::string& program, const policy::ExecTask& limits) {
  return failure(FailureClass::kBadOutput,
                 fmt::format("{} started more than {} processes", program, limits.processes_max));
}

// What shells and the C library say (in the language that we set) when the kernel refuses a process or
// thread.
bool was_refused_processes(const std::string& error) {
  return error.contains("Cannot fork") || error.contains("Resource temporarily unavailable");
}

std::optional<Outcome> judge_status(const std::string& program, const ProcessReport& report,
                                    const policy::ExecTask& limits, bool bounded) {
  const std::string words = last_words(report.error);
  if (report.status > 0 &&
      std::ranges::count(limits.invalid_exits, static_cast<std::uint32_t>(report.status)) > 0) {
    return failure(FailureClass::kInvalidInput, fmt::format("{} refused the input{}", program, words));
  }
  switch (report.status) {
    case 0:
      return std::nullopt;
    case 64:
    case 65:
    case 66:
      return failure(FailureClass::kInvalidInput, fmt::format("{} refused the input{}", program, words));
    case 77:
    case 78:
    case 126:
    case 127:
      return failure(FailureClass::kMisconfigured, fmt::format("{} cannot run here{}", program, words));
    case 128 + SIGXFSZ:
      return failure(FailureClass::kBadOutput, fmt::format("{} wrote a file larger than {}", program,
                                                           megabytes(limits.file_bytes_max)));
    case 128 + SIGXCPU:
      return failure(FailureClass::kTimeout, fmt::format("{} used too much processor time", program));
    default:
      break;
  }
  if (report.status > 128 && report.status < 128 + NSIG)
    return failure(FailureClass::kTransient,
                   fmt::format("{} was ended by signal {}{}", program, report.status - 128, words));
  if (bounded && was_refused_processes(report.error)) return too_many_processes(program, limits);
  return failure(FailureClass::kTransient,
                 fmt::format("{} failed with status {}{}", program, report.status, words));
}

}  // namespace

Failure refused_try(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidRequest:
      return failure(FailureClass::kInvalidInput, error.message);
    case ErrorCode::kConfiguration:
      return failure(FailureClass::kMisconfigured, error.message);
    default:
      return failure(FailureClass::kTransient, error.message);
  }
}

std::string program_name(const std::string& program) {
  return std::filesystem::path{program}.filename().string();
}

std::string last_words(const std::string& error) {
  const std::string_view tail =
      std::string_view{error}.substr(error.size() - std::min<std::size_t>(error.size(), 4096));
  const std::string words = clean_text(without_folders(tail), kMessageBytesMax, true);
  return words.empty() ? words : fmt::format(": {}", words);
}

std::optional<Outcome> judge_end(const std::string& program, const ProcessReport& report,
                                 const policy::ExecTask& limits, bool bounded) {
  switch (report.end) {
    case ProcessEnd::kExited:
      return judge_status(program, report, limits, bounded);
    case ProcessEnd::kTimedOut:
      return failure(FailureClass::kTimeout, fmt::format("{} did not end in time", program));
    case ProcessEnd::kCancelled:
      return Cancelled{};
    case ProcessEnd::kOutputTooLong:
      return failure(FailureClass::kBadOutput,
                     fmt::format("{} printed more than {}", program, megabytes(limits.output_bytes_max)));
    case ProcessEnd::kTooMuchMemory:
      return failure(FailureClass::kBadOutput,
                     fmt::format("{} used more memory than {}", program, megabytes(limits.memory_bytes_max)));
    case ProcessEnd::kTooManyProcesses:
      return too_many_processes(program, limits);
    case ProcessEnd::kTooMuchDisk:
      return failure(FailureClass::kBadOutput, fmt::format("{} wrote more files than it may", program));
  }
  return std::nullopt;
}

bool did_not_start(const ProcessReport& report) {
  if (report.status == 0) return false;
  if (report.error.starts_with("bwrap: ")) return true;
  return (report.status == 126 || report.status == 127) &&
         (report.error.starts_with("prlimit: ") || report.error.starts_with("setpriv: "));
}

Outcome sandbox_failed(const std::string& program, const ProcessReport& report) {
  const bool cannot_execute = report.error.contains("execvp") || report.error.contains("failed to execute");
  return failure(cannot_execute ? FailureClass::kMisconfigured : FailureClass::kTransient,
                 fmt::format("{} could not be started in its sandbox{}", program_name(program),
                             last_words(report.error)));
}

std::vector<std::string> program_environment(const std::string& home, const std::string& marker) {
  return {
      fmt::format("PATH={}", kProgramPath),
      fmt::format("HOME={}", home),
      fmt::format("TMPDIR={}", home),  // on disk and counted, unlike /tmp of the sandbox
      "LANG=C.UTF-8",
      "MALLOC_ARENA_MAX=2",  // address space is limited: an arena for each thread reserves 64 MiB
      "VIPS_CONCURRENCY=1",  // one try, one processor
      marker,
  };
}

}  // namespace turnpike::provider
