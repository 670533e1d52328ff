// What work may hold, and holds. A hold is taken in the books of the account, its team and the platform
// together, or in none; what becomes of it is in charges.cpp.

#include <fmt/format.h>

#include <algorithm>

#include "engine/books.h"
#include "policy/estimate.h"

namespace turnpike::engine {
namespace {

using policy::Amounts;
using policy::index_of;
using policy::kMeterCount;
using policy::Meter;

bool in_force(const Grant& grant, Wall now) {
  return grant.expires_at == kNever || grant.expires_at > now;
}

std::int64_t left_of(const Grant& grant) {
  return std::max<std::int64_t>(0, grant.amount - grant.spent);
}

// What a grant's limit is without it, what was used in all: the rest is the grants', the one that expires
// first pays first.
void spend_grants(std::vector<Grant>& grants, std::int64_t over, Wall began, Wall ended, auto matches) {
  std::vector<Grant*> of;
  for (Grant& grant : grants) {
    const bool was_there = grant.granted_at < ended && in_force(grant, began);
    if (was_there && matches(grant) && left_of(grant) > 0) of.push_back(&grant);
  }
  std::ranges::sort(of, {}, [](const Grant* grant) {
    return std::pair(grant->expires_at == kNever ? Wall::max() : grant->expires_at, grant->id);
  });
  for (Grant* grant : of) {
    if (over <= 0) return;
    const std::int64_t taken = std::min(over, left_of(*grant));
    grant->spent += taken;
    over -= taken;
  }
}

// A period that is over pays with grants for all that it used, and holds, beyond the plan.
void pay_with(std::vector<Grant>& grants, const policy::Promise& promise, const PeriodRow& row) {
  for (std::size_t i = 0; i < kMeterCount; ++i) {
    if (!promise.quotas.meters[i]) continue;
    const std::int64_t beyond = row.used.of[i] + row.held.of[i] - *promise.quotas.meters[i];
    spend_grants(grants, beyond, row.start, row.end, [i](const Grant& g) { return g.meter == meter_at(i); });
  }
  for (const PeriodRow::Content& content : row.content) {
    const auto quota = promise.quotas.content.find(content.type);
    if (quota == promise.quotas.content.end() || !quota->second) continue;
    spend_grants(grants, content.used + content.held - *quota->second, row.start, row.end,
                 [&](const Grant& g) { return g.content == content.type; });
  }
  if (promise.cost_cap) {
    const Money beyond = row.cost_used + row.cost_held - promise.cost_cap->monthly;
    spend_grants(grants, beyond.nanos, row.start, row.end,
                 [](const Grant& g) { return !g.meter && g.content.empty(); });
  }
}

}  // namespace

// --- Who pays, and what they may

std::array<Payer*, 3> Engine::State::payers(const Account& account) const {
  // The groups are the state's own; asking for them changes nothing.
  return {const_cast<Account*>(&account), account.group, const_cast<Group*>(&platform_)};
}

const policy::Promise& Engine::State::promise_of(const Payer& payer) const {
  static const policy::Promise kNothing;
  if (payer.scope == Scope::kAccount) return static_cast<const Account&>(payer).plan->promise;
  const auto* terms = static_cast<const Group&>(payer).terms;
  return terms != nullptr ? terms->promise : kNothing;
}

policy::Period Engine::State::period_of(const Payer& payer, Timestamp now) const {
  if (!payer.books.empty()) {
    const PeriodRow& last = payer.books.back().row;
    // Never back: when the clock is set back, the period that has begun goes on.
    if (now.wall < last.end) return {last.start, last.end};
  }
  policy::Period period;
  const policy::PeriodRule& rule = promise_of(payer).period;
  if (payer.scope == Scope::kAccount) {
    const AccountRow& row = static_cast<const Account&>(payer).row;
    const std::string& zone = row.time_zone.empty() ? policy_->accounts.time_zone : row.time_zone;
    period =
        policy::period_at(rule, zone, row.anchor_at == kNever ? row.created_at : row.anchor_at, now.wall);
  } else {
    const auto* terms = static_cast<const Group&>(payer).terms;
    period = policy::period_at(rule, terms != nullptr ? terms->time_zone : "UTC", kNever, now.wall);
  }
  // A new rule, zone or anchor counts from the end of the last period on.
  if (!payer.books.empty()) period.start = std::max(period.start, payer.books.back().row.end);
  return period;
}

const Book* Engine::State::current_book(const Payer& payer, Timestamp now) const {
  if (payer.books.empty() || now.wall >= payer.books.back().row.end) return nullptr;
  return &payer.books.back();
}

Book* Engine::State::book_at(Payer& payer, Wall start) {
  const auto found = std::ranges::find(payer.books, start, [](const Book& book) { return book.row.start; });
  return found == payer.books.end() ? nullptr : &*found;
}

Book& Engine::State::open_book(Payer& payer, Timestamp now, Changes& out) {
  if (!payer.books.empty() && now.wall < payer.books.back().row.end) return payer.books.back();
  const policy::Period period = period_of(payer, now);
  if (!payer.books.empty() && payer.books.back().row.current) close_book(payer, payer.books.back(), now, out);
  Book& book = payer.books.emplace_back();
  book.row.scope = payer.scope;
  book.row.account = payer.account;
  book.row.team = payer.team;
  book.row.start = period.start;
  book.row.end = period.end;
  mark(payer, book);
  return book;
}

// A period is over: grants have paid for what was beyond the plan, and rules look at what was not used.
void Engine::State::close_book(Payer& payer, Book& book, Timestamp now, Changes& out) {
  book.row.current = false;
  mark(payer, book);
  if (payer.scope != Scope::kAccount) return;
  auto& account = static_cast<Account&>(payer);
  std::vector<Grant>& grants = account.row.grants;
  if (!grants.empty() && options_.fault != Fault::kGrantSpentTwice) {
    const std::vector<Grant> before = grants;
    pay_with(grants, account.plan->promise, book.row);
    std::erase_if(grants, [&](const Grant& g) { return left_of(g) == 0 || !in_force(g, now.wall); });
    if (grants != before) out.mutations.emplace_back(PutAccount{account.row});
  }
  follow_rules(account, book, policy::Rule::When::kBelow, now, out);
}

void Engine::State::mark(Payer& payer, Book& book) {
  book.dirty = true;
  if (payer.dirty) return;
  payer.dirty = true;
  dirty_payers_.push_back(&payer);
}

template <typename Matches>
std::int64_t Engine::State::granted(const Payer& payer, Wall now, Matches matches) const {
  if (payer.scope != Scope::kAccount || now == kNever) return 0;
  const auto& account = static_cast<const Account&>(payer);
  const auto sum = [&](const std::vector<Grant>& grants) {
    std::int64_t left = 0;
    for (const Grant& grant : grants)
      if (matches(grant) && in_force(grant, now)) left += left_of(grant);
    return left;
  };
  const std::vector<Grant>& grants = account.row.grants;
  if (grants.empty()) return 0;
  const bool to_be_paid =
      !account.books.empty() && account.books.back().row.current && now >= account.books.back().row.end;
  if (!to_be_paid || options_.fault == Fault::kGrantThereTwice) return sum(grants);
  // The period that is over has not been closed yet: what it used of them is not there a second time.
  std::vector<Grant> rest = grants;
  pay_with(rest, account.plan->promise, account.books.back().row);
  return sum(rest);
}

std::optional<std::int64_t> Engine::State::limit_of(const Payer& payer, Meter meter, Wall now) const {
  const auto limit = promise_of(payer).quotas.meters[index_of(meter)];
  if (!limit) return std::nullopt;
  return *limit + granted(payer, now, [meter](const Grant& grant) { return grant.meter == meter; });
}

std::optional<std::int64_t> Engine::State::limit_of(const Payer& payer, std::string_view content,
                                                    Wall now) const {
  const auto& quotas = promise_of(payer).quotas.content;
  const auto found = quotas.find(content);
  if (found == quotas.end() || !found->second) return std::nullopt;
  return *found->second +
         granted(payer, now, [content](const Grant& grant) { return grant.content == content; });
}

std::optional<Money> Engine::State::cap_of(const Payer& payer, Wall now) const {
  const auto& cap = promise_of(payer).cost_cap;
  if (!cap) return std::nullopt;
  return cap->monthly +
         Money{granted(payer, now, [](const Grant& grant) { return !grant.meter && grant.content.empty(); })};
}

bool Engine::State::hard_stop(const Account& account) const {
  return std::ranges::any_of(payers(account), [this](const Payer* payer) {
    if (payer == nullptr) return false;
    const auto& cap = promise_of(*payer).cost_cap;
    return cap && cap->hard_stop;
  });
}

// --- Asking

// What cannot be priced cannot be kept below a cap.
std::optional<Error> Engine::State::unpriced(const Account& account, const policy::Price* price,
                                             const Amounts& amounts,
                                             const std::vector<std::string>& extras) const {
  if (!hard_stop(account)) return std::nullopt;
  const std::string& plan = account.plan->name;
  if (price == nullptr) {
    return Error{
        .code = ErrorCode::kModelNotAllowed,
        .message = fmt::format("the model has no price, and plan {} has a hard cost cap: the operator must "
                               "price it (section `prices`), or choose another model",
                               plan),
        .param = "model"};
  }
  if (!extras.empty()) {
    return Error{.code = ErrorCode::kInvalidRequest,
                 .message = fmt::format("`{}` costs extra and has no price here, and plan {} has a hard cost "
                                        "cap: leave it out",
                                        extras.front(), plan),
                 .param = extras.front()};
  }
  const auto missing = policy::unpriced(*price, amounts);
  if (missing.empty()) return std::nullopt;
  return Error{.code = ErrorCode::kModelNotAllowed,
               .message = fmt::format("the price of this model says nothing about {}, and plan {} has a hard "
                                      "cost cap: the operator must complete it (section `prices`)",
                                      missing.front(), plan),
               .param = "model"};
}

Result<Want> Engine::State::want_of(const Account& account, const Amounts& estimate, Meter count,
                                    std::string content, policy::PricePtr price, bool remote,
                                    const std::vector<std::string>& extras) const {
  const policy::Plan& plan = *account.plan;
  if (!content.empty() && plan.content_types &&
      std::ranges::find(*plan.content_types, content) == plan.content_types->end()) {
    return fail(ErrorCode::kNotInPlan,
                fmt::format("plan {} does not have content type {}", plan.name, content), "content_type");
  }
  Want want{.amounts = estimate,
            .content = std::move(content),
            .price = std::move(price),
            .remote = remote,
            .cost = {}};
  if (auto error = unpriced(account, want.price.get(), estimate, extras))
    return std::unexpected(std::move(*error));
  if (want.price) {
    const auto cost = policy::cost_at_most(*want.price, estimate);
    if (!cost) {
      return fail(ErrorCode::kInvalidRequest,
                  "the request asks for more than money can count: lower its sizes or limits", "input");
    }
    want.cost = *cost;
  }
  want.amounts[count] = 1;
  return want;
}

Result<Want> Engine::State::want_of(const Account& account, const Amounts& estimate, Meter count,
                                    std::string content, const policy::Route& route,
                                    const std::vector<std::string>& extras) const {
  std::optional<Want> dearest;
  std::optional<Error> first;
  for (const policy::Candidate& each : route.candidates) {
    auto want = want_of(account, estimate, count, content, each.price, each.remote, extras);
    if (!want) {
      if (!first) first = std::move(want.error());
    } else if (!dearest || want->cost > dearest->cost) {
      dearest = std::move(*want);
    }
  }
  if (!dearest) return std::unexpected(std::move(*first));
  return std::move(*dearest);
}

Result<Want> Engine::State::want_of(const JobRow& row, const policy::Route& route) const {
  return want_of(*find_account(row.account), row.estimate, Meter::kJobs, row.content_type, route, {});
}

std::optional<Error> Engine::State::refusal(const Account& account, const Want& want, Timestamp now) const {
  for (const Payer* payer : payers(account)) {
    if (payer == nullptr) continue;
    if (auto refused = refusal(*payer, want, now)) return refused;
  }
  return std::nullopt;
}

std::optional<Error> Engine::State::refusal(const Payer& payer, const Want& want, Timestamp now) const {
  return refusal(payer, current_book(payer, now), want, now);
}

// Grants have paid for a period that is over; what is left of them is for the next one.
std::optional<Error> Engine::State::refusal(const Payer& payer, const Book* book, const Want& want,
                                            Timestamp now) const {
  static const PeriodRow kNothingYet;
  const PeriodRow& row = book != nullptr ? book->row : kNothingYet;
  const Wall grants_at = row.current ? now.wall : kNever;
  for (std::size_t i = 0; i < kMeterCount; ++i) {
    if (want.amounts.of[i] <= 0) continue;
    const auto limit = limit_of(payer, meter_at(i), grants_at);
    if (!limit || row.used.of[i] + row.held.of[i] + want.amounts.of[i] <= *limit) continue;
    const auto show = [i](std::int64_t amount) { return policy::show_amount(meter_at(i), amount); };
    return refused(payer, policy::meter_name(meter_at(i)).name, ErrorCode::kQuotaExceeded,
                   {show(*limit), show(row.used.of[i]), show(row.held.of[i]), show(want.amounts.of[i])}, book,
                   now);
  }
  if (!want.content.empty()) {
    const auto* content = content_of(row, want.content);
    const std::int64_t used = content != nullptr ? content->used : 0;
    const std::int64_t held = content != nullptr ? content->held : 0;
    if (const auto limit = limit_of(payer, want.content, grants_at);
        limit && used + held + want.content_count > *limit) {
      return refused(payer, want.content, ErrorCode::kQuotaExceeded,
                     {fmt::to_string(*limit), fmt::to_string(used), fmt::to_string(held),
                      fmt::to_string(want.content_count)},
                     book, now);
    }
  }
  const auto& cap = promise_of(payer).cost_cap;
  if (!cap || !cap->hard_stop) return std::nullopt;
  const Money limit = *cap_of(payer, grants_at);
  if (row.cost_used + row.cost_held + want.cost <= limit) return std::nullopt;
  return refused(payer, "cost_usd", ErrorCode::kCostCapReached,
                 {to_string(limit), to_string(row.cost_used), to_string(row.cost_held), to_string(want.cost)},
                 book, now);
}

std::optional<Error> Engine::State::refusal(const Job& job, const Want& more, Timestamp now) {
  std::optional<Error> refused;
  look_at_books(*job.account, *job.row.hold, [&](Payer& payer, Book& book) {
    if (!refused) refused = refusal(payer, &book, more, now);
  });
  return refused;
}

bool Engine::State::could_ever(const Account& account, const Want& want, Timestamp now) const {
  for (const Payer* payer : payers(account)) {
    if (payer == nullptr) continue;
    for (std::size_t i = 0; i < kMeterCount; ++i) {
      const auto limit = limit_of(*payer, meter_at(i), now.wall);
      if (limit && want.amounts.of[i] > *limit) return false;
    }
    const auto content = want.content.empty() ? std::nullopt : limit_of(*payer, want.content, now.wall);
    if (content && *content < 1) return false;
    const auto& cap = promise_of(*payer).cost_cap;
    if (cap && cap->hard_stop && want.cost > *cap_of(*payer, now.wall)) return false;
  }
  return true;
}

Error Engine::State::refused(const Payer& payer, std::string meter, ErrorCode code,
                             std::array<std::string, 4> figures, const Book* book, Timestamp now) const {
  const policy::Period period =
      book != nullptr ? policy::Period{book->row.start, book->row.end} : period_of(payer, now);
  const std::string whose = payer.scope == Scope::kAccount
                                ? "plan " + static_cast<const Account&>(payer).plan->name
                            : payer.scope == Scope::kTeam ? "team " + payer.team
                                                          : std::string("the platform");
  auto& [limit, used, held, wanted] = figures;
  Error error{
      .code = code,
      .message = fmt::format("{} allows {} {} in this period; {} are used, {} are held by work that has not "
                             "ended, and this would hold {} more: wait for the next period, ask for less, or "
                             "upgrade",
                             whose, limit, meter, used, held, wanted),
      .param = {}};
  error.limit = std::make_shared<const LimitReached>(LimitReached{.scope = scope_name(payer.scope),
                                                                  .meter = std::move(meter),
                                                                  .limit = std::move(limit),
                                                                  .used = std::move(used),
                                                                  .held = std::move(held),
                                                                  .wanted = std::move(wanted),
                                                                  .resets_at = unix_seconds(period.end)});
  return error;
}

// Whether so little is left that a crash could let it be passed: then a call waits for its hold to be
// durable.
bool Engine::State::near_a_limit(const Account& account, const Want& want, Timestamp now) const {
  const auto near = [](std::int64_t used, std::int64_t held, std::int64_t wanted, std::int64_t limit) {
    return used + held + wanted > limit - limit / 10;
  };
  for (const Payer* payer : payers(account)) {
    const Book* book = payer != nullptr ? current_book(*payer, now) : nullptr;
    if (book == nullptr) continue;
    const PeriodRow& row = book->row;
    const auto& promise = promise_of(*payer);
    for (std::size_t i = 0; i < kMeterCount; ++i) {
      const auto& limit = promise.quotas.meters[i];
      if (limit && want.amounts.of[i] > 0 && near(row.used.of[i], row.held.of[i], want.amounts.of[i], *limit))
        return true;
    }
    const auto& cap = promise.cost_cap;
    if (cap && cap->hard_stop &&
        near(row.cost_used.nanos, row.cost_held.nanos, want.cost.nanos, cap->monthly.nanos)) {
      return true;
    }
  }
  return false;
}

// --- Taking and giving back

void Engine::State::take_rates(Account& account, Job& job, std::int64_t tokens, Timestamp now) {
  const auto all = payers(account);
  for (std::size_t i = 0; i < all.size(); ++i) {
    job.tokens_taken[i] = {};
    if (all[i] == nullptr || options_.fault == Fault::kRateNotTaken) continue;
    job.tokens_taken[i] = {all[i], all[i]->rates.take(promise_of(*all[i]).rates, tokens, now.mono)};
  }
}

// Those that it took from: the account may be in another team by now.
void Engine::State::correct_rates(Job& job, std::int64_t tokens, Timestamp now) {
  for (const auto& [payer, taken] : job.tokens_taken) {
    if (payer == nullptr) continue;
    if (payer->rates.correct(promise_of(*payer).rates, tokens, taken, now.mono)) let_delayed_in(*payer, now);
  }
}

void Engine::State::let_delayed_in(Payer& payer, Timestamp now) {
  if (payer.scope == Scope::kAccount) {
    sync_rings(static_cast<Account&>(payer), now);
    return;
  }
  std::vector<Account*> delayed;
  for (const auto& [at, id] : rate_timers_) {
    if (delayed.size() >= kDelayedLookMax) break;  // the others come with their timers
    Account* account = find_account(id);
    if (payer.scope == Scope::kPlatform || account->group == &payer) delayed.push_back(account);
  }
  for (Account* account : delayed) sync_rings(*account, now);
}

Hold Engine::State::take(Account& account, Want want, bool call, Timestamp now, Changes& out) {
  Hold hold;
  hold.amounts = want.amounts;
  hold.cost = want.cost;
  hold.content = std::move(want.content);
  hold.may_bill = want.remote || (want.price && !want.price->free());
  hold.price = std::move(want.price);
  hold.price_version = price_version_;
  hold.account_period = open_book(account, now, out).row.start;
  hold.platform_period = open_book(platform_, now, out).row.start;
  if (account.group != nullptr) {
    hold.team = account.group->team;
    hold.team_period = open_book(*account.group, now, out).row.start;
  }
  if (options_.fault == Fault::kCheckedNotHeld) return hold;
  each_book(account, hold, [&](Payer&, Book& book) {
    PeriodRow& row = book.row;
    row.held += hold.amounts;
    row.cost_held += hold.cost;
    ++row.holds;
    if (!hold.content.empty()) ++content_made(row, hold.content).held;
    if (!call) return;
    row.calls_held += hold.amounts;
    row.cost_calls_held += hold.cost;
    if (!hold.content.empty()) ++content_made(row, hold.content).calls_held;
  });
  return hold;
}

void Engine::State::let_go(const Account& account, const Hold& hold, bool call) {
  each_book(account, hold, [&](Payer&, Book& book) {
    if (options_.fault == Fault::kCheckedNotHeld) return;
    PeriodRow& row = book.row;
    row.held -= hold.amounts;
    row.cost_held -= hold.cost;
    --row.holds;
    if (!hold.content.empty()) --content_made(row, hold.content).held;
    if (!call) return;
    row.calls_held -= hold.amounts;
    row.cost_calls_held -= hold.cost;
    if (!hold.content.empty()) --content_made(row, hold.content).calls_held;
  });
}

// A stream takes more than was held at first, of the periods that admitted it.
Result<bool> Engine::State::raise(TryId id, const policy::Amounts& more, Timestamp now, Changes& out) {
  const auto found = tries_.find(id);
  const auto at = found == tries_.end() ? jobs_.end() : jobs_.find(found->second.job);
  if (at == jobs_.end() || at->second.row.current_try != id || !at->second.row.hold)
    return fail(ErrorCode::kConflict, "the try is over");
  Job& job = at->second;
  const Hold& hold = *job.row.hold;
  if (auto error = unpriced(*job.account, hold.price.get(), more, {}))
    return std::unexpected(std::move(*error));
  Amounts amounts = hold.amounts;
  amounts += more;
  Money cost = hold.cost;
  if (hold.price) {
    const auto dearest = policy::cost_at_most(*hold.price, amounts);
    if (!dearest)
      return fail(ErrorCode::kInvalidRequest, "the answer asks for more than money can count", "input");
    cost = std::max(cost, *dearest);
  }
  const Want want{
      .amounts = more, .content = {}, .price = nullptr, .remote = false, .cost = cost - hold.cost};
  if (auto refused = hold_more(job, want, now)) return std::unexpected(std::move(*refused));
  job.held_in = out.batch;
  Try& attempt = found->second;
  if (attempt.pass && attempt.pool->memory)
    attempt.pool->memory->raise(*attempt.pass, more[Meter::kTokens], now.mono);
  if (!job.call && options_.fault != Fault::kRaiseUnwritten) put_job(job.row, nullptr, out);
  const bool at_once = job.at_once;
  finish(now, out);
  return at_once;
}

std::optional<Error> Engine::State::hold_more(Job& job, const Want& more, Timestamp now) {
  if (auto refused = refusal(job, more, now); refused && options_.fault != Fault::kRaiseUnchecked)
    return refused;
  job.at_once = job.at_once && !near_a_limit(*job.account, more, now);
  Hold& hold = *job.row.hold;
  each_book(*job.account, hold, [&](Payer&, Book& book) {
    if (options_.fault == Fault::kCheckedNotHeld) return;
    book.row.held += more.amounts;
    book.row.cost_held += more.cost;
    if (!job.call) return;
    book.row.calls_held += more.amounts;
    book.row.cost_calls_held += more.cost;
  });
  hold.amounts += more.amounts;
  hold.cost += more.cost;
  return std::nullopt;
}

void Engine::State::release_hold(Account& account, JobRow& row, bool call) {
  if (!row.hold) return;
  let_go(account, *row.hold, call);
  row.hold.reset();
}

}  // namespace turnpike::engine
