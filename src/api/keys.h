// The keys in force, in memory: asked on every request, changed when a key is made, revoked or rotated (after
// the journal has it). Only hashes are known here. Thread-safe.
#pragma once

#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "journal/journal.h"

namespace turnpike::api {

// "admin", "service", "account", "worker".
const char* role_name(journal::Role role);
std::optional<journal::Role> parse_role(std::string_view word);

class KeyStore {
 public:
  explicit KeyStore(std::vector<journal::KeyRow> keys);

  // The key that has this text. Error kInvalidApiKey: unknown, revoked or expired, and says which.
  Result<journal::KeyRow> authenticate(std::string_view secret, Wall now) const;
  void put(journal::KeyRow key);
  std::optional<journal::KeyRow> find(KeyId id) const;
  std::vector<journal::KeyRow> all() const;  // oldest first
  bool has_usable_admin(Wall now) const;
  bool knows_hash(std::string_view hash) const;

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::string, journal::KeyRow> by_hash_;  // guarded by mutex_
};

}  // namespace turnpike::api
