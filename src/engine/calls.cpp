// Calls: work that is answered while its caller waits. A call is a job whose row is written nowhere: it
// stands in the same rings, before the jobs of its account, and ends with an answer instead of a state. What
// it holds is in the books of its periods, apart from what jobs hold, so that a crash takes it as used.

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {
namespace {

std::chrono::seconds seconds_up(Duration wait) {
  return std::max(std::chrono::seconds(1), std::chrono::ceil<std::chrono::seconds>(wait));
}

Error too_fast(const Payer& payer, const char* rate, const RateView& view, Duration wait) {
  Error error{.code = ErrorCode::kRateLimited, .message = {}, .param = {}};
  error.retryable = true;
  error.retry_after = seconds_up(wait);
  error.message = fmt::format("too fast: the limit {} of the {} is reached; come back in {} s", rate,
                              scope_name(payer.scope), error.retry_after->count());
  const auto& window = std::string_view(rate) == "tokens_per_minute" ? view.tokens : view.requests;
  LimitReached limit{.scope = scope_name(payer.scope),
                     .meter = rate,
                     .limit = fmt::to_string(window ? window->limit : 0),
                     .used = fmt::to_string(window ? window->limit - window->remaining : 0),
                     .held = "0",
                     .wanted = "1",
                     .resets_at = {}};
  error.limit = std::make_shared<const LimitReached>(std::move(limit));
  return error;
}

Error too_many(const Payer& payer, std::uint32_t cap, std::uint32_t now_running) {
  Error error{.code = ErrorCode::kConcurrencyLimited,
              .message = fmt::format(
                  "{} calls of the {} are being answered, and {} may be at once: come back when one has "
                  "ended",
                  now_running, scope_name(payer.scope), cap),
              .param = {}};
  error.retryable = true;
  error.retry_after = std::chrono::seconds(1);
  error.limit = std::make_shared<const LimitReached>(LimitReached{.scope = scope_name(payer.scope),
                                                                  .meter = "concurrent_calls",
                                                                  .limit = fmt::to_string(cap),
                                                                  .used = fmt::to_string(now_running),
                                                                  .held = "0",
                                                                  .wanted = "1",
                                                                  .resets_at = {}});
  return error;
}

policy::Amounts with_output(policy::Amounts amounts, std::int64_t output) {
  amounts[policy::Meter::kTokens] += output - amounts[policy::Meter::kOutputTokens];
  amounts[policy::Meter::kOutputTokens] = output;
  return amounts;
}

// Of a hundred thousand accounts hardly one is in the processor's caches: its parts are fetched side by side,
// rather than one after another as they are come upon.
void fetch_ahead(const Account& account) {
  constexpr std::size_t kLine = 64;
  const auto fetch = [](const void* from, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += kLine) __builtin_prefetch(static_cast<const char*>(from) + at);
  };
  fetch(&account, sizeof(Account));
  if (!account.queues.empty()) fetch(account.queues.front().get(), sizeof(Queue));
}

}  // namespace

std::optional<Error> Engine::State::call_refusal(const Account& account, const Want& want,
                                                 Timestamp now) const {
  const std::int64_t tokens = want.amounts[policy::Meter::kTokens];
  for (const Payer* payer : payers(account)) {
    if (payer == nullptr) continue;
    const policy::Rates& rates = promise_of(*payer).rates;
    if (!rates.any()) continue;
    const Duration wait = payer->rates.wait(rates, tokens, now.mono);
    if (wait > Duration{0}) {
      return too_fast(*payer, payer->rates.tightest(rates, tokens, now.mono),
                      payer->rates.view(rates, now.mono), wait);
    }
  }
  for (const Payer* payer : payers(account)) {
    if (payer == nullptr) continue;
    std::optional<std::uint32_t> cap;
    if (payer->scope == Scope::kAccount) {
      cap = account.plan->limits.concurrent_calls;
    } else if (const auto* terms = static_cast<const Group*>(payer)->terms) {
      cap = terms->concurrent_calls;
    }
    if (cap && payer->calls >= *cap) return too_many(*payer, *cap, payer->calls);
  }
  return refusal(account, want, now);
}

Result<Want> Engine::State::want_of(const Account& account, const NewCall& call,
                                    const policy::Amounts& amounts) const {
  return want_of(account, amounts, policy::Meter::kCalls, call.content_type, *call.route, call.extras);
}

