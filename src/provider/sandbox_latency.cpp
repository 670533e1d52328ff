#include "provider/sandbox_latency.h"

#include <algorithm>
#include <array>

namespace turnpike::provider {
namespace {

// Keeps the product of two latencies within 64 bits.
constexpr Duration kLatencyMax = std::chrono::hours(1);

std::uint64_t square_root(std::uint64_t value) {
  std::uint64_t root = 0;
  for (std::uint64_t bit = 1ULL << 31U; bit > 0; bit >>= 1U) {
    if ((root + bit) * (root + bit) <= value) root += bit;
  }
  return root;
}

}  // namespace

// Straight lines between the quantiles 0, 12, 50, 88, 99 and 100 %: 88 % is 1.17 of p99's 2.33 standard
// deviations, so its value is the geometric mean of median and p99.
Duration draw_latency(Random& random, Duration p50, Duration p99) {
  const std::int64_t median = std::clamp<std::int64_t>(p50.count(), 1, kLatencyMax.count());
  const std::int64_t high = std::clamp(p99.count(), median, kLatencyMax.count());
  const auto product = static_cast<std::uint64_t>(median) * static_cast<std::uint64_t>(high);
  const auto upper = static_cast<std::int64_t>(square_root(product));
  const auto square = static_cast<std::uint64_t>(median) * static_cast<std::uint64_t>(median);
  const auto mirrored = [square](std::int64_t micros) {
    return static_cast<std::int64_t>(square / static_cast<std::uint64_t>(micros));
  };
  struct Point {
    std::int64_t permille, micros;
  };
  const std::array<Point, 6> points = {Point{0, mirrored(high)}, Point{120, mirrored(upper)},
                                       Point{500, median},       Point{880, upper},
                                       Point{990, high},         Point{1000, high + high / 2}};
  const auto drawn = static_cast<std::int64_t>(random.below(1'000'000));  // millionths
  for (std::size_t i = 1; i < points.size(); ++i) {
    const std::int64_t begin = points[i - 1].permille * 1000;
    const std::int64_t width = points[i].permille * 1000 - begin;
    if (drawn >= begin + width) continue;
    const std::int64_t rise = points[i].micros - points[i - 1].micros;
    const auto part = static_cast<std::int64_t>(static_cast<__int128>(rise) * (drawn - begin) / width);
    return Duration{points[i - 1].micros + part};
  }
  return Duration{high};
}

}  // namespace turnpike::provider
