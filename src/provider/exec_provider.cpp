// Local programs: each step of a task is one process, and its files are the result.
//
// How a program's end is read:
//   exit 0                                   it worked, if its outputs are there
//   64 (EX_USAGE), 65 (EX_DATAERR), 66, and
//   what the task lists as invalid_exits     invalid_input: the program blames what it was given (sysexits.h)
//   77, 78, 126, 127, or it cannot start     misconfigured
//   SIGXFSZ; too much output, memory, disk   bad_output: it would do so again
//   SIGXCPU, deadline                        timeout
//   too many processes                       bad_output: killed where only our watch bounds them; where the
//                                            kernel does, it is refused more, goes on, and fails saying so
//   any other status or signal               transient

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <csignal>

#include "provider/exec_task.h"
#include "provider/json_text.h"
#include "provider/measure.h"
#include "provider/process.h"
#include "provider/produced.h"
#include "provider/provider_kinds.h"
#include "provider/sandbox_user.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kMessageBytesMax = 500;
constexpr std::uint64_t kFolderFactor = 4;  // a work folder may hold so many times the largest file
constexpr Duration kLongest = std::chrono::hours(24);

Failure failure(FailureClass kind, std::string message) {
  return Failure{.failure = kind, .message = std::move(message), .retry_after = {}};
}

// A refusal of ours before anything ran.
Failure refused(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidRequest:
      return failure(FailureClass::kInvalidInput, error.message);
    case ErrorCode::kConfiguration:
      return failure(FailureClass::kMisconfigured, error.message);
    default:
      return failure(FailureClass::kTransient, error.message);
  }
}

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

// The last lines of what a program said on standard error, for the user.
std::string last_words(const std::string& error) {
  const std::string_view tail =
      std::string_view{error}.substr(error.size() - std::min<std::size_t>(error.size(), 4096));
  const std::string words = clean_text(without_folders(tail), kMessageBytesMax, true);
  return words.empty() ? words : fmt::format(": {}", words);
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

// nullopt: the step worked. `bounded`: the kernel bounds its processes.
std::optional<Outcome> judge(const std::string& program, const ProcessReport& report,
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

std::string extension_of(const ExpectedOutput& output) {
  const std::string extension = std::filesystem::path{output.file}.extension().string();
  return extension.size() > 1 ? extension.substr(1) : "bin";
}

// Looks at what is really there: a program's output may be missing, a link out of its folder, or a pipe.
Result<boost::json::object> take_output(const ExpectedOutput& output, const Request& request,
                                        std::uint64_t bytes_max, Success& success) {
  const std::filesystem::path path = request.work_dir / output.file;
  const auto bad = [&output](std::string_view what) {
    return fail(ErrorCode::kUpstreamError, fmt::format("the program's output {} {}", output.name, what));
  };
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!file) return bad("is missing or is no plain file");
  struct stat status{};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return bad("is no plain file");
  // A second name could be a file of somebody else's.
  if (status.st_nlink != 1) return bad("is linked elsewhere");
  if (status.st_size == 0) return bad("is empty");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > bytes_max) return bad("is too large");
  const auto measured = measure(file.get(), size);
  if (!measured) return bad("is broken");
  if (is_measured_type(output.mime) && measured->mime != output.mime)
    return bad(fmt::format("is no {}", output.mime));
  // What is kept belongs to the server, whoever made it.
  if (status.st_uid != ::geteuid() && ::fchown(file.get(), ::geteuid(), ::getegid()) != 0)
    return fail_errno("an output could not be taken over", errno);
  success.files.push_back({output.name, path, output.mime, extension_of(output)});
  return take_facts(*measured, success);
}

class ExecProvider final : public Provider {
 public:
  ExecProvider(std::string name, Confinement confinement)
      : name_(std::move(name)), confinement_(confinement) {}

