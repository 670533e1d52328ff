// The OpenAI wire over the task `text`: a chat completion is a call.
#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/refuse.h"
#include "api/render.h"
#include "api/submit.h"
#include "policy/overlay.h"
#include "policy/resolve.h"

namespace turnpike::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kNameMax = 128;
constexpr std::string_view kTask = "text";

// Fields of the wire that mean something we do not do yet: refused, for ignoring them would change the
// answer.
constexpr std::array<std::string_view, 14> kNotYet = {
    "tools",      "tool_choice",      "parallel_tool_calls", "functions",   "function_call",
    "logprobs",   "top_logprobs",     "logit_bias",          "modalities",  "audio",
    "prediction", "reasoning_effort", "web_search_options",  "service_tier"};

void read_streaming(Fields& fields) {
  if (fields.boolean("stream").value_or(false)) {
    fields.mistake("stream", "streaming is not available yet: leave `stream` out, or send false");
  }
  (void)fields.any("stream_options");
}

std::int64_t read_token_limit(Fields& fields) {
  const auto newer = fields.integer("max_completion_tokens", 1, kMaxTokensMax);
  const auto older = fields.integer("max_tokens", 1, kMaxTokensMax);
  return newer.value_or(older.value_or(0));
}

// The task's input: what the two have in common, by its name there.
std::string text_input(const json::object& body, std::int64_t max_tokens) {
  json::object input;
  for (const std::string_view name : {"messages", "temperature", "top_p", "stop", "seed", "presence_penalty",
                                      "frequency_penalty", "response_format"}) {
    const auto* value = body.if_contains(name);
    if (value != nullptr && !value->is_null()) input[name] = *value;
  }
  if (max_tokens > 0) input["max_tokens"] = max_tokens;
  return json::serialize(input);
}

Result<Submission> read_chat(const Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  Submission job;
  fields.require("model");
  fields.require("messages");
  job.request.task = kTask;
  job.request.model = fields.text("model", 1, kNameMax).value_or("");
  if (const auto* messages = fields.array("messages", 1, kMessagesMax)) {
    check_messages(*messages, "messages", mistakes);
  }
  const auto max_tokens = read_token_limit(fields);
  check_sampling(fields);
  (void)fields.integer("n", 1, 1);
  read_streaming(fields);
  (void)fields.boolean("store");
  (void)fields.object("metadata");
  for (const auto name : kNotYet) fields.not_yet(name);
  job.plan = tier_asked(fields, mistakes);
  fields.finish();
  if (mistakes.any()) return std::unexpected(mistakes.error());
  job.input = text_input(context.fields(), max_tokens);
  job.facts.ask = measure_input(kTask, context.fields());
  return job;
}

bool text_model_known(const Context& context, std::string_view name) {
  const policy::Model* model = policy::model_named(*context.policy, name);
  return model != nullptr && model->task == kTask;
}

// `fields`: as ErrorExtras::fields.
net::Response model_not_found(const Context& context, std::string_view name, std::string fields = {}) {
  const auto absent = fail(
      ErrorCode::kModelNotAllowed,
      fmt::format("the model {} does not exist, or your plan does not have it; GET /v1/models lists yours",
                  quote(name)),
      "model");
  return error_response(absent.error(), context.wire, {.fields = std::move(fields), .headers = {}});
}

std::int64_t meter(const engine::Usage& usage, std::string_view name) {
  const auto found = std::ranges::find(usage, name, &std::pair<std::string, std::int64_t>::first);
  return found == usage.end() ? 0 : found->second;
}

void append_usage(Buffer& out, const engine::Usage& usage) {
  const auto in = meter(usage, "tokens_in");
  const auto made = meter(usage, "tokens_out");
  fmt::format_to(fmt::appender(out),
                 ",\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},"
                 "\"prompt_tokens_details\":{{\"cached_tokens\":{}}}}}",
                 in, made, in + made, meter(usage, "tokens_cached"));
}

