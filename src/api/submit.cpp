#include "api/submit.h"

#include <algorithm>
#include <boost/json/string.hpp>
#include <memory>
#include <utility>

#include "api/idempotency.h"
#include "api/render.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kPlanNameMax = 64;

// An input may name an artifact of the same account only; another's does not exist.
boost::asio::awaitable<Result<void>> check_image_owner(Context& context, ArtifactId image, AccountId account,
                                                       std::string field) {
  Result<std::optional<journal::ArtifactRow>> row;
  std::function<void(journal::Journal&)> question = [&row, image](auto& journal) {
    row = journal.artifact(image);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  if (!row) co_return std::unexpected(row.error());
  if (*row && (*row)->account == account) co_return Result<void>{};
  co_return fail(ErrorCode::kInvalidRequest,
                 fmt::format("there is no artifact {}: upload it by POST /api/artifacts", to_string(image)),
                 std::move(field));
}

// The plan that has the task and asks least: its class is the lowest.
const policy::Plan* plan_to_upgrade_to(const policy::Policy& policy, std::string_view task) {
  const policy::Plan* best = nullptr;
  for (const auto& [name, plan] : policy.plans) {
    if (plan.has_task(task) && (best == nullptr || plan.priority_class < best->priority_class)) best = &plan;
  }
  return best;
}

}  // namespace

std::string tier_asked(Fields& fields, Mistakes& mistakes) {
  (void)fields.any("user");  // name_user() has read these
  (void)fields.any("userId");
  std::string tier(fields.text("userTier", 1, kPlanNameMax).value_or(""));
  if (const auto* video = fields.object("videoConfig")) {
    Fields inner(*video, "videoConfig.", mistakes);
    const auto inner_tier = inner.text("userTier", 1, kPlanNameMax);
    if (tier.empty() && inner_tier) tier = *inner_tier;
    inner.finish();
  }
  return tier;
}

boost::asio::awaitable<Result<node::SubmitAnswer>> submit(Context& context, Submission submission) {
  auto finding = acting_account(context, std::move(submission.plan));
  const auto account = co_await std::move(finding);
  if (!account) co_return std::unexpected(account.error());
  if (submission.facts.image) {
    auto checking =
        check_image_owner(context, *submission.facts.image, *account, submission.input_path + "image");
    const auto checked = co_await std::move(checking);
    if (!checked) co_return std::unexpected(checked.error());
  }
  node::SubmitRequest& request = submission.request;
  request.account = *account;
  request.body = std::make_shared<const engine::JobBody>(std::move(submission.input),
                                                         std::move(submission.metadata), context.request_id);
  if (submission.store_answer) {
    request.idempotency = take_idempotency(context, submission.status, {});
    if (request.idempotency) request.render = job_json;
  }
  auto submitting = context.node().submit(std::move(request));
  co_return co_await std::move(submitting);
}

net::Response refuse_submit(const Context& context, const Error& error, std::string_view task) {
  ErrorExtras extras;
  if (error.code == ErrorCode::kNotInPlan) {
    const auto* better = plan_to_upgrade_to(*context.policy, task);
    extras.fields = ",\"upgrade_to\":" + (better != nullptr ? quote(better->name) : "null");
  }
  return error_response(error, context.wire, extras);
}

}  // namespace turnpike::api
