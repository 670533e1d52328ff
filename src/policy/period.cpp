#include "policy/period.h"

#include <date/tz.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

using std::chrono::days;
using std::chrono::microseconds;
using std::chrono::seconds;

// Beyond these no calendar is asked: clocks that are so far off are clocks that are wrong.
constexpr std::int64_t kEarliest = 0;             // 1970-01-01
constexpr std::int64_t kLatest = 16'725'225'600;  // 2500-01-01
constexpr std::int64_t kMicros = 1'000'000;

const date::time_zone* zone_named(std::string_view name) {
  try {
    return date::locate_zone(std::string(name));
  } catch (const std::exception&) {
    return nullptr;
  }
}

// UTC is always there, whatever the system knows.
const date::time_zone* zone_or_utc(std::string_view name) {
  if (name.empty() || name == "UTC") return nullptr;
  return zone_named(name);
}

date::local_days local_day(const date::time_zone* zone, Wall at) {
  const std::int64_t clamped = std::clamp(unix_seconds(at), kEarliest, kLatest);
  const date::sys_seconds when{seconds{clamped}};
  if (zone == nullptr) return date::local_days{date::floor<days>(when).time_since_epoch()};
  return date::floor<days>(zone->to_local(when));
}

// The first moment of a local day: midnight, or the end of the gap that swallows it, or the first of two
// midnights.
Wall start_of(const date::time_zone* zone, date::local_days day) {
  const date::local_seconds midnight{day};
  if (zone == nullptr) return wall_from_seconds(midnight.time_since_epoch().count());
  const date::local_info info = zone->get_info(midnight);
  if (info.result == date::local_info::nonexistent)
    return wall_from_seconds(info.second.begin.time_since_epoch().count());
  return wall_from_seconds((midnight.time_since_epoch() - info.first.offset).count());
}

date::local_days day_in_month(date::year_month month, unsigned day) {
  const date::year_month_day_last last{month.year(), date::month_day_last{month.month()}};
  const auto clamped = std::min(date::day{day}, last.day());
  return date::local_days{date::year_month_day{month.year(), month.month(), clamped}};
}

}  // namespace

Period period_at(const PeriodRule& rule, std::string_view zone_name, Wall anchor, Wall now) {
  const date::time_zone* zone = zone_or_utc(zone_name);
  const date::local_days today = local_day(zone, now);
  const Wall at = wall_from_micros(std::clamp(unix_micros(now), kEarliest * kMicros, kLatest * kMicros));
  if (rule.kind == PeriodRule::Kind::kDay) {
    // A day that the zone skips is no day: it begins when the next does.
    date::local_days first = today;
    while (start_of(zone, first) > at) first -= days{1};
    date::local_days next = first + days{1};
    while (start_of(zone, next) <= at) next += days{1};
    while (start_of(zone, next - days{1}) == start_of(zone, next)) next += days{1};
    return {start_of(zone, first), start_of(zone, next)};
  }
  unsigned day = 1;
  if (rule.kind == PeriodRule::Kind::kAnchored) {
    day = rule.day ? *rule.day : static_cast<unsigned>(date::year_month_day{local_day(zone, anchor)}.day());
  }
  const date::year_month_day date{today};
  date::year_month month{date.year(), date.month()};
  while (start_of(zone, day_in_month(month, day)) > at) month -= date::months{1};
  while (start_of(zone, day_in_month(month + date::months{1}, day)) <= at) month += date::months{1};
  return {start_of(zone, day_in_month(month, day)),
          start_of(zone, day_in_month(month + date::months{1}, day))};
}

bool known_zone(std::string_view zone) {
  return zone == "UTC" || (!zone.empty() && zone_named(zone) != nullptr);
}

Result<void> check_zone(std::string_view zone, std::string param) {
  if (known_zone(zone)) return {};
  std::vector<std::string> known;
  try {
    for (const auto& each : date::get_tzdb().zones) known.push_back(each.name());
  } catch (const std::exception&) {
    return fail(ErrorCode::kInvalidRequest, "the system knows no time zones but UTC (package tzdata)",
                std::move(param));
  }
  const auto near = nearest(zone, known);
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("there is no time zone of that name{}: give an IANA name such as Europe/Berlin",
                          near ? fmt::format(", did you mean `{}`?", *near) : ""),
              std::move(param));
}

}  // namespace turnpike::policy