  void add_task(const std::string& task, const policy::ExecTask& config, std::vector<std::string>& warnings) {
    auto parsed = parse_task(config);
    if (!parsed) {
      warnings.push_back(
          fmt::format("provider {}: task {} cannot run: {}", name_, task, parsed.error().message));
      return;
    }
    for (const ParsedStep& step : parsed->steps) {
      if (find_program(step.program).empty())
        warnings.push_back(
            fmt::format("provider {}: program {} of task {} is not found", name_, step.program, task));
    }
    tasks_.emplace(task, std::move(*parsed));
  }

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    // Cancellation is looked at between steps and by run_process: an await must not throw on the way.
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    Outcome outcome = co_await run_steps(std::move(request), std::move(progress));
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return outcome;
  }

  asio::awaitable<Result<void>> probe(Duration) override {
    for (const auto& [name, task] : tasks_) {
      for (const ParsedStep& step : task.steps) {
        if (find_program(step.program).empty())
          co_return fail(ErrorCode::kUnavailable, fmt::format("program {} is not found", step.program));
      }
    }
    co_return Result<void>{};
  }

 private:
  asio::awaitable<Outcome> run_steps(Request request, Progress progress) const {
    const auto found = tasks_.find(request.task);
    if (found == tasks_.end())
      co_return failure(FailureClass::kMisconfigured,
                        fmt::format("provider {} has no program for task {}", name_, request.task));
    const ParsedTask& task = found->second;
    const Duration limit = request.timeout > Duration::zero() ? request.timeout : kLongest;
    const auto deadline = SteadyClock::now() + std::min(limit, task.config.time_max);
    auto expansion = Expansion::make(task, request, confinement_);
    if (!expansion) co_return refused(expansion.error());

    auto lodging = lodge(request);
    if (!lodging) co_return refused(lodging.error());

    std::string last_output;
    for (std::size_t i = 0; i < task.steps.size(); ++i) {
      auto ended = co_await run_step(task, i, request, *expansion, *lodging, deadline, last_output);
      if (ended) co_return std::move(*ended);
      if (progress) {
        const auto percent = static_cast<int>(100 * (i + 1) / task.steps.size());
        progress(percent, fmt::format("step {} of {}", i + 1, task.steps.size()));
      }
    }
    co_return conclude(task, request, *expansion, last_output);
  }

  // Who all steps of one try run as; nobody in particular where the sandbox needs no user of its own.
  using Lodging = std::optional<SandboxUser>;

  Result<Lodging> lodge(const Request& request) const {
    if (!confined() || process_bound() != ProcessBound::kOwnUser) return Lodging{};
    auto user = SandboxUser::take();
    if (!user) return std::unexpected(user.error());
    if (auto given = hand_over(request.work_dir, user->id()); !given) return std::unexpected(given.error());
    return Lodging{std::move(*user)};
  }

  bool confined() const { return confinement_ == Confinement::kBubblewrap; }

  // nullopt: it worked, or was not wanted.
  asio::awaitable<std::optional<Outcome>> run_step(const ParsedTask& task, std::size_t index,
                                                   const Request& request, const Expansion& expansion,
                                                   const Lodging& lodging, SteadyClock::time_point deadline,
                                                   std::string& last_output) const {
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) co_return Cancelled{};
    const ParsedStep& step = task.steps[index];
    const auto wanted = expansion.wanted(step);
    if (!wanted) co_return refused(wanted.error());
    if (!*wanted) co_return std::nullopt;
    auto plan = plan_step(task, index, request, expansion, lodging, deadline);
    if (!plan) co_return refused(plan.error());
    auto report = co_await run_process(std::move(*plan));
    if (!report) co_return refused(report.error());
    last_output = std::move(report->output);
    if (confined() && report->end == ProcessEnd::kExited && did_not_start(*report))
      co_return sandbox_failed(step.program, *report);
    const bool bounded = confined() && process_bound() != ProcessBound::kWatched;
    co_return judge(program_name(step), *report, task.config, bounded);
  }

  static std::string program_name(const ParsedStep& step) {
    return std::filesystem::path{step.program}.filename().string();
  }

  // The words of those that lead into the sandbox: the program has not run.
  static bool did_not_start(const ProcessReport& report) {
    if (report.status == 0) return false;
    if (report.error.starts_with("bwrap: ")) return true;
    return (report.status == 126 || report.status == 127) &&
           (report.error.starts_with("prlimit: ") || report.error.starts_with("setpriv: "));
  }

  static Outcome sandbox_failed(const std::string& program, const ProcessReport& report) {
    const bool cannot_execute = report.error.contains("execvp") || report.error.contains("failed to execute");
    return failure(cannot_execute ? FailureClass::kMisconfigured : FailureClass::kTransient,
                   fmt::format("{} could not be started in its sandbox{}",
                               std::filesystem::path{program}.filename().string(), last_words(report.error)));
  }

  Result<ProcessPlan> plan_step(const ParsedTask& task, std::size_t index, const Request& request,
                                const Expansion& expansion, const Lodging& lodging,
                                SteadyClock::time_point deadline) const {
    const ParsedStep& step = task.steps[index];
    const std::filesystem::path program = find_program(step.program);
    if (program.empty())
      return fail(ErrorCode::kConfiguration, fmt::format("program {} is not installed", program_name(step)));
    auto arguments = expansion.arguments(step);
    if (!arguments) return std::unexpected(arguments.error());
    arguments->insert(arguments->begin(), program.string());
    auto text = index == 0 ? expansion.stdin_text(task) : Result<std::string>{};
    if (!text) return std::unexpected(text.error());

    const policy::ExecTask& limits = task.config;
    ProcessPlan plan;
    plan.confinement = confinement_;
    plan.marker = fmt::format("TURNPIKE_TRY={}", to_string(request.try_id));
    plan.work_dir = request.work_dir;
    plan.deadline = deadline;
    plan.output_bytes_max = limits.output_bytes_max;
    plan.memory_bytes_max = limits.memory_bytes_max;
    plan.folder_bytes_max = limits.file_bytes_max * kFolderFactor;
    plan.processes_max = limits.processes_max;
    plan.spawn.arguments = std::move(*arguments);
    if (confined()) {
      auto view = view_of(request, expansion, lodging, program, limits);
      if (!view) return std::unexpected(view.error());
      plan.spawn.arguments = confine(*view, plan.spawn.arguments);
      plan.spawn.stream_owner = view->user;
    }
    plan.spawn.environment =
        environment(confined() ? kSandboxWorkDir : request.work_dir.string(), plan.marker);
    plan.spawn.stdin_text = std::move(*text);
    plan.spawn.work_dir = request.work_dir;
    plan.spawn.wants_info = confined();
    plan.spawn.memory_bytes_max = limits.memory_bytes_max;
    plan.spawn.file_bytes_max = limits.file_bytes_max;
    // Our own deadline comes first; this one holds if we are not there to keep it, for each of several
    // threads.
    plan.spawn.cpu_max = std::chrono::ceil<std::chrono::seconds>(limits.time_max) * 4;
    return plan;
  }

  static Result<View> view_of(const Request& request, const Expansion& expansion, const Lodging& lodging,
                              const std::filesystem::path& program, const policy::ExecTask& limits) {
    View view{.work_dir = request.work_dir,
              .inputs = expansion.inputs(),
              .program = program,
              .processes_max = limits.processes_max,
              .bound = process_bound(),
              .user = 0,
              .groups = {}};
    if (!lodging) return view;
    std::vector<std::filesystem::path> reads;
    for (const auto& [host, inside] : view.inputs) reads.push_back(host);
    if (!is_system_program(program)) reads.push_back(program);
    auto groups = groups_to_read(reads);
    if (!groups) return std::unexpected(groups.error());
    view.user = lodging->id();
    view.groups = std::move(*groups);
    return view;
  }

  static std::vector<std::string> environment(const std::string& home, const std::string& marker) {
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

  static Outcome conclude(const ParsedTask& task, const Request& request, const Expansion& expansion,
                          const std::string& last_output) {
    Success success;
    boost::json::object output;
    if (task.config.stdout_json) {
      auto said = parse_json(last_output);
      if (!said || !said->is_object())
        return failure(FailureClass::kBadOutput, "the program did not print a JSON object");
      output = std::move(said->get_object());
    }
    for (const ExpectedOutput& expected : expansion.outputs()) {
      auto facts = take_output(expected, request, task.config.file_bytes_max, success);
      if (!facts) return failure(FailureClass::kBadOutput, facts.error().message);
      if (expansion.outputs().size() > 1) {
        output[expected.name] = std::move(*facts);
      } else {
        for (auto& [key, value] : *facts) output[key] = value;
      }
    }
    if (request.task == "speech")
      add_usage(success, "characters", count_characters(expansion.text_field("text")));
    if (auto put = put_output(success, boost::json::serialize(output), request.work_dir); !put)
      return failure(FailureClass::kTransient, put.error().message);
    return success;
  }

  const std::string name_;
  const Confinement confinement_;
  std::map<std::string, ParsedTask, std::less<>> tasks_;
};

}  // namespace

std::unique_ptr<Provider> make_exec_provider(const policy::Provider& config, Confinement confinement,
                                             std::vector<std::string>& warnings) {
  auto provider = std::make_unique<ExecProvider>(config.name, confinement);
  for (const auto& [task, settings] : config.exec_tasks) provider->add_task(task, settings, warnings);
  return provider;
}

}  // namespace turnpike::provider
