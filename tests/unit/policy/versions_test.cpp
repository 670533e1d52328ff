#include "policy/versions.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

namespace turnpike::policy {
namespace {

using Kind = VersionText::Kind;

TEST(Version, IsANumberADayOrNeither) {
  for (const auto* number :
       {"0", "2", "2.1", "2.1.0", "2.10.3", "2.1.0-rc.1", "2.1.0+cuda", "1.0.0-x-y.0a", "20251101"})
    EXPECT_EQ(parse_version(number).kind, Kind::kNumber) << number;
  for (const auto* day : {"2025-11-01", "2024-02-29", "0001-01-01"})
    EXPECT_EQ(parse_version(day).kind, Kind::kDate) << day;
  for (const auto* other :
       {"",          "a1b2c3d4",    "v2.0.0",     "2.",       ".2",       "2..1",       "2.1.0.4",
        "02.1",      "2.1.0-",      "2.1.0-a..b", "2.1.0-01", "2.1-rc.1", "2025-02-29", "2025-13-01",
        "2025-11-1", "2025-11-01x", "9999999999", "2.-1",     " 2",       "2.1.0-a_b",  "2.1.0-a."})
    EXPECT_EQ(parse_version(other).kind, Kind::kOther) << other;
}

TEST(Version, SaysHowMuchOfTheNumberIsWritten) {
  const VersionText version = parse_version("2.1");
  EXPECT_EQ(version.number, (std::array<std::uint32_t, 3>{2, 1, 0}));
  EXPECT_EQ(version.parts, 2);
  EXPECT_EQ(parse_version("2.1.0-rc.1").pre, "rc.1");
  EXPECT_EQ(parse_version("2025-11-01").day, std::chrono::sys_days(std::chrono::year(2025) / 11 / 1));
}

// As Semantic Versioning 2.0.0 gives it in its section 11, and more.
TEST(Version, NumbersHaveTheirPrecedence) {
  constexpr std::array<std::string_view, 15> kAscending = {"0.9.9",
                                                           "1.0.0-alpha",
                                                           "1.0.0-alpha.1",
                                                           "1.0.0-alpha.beta",
                                                           "1.0.0-beta",
                                                           "1.0.0-beta.2",
                                                           "1.0.0-beta.11",
                                                           "1.0.0-rc.1",
                                                           "1.0.0",
                                                           "1.0.1",
                                                           "1.2",
                                                           "1.10",
                                                           "1.10.1-0",
                                                           "1.10.1",
                                                           "2"};
  for (std::size_t i = 0; i < kAscending.size(); ++i) {
    for (std::size_t j = 0; j < kAscending.size(); ++j) {
      EXPECT_EQ(compare_numbers(parse_version(kAscending[i]), parse_version(kAscending[j])), i <=> j)
          << kAscending[i] << " " << kAscending[j];
    }
  }
  EXPECT_EQ(compare_numbers(parse_version("2"), parse_version("2.0.0+build7")), std::strong_ordering::equal);
}

TEST(Version, KeepsItsMajor) {
  const auto same = [](const char* a, const char* b) {
    return same_major(parse_version(a), parse_version(b));
  };
  EXPECT_TRUE(same("2.0.0", "2.9.1"));
  EXPECT_TRUE(same("2", "2.1.0-rc.1"));
  EXPECT_FALSE(same("2.0.0", "3.0.0"));
  EXPECT_TRUE(same("0.3.1", "0.3.9"));
  EXPECT_FALSE(same("0.3.1", "0.4.0"));  // below 1.0 a minor may break
  EXPECT_FALSE(same("2025-11-01", "2025-11-01"));
  EXPECT_FALSE(same("abc", "abc"));
}

TEST(Version, IsWithinARange) {
  const auto has = [](const char* range, const char* version) {
    return within(parse_version(version), parse_version(range));
  };
  EXPECT_TRUE(has("2", "2.0.0"));
  EXPECT_TRUE(has("2", "2.7"));
  EXPECT_TRUE(has("2.1", "2.1.7"));
  EXPECT_FALSE(has("2.1", "2.2.0"));
  EXPECT_FALSE(has("2", "20.0.0"));
  EXPECT_FALSE(has("2.1.0", "2.1.0"));  // all three parts: a version, no range
  EXPECT_FALSE(has("2025-11-01", "2025-11-01"));
  EXPECT_FALSE(has("", "2.1.0"));
}

}  // namespace
}  // namespace turnpike::policy
