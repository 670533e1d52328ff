#include "provider/process_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "provider/spawn.h"

namespace turnpike::provider {
namespace {

constexpr std::size_t kProcFileBytesMax = 128 * 1024;
constexpr std::size_t kThreadsMax = 256;  // of one process, looked at for children

// Empty if it cannot be read: the process has ended, or is not ours.
std::string read_proc(const std::string& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  std::string content;
  char buffer[4096];
  while (file && content.size() < kProcFileBytesMax) {
    const ssize_t count = ::read(file.get(), buffer, sizeof buffer);
    if (count <= 0) break;
    content.append(buffer, static_cast<std::size_t>(count));
  }
  return content;
}

std::optional<std::uint64_t> take_number(std::string_view& text) {
  while (text.starts_with(' ') || text.starts_with('\n')) text.remove_prefix(1);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

// The entries of a folder of /proc that are numbers, at most `count_max`.
std::vector<pid_t> numbered_entries(const std::string& path, std::size_t count_max) {
  std::vector<pid_t> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder{::opendir(path.c_str()), ::closedir};
  if (!folder) return found;
  while (const dirent* entry = ::readdir(folder.get())) {
    std::string_view name = entry->d_name;
    const auto number = take_number(name);
    if (number && name.empty()) found.push_back(static_cast<pid_t>(*number));
    if (found.size() >= count_max) break;
  }
  return found;
}

std::uint64_t own_memory(pid_t process) {
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::string content = read_proc(fmt::format("/proc/{}/statm", process));
  std::string_view text = content;
  take_number(text);  // the whole address space
  const std::uint64_t resident = take_number(text).value_or(0);
  const std::uint64_t shared = take_number(text).value_or(0);
  return resident > shared ? (resident - shared) * page : 0;
}

void add_children(pid_t process, std::vector<pid_t>& out, std::size_t count_max) {
  for (const pid_t thread : numbered_entries(fmt::format("/proc/{}/task", process), kThreadsMax)) {
    const std::string content = read_proc(fmt::format("/proc/{}/task/{}/children", process, thread));
    std::string_view text = content;
    while (out.size() < count_max) {
      const auto child = take_number(text);
      if (!child) break;
      out.push_back(static_cast<pid_t>(*child));
    }
  }
}

bool has_marker(pid_t process, const std::string& marker) {
  const std::string content = read_proc(fmt::format("/proc/{}/environ", process));
  std::string_view text = content;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\0'), text.size());
    if (text.substr(0, end) == marker) return true;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return false;
}

}  // namespace

TreeSize measure_tree(pid_t root, std::uint32_t processes_max) {
  std::vector<pid_t> processes{root};
  TreeSize size;
  for (std::size_t i = 0; i < processes.size() && i <= processes_max; ++i) {
    size.memory_bytes += own_memory(processes[i]);
    add_children(processes[i], processes, static_cast<std::size_t>(processes_max) + 1);
  }
  size.processes = static_cast<std::uint32_t>(processes.size());
  return size;
}

std::uint64_t measure_folder(const std::filesystem::path& folder, std::size_t entries_max) {
  std::uint64_t bytes = 0;
  std::size_t entries = 0;
  std::error_code error;
  std::filesystem::recursive_directory_iterator at{folder, error};
  for (; !error && at != std::filesystem::recursive_directory_iterator{}; at.increment(error)) {
    if (++entries > entries_max) return std::numeric_limits<std::uint64_t>::max();
    std::error_code gone;
    if (at->symlink_status(gone).type() == std::filesystem::file_type::regular && !gone) {
      const std::uintmax_t size = at->file_size(gone);
      if (!gone) bytes += size;
    }
  }
  return bytes;
}

std::size_t kill_marked(const std::string& marker) {
  std::size_t found = 0;
  for (const pid_t process : numbered_entries("/proc", std::numeric_limits<std::size_t>::max())) {
    // The descriptor is taken before the look, so that the number cannot have come to mean another process.
    const Descriptor handle = open_process(process);
    if (!handle || !has_marker(process, marker)) continue;
    ++found;
    kill_process(handle.get());
    siginfo_t info{};
    ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(handle.get()), &info, WEXITED | WNOHANG);
  }
  return found;
}

}  // namespace turnpike::provider
