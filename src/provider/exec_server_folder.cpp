#include "provider/exec_server_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <vector>

namespace turnpike::provider {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kCopyBytes = 256 * 1024;  // at a time
constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

std::unexpected<Error> folder_failed(int reason) {
  return fail_errno("a folder for a local program could not be made", reason);
}

// Makes a folder with these rights, whatever the umask, and opens it. `user`: who owns it; 0: we.
Result<Descriptor> make_folder(const fs::path& path, mode_t mode, uid_t user) {
  if (::mkdir(path.c_str(), mode) != 0) return folder_failed(errno);
  Descriptor folder{::open(path.c_str(), kFolderFlags)};
  if (!folder || ::fchmod(folder.get(), mode) != 0) return folder_failed(errno);
  if (user != 0 && ::fchown(folder.get(), user, user) != 0) return folder_failed(errno);
  return folder;
}

Result<void> write_all(int to, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t count = ::write(to, data, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail_errno("a file could not be copied", errno);
    data += count;
    size -= static_cast<std::size_t>(count);
  }
  return {};
}

// At most `bytes_max` bytes.
Result<void> copy(int from, int to, std::uint64_t bytes_max) {
  std::vector<char> buffer(kCopyBytes);
  while (bytes_max > 0) {
    const ssize_t count = ::read(from, buffer.data(), std::min<std::uint64_t>(buffer.size(), bytes_max));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("a file could not be copied", errno);
    if (count == 0) return {};
    if (auto written = write_all(to, buffer.data(), static_cast<std::size_t>(count)); !written)
      return written;
    bytes_max -= static_cast<std::uint64_t>(count);
  }
  return {};
}

void discard(const fs::path& folder) {
  std::error_code ignored;
  if (!folder.empty()) fs::remove_all(folder, ignored);
}

}  // namespace

Result<ServerFolder> ServerFolder::make(const fs::path& parent, const std::string& provider, uid_t user) {
  std::string name = provider;
  for (char& c : name) {
    if (c == '/' || c == '.') c = '_';
  }
  std::string root = (parent / fmt::format("server-{}-XXXXXX", name)).string();
  if (::mkdtemp(root.data()) == nullptr) return folder_failed(errno);
  ServerFolder folder{root, user};
  // Of tries nobody but us sees more than he is told.
  for (const auto& [path, mode, owner] : {std::tuple{folder.own(), mode_t{0755}, uid_t{0}},
                                          {folder.home(), mode_t{0700}, user},
                                          {folder.tries(), mode_t{0711}, uid_t{0}},
                                          {folder.input(), mode_t{0711}, uid_t{0}}}) {
    if (auto made = make_folder(path, mode, owner); !made) return std::unexpected(made.error());
  }
  return folder;
}

ServerFolder::~ServerFolder() {
  discard(root_);
}

Descriptor ServerFolder::socket() const {
  Descriptor found{::open((home() / kSocketName).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
  struct stat status{};
  if (!found || ::fstat(found.get(), &status) != 0 || !S_ISSOCK(status.st_mode)) return {};
  return found;
}

Result<TryFolder> TryFolder::make(const ServerFolder& server, const std::string& name) {
  const fs::path tries = server.tries() / name;
  const fs::path input = server.input() / name;
  auto own = make_folder(tries, 0700, server.user());
  if (!own) return std::unexpected(own.error());
  TryFolder folder{tries, input, std::move(*own)};
  if (auto made = make_folder(input, 0755, 0); !made) return std::unexpected(made.error());
  return folder;
}

TryFolder::~TryFolder() {
  discard(tries_);
  discard(input_);
}

Result<void> TryFolder::put(const fs::path& file, const std::string& name) const {
  const Descriptor from{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!from) return fail_errno("an input could not be read", errno);
  const Descriptor to{::open((input_ / name).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!to) return fail_errno("an input could not be copied", errno);
  struct stat status{};
  if (::fstat(from.get(), &status) != 0) return fail_errno("an input could not be read", errno);
  if (auto copied = copy(from.get(), to.get(), static_cast<std::uint64_t>(status.st_size)); !copied)
    return copied;
  if (::fchmod(to.get(), 0444) != 0) return fail_errno("an input could not be copied", errno);
  return {};
}

Result<void> TryFolder::take(const std::string& name, const fs::path& folder, std::uint64_t bytes_max) const {
  const Descriptor from{::openat(own_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  struct stat status{};
  if (!from || ::fstat(from.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  // A second name could be a file of somebody else's.
  if (status.st_nlink != 1)
    return fail(ErrorCode::kUpstreamError, "a file that the program made is linked elsewhere");
  const Descriptor to{::open((folder / name).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!to) return fail_errno("a file could not be copied", errno);
  return copy(from.get(), to.get(), bytes_max + 1);
}

}  // namespace turnpike::provider
