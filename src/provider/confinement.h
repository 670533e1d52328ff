// Where a local program runs: in a bubblewrap sandbox (no network, read-only system, its own processes) where
// that works, else bare. Where the server is root and util-linux is there, a sandboxed program is not: each
// try is a user of its own without any privilege. Elsewhere it is the server's user in a user namespace.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace turnpike::provider {

enum class Confinement : std::uint8_t {
  kBubblewrap,
  kNone,  // process group, limits and nothing more
};

// Whether bubblewrap is installed and works here; looked at once a process, by running it (tens of
// milliseconds, blocking: call it at start). Error: the reason, for the operator.
Result<void> bubblewrap_works();

// Who keeps a sandbox's programs from starting more processes than they may.
enum class ProcessBound : std::uint8_t {
  kOwnUser,    // the kernel, which counts those of the try's own user (the server is root)
  kNamespace,  // the kernel, which counts those of the sandbox's user namespace (Linux 5.14)
  kWatched,    // nobody but our watch, which looks some 25 times a second: a fork bomb outruns it
};
// The best that works here, looked at together with bubblewrap_works(), by running into the bound.
ProcessBound process_bound();

// What one try's programs may see.
struct View {
  std::filesystem::path work_dir;  // absolute; the only place that can be written
  // Host path, and where the program finds it.
  std::vector<std::pair<std::filesystem::path, std::filesystem::path>> inputs;
  // Files and folders that it may read where they are, unless they are a part of the system.
  std::vector<std::filesystem::path> reads{};
  std::optional<std::filesystem::path> tries{};  // a second folder that can be written, at kSandboxTriesDir
  std::filesystem::path program;                 // absolute
  std::uint32_t processes_max = 0;  // and threads, those of all its processes; not bound where kWatched
  ProcessBound bound = ProcessBound::kWatched;
  uid_t user = 0;             // kOwnUser: whom it runs as; owns work_dir
  std::vector<gid_t> groups;  // kOwnUser: the groups that the user is in besides its own
};

// Inside of a sandbox the work folder and the inputs have names that tell nothing about this machine.
constexpr const char* kSandboxWorkDir = "/work";
constexpr const char* kSandboxInputDir = "/input";
constexpr const char* kSandboxTriesDir = "/tries";
// The descriptor to which bubblewrap reports the process that is the sandbox's init.
constexpr int kInfoDescriptor = 3;

// `command` (its first element the program's absolute path) as bubblewrap runs it.
std::vector<std::string> confine(const View& view, const std::vector<std::string>& command);

// Whether a sandbox has the program anyway, as a part of the system.
bool is_system_program(const std::filesystem::path& program);

// The absolute path of a program named as a command names it (looked up in kProgramPath unless it has a
// slash); empty if there is none that can be executed.
std::filesystem::path find_program(const std::string& name);
constexpr const char* kProgramPath = "/usr/local/bin:/usr/bin:/bin";

}  // namespace turnpike::provider