std::string completion_json(const engine::JobRow& row) {
  json::error_code ec;
  const json::value parsed = json::parse(row.output, ec);
  const json::object* output = ec ? nullptr : parsed.if_object();
  const auto member = [output](std::string_view name) -> std::string_view {
    const auto* value = output != nullptr ? output->if_contains(name) : nullptr;
    const auto* text = value != nullptr ? value->if_string() : nullptr;
    return text != nullptr ? std::string_view(text->data(), text->size()) : std::string_view();
  };
  const bool sandbox = output != nullptr && output->contains("sandbox");
  const std::string_view reason = member("finish_reason");
  Buffer out;
  append(out, "{\"id\":");
  append_quoted(out, "chatcmpl-" + to_string(row.id).substr(JobTag::kPrefix.size()));
  fmt::format_to(fmt::appender(out),
                 ",\"object\":\"chat.completion\",\"created\":{},\"model\":", unix_seconds(row.created_at));
  append_quoted(out, row.model);
  append(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
  append_quoted(out, member("text"));
  append(out, ",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":");
  append_quoted(out, reason.empty() ? std::string_view("stop") : reason);
  append(out, "}]");
  append_usage(out, row.usage);
  append(out, ",\"service_tier\":null,\"system_fingerprint\":null,\"turnpike\":{\"cost_usd\":");
  append_quoted(out, to_string(row.cost));
  fmt::format_to(fmt::appender(out), ",\"sandbox\":{}}}}}", sandbox);
  return to_text(out);
}

Error failure_of(const engine::JobRow& row) {
  const std::string words = row.error ? row.error->message : std::string("it did not end");
  const std::string_view code = row.error ? std::string_view(row.error->code) : std::string_view();
  if (code == "invalid_input") {
    return fail(ErrorCode::kInvalidRequest, words, "messages").error();
  }
  if (code == "timeout") return fail(ErrorCode::kUpstreamTimeout, words).error();
  return fail(ErrorCode::kUpstreamError, words).error();
}

// The models that the account's plan may use; an operator who names nobody sees all.
std::vector<policy::VisibleModel> visible_models(const Context& context) {
  const policy::Plan* plan = nullptr;
  if (const auto scope = context.scope()) {
    const auto account = context.node().account(*scope);
    plan = account ? context.policy->plan(account->plan) : nullptr;
    if (plan == nullptr) plan = context.policy->plan(context.policy->accounts.default_plan);
  }
  return policy::visible_models(*context.policy, plan, *context.node().overlay(),
                                context.node().unavailable_providers());
}

void append_model_entry(Buffer& out, const Context& context, const policy::VisibleModel& visible) {
  const policy::Model& model = *visible.model;
  append(out, "{\"id\":");
  append_quoted(out, model.id);
  fmt::format_to(fmt::appender(out), ",\"object\":\"model\",\"created\":{},\"owned_by\":\"turnpike\"",
                 unix_seconds(context.services.started));
  append(out, ",\"turnpike\":{\"task\":");
  append_quoted(out, model.task);
  append(out, ",\"version\":");
  append_quoted(out, visible.version->version);
  append(out, "}}");
}

}  // namespace

Handled chat_completion(Context& context) {
  auto chat = read_chat(context);
  if (!chat) co_return std::unexpected(std::move(chat.error()));
  const std::string model = chat->request.model;
  if (!text_model_known(context, model)) co_return model_not_found(context, model);
  auto finding = acting_account(context, std::move(chat->plan));
  const auto account = co_await std::move(finding);
  if (!account) co_return std::unexpected(account.error());
  node::CallRequest request{.account = *account,
                            .task = std::string(kTask),
                            .model = model,
                            .content_type = {},
                            .ask = std::move(chat->facts.ask),
                            .body = std::make_shared<const engine::JobBody>(
                                std::move(chat->input), std::string(), context.request_id)};
  auto calling = context.node().call(std::move(request));
  const auto answer = co_await std::move(calling);
  if (!answer) {
    const Asked asked{.task = kTask, .model = model};
    if (answer.error().code == ErrorCode::kNotInPlan) {
      co_return model_not_found(context, model, note_refusal(context, answer.error(), asked));
    }
    net::Response refused = refuse(context, answer.error(), asked);
    add_rate_headers(refused, context.node().rates(*account));
    co_return refused;
  }
  net::Response response;
  if (answer->row.state == engine::JobState::kCompleted) {
    response = json_response(200, completion_json(answer->row));
  } else {
    response = error_response(failure_of(answer->row), context.wire);
  }
  add_rate_headers(response, answer->rates);
  add_serving_headers(response, answer->row);
  co_return response;
}

Handled list_models(Context& context) {
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  bool first = true;
  for (const auto& model : visible_models(context)) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_model_entry(out, context, model);
  }
  append(out, "]}");
  co_return json_response(200, out);
}

Handled get_model(Context& context) {
  for (const auto& model : visible_models(context)) {
    if (model.model->id != context.id) continue;
    Buffer out;
    append_model_entry(out, context, model);
    co_return json_response(200, out);
  }
  co_return model_not_found(context, context.id);
}

}  // namespace turnpike::api
