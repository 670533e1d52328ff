#include "provider/confinement.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <system_error>

#include "provider/sandbox_user.h"
#include "provider/spawn.h"

namespace turnpike::provider {
namespace {

constexpr const char* kBubblewrap = "/usr/bin/bwrap";
constexpr std::chrono::seconds kProbeTimeout{5};
constexpr const char* kScratchBytesMax = "16777216";  // of /tmp, which is memory

// Read-only, and only where the machine has them: what programs need to start and to draw text.
constexpr std::array kSystemFiles = {"/etc/ld.so.cache",     "/etc/alternatives", "/etc/fonts",
                                     "/etc/localtime",       "/etc/mime.types",   "/etc/ImageMagick-6",
                                     "/var/cache/fontconfig"};

void add(std::vector<std::string>& arguments, std::initializer_list<std::string> more) {
  arguments.insert(arguments.end(), more);
}

// The folders that lead to a file; bubblewrap would make them such that only root may enter.
void add_folders(std::vector<std::string>& arguments, const std::filesystem::path& folder) {
  std::filesystem::path at = "/";
  for (const auto& name : folder.relative_path()) {
    at /= name;
    add(arguments, {"--perms", "0755", "--dir", at.string()});
  }
}

// /bin, /lib and their like are links into /usr on a merged system and folders elsewhere.
void add_system(std::vector<std::string>& arguments) {
  add(arguments, {"--ro-bind", "/usr", "/usr"});
  for (const char* name : {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}) {
    std::error_code error;
    const auto status = std::filesystem::symlink_status(name, error);
    if (std::filesystem::is_symlink(status)) {
      const auto target = std::filesystem::read_symlink(name, error);
      if (!error) add(arguments, {"--symlink", target.string(), name});
    } else if (std::filesystem::is_directory(status)) {
      add(arguments, {"--ro-bind", name, name});
    }
  }
  for (const char* name : kSystemFiles) {
    add_folders(arguments, std::filesystem::path(name).parent_path());
    add(arguments, {"--ro-bind-try", name, name});
  }
}

const std::string& prlimit_program() {
  static const std::string path = find_program("prlimit").string();
  return path;
}

const std::string& setpriv_program() {
  static const std::string path = find_program("setpriv").string();
  return path;
}

// Root stays root until setpriv: a user namespace would make each user of it the server's, and the kernel
// bounds none of root's processes. What bubblewrap keeps for that (to become another, and to enter a folder
// of that other's) setpriv drops, and nothing of it can be got back.
void add_isolation(std::vector<std::string>& arguments, ProcessBound bound) {
  if (bound != ProcessBound::kOwnUser) return add(arguments, {"--unshare-all", "--cap-drop", "ALL"});
  add(arguments, {"--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
                  "--cap-drop", "ALL"});
  for (const char* capability : {"CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_DAC_READ_SEARCH"})
    add(arguments, {"--cap-add", capability});
}

std::string group_argument(const std::vector<gid_t>& groups) {
  return groups.empty() ? "--clear-groups" : fmt::format("--groups={}", fmt::join(groups, ","));
}

// Both replace themselves by what follows. The sandbox's init is in the user namespace and counts there.
void add_bound(std::vector<std::string>& arguments, const View& view) {
  if (view.bound == ProcessBound::kWatched) return;
  if (view.bound == ProcessBound::kOwnUser) {
    add(arguments,
        {setpriv_program(), fmt::format("--reuid={}", view.user), fmt::format("--regid={}", view.user),
         group_argument(view.groups), "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"});
  }
  const std::uint32_t most = view.processes_max + (view.bound == ProcessBound::kNamespace ? 1 : 0);
  add(arguments, {prlimit_program(), fmt::format("--nproc={}:{}", most, most), "--"});
}

void add_read_only(std::vector<std::string>& arguments, const std::filesystem::path& path) {
  add_folders(arguments, path.parent_path());
  add(arguments, {"--ro-bind", path.string(), path.string()});
}

// A folder for the probe, removed with this object.
class ProbeFolder {
 public:
  ProbeFolder() {
    std::error_code error;
    auto pattern = (std::filesystem::temp_directory_path(error) / "turnpike-probe-XXXXXX").string();
    if (::mkdtemp(pattern.data()) != nullptr) path_ = pattern;
  }
  ProbeFolder(const ProbeFolder&) = delete;
  ProbeFolder& operator=(const ProbeFolder&) = delete;
  ~ProbeFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Runs a shell script in a sandbox just as a try's program is; its exit status.
Result<int> run_script(View view, const char* script) {
  view.program = find_program("sh");
  if (view.work_dir.empty()) return fail(ErrorCode::kIo, "no temporary folder can be made");
  Spawn plan;
  plan.arguments = confine(view, {view.program.string(), "-c", script});
  plan.wants_info = true;
  plan.memory_bytes_max = 512ULL << 20U;
  plan.stream_owner = view.user;
  return run_and_wait(plan, kProbeTimeout);
}

Result<void> try_bubblewrap() {
  if (::access(kBubblewrap, X_OK) != 0)
    return fail(ErrorCode::kConfiguration, "bubblewrap is not installed (package bubblewrap)");
  const ProbeFolder folder;
  View view;
  view.work_dir = folder.path();
  auto ended = run_script(std::move(view), "exit 0");
  if (!ended) return std::unexpected(ended.error());
  if (*ended != 0)
    return fail(ErrorCode::kConfiguration,
                fmt::format("bubblewrap does not work here (it ended with status {}): are user namespaces "
                            "allowed?",
                            *ended));
  return {};
}

// Whether a program that may start one process besides itself can, and five are refused; and whether what it
// writes can be read by us.
bool bound_holds(ProcessBound bound) {
  if (prlimit_program().empty()) return false;
  const ProbeFolder folder;
  View view;
  view.work_dir = folder.path();
  view.processes_max = 2;
  view.bound = bound;
  std::optional<SandboxUser> user;
  if (bound == ProcessBound::kOwnUser) {
    auto taken = SandboxUser::take();
    if (setpriv_program().empty() || !taken || !hand_over(folder.path(), taken->id())) return false;
    view.user = taken->id();
    user.emplace(std::move(*taken));
  }
  const auto within = run_script(view, "umask 077; (exit 0); : > made");
  if (!within || *within != 0) return false;
  const Descriptor made{::open((folder.path() / "made").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  const auto beyond = run_script(view, "sleep 9 & sleep 9 & sleep 9 & sleep 9 & sleep 9 & exit 0");
  return made && beyond && *beyond != 0;
}

ProcessBound find_bound() {
  if (::geteuid() == 0 && bound_holds(ProcessBound::kOwnUser)) return ProcessBound::kOwnUser;
  return bound_holds(ProcessBound::kNamespace) ? ProcessBound::kNamespace : ProcessBound::kWatched;
}

}  // namespace

Result<void> bubblewrap_works() {
  // A bound that holds was found by running bubblewrap.
  static const Result<void> result =
      process_bound() == ProcessBound::kWatched ? try_bubblewrap() : Result<void>{};
  return result;
}

ProcessBound process_bound() {
  static const ProcessBound bound = find_bound();
  return bound;
}

std::vector<std::string> confine(const View& view, const std::vector<std::string>& command) {
  std::vector<std::string> arguments{kBubblewrap};
  add_isolation(arguments, view.bound);
  add(arguments, {"--die-with-parent", "--new-session"});
  add(arguments, {"--info-fd", std::to_string(kInfoDescriptor)});
  add_system(arguments);
  add(arguments, {"--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"});
  add(arguments, {"--perms", "1777", "--size", kScratchBytesMax, "--tmpfs", "/tmp"});
  if (!is_system_program(view.program)) add_read_only(arguments, view.program);
  for (const auto& path : view.reads) {
    if (!is_system_program(path)) add_read_only(arguments, path);
  }
  if (!view.inputs.empty()) add_folders(arguments, kSandboxInputDir);
  for (const auto& [host, inside] : view.inputs)
    add(arguments, {"--ro-bind", host.string(), inside.string()});
  add(arguments, {"--bind", view.work_dir.string(), kSandboxWorkDir, "--chdir", kSandboxWorkDir});
  if (view.tries) add(arguments, {"--bind", view.tries->string(), kSandboxTriesDir});
  // The root is a tmpfs, too: left writable it would be memory without a bound.
  add(arguments, {"--remount-ro", "/", "--"});
  add_bound(arguments, view);
  arguments.insert(arguments.end(), command.begin(), command.end());
  return arguments;
}

bool is_system_program(const std::filesystem::path& program) {
  for (const char* prefix : {"/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/"}) {
    if (program.native().starts_with(prefix)) return true;
  }
  return false;
}

std::filesystem::path find_program(const std::string& name) {
  if (name.contains('/')) {
    const bool usable = name.starts_with('/') && ::access(name.c_str(), X_OK) == 0;
    return usable ? std::filesystem::path{name} : std::filesystem::path{};
  }
  if (name.empty()) return {};
  std::istringstream folders{kProgramPath};
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::filesystem::path candidate = std::filesystem::path{folder} / name;
    std::error_code error;
    if (std::filesystem::is_regular_file(candidate, error) && ::access(candidate.c_str(), X_OK) == 0)
      return candidate;
  }
  return {};
}

}  // namespace turnpike::provider
