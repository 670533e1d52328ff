#include "journal/sqlite/unfolded.h"

#include <algorithm>
#include <utility>

#include "journal/pack.h"

namespace turnpike::journal::sqlite {
namespace {

constexpr const char* kWhat = "cannot read the books";

// The batch up to which the rollup `key` counts by itself; 0: there is no such row, or it is older than that.
Result<Batch> counted_to(Connection& connection, const UsageKey& key) {
  StatementScope query(
      connection.statement("SELECT batch FROM usage WHERE grain=?1 AND at=?2 AND account=?3 AND plan=?4 AND "
                           "task=?5 AND model=?6 AND provider=?7"));
  query->bind(1, static_cast<std::int64_t>(key.grain));
  query->bind(2, unix_micros(key.at));
  query->bind_id(3, key.account.value);
  query->bind_text(4, key.plan);
  query->bind_text(5, key.task);
  query->bind_text(6, key.model);
  query->bind_text(7, key.provider);
  const int code = query->step();
  if (code == SQLITE_ROW) return query->id(0);
  if (code == SQLITE_DONE) return 0;
  return std::unexpected(connection.error(kWhat));
}

}  // namespace

PeriodKey key_of(const engine::PeriodRow& row) {
  return {row.scope, row.account.value, row.team, row.start};
}

Result<Batch> folded_to(Connection& connection) {
  StatementScope query(connection.statement("SELECT batch FROM folded WHERE id=1"));
  const int code = query->step();
  if (code == SQLITE_ROW) return query->id(0);
  if (code == SQLITE_DONE)
    return fail(ErrorCode::kInternal,
                "the journal does not say what is in its books: the database is damaged, restore it from a "
                "backup");
  return std::unexpected(connection.error(kWhat));
}

Result<PeriodRows> changed_periods(Connection& connection, Batch folded, std::optional<AccountId> account) {
  StatementScope query(
      connection.statement("SELECT changed FROM period_changes WHERE batch>?1 ORDER BY batch"));
  query->bind_id(1, folded);
  PeriodRows rows;
  int code = SQLITE_ROW;
  while ((code = query->step()) == SQLITE_ROW) {
    auto changed = unpack_periods(query->bytes(0));
    if (!changed) return std::unexpected(std::move(changed.error()));
    for (auto& row : *changed) {
      if (account && (row.scope != engine::Scope::kAccount || row.account != *account)) continue;
      auto key = key_of(row);
      rows.insert_or_assign(std::move(key), std::move(row));
    }
  }
  if (code != SQLITE_DONE) return std::unexpected(connection.error(kWhat));
  return rows;
}

Result<UsageSums> uncounted_sums(Connection& connection, Batch folded,
                                 const std::function<bool(const UsageKey&)>& wanted) {
  StatementScope query(
      connection.statement("SELECT batch, at, entries FROM ledger WHERE batch>?1 ORDER BY batch"));
  query->bind_id(1, folded);
  UsageSums sums;
  std::map<UsageKey, Batch> counted;
  int code = SQLITE_ROW;
  while ((code = query->step()) == SQLITE_ROW) {
    const Batch batch = query->id(0);
    const auto entries = unpack_entries(query->bytes(2), wall_from_micros(query->integer(1)));
    if (!entries) return std::unexpected(entries.error());
    UsageHours hours;
    for (const auto& entry : *entries) hours.add(entry);
    for (const auto& [key, sum] : hours.take()) {
      if (!wanted(key)) continue;
      const auto [known, added] = counted.try_emplace(key, 0);
      if (added) {
        const auto to = counted_to(connection, key);
        if (!to) return std::unexpected(to.error());
        known->second = *to;
      }
      if (batch > known->second) add(sums[key], sum);
    }
  }
  if (code != SQLITE_DONE) return std::unexpected(connection.error(kWhat));
  return sums;
}

}  // namespace turnpike::journal::sqlite
