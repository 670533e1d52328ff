// What a configuration says about answers that are kept: of a plan (`cache` of a plan) and of the server
// (`cache` at the top). A plan that says nothing has no cache.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace turnpike::policy {

struct PlanCache {
  // Who is answered with what was kept for whom. kAccount: nobody but the account itself. kShared: all
  // accounts of all plans that share in the same group.
  enum class Scope : std::uint8_t { kAccount, kShared } scope = Scope::kAccount;
  std::string group = "default";                  // kShared
  Duration ttl = std::chrono::hours(1);           // an older answer is none; 1 s to 365 days
  std::optional<std::vector<std::string>> tasks;  // whose answers are kept; nullopt: of all tasks
  // What a hit counts for its account. It never has a cost, for none was had.
  //   kNone  nothing: no meter, no rate, no concurrency
  //   kFull  a call, with all that the first answer used: quotas and rates are those of a call upstream
  enum class Charge : std::uint8_t { kNone, kFull } charge = Charge::kNone;
  // The field of the request whose text is a topic: spelled a little differently it is the same
  // (node/answer_cache_key.h says how). Empty: every text is taken to the letter.
  std::string topic_field;

  bool has_task(std::string_view task) const;
  friend bool operator==(const PlanCache&, const PlanCache&) = default;
};

// How much is kept, of all plans together. Beyond it what was used least recently goes.
struct CacheLimits {
  std::uint64_t bytes_max = 1ULL << 30;
  std::uint64_t entry_bytes_max = 8ULL << 20;  // a larger answer is passed on and not kept
  friend bool operator==(const CacheLimits&, const CacheLimits&) = default;
};

}  // namespace turnpike::policy
