#include "policy/period.h"

#include <gtest/gtest.h>

#include <array>

#include "base/random.h"

namespace turnpike::policy {
namespace {

using Kind = PeriodRule::Kind;

Wall utc(std::int64_t seconds) {
  return wall_from_seconds(seconds);
}

struct Awkward {
  const char* what;
  PeriodRule rule;
  const char* zone;
  std::int64_t anchor, now, start, end;  // Unix seconds
};

// Found with another implementation of the same database (Python's zoneinfo).
constexpr std::array kAwkward{
    Awkward{"a month in UTC",
            {.kind = Kind::kCalendarMonth, .day = {}},
            "UTC",
            0,
            1'790'000'000,
            1'788'220'800,
            1'790'812'800},
    Awkward{"a leap February",
            {.kind = Kind::kCalendarMonth, .day = {}},
            "UTC",
            0,
            1'709'164'800,
            1'706'745'600,
            1'709'251'200},
    Awkward{"day 31 in a month of 30 begins on its last",
            {.kind = Kind::kAnchored, .day = 31},
            "UTC",
            0,
            1'777'500'000,
            1'774'915'200,
            1'777'507'200},
    Awkward{"day 31 in a leap February begins on the 29th",
            {.kind = Kind::kAnchored, .day = 31},
            "UTC",
            0,
            1'709'200'000,
            1'709'164'800,
            1'711'843'200},
    Awkward{"a month that begins in summer time ends in winter time",
            {.kind = Kind::kCalendarMonth, .day = {}},
            "Europe/Berlin",
            0,
            1'792'000'000,
            1'790'805'600,
            1'793'487'600},
    Awkward{"midnight is skipped in Sao Paulo on 2018-11-04: the day begins at one",
            {.kind = Kind::kDay, .day = {}},
            "America/Sao_Paulo",
            0,
            1'541'310'000,
            1'541'300'400,
            1'541'383'200},
    Awkward{"midnight comes twice in Havana on 2024-11-03: the first counts",
            {.kind = Kind::kDay, .day = {}},
            "America/Havana",
            0,
            1'730'610'000,
            1'730'606'400,
            1'730'696'400},
    Awkward{"an offset of 5:45",
            {.kind = Kind::kDay, .day = {}},
            "Asia/Kathmandu",
            0,
            1'790'000'000,
            1'789'928'100,
            1'790'014'500},
};

TEST(Period, AwkwardDates) {
  for (const Awkward& each : kAwkward) {
    const Period period = period_at(each.rule, each.zone, utc(each.anchor), utc(each.now));
    EXPECT_EQ(unix_seconds(period.start), each.start) << each.what;
    EXPECT_EQ(unix_seconds(period.end), each.end) << each.what;
  }
}

TEST(Period, ASkippedDayIsNoDay) {
  // 2011-12-29 in Apia (UTC-10) ended at 2011-12-30 10:00 UTC, and then it was the 31st (UTC+14).
  const Period last = period_at({.kind = Kind::kDay, .day = {}}, "Pacific/Apia", kNever, utc(1'325'239'199));
  EXPECT_EQ(unix_seconds(last.end), 1'325'239'200);
  const Period next = period_at({.kind = Kind::kDay, .day = {}}, "Pacific/Apia", kNever, utc(1'325'239'200));
  EXPECT_EQ(next.start, last.end);
  EXPECT_EQ(unix_seconds(next.end), 1'325'239'200 + 86'400);
}

TEST(Period, AnchorsOnTheDayOfTheAccount) {
  // Anchored at 2024-02-29 12:00 UTC: 29th of each month, 28th of a common February.
  const PeriodRule rule{.kind = Kind::kAnchored, .day = {}};
  const Period period = period_at(rule, "UTC", utc(1'709'208'000), utc(1'772'300'000));  // 2026-02-28
  EXPECT_EQ(unix_seconds(period.start), 1'772'236'800);                                  // 2026-02-28
  EXPECT_EQ(unix_seconds(period.end), 1'774'742'400);                                    // 2026-03-29
}

TEST(Period, PeriodsContainTheirMomentAndTileTime) {
  constexpr std::array<const char*, 12> kZones{"UTC",
                                               "Europe/Berlin",
                                               "America/New_York",
                                               "America/Sao_Paulo",
                                               "Asia/Kathmandu",
                                               "Asia/Beirut",
                                               "Africa/Cairo",
                                               "America/Havana",
                                               "Pacific/Apia",
                                               "Pacific/Chatham",
                                               "Australia/Lord_Howe",
                                               "Asia/Tehran"};
  Random random(11);
  for (int round = 0; round < 4'000; ++round) {
    PeriodRule rule{.kind = static_cast<Kind>(random.below(3)), .day = {}};
    if (rule.kind == Kind::kAnchored && random.chance(700))
      rule.day = static_cast<std::uint8_t>(random.between(1, 31));
    const char* zone = kZones[random.below(kZones.size())];
    const Wall anchor = utc(random.between(0, 2'000'000'000));
    const Wall now = wall_from_micros(random.between(100'000'000'000'000, 4'000'000'000'000'000));
    const Period period = period_at(rule, zone, anchor, now);
    EXPECT_LE(period.start, now) << zone;
    EXPECT_LT(now, period.end) << zone;
    EXPECT_EQ(period_at(rule, zone, anchor, period.start), period)
        << zone << " " << unix_seconds(period.start);
    EXPECT_EQ(period_at(rule, zone, anchor, period.end).start, period.end)
        << zone << " " << unix_seconds(period.end);
    EXPECT_EQ(period_at(rule, zone, anchor, period.start - Duration{1}).end, period.start) << zone;
  }
}

TEST(Period, ExtremesOfTimeAreAnswered) {
  for (const Wall now : {Wall::min(), Wall::max(), kNever, utc(-5'000'000'000)}) {
    const Period period = period_at({}, "Europe/Berlin", kNever, now);
    EXPECT_LT(period.start, period.end);
  }
}

TEST(Period, ZonesAreKnownOrNamedNearby) {
  EXPECT_TRUE(known_zone("UTC"));
  EXPECT_TRUE(known_zone("Europe/Berlin"));
  EXPECT_FALSE(known_zone(""));
  EXPECT_FALSE(known_zone("../../etc/passwd"));
  const auto wrong = check_zone("Europe/Berlni", "time_zone");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().param, "time_zone");
  EXPECT_NE(wrong.error().message.find("Europe/Berlin"), std::string::npos);
}

}  // namespace
}  // namespace turnpike::policy
