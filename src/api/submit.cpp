#include "api/submit.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <memory>
#include <utility>

#include "api/idempotency.h"
#include "api/render.h"
#include "net/public_address.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kPlanNameMax = 64;
constexpr std::size_t kNameMax = 128;
constexpr std::size_t kMetadataMax = 16 * 1024;

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

std::string read_metadata(Fields& fields, Mistakes& mistakes) {
  const auto* metadata = fields.object("metadata");
  if (metadata == nullptr) return {};
  for (const auto& member : *metadata) {
    if (member.value().is_string()) continue;
    const std::string name = "metadata." + std::string(member.key().substr(0, kNameMax));
    mistakes.add(name, fmt::format("`{}` must be a text", name));
  }
  std::string text = boost::json::serialize(*metadata);
  if (text.size() > kMetadataMax) {
    fields.mistake("metadata",
                   fmt::format("`metadata` has {} bytes, at most {} are allowed", text.size(), kMetadataMax));
  }
  return text;
}

std::string take_tier(boost::json::object& body, Mistakes& mistakes) {
  boost::json::object asking;
  for (const std::string_view name : {"user", "userId", "userTier"}) {
    if (const auto* value = body.if_contains(name)) {
      asking[name] = *value;
      body.erase(name);
    }
  }
  Fields fields(asking, "", mistakes);
  std::string plan = tier_asked(fields, mistakes);
  if (auto* video = body.if_contains("videoConfig"); video != nullptr && video->is_object()) {
    const auto* tier = video->get_object().if_contains("userTier");
    if (plan.empty() && tier != nullptr && tier->is_string()) plan = tier->get_string().c_str();
    video->get_object().erase("userTier");
    if (video->get_object().empty()) body.erase("videoConfig");
  }
  return plan;
}

boost::asio::awaitable<Result<WebhookId>> endpoint_told(Context& context, AccountId account,
                                                        std::string url) {
  if (url.empty()) co_return WebhookId{};
  auto finding = context.services.outbox.endpoint_for_jobs(account, std::move(url),
                                                           context.policy->webhooks.endpoints_per_account);
  co_return co_await std::move(finding);
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
  const std::string& image_url = submission.facts.image_url;
  if (!image_url.empty() && !context.policy->pictures.allow_private) {
    if (const auto fit = net::check_public_url(image_url); !fit) {
      const std::string field = submission.input_path + "image_url";
      co_return fail(ErrorCode::kInvalidRequest, fmt::format("`{}` {}", field, fit.error().message), field);
    }
  }
  node::SubmitRequest& request = submission.request;
  auto finding_endpoint = endpoint_told(context, *account, std::move(submission.webhook_url));
  const auto endpoint = co_await std::move(finding_endpoint);
  if (!endpoint) co_return std::unexpected(endpoint.error());
  request.options.webhook = *endpoint;
  request.account = *account;
  request.ask = std::move(submission.facts.ask);
  request.body = std::make_shared<const engine::JobBody>(std::move(submission.input),
                                                         std::move(submission.metadata), context.request_id);
  if (submission.store_answer) {
    request.idempotency = take_idempotency(context, submission.status, {});
    if (request.idempotency) request.render = job_json;
  }
  auto submitting = context.node().submit(std::move(request));
  co_return co_await std::move(submitting);
}

namespace {

// "1s", "6m0s": as OpenAI writes a duration, whole seconds, rounded up.
std::string openai_duration(Duration duration) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(duration).count();
  return seconds < 60 ? fmt::format("{}s", seconds) : fmt::format("{}m{}s", seconds / 60, seconds % 60);
}

}  // namespace

void add_rate_headers(net::Response& response, const engine::RateView& rates) {
  std::string now, policies;
  const auto add = [&](const char* what, const std::optional<engine::RateView::Window>& window) {
    if (!window) return;
    const std::string name(what);
    response.headers.emplace_back("x-ratelimit-limit-" + name, fmt::to_string(window->limit));
    response.headers.emplace_back("x-ratelimit-remaining-" + name, fmt::to_string(window->remaining));
    response.headers.emplace_back("x-ratelimit-reset-" + name, openai_duration(window->resets_in));
    const auto seconds = [](Duration d) { return std::chrono::ceil<std::chrono::seconds>(d).count(); };
    now += fmt::format("{}\"{}\";r={};t={}", now.empty() ? "" : ", ", name, window->remaining,
                       seconds(window->resets_in));
    policies += fmt::format("{}\"{}\";q={};w={}", policies.empty() ? "" : ", ", name, window->limit,
                            seconds(window->window));
  };
  add("requests", rates.requests);
  add("tokens", rates.tokens);
  if (now.empty()) return;
  response.headers.emplace_back("RateLimit", std::move(now));
  response.headers.emplace_back("RateLimit-Policy", std::move(policies));
}

std::string model_name(const std::string& model, const std::string& version) {
  return version.empty() ? model : fmt::format("{}@{}", model, version);
}

void add_serving_headers(net::Response& response, const engine::JobRow& row) {
  response.headers.emplace_back("turnpike-model", model_name(row.model, row.model_version));
  response.headers.emplace_back("turnpike-provider", row.provider);
  if (engine::ended(row.state)) response.headers.emplace_back("turnpike-cost-usd", to_string(row.cost));
  const auto waited =
      row.first_started_at == kNever
          ? 0
          : std::max<std::int64_t>(0, unix_micros(row.first_started_at) - unix_micros(row.created_at));
  response.headers.emplace_back("turnpike-queue-ms", fmt::to_string(waited / 1000));
}

}  // namespace turnpike::api
