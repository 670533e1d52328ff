// Calls that were answered without an upstream, and count all the same.
#include <memory>
#include <utility>

#include "engine/state.h"

namespace turnpike::engine {
namespace {

// A price, so that a hard cap has nothing against it, and a free one.
policy::PricePtr nothing() {
  static const policy::PricePtr kNothing = [] {
    policy::Price free;
    free.request = Rate{};
    return std::make_shared<const policy::Price>(std::move(free));
  }();
  return kNothing;
}

}  // namespace

Result<void> Engine::State::count_cached(CachedUse use, Timestamp now, Changes& out) {
  Account* account = find_account(use.account);
  if (account == nullptr) return fail(ErrorCode::kNotFound, "no such account", "account");
  auto want = want_of(*account, policy::amounts_of(use.used), policy::Meter::kCalls,
                      std::move(use.content_type), nothing(), false, {});
  if (!want) return std::unexpected(std::move(want.error()));
  if (auto refused = call_refusal(*account, *want, now)) return std::unexpected(std::move(*refused));
  // It begins and ends here: what it holds is charged at once.
  Job job;
  take_rates(*account, job, want->amounts[policy::Meter::kTokens], now);
  job.account = account;
  job.call = true;
  JobRow& row = job.row;
  row.id = use.id;
  row.account = use.account;
  row.task = std::move(use.task);
  row.plan = account->plan->name;
  row.provider = std::move(use.provider);
  row.model = std::move(use.model);
  row.model_version = std::move(use.model_version);
  row.attempt = 1;
  row.content_type = want->content;
  row.hold = take(*account, std::move(*want), true, now, out);
  charge_completed(job, TryId{use.id.value}, use.used, now, out);
  finish(now, out);
  return {};
}

Result<void> Engine::count_cached(CachedUse use, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->count_cached(std::move(use), now, out);
}

}  // namespace turnpike::engine
