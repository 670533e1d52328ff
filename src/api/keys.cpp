#include "api/keys.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "api/crypto.h"

namespace turnpike::api {
namespace {

bool expired(const journal::KeyRow& key, Wall now) {
  return key.expires_at != kNever && key.expires_at <= now;
}
bool revoked(const journal::KeyRow& key) {
  return key.revoked_at != kNever;
}

}  // namespace

const char* role_name(journal::Role role) {
  switch (role) {
    case journal::Role::kAdmin:
      return "admin";
    case journal::Role::kService:
      return "service";
    case journal::Role::kAccount:
      return "account";
    case journal::Role::kWorker:
      return "worker";
  }
  return "account";
}

std::optional<journal::Role> parse_role(std::string_view word) {
  for (const auto role :
       {journal::Role::kAdmin, journal::Role::kService, journal::Role::kAccount, journal::Role::kWorker}) {
    if (word == role_name(role)) return role;
  }
  return std::nullopt;
}

KeyStore::KeyStore(std::vector<journal::KeyRow> keys) {
  for (auto& key : keys) put(std::move(key));
}

Result<journal::KeyRow> KeyStore::authenticate(std::string_view secret, Wall now) const {
  const std::string hash = sha256(secret);
  const std::shared_lock lock(mutex_);
  const auto found = by_hash_.find(hash);
  if (found == by_hash_.end()) {
    return fail(ErrorCode::kInvalidApiKey, "this API key is not known here: check it, or ask for a new one");
  }
  if (revoked(found->second)) {
    return fail(ErrorCode::kInvalidApiKey, "this API key was revoked: ask for a new one");
  }
  if (expired(found->second, now)) {
    return fail(ErrorCode::kInvalidApiKey, "this API key has expired: ask for a new one");
  }
  return found->second;
}

void KeyStore::put(journal::KeyRow key) {
  const std::unique_lock lock(mutex_);
  std::string hash = key.hash;
  by_hash_.insert_or_assign(std::move(hash), std::move(key));
}

std::optional<journal::KeyRow> KeyStore::find(KeyId id) const {
  const std::shared_lock lock(mutex_);
  for (const auto& [hash, key] : by_hash_) {
    if (key.id == id) return key;
  }
  return std::nullopt;
}

std::vector<journal::KeyRow> KeyStore::all() const {
  std::vector<journal::KeyRow> keys;
  {
    const std::shared_lock lock(mutex_);
    keys.reserve(by_hash_.size());
    for (const auto& [hash, key] : by_hash_) keys.push_back(key);
  }
  std::ranges::sort(keys, {}, &journal::KeyRow::id);
  return keys;
}

bool KeyStore::has_usable_admin(Wall now) const {
  const std::shared_lock lock(mutex_);
  return std::ranges::any_of(by_hash_, [now](const auto& entry) {
    const auto& key = entry.second;
    return key.role == journal::Role::kAdmin && !revoked(key) && !expired(key, now);
  });
}

bool KeyStore::knows_hash(std::string_view hash) const {
  const std::shared_lock lock(mutex_);
  return by_hash_.contains(std::string(hash));
}

}  // namespace turnpike::api
