#include "engine/durations.h"

#include <algorithm>
#include <bit>

namespace turnpike::engine {
namespace {

// Bucket 2k holds [2^k, 1.5 * 2^k), bucket 2k+1 holds [1.5 * 2^k, 2^(k+1)).
std::size_t bucket_of(std::uint64_t micros, std::size_t buckets) {
  const auto exponent = static_cast<std::size_t>(std::bit_width(micros) - 1);
  const bool upper = exponent > 0 && ((micros >> (exponent - 1)) & 1) != 0;
  return std::min(2 * exponent + (upper ? 1 : 0), buckets - 1);
}

std::int64_t upper_edge(std::size_t bucket) {
  const std::int64_t low = std::int64_t{1} << (bucket / 2);
  return bucket % 2 == 0 ? low + low / 2 : low * 2;
}

}  // namespace

void Durations::add(Duration took) {
  const std::int64_t micros = std::max<std::int64_t>(1, took.count());
  mean_micros_ = total_ == 0 ? micros : mean_micros_ + (micros - mean_micros_) / 8;
  ++counts_[bucket_of(static_cast<std::uint64_t>(micros), kBuckets)];
  if (++total_ < kMemory) return;
  total_ = 0;
  for (auto& count : counts_) total_ += count /= 2;
}

Duration Durations::mean() const {
  return total_ == 0 ? kUnknown : Duration{mean_micros_};
}

Duration Durations::percentile(std::uint32_t permille) const {
  if (total_ == 0) return kUnknown;
  const std::uint64_t wanted = (std::uint64_t{total_} * permille + 999) / 1000;
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i];
    if (seen >= std::max<std::uint64_t>(1, wanted)) return Duration{upper_edge(i)};
  }
  return Duration{upper_edge(kBuckets - 1)};
}

}  // namespace turnpike::engine
