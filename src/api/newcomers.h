// How many accounts of addresses that ask without a key are made: each stays, in memory and on disk, so they
// come at a rate. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

#include "base/time.h"

namespace turnpike::api {

class Newcomers {
 public:
  // So many minutes' worth may come at once, after a pause.
  static constexpr std::int64_t kMinutesAtOnce = 10;

  // Takes the place of one more, and returns nothing; or takes none and says after how long there is one (at
  // least 1 s). `per_minute`: 1..60,000.
  std::optional<std::chrono::seconds> take(std::uint32_t per_minute, Monotonic now);

 private:
  std::mutex mutex_;
  Monotonic full_at_{};  // when all places are free again; guarded by mutex_
};

}  // namespace turnpike::api
