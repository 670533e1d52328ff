// What was refused of late, and why, so that it can be asked about afterwards. In memory alone: a refusal
// changes nothing, and so nothing of it is written; a restart forgets it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "engine/engine.h"

namespace turnpike::node {

struct Refusal {
  std::string request_id;  // may be the client's own: unique neither among accounts nor in time
  AccountId account;
  Wall at;
  std::string method, path;
  std::string task, model;  // as asked for; empty: none was named
  std::string plan;         // that applied
  ErrorCode code{};
  std::string message;
  std::shared_ptr<const LimitReached> limit;  // null: none that has figures
  std::optional<std::chrono::seconds> retry_after;
  std::string upgrade_to;  // empty: no plan would do
  // The account's own work that held some of that limit, the most first, at most kHoldersMax. Nothing: not
  // looked at, for the limit has no holders or too many were asked for at once (LookBudget).
  std::optional<std::vector<engine::Holder>> held_by;
};

// Thread-safe. Keeps the last kKept refusals, for kKeptFor, in at most kBytesMax (roughly: texts and holders
// are counted, and what the containers need is not): whichever is reached first drops the oldest.
class Refusals {
 public:
  static constexpr std::size_t kKept = 10'000;
  static constexpr std::size_t kBytesMax = 16ULL << 20;
  static constexpr Duration kKeptFor = std::chrono::hours(24);
  static constexpr std::size_t kHoldersMax = 10;
  static constexpr std::size_t kTextMax = 1024;  // of message and path each; beyond, it is cut

  void keep(Refusal refusal);
  // The last one of this request; of this account where one is named, else of any. Null: there is none, or
  // it was too long ago.
  std::shared_ptr<const Refusal> find(std::string_view request_id, std::optional<AccountId> account,
                                      Wall now) const;
  std::size_t size() const;

 private:
  using Kept = std::shared_ptr<const Refusal>;
  void drop_oldest();

  mutable std::mutex mutex_;
  // Guarded by mutex_. The indexes have the last one of each key; what it hides cannot be asked for.
  std::deque<Kept> order_;
  std::unordered_map<std::string, Kept> by_request_;
  std::unordered_map<std::string, Kept> by_account_;  // by account and request
  std::size_t bytes_ = 0;
};

// How much of the engine's time may go into naming who holds what: a look is taken under its mutex, and a
// flood of refusals must not hold back what is not refused. About 1 %: a job is looked at in 50 ns. Not
// thread-safe: guarded by the engine's mutex.
class LookBudget {
 public:
  static constexpr std::int64_t kJobsPerSecond = 200'000;
  static constexpr std::int64_t kLook = 16;  // what a look costs before its first job

  bool may_look(Monotonic now);
  void looked(std::size_t jobs) { left_ -= static_cast<std::int64_t>(jobs) + kLook; }

 private:
  std::int64_t left_ = kJobsPerSecond;  // below 0 after a long look
  Monotonic filled_{};
};

}  // namespace turnpike::node
