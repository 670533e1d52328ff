// The ledger's entries summed by hour and by day, as the rollups keep them.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include "journal/journal.h"

namespace turnpike::journal {

// What a rollup's row is named by; the time is the start of its hour or day, UTC.
struct UsageKey {
  UsageQuery::Grain grain{};
  Wall at;
  AccountId account;
  std::string plan, task, model, provider;
  friend auto operator<=>(const UsageKey&, const UsageKey&) = default;
};
struct UsageSum {
  policy::Amounts meters;
  Money cost;
  std::int64_t completed = 0, failed = 0;
  friend bool operator==(const UsageSum&, const UsageSum&) = default;
};
using UsageSums = std::map<UsageKey, UsageSum>;

// Start of the hour or day that contains `at`.
Wall usage_bucket(UsageQuery::Grain grain, Wall at);
// Adds an entry to its hour and its day. Entries of no account (groups' lost calls) are in their accounts'
// sums already.
void add_entry(UsageSums& sums, const engine::LedgerEntry& entry);

}  // namespace turnpike::journal
