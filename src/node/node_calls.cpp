// Calls: admitted in one turn, answered when they have ended and their charge is durable.
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

Result<engine::NewCall> NodeImpl::resolve_call(CommitLoop::Turn& turn, const CallRequest& request) {
  auto route = route_for(turn.engine(), request.account, request.task, request.model);
  if (!route) return std::unexpected(std::move(route.error()));
  const policy::Policy& policy = *turn.engine().policy();
  const policy::Plan& plan = turn.engine().plan_of(request.account);
  const policy::Amounts estimate =
      policy::estimate(policy.models.at((*route)->candidates.front().model), request.ask);
  return engine::NewCall{.id = JobId{turn.fresh_id()},
                         .account = request.account,
                         .task = request.task,
                         .route = std::move(*route),
                         .content_type = request.content_type,
                         .estimate = estimate,
                         .extras = request.ask.extras,
                         .patience = plan.attempt_timeout,
                         .timeout = plan.attempt_timeout,
                         .body = request.body};
}

asio::awaitable<Result<CallAnswer>> NodeImpl::call(CallRequest request) {
  const auto stopping = [] {
    Error error{.code = ErrorCode::kUnavailable,
                .message = "the server is stopping; try again in a moment",
                .param = {}};
    error.retryable = true;
    error.retry_after = kDrainRetryAfter;
    return error;
  };
  if (draining()) co_return std::unexpected(stopping());
  Callers::PlacePtr place;
  engine::RateView rates;
  {
    CommitLoop::Turn turn(*loop_);
    if (turn.overloaded()) {
      Error error{
          .code = ErrorCode::kUnavailable, .message = "the server is overloaded; try again", .param = {}};
      error.retryable = true;
      error.retry_after = std::chrono::seconds(1);
      co_return std::unexpected(std::move(error));
    }
    auto call = resolve_call(turn, request);
    if (!call) co_return std::unexpected(std::move(call.error()));
    const JobId id = call->id;
    auto admitted = turn.engine().admit(std::move(*call), turn.now(), turn.changes());
    if (!admitted) co_return std::unexpected(std::move(admitted.error()));
    place = callers_.expect(id);
    rates = turn.engine().rates(request.account, turn.now());
  }
  auto answer = co_await callers_.wait(std::move(place));
  if (!answer) co_return std::unexpected(stopping());
  if (answer->error) co_return std::unexpected(std::move(*answer->error));
  co_return CallAnswer{.row = std::move(answer->row), .rates = rates};
}

}  // namespace turnpike::node
