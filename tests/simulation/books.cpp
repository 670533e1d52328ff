#include "simulation/books.h"

#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::EntryKind;
using engine::LedgerEntry;
using engine::PeriodRow;

void Books::observe(const engine::Changes& out, const engine::Engine& engine, const policy::Policy& policy,
                    const PlanOf& plan_of, bool recovering) {
  for (const auto& mutation : out.mutations) {
    if (const auto* add = std::get_if<engine::AddEntry>(&mutation)) see(add->entry, recovering);
    if (const auto* put = std::get_if<engine::PutPeriod>(&mutation)) {
      const PeriodRow& row = put->row;
      see(row, row.scope == engine::Scope::kAccount ? plan_of(row.account).promise : policy.platform.promise);
    }
  }
  for (const auto& mutation : out.mutations) {
    const auto* job = std::get_if<engine::PutJob>(&mutation);
    if (job == nullptr) continue;
    require(!job->row.hold || !ended(job->row.state), "I5", "{} has ended and holds something",
            to_string(job->row.id));
    if (job->row.hold) {
      holds_.insert_or_assign(job->row.id, *job->row.hold);
    } else {
      holds_.erase(job->row.id);
    }
  }
  for (const PeriodRow& row : engine.periods()) {
    const auto told = periods_.find(key_of(row));
    require(told != periods_.end(), "I6", "a period of {} is in memory and was never told",
            to_string(row.account));
    const PeriodRow& last = told->second;
    require(row.used == last.used && row.held == last.held && row.cost_used == last.cost_used &&
                row.cost_held == last.cost_held && row.holds == last.holds && row.current == last.current,
            "I6", "the books of {} are not what was told of them", to_string(row.account));
  }
}

void Books::see(const PeriodRow& row, const policy::Promise& promise) {
  const auto before = periods_.find(key_of(row));
  static const PeriodRow kNothing;
  const PeriodRow& last = before == periods_.end() ? kNothing : before->second;
  for (std::size_t i = 0; i < policy::kMeterCount; ++i) {
    require(row.held.of[i] >= 0 && row.used.of[i] >= 0, "I5", "less than nothing is held or used of meter {}",
            i);
    const auto& limit = promise.quotas.meters[i];
    if (!limit || row.held.of[i] <= last.held.of[i]) continue;
    require(row.used.of[i] + row.held.of[i] <= *limit + row.debt.of[i], "I5",
            "{} + {} of meter {} are used and held, and {} may be (debt {})", row.used.of[i], row.held.of[i],
            i, *limit, row.debt.of[i]);
  }
  require(row.cost_held >= Money{} && row.cost_used >= Money{}, "I5",
          "less than nothing is held or used of cost");
  const auto& cap = promise.cost_cap;
  if (cap && cap->hard_stop && row.cost_held > last.cost_held) {
    require(row.cost_used + row.cost_held <= cap->monthly + row.cost_debt, "I5",
            "{} + {} USD are used and held, and {} may be", to_string(row.cost_used),
            to_string(row.cost_held), to_string(cap->monthly));
  }
  periods_.insert_or_assign(key_of(row), row);
}

void Books::see(const LedgerEntry& entry, bool recovering) {
  const auto made = entries_.emplace(std::pair(entry.try_id, entry.kind), entry);
  require(made.second, "I5", "{} is charged twice as {}", to_string(entry.try_id),
          entry_kind_name(entry.kind));
  const auto of_kind = [&](EntryKind kind) { return entries_.find({entry.try_id, kind}); };
  tally_->add(Seen::kCharges);
  if (entry.kind == EntryKind::kCallsLost) {
    require(recovering, "I5", "calls were lost by no crash");
    return;
  }
  if (entry.kind == EntryKind::kReversal) {
    const auto lost = of_kind(EntryKind::kLost);
    require(lost != entries_.end() && lost->second.cost == -entry.cost, "I5",
            "{} takes back what was not charged", to_string(entry.try_id));
    tally_->add(Seen::kReversals);
    return;
  }
  if (entry.kind == EntryKind::kCorrection) {
    require(of_kind(EntryKind::kReversal) != entries_.end(), "I5", "{} is corrected and was not taken back",
            to_string(entry.try_id));
    return;
  }
  if (entry.call) return;
  const auto held = holds_.find(entry.job);
  require(held != holds_.end(), "I5", "{} is charged and held nothing", to_string(entry.job));
  const engine::Hold& hold = held->second;
  require(entry.account_period == hold.account_period && entry.platform_period == hold.platform_period, "I5",
          "{} is charged to another period than the one that admitted it", to_string(entry.job));
  require(entry.price_version == hold.price_version, "I5", "{} is charged at other prices",
          to_string(entry.job));
  if (entry.kind == EntryKind::kCompleted && hold.price) {
    require(policy::cost_of(*hold.price, entry.meters) == entry.cost, "I5",
            "{} cost {}, which its price does not say", to_string(entry.job), to_string(entry.cost));
  }
  if (entry.kind == EntryKind::kLost)
    require(entry.cost == hold.cost, "I5", "a lost try is charged at what was held");
}

void Books::restarted(const std::vector<PeriodRow>& periods, const std::vector<LedgerEntry>& entries,
                      const std::vector<engine::JobRow>& jobs) {
  periods_.clear();
  entries_.clear();
  holds_.clear();
  for (const PeriodRow& row : periods) periods_.emplace(key_of(row), row);
  for (const LedgerEntry& entry : entries) entries_.emplace(std::pair(entry.try_id, entry.kind), entry);
  for (const engine::JobRow& job : jobs) {
    if (job.hold) holds_.emplace(job.id, *job.hold);
  }
}

void Books::all_ended() const {
  for (const auto& [key, row] : periods_) {
    require(row.held.zero() && row.cost_held == Money{} && row.holds == 0, "I5",
            "everything has ended, and {} USD are held", to_string(row.cost_held));
  }
}

}  // namespace turnpike::simulation
