// What tries used becomes entries of the ledger and use in the books that admitted them; what follows from
// use: thresholds that are told, rules that move an account.

#include <fmt/format.h>

#include <algorithm>

#include "engine/books.h"

namespace turnpike::engine {
namespace {

using policy::Amounts;
using policy::kMeterCount;
using policy::Meter;

constexpr std::uint8_t kContentNumber = 100;  // PeriodRow::told: content[0]; then 101, ...
constexpr std::uint8_t kCostNumber = 255;

Amounts over(const Amounts& used, const Amounts& held) {
  Amounts debt;
  for (std::size_t i = 0; i < kMeterCount; ++i)
    debt.of[i] = std::max<std::int64_t>(0, used.of[i] - held.of[i]);
  return debt;
}

// What a completed try used. Characters and pictures are counted by what was asked where the provider does
// not say; tokens of an upstream that says nothing of them are taken at what was held.
Amounts used_by(const Hold& hold, const Usage& usage) {
  Amounts used = policy::amounts_of(usage);
  for (const Meter asked : {Meter::kCharacters, Meter::kImages}) {
    if (used[asked] == 0) used[asked] = hold.amounts[asked];
  }
  if (hold.may_bill && !policy::tells_tokens(usage)) {
    for (const Meter meter : {Meter::kTokens, Meter::kInputTokens, Meter::kOutputTokens})
      used[meter] = hold.amounts[meter];
  }
  used[Meter::kJobs] = hold.amounts[Meter::kJobs];
  used[Meter::kCalls] = hold.amounts[Meter::kCalls];
  return used;
}

// What a crash would make of the hold is no less than what was used. Cached tokens are part of the input that
// is held; of a content type nothing is taken.
bool covers(const Hold& hold, Amounts debt, Money cost) {
  debt[Meter::kCachedTokens] = 0;
  return debt.zero() && cost <= hold.cost && hold.content.empty();
}

Money price_of(const Hold& hold, const Amounts& used) {
  if (!hold.price) return {};
  // Beyond what money can count, the hold is the best that is known.
  return policy::cost_of(*hold.price, used).value_or(hold.cost);
}

Money price_of_billed(const Hold& hold, const Usage& usage) {
  const Amounts used = policy::amounts_of(usage);
  return used.zero() ? Money{} : price_of(hold, used);
}

const std::optional<Usage>& billed_of(const TryOutcome& outcome) {
  static const std::optional<Usage> kUnknown;
  if (const auto* failed = std::get_if<TryFailed>(&outcome)) return failed->billed;
  if (const auto* stopped = std::get_if<TryStopped>(&outcome)) return stopped->billed;
  if (const auto* back = std::get_if<TryHandedBack>(&outcome)) return back->billed;
  return kUnknown;
}

}  // namespace

LedgerEntry Engine::State::entry_of(EntryKind kind, const JobRow& row, const Hold& hold, TryId id, bool call,
                                    Timestamp now) const {
  return {.kind = kind,
          .at = now.wall,
          .account = row.account,
          .team = hold.team,
          .plan = row.plan,
          .job = row.id,
          .attempt = row.attempt,
          .try_id = id,
          .call = call,
          .task = row.task,
          .provider = row.provider,
          .model = row.model,
          .model_version = row.model_version,
          .price_version = hold.price_version,
          .meters = {},
          .content = {},
          .cost = {},
          .debt = {},
          .account_period = hold.account_period,
          .team_period = hold.team_period,
          .platform_period = hold.platform_period};
}

// Writes an entry into the ledger and into the books of its periods.
void Engine::State::post(Account& account, LedgerEntry&& entry, const Amounts& debt, Timestamp now,
                         Changes& out) {
  if (options_.fault == Fault::kCurrentPeriod) {
    entry.account_period = open_book(account, now, out).row.start;
    entry.platform_period = open_book(platform_, now, out).row.start;
  }
  const std::int64_t sign = entry.kind == EntryKind::kReversal ? -1 : 1;
  each_book(account, entry, [&](Payer& payer, Book& book) {
    PeriodRow& row = book.row;
    row.used += entry.meters;
    row.cost_used += entry.cost;
    if (!debt.zero()) row.debt += debt;
    row.cost_debt += entry.debt;
    if (!entry.content.empty()) content_made(row, entry.content).used += sign;
    tell_thresholds(payer, book, now, out);
  });
  const Wall period = entry.account_period;
  out.mutations.emplace_back(std::in_place_type<AddEntry>, std::move(entry));
  if (policy_->rules.empty()) return;
  if (Book* book = book_at(account, period); book != nullptr && book->row.current) {
    follow_rules(account, *book, policy::Rule::When::kAbove, now, out);
  }
}

void Engine::State::charge_completed(Job& job, TryId id, const Usage& usage, Timestamp now, Changes& out) {
  JobRow& row = job.row;
  if (!row.hold) return;
  Account& account = *job.account;
  const Hold hold = std::move(*row.hold);
  row.hold.reset();
  LedgerEntry entry = entry_of(EntryKind::kCompleted, row, hold, id, job.call, now);
  entry.meters = used_by(hold, usage);
  entry.cost = price_of(hold, entry.meters);
  entry.debt = std::max(Money{}, entry.cost - hold.cost);
  entry.content = hold.content;
  row.cost += entry.cost;
  correct_rates(job, entry.meters[Meter::kTokens], now);
  let_go(account, hold, job.call);
  const Amounts debt = over(entry.meters, hold.amounts);
  if (!covers(hold, debt, row.cost) && options_.fault != Fault::kDebtToldAtOnce) job.at_once = false;
  post(account, std::move(entry), debt, now, out);
}

bool Engine::State::charge_failed(Job& job, TryId id, EntryKind kind, const std::optional<Usage>& billed,
                                  Timestamp now, Changes& out) {
  JobRow& row = job.row;
  if (!row.hold) return true;
  const Hold& hold = *row.hold;
  const Money cost = billed ? price_of_billed(hold, *billed) : hold.may_bill ? hold.cost : Money{};
  if (cost == Money{}) return true;
  Account& account = *job.account;
  LedgerEntry entry = entry_of(kind, row, hold, id, job.call, now);
  entry.cost = cost;
  entry.debt = std::max(Money{}, cost - hold.cost);
  row.cost += cost;
  if (kind == EntryKind::kLost) {
    each_book(account, hold, [](Payer&, Book& book) { ++book.late; });
    late_.insert_or_assign(id, Late{.hold = hold, .charged = entry});
    late_order_.push_back(id);
    while (late_order_.size() > kLateMax) {
      const TryId oldest = late_order_.front();
      late_order_.pop_front();
      forget_late(oldest);
    }
  }
  post(account, std::move(entry), {}, now, out);
  // The next try may cost as much again: what is held for it must still fit.
  bool fits = true;
  each_book(account, hold, [&](Payer& payer, Book& book) {
    const auto& cap = promise_of(payer).cost_cap;
    if (cap && cap->hard_stop)
      fits = fits && book.row.cost_used + book.row.cost_held <= *cap_of(payer, now.wall);
  });
  return fits;
}

// What a lost or cancelled try turned out to have used takes the place of what was charged for it.
void Engine::State::correct_late(TryId id, const TryOutcome& outcome, Timestamp now, Changes& out) {
  const auto found = late_.find(id);
  if (found == late_.end()) return;
  const Late late = found->second;
  const auto* completed = std::get_if<TryCompleted>(&outcome);
  const std::optional<Usage>& billed = billed_of(outcome);
  if (completed != nullptr || billed) {
    const Money cost = completed != nullptr ? price_of(late.hold, used_by(late.hold, completed->usage))
                                            : price_of_billed(late.hold, *billed);
    if (cost != late.charged.cost) {
      Account& account = *find_account(late.charged.account);
      LedgerEntry entry = late.charged;
      entry.at = now.wall;
      if (options_.fault != Fault::kSettledTwice) {
        entry.kind = EntryKind::kReversal;
        entry.cost = -late.charged.cost;
        entry.debt = -late.charged.debt;
        post(account, LedgerEntry(entry), {}, now, out);
      }
      entry.kind = EntryKind::kCorrection;
      entry.cost = cost;
      entry.debt = std::max(Money{}, cost - late.hold.cost);
      post(account, std::move(entry), {}, now, out);
    }
  }
  forget_late(id);
}

void Engine::State::forget_late(TryId id) {
  const auto found = late_.find(id);
  if (found == late_.end()) return;
  const Account& account = *find_account(found->second.charged.account);
  each_book(account, found->second.hold, [](Payer&, Book& book) { --book.late; });
  late_.erase(found);
}

// --- What follows from use

void Engine::State::tell_thresholds(const Payer& payer, Book& book, Timestamp now, Changes& out) {
  PeriodRow& row = book.row;
  const policy::Promise& promise = promise_of(payer);
  const auto look = [&](std::uint8_t number, std::int64_t used, std::int64_t limit, const auto& words) {
    if (limit <= 0) return;
    for (const std::uint32_t permille : promise.thresholds) {
      if (static_cast<__int128>(used) * 1000 < static_cast<__int128>(limit) * permille) return;
      const std::pair key{number, permille};
      if (std::ranges::find(row.told, key) != row.told.end()) continue;
      row.told.push_back(key);
      const auto [meter, used_text, limit_text] = words();
      out.events.push_back(Event{
          .type = EventType::kUsageThreshold,
          .at = now.wall,
          .account = payer.account,
          .job = {},
          .text = fmt::format(
              R"({{"scope":"{}","team":{},"meter":"{}","threshold_percent":{}{},"used":{},"limit":{},"resets_at":{}}})",
              scope_name(payer.scope), payer.team.empty() ? "null" : "\"" + payer.team + "\"", meter,
              permille / 10, permille % 10 == 0 ? "" : fmt::format(".{}", permille % 10), used_text,
              limit_text, unix_seconds(row.end))});
    }
  };
  using Words = std::tuple<std::string, std::string, std::string>;
  for (std::size_t i = 0; i < kMeterCount; ++i) {
    if (row.used.of[i] == 0 || !promise.quotas.meters[i]) continue;
    const Meter meter = meter_at(i);
    const std::int64_t limit = *limit_of(payer, meter, now.wall);
    look(static_cast<std::uint8_t>(i), row.used.of[i], limit, [&] {
      return Words{policy::meter_name(meter).name, policy::show_amount(meter, row.used.of[i]),
                   policy::show_amount(meter, limit)};
    });
  }
  for (std::size_t i = 0; i < row.content.size() && kContentNumber + i < kCostNumber; ++i) {
    const PeriodRow::Content& content = row.content[i];
    const auto limit = limit_of(payer, content.type, now.wall);
    if (!limit || content.used == 0) continue;
    look(static_cast<std::uint8_t>(kContentNumber + i), content.used, *limit,
         [&] { return Words{content.type, fmt::to_string(content.used), fmt::to_string(*limit)}; });
  }
  if (const auto cap = cap_of(payer, now.wall)) {
    look(kCostNumber, row.cost_used.nanos, cap->nanos, [&] {
      return Words{"cost_usd", "\"" + to_string(row.cost_used) + "\"", "\"" + to_string(*cap) + "\""};
    });
  }
}

void Engine::State::follow_rules(Account& account, const Book& book, policy::Rule::When when, Timestamp now,
                                 Changes& out) {
  for (const policy::Rule& rule : policy_->rules) {
    if (rule.when != when || rule.from != account.row.plan) continue;
    const std::int64_t used = rule.meter ? book.row.used[*rule.meter] : book.row.cost_used.nanos;
    const bool holds = when == policy::Rule::When::kAbove ? used >= rule.amount : used < rule.amount;
    if (!holds) continue;
    move_to_plan(account, rule.to, "rule:" + rule.name, now, out);
    return;  // one move at a time: the new plan's rules look at the next use
  }
}

}  // namespace turnpike::engine
