#include "simulation/books.h"

#include <algorithm>

#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::EntryKind;
using engine::Hold;
using engine::LedgerEntry;
using engine::PeriodRow;
using engine::Scope;
using policy::Meter;

// --- What adds up

template <typename Each>
void Books::each_sum(AccountId account, const std::string& team, Wall account_start, Wall team_start,
                     Wall platform_start, Each each) {
  if (account_start != kNever) each(sums_[{Who{Scope::kAccount, account, {}}, account_start}]);
  if (team_start != kNever) each(sums_[{Who{Scope::kTeam, {}, team}, team_start}]);
  if (platform_start != kNever) each(sums_[{Who{Scope::kPlatform, {}, {}}, platform_start}]);
}

void Books::add(AccountId account, const Held& held, int sign) {
  const Hold& hold = held.hold;
  const auto change = [sign](auto& sum, const auto& by) { sign > 0 ? sum += by : sum -= by; };
  each_sum(account, hold.team, hold.account_period, hold.team_period, hold.platform_period, [&](Sum& sum) {
    change(sum.held, hold.amounts);
    change(sum.cost_held, hold.cost);
    sum.holds += static_cast<std::uint64_t>(sign);
    if (!hold.content.empty()) sum.content[hold.content][kHeld] += sign;
    if (!held.call) return;
    change(sum.calls_held, hold.amounts);
    change(sum.cost_calls_held, hold.cost);
    if (!hold.content.empty()) sum.content[hold.content][kCallsHeld] += sign;
  });
}

void Books::check_sum(const PeriodRow& row) {
  Sum& sum = sums_[key_of(row)];
  const std::string who = to_string(std::get<0>(key_of(row)));
  require(row.held == sum.held && row.cost_held == sum.cost_held && row.holds == sum.holds, "I6",
          "{} holds {} USD for {} pieces of work, which add up to {} USD for {} (or their meters differ)",
          who, to_string(row.cost_held), row.holds, to_string(sum.cost_held), sum.holds);
  require(row.calls_held == sum.calls_held && row.cost_calls_held == sum.cost_calls_held, "I6",
          "{} holds {} USD for calls, which add up to {} USD (or their meters differ)", who,
          to_string(row.cost_calls_held), to_string(sum.cost_calls_held));
  require(row.used == sum.used && row.cost_used == sum.cost_used, "I6",
          "{} used {} USD, and its entries add up to {} USD (or their meters differ)", who,
          to_string(row.cost_used), to_string(sum.cost_used));
  require(row.debt == sum.debt && row.cost_debt == sum.cost_debt, "I5",
          "{} has a debt of {} USD, and its entries one of {} USD (or their meters differ)", who,
          to_string(row.cost_debt), to_string(sum.cost_debt));
  for (const auto& [type, counts] : sum.content) {
    const auto told = std::ranges::find(row.content, type, &PeriodRow::Content::type);
    const PeriodRow::Content content = told == row.content.end() ? PeriodRow::Content{} : *told;
    require(content.used == counts[kUsed] && content.held == counts[kHeld] &&
                content.calls_held == counts[kCallsHeld],
            "I5", "{} counts {} used and {} held of {}, and it is {} and {}", who, content.used, content.held,
            type, counts[kUsed], counts[kHeld]);
  }
}

// --- Commands

void Books::hold(JobId call, AccountId account, const Hold& hold) {
  const auto& held =
      holds_.insert_or_assign(call, std::pair(account, Held{.hold = hold, .call = true})).first->second;
  add(account, held.second, 1);
}

void Books::let_go(JobId id) {
  const auto held = holds_.find(id);
  if (held == holds_.end()) return;
  add(held->second.first, held->second.second, -1);
  holds_.erase(held);
}

void Books::see(const engine::RunRow& run) {
  for (std::size_t i = 0; i < run.steps.size(); ++i) {
    // A key of its own: no run here has so many jobs.
    const JobId key = engine::job_of(run.id, engine::kRunJobsMax - 1 - static_cast<std::uint32_t>(i));
    let_go(key);
    const auto& hold = run.steps[i].hold;
    if (!hold) continue;
    require(!ended(run.state) && run.steps[i].state == engine::StepState::kWaiting, "I5",
            "step {} of {} has begun, or never will, and holds something", run.steps[i].name,
            to_string(run.id));
    const auto held = holds_.emplace(key, std::pair(run.account, Held{.hold = *hold}));
    add(run.account, held.first->second.second, 1);
  }
}

