#include "provider/exec_output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "provider/measure.h"
#include "provider/produced.h"
#include "provider/spawn.h"

namespace turnpike::provider {
namespace {

std::string extension_of(const ExpectedOutput& output) {
  const std::string extension = std::filesystem::path{output.file}.extension().string();
  return extension.size() > 1 ? extension.substr(1) : "bin";
}

}  // namespace

Result<boost::json::object> take_output(const ExpectedOutput& output, const std::filesystem::path& folder,
                                        std::uint64_t bytes_max, Success& success) {
  const std::filesystem::path path = folder / output.file;
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

Result<void> take_outputs(const std::vector<ExpectedOutput>& outputs, const std::filesystem::path& folder,
                          std::uint64_t bytes_max, boost::json::object& said, Success& success) {
  for (const ExpectedOutput& expected : outputs) {
    auto facts = take_output(expected, folder, bytes_max, success);
    if (!facts) return std::unexpected(facts.error());
    if (outputs.size() > 1) {
      said[expected.name] = std::move(*facts);
    } else {
      for (auto& [key, value] : *facts) said[key] = value;
    }
  }
  return {};
}

}  // namespace turnpike::provider
