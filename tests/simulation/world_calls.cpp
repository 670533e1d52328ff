// What a World asks of calls and accounts, and what it checks of the answers.
#include "simulation/violation.h"
#include "simulation/world.h"

namespace turnpike::simulation {

using engine::Changes;

std::string World::standing(AccountId id) const {
  std::string text;
  const auto rate = [&text](const std::optional<engine::RateView::Window>& window) {
    if (window)
      text += fmt::format("{}/{} in {};", window->remaining, window->limit, window->resets_in.count());
  };
  const engine::RateView rates = engine_->rates(id, now_);
  rate(rates.requests);
  rate(rates.tokens);
  const auto usage = [&text](const engine::UsageView& view) {
    text += fmt::format("{}: {}+{};", unix_seconds(view.period.start), view.cost_used.nanos,
                        view.cost_held.nanos);
    for (const auto& meter : view.meters)
      text += fmt::format("{} {}+{}/{};", meter.meter, meter.used, meter.held, meter.limit.value_or(-1));
  };
  usage(engine_->usage(id, now_));
  if (const auto team = engine_->team_usage(checker_.promises().team_of(id), now_)) usage(*team);
  usage(engine_->platform_usage(now_));
  return text;
}

void World::count_refusal(const Error& error) const {
  tally_->add(Seen::kOverLimit);
  if (error.code == ErrorCode::kNotInPlan) tally_->add(Seen::kNotInPlan);
  if (!error.limit) return;
  if (error.limit->scope == "team") tally_->add(Seen::kTeamRefusals);
  if (error.limit->scope == "platform") tally_->add(Seen::kPlatformRefusals);
  if (error.code == ErrorCode::kQuotaExceeded && !policy::meter_named(error.limit->meter))
    tally_->add(Seen::kContentRefusals);
  if (error.limit->meter == "tokens_per_minute") tally_->add(Seen::kTokenRateRefusals);
}

Result<engine::Admitted> World::admit(engine::NewCall call) {
  checker_.pass_time(now_);
  Changes out = changes();
  const Judge& judge = checker_.judge();
  const Asked asked{.account = call.account,
                    .estimate = call.estimate,
                    .count = policy::Meter::kCalls,
                    .content = call.content_type,
                    .price = call.route->candidates.front().price,
                    .remote = call.route->candidates.front().remote,
                    .extras = call.extras};
  Asking asking{.id = call.id, .account = call.account};
  asking.reasons = judge.not_allowed(asked);
  asking.reasons.merge(judge.too_fast(asked, now_));
  asking.reasons.merge(judge.spent(asked, now_));
  if (!policy_->pools.contains(call.route->candidates.front().pool))
    asking.reasons.insert(ErrorCode::kUnavailable);  // nothing can serve it
  asking.standing = standing(call.account);
  CallBook::Call admitted{.id = call.id,
                          .account = call.account,
                          .pool = call.route->candidates.front().pool,
                          .team = checker_.promises().team_of(call.account),
                          .hold = judge.hold_of(asked, policy_version_, now_),
                          .patience_end = now_.mono + call.patience,
                          .fast = checker_.plan_of(call.account).admission == policy::Admission::kFast &&
                                  !judge.near_the_end(asked, now_),
                          .admitted = out.batch};
  auto answer = engine_->admit(std::move(call), now_, out);
  say("call {} of {} -> {}", to_string(asking.id), to_string(asking.account),
      answer ? answer->started ? "started" : "waits" : error_code_name(answer.error().code));
  if (!answer) {
    require(out.mutations.empty() && out.events.empty() && out.effects.empty(), "refusal",
            "a refused call changed something");
    check_call_refused(asking, asked, answer.error());
    took_place({.name = "admit"}, std::move(out));
    return answer;
  }
  require(asking.reasons.empty(), "I5", "the call {} was admitted, and should have been refused as {}",
          to_string(asking.id), asking.reasons.empty() ? "" : error_code_name(*asking.reasons.begin()));
  checker_.admitted(std::move(admitted));
  took_place({.name = "admit"}, std::move(out));
  const CallBook::Call* open = checker_.calls().find(asking.id);
  require(open != nullptr && static_cast<bool>(open->running) == answer->started, "calls",
          "the call {} is said to {}", to_string(asking.id), answer->started ? "run" : "wait");
  if (!answer->started) tally_->add(Seen::kCallsWaiting);
  return answer;
}

void World::check_call_refused(const Asking& asking, const Asked& asked, const Error& error) const {
  require(standing(asking.account) == asking.standing, "refusal",
          "a refused call took something: {} after {}", standing(asking.account), asking.standing);
  require(asking.reasons.contains(error.code), "refusal", "the call {} was refused for no reason: {}",
          to_string(asking.id), error.message);
  if (error.code == ErrorCode::kRateLimited) {
    tally_->add(Seen::kRateRefusals);
    checker_.judge().check_retry_after(asked, error, now_);
  }
  if (error.code == ErrorCode::kConcurrencyLimited) {
    tally_->add(Seen::kConcurrencyRefusals);
    require(error.retry_after.has_value(), "refusal",
            "a refusal for calls at once does not say when to come back");
  }
  count_refusal(error);
}

Result<engine::AccountRow> World::change(AccountId id, engine::Engine::AccountChange change) {
  checker_.pass_time(now_);
  Changes out = changes();
  if (change.team) tally_->add(Seen::kTeamMoves);
  if (change.grant) tally_->add(Seen::kGrants);
  if (change.revoke) tally_->add(Seen::kGrantsRevoked);
  if (change.overrides && !change.overrides->empty()) tally_->add(Seen::kOverrides);
  auto answer = engine_->change_account(id, std::move(change), now_, out);
  say("change of {} -> {}", to_string(id), answer ? "ok" : answer.error().message);
  if (!answer)
    require(out.mutations.empty() && out.events.empty() && out.effects.empty(), "refusal",
            "a refused change of an account changed something");
  took_place({.name = "change_account"}, std::move(out));
  return answer;
}

}  // namespace turnpike::simulation