void Books::before(const engine::Changes& out, const Ledger& ledger) {
  grants_before_.clear();
  closed_.clear();
  const auto keep_grants = [&](AccountId id) {
    if (const auto* row = ledger.account(id)) grants_before_.emplace(id, row->grants);
  };
  for (const auto& mutation : out.mutations) {
    if (const auto* account = std::get_if<engine::PutAccount>(&mutation)) keep_grants(account->row.id);
    const auto* put = std::get_if<engine::PutPeriod>(&mutation);
    if (put == nullptr || put->row.current || put->row.scope != Scope::kAccount) continue;
    const auto told = periods_.find(key_of(put->row));
    if (told == periods_.end() || !told->second.current) continue;
    keep_grants(put->row.account);
    closed_.emplace(
        put->row.account,
        Closed{.promise = promises_->of({Scope::kAccount, put->row.account, {}}), .before = told->second});
  }
}

void Books::observe(const engine::Changes& out, const engine::Engine& engine, const Ledger& ledger,
                    std::string_view command, Timestamp now, bool whole) {
  for (const auto& mutation : out.mutations) {
    if (const auto* entry = std::get_if<engine::AddEntry>(&mutation)) see(entry->entry, command == "recover");
  }
  for (const auto& mutation : out.mutations) {
    if (const auto* run = std::get_if<engine::PutRun>(&mutation)) see(run->row);
    const auto* job = std::get_if<engine::PutJob>(&mutation);
    if (job == nullptr) continue;
    require(!job->row.hold || !ended(job->row.state), "I5", "{} has ended and holds something",
            to_string(job->row.id));
    let_go(job->row.id);
    if (!job->row.hold) continue;
    const auto held = holds_.emplace(job->row.id, std::pair(job->row.account, Held{.hold = *job->row.hold}));
    add(job->row.account, held.first->second.second, 1);
  }
  for (const auto& effect : out.effects) {
    if (const auto* answer = std::get_if<engine::AnswerCall>(&effect)) let_go(answer->row.id);
  }
  for (const auto& mutation : out.mutations) {
    if (const auto* put = std::get_if<engine::PutPeriod>(&mutation)) see(put->row, command, now);
  }
  see_grants(ledger, command, now);
  usage_.reset();
  completed_ = false;
  if (!whole) return;
  for (const PeriodRow& row : engine.periods()) {
    const auto told = periods_.find(key_of(row));
    require(told != periods_.end(), "I6", "a period of {} is in memory and was never told",
            to_string(row.account));
    const PeriodRow& last = told->second;
    require(row.used == last.used && row.held == last.held && row.cost_used == last.cost_used &&
                row.cost_held == last.cost_held && row.holds == last.holds && row.current == last.current,
            "I6", "the books of {} are not what was told of them", to_string(row.account));
    check_sum(row);
  }
}

const PeriodRow* Books::last(const Who& who) const {
  auto it = periods_.lower_bound({who, Wall::max()});
  if (it == periods_.begin()) return nullptr;
  --it;
  return it->first.first == who ? &it->second : nullptr;
}

const PeriodRow* Books::current(const Who& who, Wall now) const {
  const PeriodRow* row = last(who);
  return row != nullptr && now < row->end ? row : nullptr;
}

// --- Periods

// What is opened is the period that contains now, by the terms of its payer, after the last one.
void Books::see_new_period(const PeriodRow& row, Timestamp now) const {
  const Who who = key_of(row).first;
  policy::Period expected = promises_->period(who, now.wall);
  if (const PeriodRow* before = last(who)) {
    require(now.wall >= before->end && !before->current, "periods",
            "{} opens a period before the last is over", to_string(who));
    expected.start = std::max(expected.start, before->end);
  }
  require(row.start == expected.start && row.end == expected.end, "periods",
          "{} opens a period from {} to {} instead of from {} to {}", to_string(who), unix_seconds(row.start),
          unix_seconds(row.end), unix_seconds(expected.start), unix_seconds(expected.end));
}

