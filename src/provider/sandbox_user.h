// Users of their own for local programs, where the server is root: the kernel counts processes by user, and
// root's not at all. None of them has a name, a home or anything else on this machine.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <utility>
#include <vector>

#include "base/result.h"

namespace turnpike::provider {

// A user that no other live try of this server has; given back with the object, so keep that until every
// process of the try is dead. Thread-safe.
class SandboxUser {
 public:
  // Errors: kUnavailable (all are taken, see kSandboxUsers).
  static Result<SandboxUser> take();

  SandboxUser(SandboxUser&& other) noexcept : id_(std::exchange(other.id_, 0)) {}
  SandboxUser& operator=(SandboxUser&&) = delete;
  SandboxUser(const SandboxUser&) = delete;
  SandboxUser& operator=(const SandboxUser&) = delete;
  ~SandboxUser();

  // The number of the user and of its group.
  uid_t id() const { return id_; }

 private:
  explicit SandboxUser(uid_t id) : id_(id) {}
  uid_t id_ = 0;  // 0: moved away
};
constexpr std::size_t kSandboxUsers = 4096;  // at once

// Makes `user` the owner of a folder, not of what is in it. Errors: kIo.
Result<void> hand_over(const std::filesystem::path& folder, uid_t user);

// The groups a user that owns none of `files` must be in to read them all: those of the files that not
// everybody may read. Errors: kConfiguration (one that only its owner may read), kIo.
Result<std::vector<gid_t>> groups_to_read(const std::vector<std::filesystem::path>& files);

}  // namespace turnpike::provider
