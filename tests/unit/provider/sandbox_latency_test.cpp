#include "provider/sandbox_latency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace turnpike::provider {
namespace {

TEST(SandboxLatency, HasTheMedianAndTailAskedFor) {
  constexpr std::int64_t kDraws = 20'000;
  std::vector<Duration> drawn;
  drawn.reserve(kDraws);
  Random random{42};
  for (std::int64_t i = 0; i < kDraws; ++i)
    drawn.push_back(draw_latency(random, std::chrono::milliseconds(50), std::chrono::milliseconds(500)));
  std::sort(drawn.begin(), drawn.end());
  EXPECT_NEAR(static_cast<double>(drawn[kDraws / 2].count()), 50'000, 2'500);
  EXPECT_NEAR(static_cast<double>(drawn[kDraws * 99 / 100].count()), 500'000, 25'000);
  EXPECT_GE(drawn.front(), std::chrono::milliseconds(5));
  EXPECT_LE(drawn.back(), std::chrono::milliseconds(750));
}

TEST(SandboxLatency, IsTheMedianWhereTheTailIsNotLonger) {
  Random random{7};
  for (int i = 0; i < 1000; ++i)
    EXPECT_LE(draw_latency(random, std::chrono::milliseconds(10), Duration::zero()),
              std::chrono::milliseconds(15));
}

TEST(SandboxLatency, StaysInBoundsWhateverIsConfigured) {
  Random random{7};
  for (int i = 0; i < 1000; ++i)
    EXPECT_LE(draw_latency(random, std::chrono::hours(24), Duration::max()), std::chrono::minutes(90));
}

}  // namespace
}  // namespace turnpike::provider