void Books::see(const PeriodRow& row, std::string_view command, Timestamp now) {
  const Key key = key_of(row);
  const auto before = periods_.find(key);
  static const PeriodRow kNothing;
  const PeriodRow& last = before == periods_.end() ? kNothing : before->second;
  const bool terms_change = command == "change_account" || command == "ensure_account" || command == "apply";
  if (before == periods_.end() && !terms_change) see_new_period(row, now);
  if (before != periods_.end() && last.current && !row.current) tally_->add(Seen::kPeriodsClosed);
  for (std::size_t i = 0; i < policy::kMeterCount; ++i) {
    require(row.held.of[i] >= 0 && row.used.of[i] >= 0, "I5", "less than nothing is held or used of meter {}",
            i);
    if (row.held.of[i] <= last.held.of[i]) continue;
    const auto limit = promises_->limit(key.first, static_cast<Meter>(i), nullptr, now.wall);
    require(!limit || row.used.of[i] + row.held.of[i] <= *limit + row.debt.of[i], "I5",
            "{} + {} of meter {} are used and held, and {} may be (debt {})", row.used.of[i], row.held.of[i],
            i, limit.value_or(0), row.debt.of[i]);
  }
  for (const PeriodRow::Content& content : row.content) {
    const auto told = std::ranges::find(last.content, content.type, &PeriodRow::Content::type);
    const std::int64_t held = told == last.content.end() ? 0 : told->held;
    require(content.held >= 0 && content.used >= 0, "I5", "less than nothing is held or used of {}",
            content.type);
    if (content.held <= held) continue;
    const auto limit = promises_->limit(key.first, content.type, nullptr, now.wall);
    require(!limit || content.used + content.held <= *limit, "I5",
            "{} + {} of {} are used and held, and {} may be", content.used, content.held, content.type,
            limit.value_or(0));
  }
  require(row.cost_held >= Money{} && row.cost_used >= Money{}, "I5",
          "less than nothing is held or used of cost");
  const auto& cap = promises_->of(key.first).cost_cap;
  if (cap && cap->hard_stop && row.cost_held > last.cost_held) {
    const Money limit = *promises_->cap(key.first, nullptr, now.wall);
    require(row.cost_used + row.cost_held <= limit + row.cost_debt, "I5",
            "{} + {} USD are used and held, and {} may be", to_string(row.cost_used),
            to_string(row.cost_held), to_string(limit));
  }
  if (row.debt != last.debt || row.cost_debt != last.cost_debt) tally_->add(Seen::kDebts);
  periods_.insert_or_assign(key, row);
  check_sum(row);
}

// Grants pay when a period is closed, by the terms it was lived by, and never else.
void Books::see_grants(const Ledger& ledger, std::string_view command, Timestamp now) {
  for (const auto& [id, before] : grants_before_) {
    const auto closed = closed_.find(id);
    std::vector<engine::Grant> least = before, most = before;
    if (closed != closed_.end()) {
      // Within one command something may have been given back before, or after, the period was closed.
      const PeriodRow& row = periods_.at({Who{Scope::kAccount, id, {}}, closed->second.before.start});
      least = after_period(before, closed->second.promise, row);
      most = after_period(before, closed->second.promise, closed->second.before);
    }
    const engine::AccountRow& account = *ledger.account(id);
    for (std::size_t i = 0; i < before.size(); ++i) {
      const auto kept = std::ranges::find(account.grants, before[i].id, &engine::Grant::id);
      const auto [low, high] = std::minmax(least[i].spent, most[i].spent);
      if (high > before[i].spent) tally_->add(Seen::kGrantsSpent);
      if (kept == account.grants.end()) {
        const bool over = before[i].expires_at != kNever && before[i].expires_at <= now.wall;
        if (over) tally_->add(Seen::kGrantsExpired);
        require(over || high >= before[i].amount || command == "change_account", "grants",
                "{} of {} is gone with something left of it", to_string(before[i].id), to_string(id));
        continue;
      }
      require(low <= kept->spent && kept->spent <= high, "grants",
              "{} of {} has {} of {} spent, and {} to {} should be", to_string(before[i].id), to_string(id),
              kept->spent, kept->amount, low, high);
    }
  }
}

