// The books that batches changed since they were last folded into tables `periods` and `usage`: what a
// reader lays over these tables, in the same snapshot, and what a writer gathers again when it opens.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "base/result.h"
#include "journal/journal.h"
#include "journal/sqlite/database.h"
#include "journal/usage_sums.h"

namespace turnpike::journal::sqlite {

// In the order of the table: scope, account, team, start.
using PeriodKey = std::tuple<engine::Scope, std::uint64_t, std::string, Wall>;
using PeriodRows = std::map<PeriodKey, engine::PeriodRow>;
PeriodKey key_of(const engine::PeriodRow& row);

// The last batch that is in the tables as a whole. Errors, here and below: kIo, kInternal (a damaged row).
Result<Batch> folded_to(Connection& connection);

// Periods as the last batch left them, where a batch after `folded` changed them: they stand for the rows of
// the table. `account`: its own alone.
Result<PeriodRows> changed_periods(Connection& connection, Batch folded,
                                   std::optional<AccountId> account = {});

// What the entries of batches after `folded` add to the rows of the table, where `wanted` says so. A row that
// a fold under way has brought further already is not given what it has.
Result<UsageSums> uncounted_sums(Connection& connection, Batch folded,
                                 const std::function<bool(const UsageKey&)>& wanted);

}  // namespace turnpike::journal::sqlite
