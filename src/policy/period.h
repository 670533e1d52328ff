// Billing periods: which stretch of time a quota or a cap covers, in the account's time zone. Pure, given the
// time zone database of the system.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace turnpike::policy {

struct PeriodRule {
  enum class Kind : std::uint8_t {
    kCalendarMonth = 0,  // from the first of each month
    kAnchored = 1,       // from the anchor's day of each month; a month that has no such day: from its last
    kDay = 2,            // from each midnight
  } kind = Kind::kCalendarMonth;
  // kAnchored: the day, 1..31; nothing: the day (in the zone) of the account's anchor.
  std::optional<std::uint8_t> day;
  friend bool operator==(const PeriodRule&, const PeriodRule&) = default;
};

struct Period {
  Wall start;  // inclusive
  Wall end;    // exclusive, > start: the start of the next
  friend bool operator==(const Period&, const Period&) = default;
};

// The period that contains `now`. Each begins at local midnight of its day in `zone` (an IANA name, "UTC");
// where the clocks skip midnight, at the first moment of that day, and where it comes twice, at the first.
// `anchor` matters for kAnchored without a day. An unknown zone is taken as UTC: whoever stores a zone has
// asked known_zone() first.
Period period_at(const PeriodRule& rule, std::string_view zone, Wall anchor, Wall now);

// The system knows the time zone; `hint`: the nearest name it knows.
bool known_zone(std::string_view zone);
Result<void> check_zone(std::string_view zone, std::string param);  // kInvalidRequest, with the nearest name

}  // namespace turnpike::policy