// --- Entries

Money Books::expected_cost(const Hold& hold) const {
  if (!usage_) return hold.may_bill ? hold.cost : Money{};
  const policy::Amounts used = completed_ ? expected_use(hold) : policy::amounts_of(*usage_);
  if (!hold.price || (!completed_ && used.zero())) return {};
  return policy::cost_of(*hold.price, used).value_or(hold.cost);
}

// What is not reported counts as it was asked for: characters, images, and tokens of who may bill them.
policy::Amounts Books::expected_use(const Hold& hold) const {
  policy::Amounts used = policy::amounts_of(*usage_);
  if (used[Meter::kCharacters] == 0) used[Meter::kCharacters] = hold.amounts[Meter::kCharacters];
  if (used[Meter::kImages] == 0) used[Meter::kImages] = hold.amounts[Meter::kImages];
  if (hold.may_bill && !policy::tells_tokens(*usage_)) {
    used[Meter::kTokens] = hold.amounts[Meter::kTokens];
    used[Meter::kInputTokens] = hold.amounts[Meter::kInputTokens];
    used[Meter::kOutputTokens] = hold.amounts[Meter::kOutputTokens];
  }
  used[Meter::kJobs] = hold.amounts[Meter::kJobs];
  used[Meter::kCalls] = hold.amounts[Meter::kCalls];
  return used;
}

void Books::see_charge(const LedgerEntry& entry, const Hold& hold) {
  const std::string id = to_string(entry.job);
  require(entry.account_period == hold.account_period && entry.team_period == hold.team_period &&
              entry.platform_period == hold.platform_period && entry.team == hold.team,
          "I5", "{} is charged to another period or team than the one that admitted it", id);
  require(entry.price_version == hold.price_version, "I5", "{} is charged at other prices", id);
  require(entry.debt == std::max(Money{}, entry.cost - hold.cost), "I5", "{} has a debt of {}", id,
          to_string(entry.debt));
  if (entry.kind == EntryKind::kLost) {
    require(entry.cost == hold.cost, "I5", "a lost try is charged at what was held");
  } else {
    require(entry.cost == expected_cost(hold), "I5", "{} cost {}, and its use says {}", id,
            to_string(entry.cost), to_string(expected_cost(hold)));
  }
  if (entry.kind == EntryKind::kCompleted) {
    require(entry.meters == expected_use(hold), "I5", "{} is charged for other use than was reported", id);
    require(entry.content == hold.content, "I5", "{} is counted as {} instead of {}", id, entry.content,
            hold.content);
    if (!entry.content.empty()) tally_->add(Seen::kContentCharged);
  } else {
    require(entry.meters.zero() && entry.content.empty(), "I5", "{} did not complete, and its use is counted",
            id);
    if (!hold.content.empty()) tally_->add(Seen::kContentNotCharged);
  }
}