// The most output, but no less than it makes do with, that nothing refuses.
std::optional<std::int64_t> Engine::State::output_left(const Account& account, const NewCall& call,
                                                       Timestamp now) const {
  const auto fits = [&](std::int64_t output) {
    const auto want = want_of(account, call, with_output(call.estimate, output));
    return want && !refusal(account, *want, now);
  };
  std::int64_t low = call.output_least;
  std::int64_t high = call.estimate[policy::Meter::kOutputTokens];  // does not fit
  if (low >= high || !fits(low)) return std::nullopt;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

Result<Admitted> Engine::State::admit(NewCall call, Timestamp now, Changes& out) {
  Account* account = find_account(call.account);
  if (account == nullptr) return fail(ErrorCode::kNotFound, "no such account", "account");
  fetch_ahead(*account);
  auto want = want_of(*account, call, call.estimate);
  if (!want) return std::unexpected(std::move(want.error()));
  if (call.output_least > 0 && refusal(*account, *want, now)) {
    if (const auto output = output_left(*account, call, now))
      want = want_of(*account, call, with_output(call.estimate, *output));
  }
  const std::int64_t output_limit = want->amounts[policy::Meter::kOutputTokens];
  if (call.output_first > 0 && call.output_first < output_limit)
    want = want_of(*account, call, with_output(call.estimate, call.output_first));
  if (auto refused = call_refusal(*account, *want, now)) {
    if (options_.fault == Fault::kRefusalTakesRate && refused->code == ErrorCode::kQuotaExceeded)
      account->rates.take(account->plan->promise.rates, 1, now.mono);
    return std::unexpected(std::move(*refused));
  }
  if (auto broken = all_broken(*account, *call.route, want->amounts, now))
    return std::unexpected(std::move(*broken));

  for (Payer* payer : payers(*account)) {
    if (payer != nullptr) ++payer->calls;
  }
  Job& job = jobs_.try_emplace(call.id).first->second;
  job.account = account;
  take_rates(*account, job, want->amounts[policy::Meter::kTokens], now);
  job.call = true;
  job.output_limit = output_limit;
  job.at_once = account->plan->admission == policy::Admission::kFast && !near_a_limit(*account, *want, now);
  job.deadline = now.mono + call.timeout;
  job.route = std::move(call.route);
  job.body = std::move(call.body);
  JobRow& row = job.row;
  row.id = call.id;
  row.account = call.account;
  row.state = JobState::kQueued;
  row.task = std::move(call.task);
  row.plan = account->plan->name;
  row.model = job.route->candidates.front().model;
  row.model_version = job.route->candidates.front().model_version;
  row.max_attempts = 1;
  row.created_at = now.wall;
  row.queued_at = now.wall;
  row.content_type = want->content;
  row.hold = take(*account, std::move(*want), true, now, out);
  job.held_in = out.batch;
  CHECK(aim_anew(job, now));  // the dearest that may serve it is held
  job.patience_end = now.mono + call.patience;
  stand_in_line(job, now);
  const JobId id = row.id;
  finish(now, out);
  return Admitted{.started = jobs_.at(id).row.state == JobState::kProcessing};
}

// The call has ended: its row, with what it was charged, goes to who waits for it.
void Engine::State::answer(Job& job, const std::string& team, std::optional<Error> error, Changes& out) {
  if (!error || options_.fault != Fault::kCallStaysCounted) --job.account->calls;
  --platform_.calls;
  if (Group* group = team_named(team)) --group->calls;
  const bool at_once = job.at_once && job.row.state == JobState::kCompleted;
  release_hold(*job.account, job.row, true);
  const JobId id = job.row.id;
  out.effects.emplace_back(std::in_place_type<AnswerCall>, std::move(job.row), std::move(error), at_once,
                           job.held_in);
  jobs_.erase(id);
}

// A call that waited for room, and gets none.
void Engine::State::give_up(JobId id, Error error, Timestamp now, Changes& out) {
  Job& job = jobs_.at(id);
  Queue& queue = queue_of(*job.account, job.row.pool);
  queue.calls.erase(id);
  patience_.erase({job.patience_end, id});
  sync_ring(queue, now);
  job.row.state = JobState::kFailed;
  job.row.finished_at = now.wall;
  answer(job, job.row.hold->team, std::move(error), out);
}

}  // namespace turnpike::engine
