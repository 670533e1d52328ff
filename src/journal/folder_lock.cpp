#include "journal/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

namespace turnpike::journal {
namespace {

// The digits that the holder wrote; empty where it has not come so far yet.
std::string holder(int fd) {
  std::array<char, 32> text{};
  const auto n = ::pread(fd, text.data(), text.size(), 0);
  std::string pid(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  return pid.substr(0, pid.find_first_not_of("0123456789"));
}

Result<void> make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return {};
  if (folder.has_parent_path()) std::filesystem::create_directories(folder.parent_path(), error);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno("cannot make the data folder " + folder.string(), errno);
  }
  return {};
}

}  // namespace

Result<FolderLock> FolderLock::take(const std::filesystem::path& folder) {
  if (auto made = make_folder(folder); !made) return std::unexpected(made.error());
  const auto path = folder / "lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail_errno("cannot open " + path.string(), errno);
  FolderLock lock(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno("cannot lock " + path.string(), errno);
    const auto pid = holder(fd);
    return fail(ErrorCode::kConfiguration, "the data folder " + folder.string() + " is in use by " +
                                               (pid.empty() ? "another process" : "process " + pid) +
                                               ": stop that server or name another folder");
  }
  const auto pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd, 0) != 0 ||
      ::pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return fail_errno("cannot write " + path.string(), errno);
  }
  return lock;
}

FolderLock::FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace turnpike::journal
