#include "policy/numbers.h"

#include <gtest/gtest.h>

#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

using namespace std::chrono_literals;

TEST(Numbers, ReadDurations) {
  EXPECT_EQ(parse_duration("500ms"), 500ms);
  EXPECT_EQ(parse_duration("30s"), 30s);
  EXPECT_EQ(parse_duration("5m"), 5min);
  EXPECT_EQ(parse_duration("2h"), 2h);
  EXPECT_EQ(parse_duration("30d"), 720h);
  EXPECT_EQ(parse_duration("0s"), 0s);
  for (const char* bad :
       {"", "s", "30", "-1s", "1.5s", "30 s", "1h30m", "30S", "99999999999999999999s", "9999999999d"})
    EXPECT_EQ(parse_duration(bad), std::nullopt) << bad;
}

TEST(Numbers, ReadSizes) {
  EXPECT_EQ(parse_bytes("1024"), 1024U);
  EXPECT_EQ(parse_bytes("25MB"), 25'000'000U);
  EXPECT_EQ(parse_bytes("64MiB"), 64U << 20);
  EXPECT_EQ(parse_bytes("512KiB"), 512U << 10);
  for (const char* bad :
       {"", "MiB", "1.5MiB", "-1", "64mb", "64 MiB", "18446744073709551616", "99999999999GiB"})
    EXPECT_EQ(parse_bytes(bad), std::nullopt) << bad;
}

TEST(Numbers, ReadSharesExactly) {
  EXPECT_EQ(parse_percent("20%"), 200U);
  EXPECT_EQ(parse_percent("0.5%"), 5U);
  EXPECT_EQ(parse_percent("12.50%"), 125U);
  for (const char* bad : {"20", "%", "0.25%", ".5%", "-1%", "1e1%"})
    EXPECT_EQ(parse_percent(bad), std::nullopt) << bad;
}

TEST(Numbers, ReadFactorsExactly) {
  EXPECT_EQ(parse_factor("2"), 2000U);
  EXPECT_EQ(parse_factor("2.0"), 2000U);
  EXPECT_EQ(parse_factor("1.125"), 1125U);
  EXPECT_EQ(parse_factor("1.1000"), 1100U);
  for (const char* bad : {"", "2.", ".5", "1.0001", "2x", "1e3", "9999999"})
    EXPECT_EQ(parse_factor(bad), std::nullopt) << bad;
}

TEST(Numbers, AreWrittenInTheLargestExactUnit) {
  EXPECT_EQ(duration_text(90s), "90s");
  EXPECT_EQ(duration_text(120s), "2m");
  EXPECT_EQ(duration_text(24h), "1d");
  EXPECT_EQ(duration_text(0s), "0s");
  EXPECT_EQ(duration_text(Duration{1}), "1us");
  EXPECT_EQ(bytes_text(64ULL << 20), "64MiB");
  EXPECT_EQ(bytes_text(25'000'000), "25MB");
  EXPECT_EQ(bytes_text(7), "7 bytes");
  EXPECT_EQ(percent_text(125), "12.5%");
  EXPECT_EQ(percent_text(200), "20%");
  EXPECT_EQ(factor_text(1125), "1.125");
  EXPECT_EQ(factor_text(100'000), "100");
}

TEST(Nearest, CountsOneForEachLetterAndForASwap) {
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("concurent_jobs", "concurrent_jobs"), 1U);
  EXPECT_EQ(edit_distance("hihg", "high"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(Nearest, SuggestsOnlyWhatIsNear) {
  EXPECT_EQ(suggestion("tasc", {"plan", "task"}), "did you mean `task`?");
  EXPECT_EQ(suggestion("colour", {"task", "plan"}), "there are plan, task");
  EXPECT_EQ(suggestion("x", {}), "there are none");
  EXPECT_EQ(nearest("x", {"y"}), std::nullopt);
}

}  // namespace
}  // namespace turnpike::policy
