// Time as the engine knows it. Wall time and monotonic time are different types and never mix: a jump of the
// wall clock moves schedules, and never a lease or a timeout.
#pragma once

#include <chrono>
#include <cstdint>

namespace turnpike {

using Duration = std::chrono::microseconds;

struct MonotonicTag {
  using rep = std::int64_t;
  using period = std::micro;
  using duration = Duration;
  using time_point = std::chrono::time_point<MonotonicTag>;
  static constexpr bool is_steady = true;
};
struct WallTag {
  using rep = std::int64_t;
  using period = std::micro;
  using duration = Duration;
  using time_point = std::chrono::time_point<WallTag>;
  static constexpr bool is_steady = false;
};

using Monotonic = MonotonicTag::time_point;  // since an arbitrary point; never persisted
using Wall = WallTag::time_point;            // since 1970-01-01 UTC; the only time that is persisted

constexpr Wall kNever{};  // "no such time" in persisted fields

// The one moment a command happens at, read once by whoever calls the engine.
struct Timestamp {
  Monotonic mono;
  Wall wall;
};

constexpr std::int64_t unix_micros(Wall t) {
  return t.time_since_epoch().count();
}
constexpr std::int64_t unix_seconds(Wall t) {
  return std::chrono::floor<std::chrono::seconds>(t.time_since_epoch()).count();
}
constexpr Wall wall_from_micros(std::int64_t micros) {
  return Wall{Duration{micros}};
}
constexpr Wall wall_from_seconds(std::int64_t seconds) {
  return Wall{std::chrono::seconds{seconds}};
}

// Where time comes from. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Timestamp now() const = 0;
};

class SystemClock final : public Clock {
 public:
  Timestamp now() const override;
};

}  // namespace turnpike
