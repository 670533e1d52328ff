// What jobs of one kind took, for estimates: a histogram over powers of the square root of two that forgets
// slowly. Integer arithmetic only, so that the same history gives the same estimate on every machine.
#pragma once

#include <array>
#include <cstdint>

#include "base/time.h"

namespace turnpike::engine {

class Durations {
 public:
  void add(Duration took);
  bool empty() const { return total_ == 0; }
  // Expected length; kUnknown before anything was seen.
  Duration mean() const;
  // Upper edge of the bucket below which `permille` of what was seen lies; kUnknown before anything was seen.
  Duration percentile(std::uint32_t permille) const;

  static constexpr Duration kUnknown = std::chrono::seconds(1);

 private:
  static constexpr std::size_t kBuckets =
      80;  // two for each power of two of microseconds: up to 2^40 us, 12 days
  static constexpr std::uint32_t kMemory = 1024;  // at so many, everything is halved
  std::array<std::uint32_t, kBuckets> counts_{};
  std::uint32_t total_ = 0;
  std::int64_t mean_micros_ = 0;
};

}  // namespace turnpike::engine
