#include "provider/sandbox_user.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <mutex>
#include <random>

#include "provider/spawn.h"

namespace turnpike::provider {
namespace {

// Between what containers are given and what is negative to some: neither people, services nor containers
// have these numbers.
constexpr uid_t kFirst = 0x7000'0000;
constexpr uid_t kLast = 0x7FFD'FFFF;
constexpr uid_t kWindows = (kLast - kFirst) / kSandboxUsers;

// Each server process takes a window by chance: two on one machine would count each other's processes if they
// used the same numbers.
class Pool {
 public:
  Pool() {
    std::random_device chance;
    base_ = kFirst +
            static_cast<uid_t>(kSandboxUsers) * std::uniform_int_distribution<uid_t>{0, kWindows - 1}(chance);
  }

  // 0: none is free. In turn, so that a number rests as long as possible before it is used again.
  uid_t take() {
    const std::scoped_lock lock{mutex_};
    for (std::size_t i = 0; i < kSandboxUsers; ++i) {
      const std::size_t at = next_;
      next_ = (next_ + 1) % kSandboxUsers;
      if (taken_[at]) continue;
      taken_.set(at);
      return base_ + static_cast<uid_t>(at);
    }
    return 0;
  }

  void give_back(uid_t user) {
    const std::scoped_lock lock{mutex_};
    taken_.reset(user - base_);
  }

 private:
  std::mutex mutex_;
  std::bitset<kSandboxUsers> taken_;
  std::size_t next_ = 0;
  uid_t base_ = 0;
};

Pool& pool() {
  static Pool only;
  return only;
}

}  // namespace

Result<SandboxUser> SandboxUser::take() {
  const uid_t id = pool().take();
  if (id == 0) return fail(ErrorCode::kUnavailable, "too many local programs run at once");
  return SandboxUser{id};
}

SandboxUser::~SandboxUser() {
  if (id_ != 0) pool().give_back(id_);
}

Result<void> hand_over(const std::filesystem::path& folder, uid_t user) {
  const Descriptor opened{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  if (!opened || ::fchown(opened.get(), user, user) != 0)
    return fail_errno("a work folder could not be given to its program", errno);
  return {};
}

Result<std::vector<gid_t>> groups_to_read(const std::vector<std::filesystem::path>& files) {
  std::vector<gid_t> groups;
  for (const auto& file : files) {
    struct stat status{};
    if (::stat(file.c_str(), &status) != 0) return fail_errno("a file could not be looked at", errno);
    if ((status.st_mode & S_IROTH) != 0) continue;
    if ((status.st_mode & S_IRGRP) == 0)
      return fail(ErrorCode::kConfiguration, "a file may be read by its owner only, so by no local program");
    if (std::ranges::find(groups, status.st_gid) == groups.end()) groups.push_back(status.st_gid);
  }
  return groups;
}

}  // namespace turnpike::provider