void Books::see(const LedgerEntry& entry, bool recovering) {
  const auto made = entries_.emplace(std::pair(entry.try_id, entry.kind), entry);
  require(made.second, "I5", "{} is charged twice as {}", to_string(entry.try_id),
          entry_kind_name(entry.kind));
  tally_->add(Seen::kCharges);
  const auto of_kind = [&](EntryKind kind) { return entries_.find({entry.try_id, kind}); };
  const auto held = holds_.find(entry.job);
  policy::Amounts debt;
  switch (entry.kind) {
    case EntryKind::kCallsLost:
      see_calls_lost(entry, recovering);
      break;
    case EntryKind::kReversal: {
      const auto lost = of_kind(EntryKind::kLost);
      require(lost != entries_.end() && lost->second.cost == -entry.cost &&
                  lost->second.account_period == entry.account_period,
              "I5", "{} takes back what was not charged", to_string(entry.try_id));
      tally_->add(Seen::kReversals);
      break;
    }
    case EntryKind::kCorrection:
      require(of_kind(EntryKind::kReversal) != entries_.end(), "I5", "{} is corrected and was not taken back",
              to_string(entry.try_id));
      see_charge(entry, late_.at(entry.try_id));
      break;
    case EntryKind::kCompleted:
    case EntryKind::kFailed:
    case EntryKind::kLost:
      require(held != holds_.end(), "I5", "{} is charged and held nothing", to_string(entry.job));
      require(entry.call == held->second.second.call, "I5", "{} is charged as what it is not",
              to_string(entry.job));
      see_charge(entry, held->second.second.hold);
      if (entry.kind == EntryKind::kLost) late_.insert_or_assign(entry.try_id, held->second.second.hold);
      if (entry.kind == EntryKind::kCompleted) {
        for (std::size_t i = 0; i < policy::kMeterCount; ++i)
          debt.of[i] = std::max<std::int64_t>(0, entry.meters.of[i] - held->second.second.hold.amounts.of[i]);
      }
      break;
  }
  each_sum(entry.account, entry.team, entry.account_period, entry.team_period, entry.platform_period,
           [&](Sum& sum) {
             sum.used += entry.meters;
             sum.cost_used += entry.cost;
             sum.debt += debt;
             sum.cost_debt += entry.debt;
             if (!entry.content.empty()) ++sum.content[entry.content][kUsed];
           });
}

// Calls in flight at a crash are taken as used: one entry for each period, at what they held there. What they
// count for as content is given back, for nobody got it.
void Books::see_calls_lost(const LedgerEntry& entry, bool recovering) {
  require(recovering, "I5", "calls were lost by no crash");
  each_sum(entry.account, entry.team, entry.account_period, entry.team_period, entry.platform_period,
           [&](Sum& sum) {
             require(entry.meters == sum.calls_held && entry.cost == sum.cost_calls_held, "I5",
                     "calls that were lost are taken at {} USD, and held {} USD (or their meters differ)",
                     to_string(entry.cost), to_string(sum.cost_calls_held));
             sum.held -= sum.calls_held;
             sum.cost_held -= sum.cost_calls_held;
             sum.holds -= static_cast<std::uint64_t>(sum.calls_held[Meter::kCalls]);
             sum.calls_held = {};
             sum.cost_calls_held = {};
             for (auto& [type, counts] : sum.content) counts[kHeld] -= std::exchange(counts[kCallsHeld], 0);
           });
  tally_->add(Seen::kCallsTaken);
}

// --- Lives

void Books::restarted(const std::vector<PeriodRow>& periods, const std::vector<LedgerEntry>& entries,
                      const std::vector<engine::JobRow>& jobs, const std::map<RunId, engine::RunRow>& runs,
                      const std::vector<CallBook::Call>& calls) {
  periods_.clear();
  sums_.clear();
  entries_.clear();
  holds_.clear();
  late_.clear();
  for (const LedgerEntry& entry : entries) {
    entries_.emplace(std::pair(entry.try_id, entry.kind), entry);
    each_sum(entry.account, entry.team, entry.account_period, entry.team_period, entry.platform_period,
             [&](Sum& sum) {
               sum.used += entry.meters;
               sum.cost_used += entry.cost;
               sum.cost_debt += entry.debt;
               if (!entry.content.empty()) ++sum.content[entry.content][kUsed];
             });
  }
  for (const engine::JobRow& job : jobs) {
    if (!job.hold) continue;
    const auto held = holds_.emplace(job.id, std::pair(job.account, Held{.hold = *job.hold}));
    add(job.account, held.first->second.second, 1);
  }
  for (const auto& [id, run] : runs) see(run);
  for (const CallBook::Call& call : calls) add(call.account, Held{.hold = call.hold, .call = true}, 1);
  for (const PeriodRow& row : periods) {
    periods_.emplace(key_of(row), row);
    sums_[key_of(row)].debt = row.debt;  // its parts are in no entry
    check_sum(row);
  }
}

void Books::all_ended() const {
  for (const auto& [key, row] : periods_) {
    require(row.held.zero() && row.cost_held == Money{} && row.holds == 0, "I5",
            "everything has ended, and {} USD are held", to_string(row.cost_held));
  }
}

}  // namespace turnpike::simulation
