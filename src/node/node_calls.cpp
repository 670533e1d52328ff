// Calls: admitted in one turn, answered when they have ended and their charge is durable.
#include <utility>

#include "node/node_impl.h"
#include "policy/estimate.h"
#include "policy/overlay.h"
#include "policy/resolve.h"

namespace turnpike::node {

Result<engine::NewCall> NodeImpl::resolve_call(CommitLoop::Turn& turn, const CallRequest& request) {
  const engine::Engine& engine = turn.engine();
  if (engine.account(request.account) == nullptr)
    return fail(ErrorCode::kNotFound, "there is no such account");
  const policy::Policy& policy = *engine.policy();
  const policy::Plan& plan = engine.plan_of(request.account);
  auto route = policy::resolve(policy, plan, policy::no_overlay(), engine.account(request.account)->user_id,
                               request.task, request.model, options_.unavailable_providers);
  if (!route) return std::unexpected(std::move(route.error()));
  policy::Candidate candidate = std::move(route->candidates.front());
  const policy::Amounts estimate = policy::estimate(policy.models.at(candidate.model), request.ask);
  return engine::NewCall{.id = JobId{turn.fresh_id()},
                         .account = request.account,
                         .task = request.task,
                         .candidate = std::move(candidate),
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
