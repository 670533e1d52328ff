#include "journal/recount.h"

#include <fmt/format.h>

namespace turnpike::journal {

using engine::EntryKind;
using engine::Scope;

void Recount::mistake(std::string text) {
  if (report_.mistakes.size() < kMistakesMax) report_.mistakes.push_back(std::move(text));
}

template <typename Each>
void Recount::each_period(AccountId account, const std::string& team, Wall account_period, Wall team_period,
                          Wall platform_period, Each each) {
  if (account_period != kNever) each(periods_[{Scope::kAccount, account.value, "", account_period}]);
  if (team_period != kNever) each(periods_[{Scope::kTeam, 0, team, team_period}]);
  if (platform_period != kNever) each(periods_[{Scope::kPlatform, 0, "", platform_period}]);
}

// A try is charged once; a lost one may be taken back once, and then charged once for what it was.
void Recount::see_kind(const engine::LedgerEntry& entry) {
  const auto bit = [](EntryKind kind) {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(kind));
  };
  std::uint8_t& seen = kinds_[entry.try_id];
  const bool again = (seen & bit(entry.kind)) != 0;
  const bool first = entry.kind != EntryKind::kReversal && entry.kind != EntryKind::kCorrection;
  const bool follows = entry.kind == EntryKind::kReversal ? (seen & bit(EntryKind::kLost)) != 0
                                                          : (seen & bit(EntryKind::kReversal)) != 0;
  if (again || (first && seen != 0) || (!first && !follows)) {
    mistake(fmt::format("{} of job {} is charged as `{}` where it may not be", to_string(entry.try_id),
                        to_string(entry.job), engine::entry_kind_name(entry.kind)));
  }
  seen |= bit(entry.kind);
}

void Recount::add(const engine::LedgerEntry& entry) {
  ++report_.entries;
  see_kind(entry);
  add_entry(sums_, entry);
  each_period(entry.account, entry.team, entry.account_period, entry.team_period, entry.platform_period,
              [&entry](Count& count) {
                count.used += entry.meters;
                count.cost_used += entry.cost;
                if (!entry.content.empty())
                  count.content[entry.content].first += entry.kind == EntryKind::kReversal ? -1 : 1;
              });
}

void Recount::add(const engine::JobRow& job) {
  ++report_.jobs;
  if (job.hold) hold(job.account, *job.hold);
}

// Its jobs hold for themselves; what is certain to follow holds its counts.
void Recount::add(const engine::RunRow& run) {
  for (const engine::StepRow& step : run.steps) {
    if (step.hold) hold(run.account, *step.hold);
  }
}

void Recount::hold(AccountId account, const engine::Hold& hold) {
  each_period(account, hold.team, hold.account_period, hold.team_period, hold.platform_period,
              [&hold](Count& count) {
                count.held += hold.amounts;
                count.cost_held += hold.cost;
                ++count.holds;
                if (!hold.content.empty()) ++count.content[hold.content].second;
              });
}

void Recount::compare(const engine::PeriodRow& row) {
  ++report_.periods;
  rows_.emplace_back(row, PeriodKey{row.scope, row.account.value, row.team, row.start});
}

void Recount::compare(const UsageKey& key, const UsageSum& sum) {
  ++report_.rollups;
  rollups_.emplace_back(key, sum);
}

BooksReport Recount::finish(Wall first_kept) {
  for (const auto& [row, key] : rows_) {
    Count& count = periods_[key];
    count.compared = true;
    const std::string name = fmt::format("the books of {} {} from {}", engine::scope_name(row.scope),
                                         row.scope == Scope::kAccount ? to_string(row.account) : row.team,
                                         unix_seconds(row.start));
    policy::Amounts held = count.held;
    held += row.calls_held;
    if (row.start >= first_kept && (row.used != count.used || row.cost_used != count.cost_used)) {
      mistake(fmt::format(
          "{} say that {} USD were used, and the ledger's entries add up to {} USD (or their meters "
          "differ)",
          name, to_string(row.cost_used), to_string(count.cost_used)));
    }
    if (row.held != held || row.cost_held != count.cost_held + row.cost_calls_held) {
      mistake(fmt::format(
          "{} say that {} USD are held, and jobs hold {} USD and calls {} USD (or their meters differ)", name,
          to_string(row.cost_held), to_string(count.cost_held), to_string(row.cost_calls_held)));
    }
    if (row.holds != count.holds + static_cast<std::uint64_t>(row.calls_held[policy::Meter::kCalls])) {
      mistake(fmt::format("{} say that {} jobs and calls hold something, and {} jobs do", name, row.holds,
                          count.holds));
    }
    for (const auto& content : row.content) {
      const auto [used, jobs_held] = count.content[content.type];
      if ((row.start >= first_kept && content.used != used) ||
          content.held != jobs_held + content.calls_held) {
        mistake(fmt::format("{} count {} used and {} held of `{}`, and it is {} and {}", name, content.used,
                            content.held, content.type, used, jobs_held + content.calls_held));
      }
    }
  }
  for (const auto& [key, count] : periods_) {
    if (count.compared ||
        (count.used.zero() && count.held.zero() && count.cost_used == Money{} && count.holds == 0))
      continue;
    if (std::get<Wall>(key) < first_kept) continue;
    mistake(fmt::format("something is used or held in a period of {} from {} that has no books",
                        engine::scope_name(std::get<Scope>(key)), unix_seconds(std::get<Wall>(key))));
  }
  for (const auto& [key, sum] : rollups_) {
    if (key.at < first_kept) {
      sums_.erase(key);
      continue;
    }
    const auto counted = sums_.find(key);
    if (counted == sums_.end() || counted->second != sum) {
      mistake(fmt::format("the rollup of {} from {} (account {}, model {}) is not what its entries add up to",
                          key.grain == UsageQuery::Grain::kHour ? "the hour" : "the day",
                          unix_seconds(key.at), to_string(key.account), key.model));
    }
    if (counted != sums_.end()) sums_.erase(counted);
  }
  for (const auto& [key, sum] : sums_) {
    if (key.at >= first_kept) mistake(fmt::format("a rollup from {} is missing", unix_seconds(key.at)));
  }
  return std::move(report_);
}

}  // namespace turnpike::journal
