// Calls: admitted in one turn, answered when they have ended (engine::AnswerCall says when).
#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "node/node_impl.h"
#include "policy/estimate.h"
#include "policy/resolve.h"

namespace turnpike::node {

Result<policy::RoutePtr> NodeImpl::route_for(const engine::Engine& engine, AccountId account,
                                             std::string_view task, std::string_view model) const {
  const engine::AccountRow* row = engine.account(account);
  if (row == nullptr) return fail(ErrorCode::kNotFound, "there is no such account");
  auto route = policy::resolve(*engine.policy(), engine.plan_of(account), *engine.overlay(), row->user_id,
                               task, model, options_.unavailable_providers);
  if (!route) return std::unexpected(std::move(route.error()));
  return std::make_shared<const policy::Route>(std::move(*route));
}

namespace {

// Whether all of its upstreams say how much they have written while they write.
bool streams_upstream(const policy::Policy& policy, const policy::Route& route) {
  return std::ranges::all_of(route.candidates, [&policy](const policy::Candidate& each) {
    const policy::ProviderKind kind = policy.providers.at(each.provider).kind;
    return kind == policy::ProviderKind::kOpenAi || kind == policy::ProviderKind::kAnthropic;
  });
}

}  // namespace

Result<engine::NewCall> NodeImpl::resolve_call(CommitLoop::Turn& turn, const CallRequest& request) {
  auto route = route_for(turn.engine(), request.account, request.task, request.model);
  if (!route) return std::unexpected(std::move(route.error()));
  const policy::Policy& policy = *turn.engine().policy();
  const policy::Plan& plan = turn.engine().plan_of(request.account);
  const policy::Amounts estimate =
      policy::estimate(policy.models.at((*route)->candidates.front().model), request.ask);
  const std::int64_t step = CallPlace::kOutputStep * std::max<std::int64_t>(1, request.ask.choices);
  const bool in_steps = request.wire && request.wire->stream && streams_upstream(policy, **route);
  return engine::NewCall{.id = JobId{turn.fresh_id()},
                         .account = request.account,
                         .task = request.task,
                         .route = std::move(*route),
                         .content_type = request.content_type,
                         .estimate = estimate,
                         .output_first = in_steps ? step : 0,
                         .output_least = step,
                         .extras = request.ask.extras,
                         .patience = plan.attempt_timeout,
                         .timeout = plan.attempt_timeout,
                         .body = request.body};
}

namespace {

Error overloaded() {
  Error error{.code = ErrorCode::kUnavailable, .message = "the server is overloaded; try again", .param = {}};
  error.retryable = true;
  error.retry_after = std::chrono::seconds(1);
  return error;
}

// The answer that has come to the place.
Result<CallAnswer> answer_of(CallPlace& place, const engine::RateView& rates) {
  auto answer = place.take_answer();
  if (!answer) return stopping();
  if (answer->error) return std::unexpected(std::move(*answer->error));
  return CallAnswer{.row = std::move(answer->row),
                    .rates = rates,
                    .reply = place.take_reply(),
                    .serving = place.serving(),
                    .times = place.times()};
}

class Streaming final : public CallStream {
 public:
  Streaming(std::shared_ptr<CallPlace> place, engine::RateView rates)
      : place_(std::move(place)), rates_(rates) {}
  ~Streaming() override { place_->leave(); }
  Streaming(const Streaming&) = delete;
  Streaming& operator=(const Streaming&) = delete;

  asio::awaitable<std::string> read() override { return place_->read(); }
  asio::awaitable<Result<CallAnswer>> end() override { co_return answer_of(*place_, rates_); }
  void leave() override { place_->leave(); }

 private:
  const std::shared_ptr<CallPlace> place_;
  const engine::RateView rates_;
};

}  // namespace

asio::awaitable<Result<CallAnswer>> NodeImpl::call(CallRequest request) {
  if (draining()) co_return stopping();
  if (auto terms = cache_terms(request)) {
    auto calling = call_cached(std::move(request), std::move(*terms));
    co_return co_await std::move(calling);
  }
  auto calling = call_upstream(std::move(request), nullptr);
  co_return co_await std::move(calling);
}

asio::awaitable<Result<void>> NodeImpl::hold_more(TryId try_id, std::int64_t output_tokens) {
  policy::Amounts more;
  more[policy::Meter::kOutputTokens] = output_tokens;
  more[policy::Meter::kTokens] = output_tokens;
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    auto raised = turn.engine().raise(try_id, more, turn.now(), turn.changes());
    if (!raised) co_return std::unexpected(std::move(raised.error()));
    if (*raised) co_return Result<void>{};
    batch = turn.seal();
  }
  const bool durable = co_await loop_->committed(batch);
  if (!durable) co_return stopping();
  co_return Result<void>{};
}

asio::awaitable<Result<CallAnswer>> NodeImpl::call_upstream(CallRequest request,
                                                            std::shared_ptr<CachedCall> cached) {
  if (draining()) co_return stopping();
  const auto executor = co_await asio::this_coro::executor;
  CallPlace::Raise raise = nullptr;
  if (request.wire && request.wire->stream)
    raise = [this](TryId try_id, std::int64_t tokens) { return hold_more(try_id, tokens); };
  auto place = std::make_shared<CallPlace>(executor, request.wire, *clock_, std::move(raise),
                                           std::move(cached), request.trail);
  engine::RateView rates;
  {
    CommitLoop::Turn turn(*loop_);
    if (turn.overloaded()) co_return std::unexpected(overloaded());
    auto call = resolve_call(turn, request);
    if (!call) co_return std::unexpected(std::move(call.error()));
    const JobId id = call->id;
    auto admitted = turn.engine().admit(std::move(*call), turn.now(), turn.changes());
    if (!admitted) co_return std::unexpected(std::move(admitted.error()));
    callers_.expect(id, place);
    rates = turn.engine().rates(request.account, turn.now());
  }
  if (!co_await place->begins()) co_return answer_of(*place, rates);
  CallAnswer begun{
      .row = {}, .rates = rates, .reply = {}, .serving = place->serving(), .times = place->times()};
  begun.reply = place->head();
  begun.stream = std::make_shared<Streaming>(std::move(place), rates);
  co_return begun;
}

}  // namespace turnpike::node
