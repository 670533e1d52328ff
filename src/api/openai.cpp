// The OpenAI wire: each of its operations is a call, answered with what its upstream says.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/refuse.h"
#include "api/render.h"
#include "api/router.h"
#include "api/submit.h"
#include "base/json_walk.h"
#include "policy/overlay.h"
#include "policy/resolve.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kModelsNamedMax = 10;  // in a refusal

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

// A model that serves the operation's task.
bool model_known(const Context& context, const Operation& operation, std::string_view name) {
  const policy::Model* model = policy::model_named(*context.policy, name);
  return model != nullptr && model->task == operation.task;
}

// `task`: what the model would have to do; empty: anything.
// `fields`: as ErrorExtras::fields.
net::Response model_not_found(const Context& context, std::string_view name, std::string_view task,
                              std::string fields = {}) {
  context.record->error = error_code_name(ErrorCode::kModelNotAllowed);
  std::string yours;
  std::size_t named = 0;
  for (const auto& visible : visible_models(context)) {
    if (!task.empty() && visible.model->task != task) continue;
    if (++named > kModelsNamedMax) break;
    yours += (yours.empty() ? "" : ", ") + visible.model->id;
  }
  const std::string hint = yours.empty() ? std::string("your plan has none for this")
                           : named > kModelsNamedMax
                               ? "yours are " + yours + " and more: GET /v1/models lists them"
                               : "yours: " + yours;
  const auto absent =
      fail(ErrorCode::kModelNotAllowed,
           fmt::format("the model {} does not exist, or your plan does not have it; {}", quote(name), hint),
           "model");
  return error_response(absent.error(), context.wire, {.fields = std::move(fields), .headers = {}});
}

std::int64_t meter(const engine::Usage& usage, std::string_view name) {
  const auto found = std::ranges::find(usage, name, &std::pair<std::string, std::int64_t>::first);
  return found == usage.end() ? 0 : found->second;
}

// The usage chunk that ends a stream, with the cost in its usage: the upstream's own where there is one.
std::string usage_chunk(const node::CallAnswer& answer, std::string_view model) {
  const std::string cost = fmt::format("\"turnpike\":{{\"cost_usd\":{}}}", quote(to_string(answer.row.cost)));
  const std::string& told = answer.reply.stream_end;
  const auto members = json_members(told);
  const JsonMember* usage = members ? find_member(*members, "usage") : nullptr;
  if (usage != nullptr && usage->is_object()) {
    const std::size_t end = usage->end() - 1;
    const auto inner = json_members(usage->value);
    const bool empty = !inner || inner->empty();
    return told.substr(0, end) + (empty ? "" : ",") + cost + told.substr(end);
  }
  const auto in = meter(answer.row.usage, "tokens_in");
  const auto made = meter(answer.row.usage, "tokens_out");
  return fmt::format(
      "{{\"id\":{},\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{},\"choices\":[],\"usage\":"
      "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},"
      "\"prompt_tokens_details\":{{\"cached_tokens\":{}}},{}}}}}",
      quote("chatcmpl-" + to_string(answer.row.id).substr(JobTag::kPrefix.size())),
      unix_seconds(answer.row.created_at), quote(model), in, made, in + made,
      meter(answer.row.usage, "tokens_cached"), cost);
}

Error failure_of(const engine::JobRow& row, const std::string& param) {
  const std::string words = row.error ? row.error->message : std::string("it did not end");
  const std::string_view code = row.error ? std::string_view(row.error->code) : std::string_view();
  if (code == "invalid_input") return fail(ErrorCode::kInvalidRequest, words, param).error();
  if (code == "timeout") return fail(ErrorCode::kUpstreamTimeout, words).error();
  return fail(ErrorCode::kUpstreamError, words).error();
}

void add_call_headers(net::Response& response, const Context& context, const node::CallAnswer& answer) {
  const auto& serving = answer.serving;
  if (!serving.model.empty()) {
    response.headers.emplace_back("turnpike-model", model_name(serving.model, serving.model_version));
    response.headers.emplace_back("turnpike-provider", serving.provider);
  }
  if (engine::ended(answer.row.state))
    response.headers.emplace_back("turnpike-cost-usd", to_string(answer.row.cost));
  const Duration queued = answer.times.queued();
  response.headers.emplace_back(
      "turnpike-queue-ms", fmt::to_string(std::chrono::floor<std::chrono::milliseconds>(queued).count()));
  // Of a stream, up to its first byte: its upstream has worked since its try began.
  const Monotonic now = context.node().now().mono;
  const bool under_way = answer.stream && answer.times.started != Monotonic{};
  const Duration upstream = under_way ? now - answer.times.started : answer.times.upstream;
  const Duration overhead = now - context.began - queued - upstream;
  response.headers.emplace_back("turnpike-overhead-us",
                                fmt::to_string(std::max<std::int64_t>(0, overhead.count())));
  // Who follows another request in flight is answered without an upstream of its own: that is a hit too.
  const bool shared = answer.cache == node::CacheResult::kShared;
  if (answer.cache != node::CacheResult::kNone)
    response.headers.emplace_back("turnpike-cache",
                                  node::cache_result_name(shared ? node::CacheResult::kHit : answer.cache));
}

node::CacheControl cache_control(const Context& context) {
  const std::string* header = context.request.header("cache-control");
  return header == nullptr ? node::CacheControl{} : node::parse_cache_control(*header);
}

// A call that has ended: the reply as it came, or why there is none.
net::Response whole_answer(const Context& context, node::CallAnswer& answer) {
  net::Response response;
  node::CallReply& reply = answer.reply;
  if (answer.row.state == engine::JobState::kCompleted) {
    response.content_type = std::move(reply.content_type);
    response.body = std::move(reply.body);
    return response;
  }
  const Error failed = failure_of(answer.row, reply.param);
  context.record->error = error_code_name(failed.code);
  // The upstream's words on an input that is at fault are worth more than ours.
  if (!reply.body.empty() && reply.status >= 400 && reply.status < 500) {
    response.status = reply.status;
    response.body = std::move(reply.body);
    return response;
  }
  return error_response(failed, context.wire);
}

// What a stream needs once its handler has returned.
struct Streamed {
  std::shared_ptr<node::CallStream> stream;
  node::Node* node;
  Operation operation;
  std::string model;
  bool wants_usage = false;
  // With an Idempotency-Key: what is stored at the end, if it is no larger than kStoredBytesMax.
  std::optional<journal::IdempotencyRow> kept;
  std::shared_ptr<const void> flight;
  std::shared_ptr<RequestRecord> record;
  std::unique_ptr<LastWord> last_word;
};

constexpr std::string_view kClientLeft = "client_left";  // RequestRecord::error

bool has_done(provider::Wire kind) {
  return kind == provider::Wire::kChat || kind == provider::Wire::kCompletions;
}

// The last events: how it ended, and what it cost.
std::string stream_tail(const Streamed& streamed, const Result<node::CallAnswer>& ended) {
  const bool completed = ended && ended->row.state == engine::JobState::kCompleted;
  if (!completed) {
    const Error error = ended ? failure_of(ended->row, ended->reply.param) : ended.error();
    const net::Response response = error_response(error, Wire::kOpenAi);
    const std::string& body = std::get<std::string>(response.body);
    if (streamed.operation.kind != provider::Wire::kResponses) return fmt::format("data: {}\n\n", body);
    return fmt::format(
        "event: error\ndata: {{\"type\":\"error\",\"code\":{},\"message\":{},\"param\":null}}\n\n",
        quote(error_code_name(error.code)), quote(error.message));
  }
  if (!has_done(streamed.operation.kind)) return ended->reply.stream_end;
  std::string tail;
  if (streamed.wants_usage) tail = fmt::format("data: {}\n\n", usage_chunk(*ended, streamed.model));
  return tail += "data: [DONE]\n\n";
}

boost::asio::awaitable<void> store_stream(Streamed& streamed) {
  if (!streamed.kept) co_return;
  std::vector<journal::Record> records;
  records.emplace_back(std::move(*streamed.kept));
  auto storing = streamed.node->store(std::move(records));
  (void)co_await std::move(storing);
}

void note_end(RequestRecord& record, const Result<node::CallAnswer>& ended) {
  record.error = {};
  if (!ended) {
    record.error = error_code_name(ended.error().code);
    return;
  }
  note_answer(record, *ended);
  if (ended->row.state != engine::JobState::kCompleted)
    record.error = error_code_name(failure_of(ended->row, ended->reply.param).code);
}

// Passes a stream on as it comes. Its end is told when it is durable; a client that leaves ends this, and not
// its try.
boost::asio::awaitable<void> pass_on(std::shared_ptr<Streamed> streamed,
                                     std::shared_ptr<net::BodyWriter> writer) {
  const std::shared_ptr<node::CallStream> stream = streamed->stream;
  writer->on_close([stream] { stream->leave(); });
  const auto keep = [&streamed](const std::string& bytes) {
    if (!streamed->kept) return;
    streamed->kept->body += bytes;
    if (streamed->kept->body.size() > kStoredBytesMax) streamed->kept.reset();
  };
  for (;;) {
    std::string bytes = co_await stream->read();
    if (bytes.empty()) break;
    keep(bytes);
    const std::uint64_t size = bytes.size();
    const auto written = co_await writer->write(std::move(bytes));
    if (!written) co_return;
    streamed->record->bytes_out += size;
  }
  if (writer->closed()) co_return;
  const auto ended = co_await stream->end();
  note_end(*streamed->record, ended);
  std::string tail = stream_tail(*streamed, ended);
  keep(tail);
  if (ended && ended->row.state == engine::JobState::kCompleted) {
    auto storing = store_stream(*streamed);
    co_await std::move(storing);
  }
  const std::uint64_t size = tail.size();
  const auto written = co_await writer->write(std::move(tail));
  if (written) streamed->record->bytes_out += size;
  if (!written) streamed->record->error = kClientLeft;
  streamed->last_word->say(streamed->node->now());
}

net::Response stream_answer(Context& context, const Operation& operation, node::CallAnswer& answer) {
  auto streamed = std::make_shared<Streamed>(Streamed{.stream = answer.stream,
                                                      .node = &context.node(),
                                                      .operation = operation,
                                                      .model = context.asked->model,
                                                      .wants_usage = context.asked->wants_usage,
                                                      .kept = take_idempotency(context, 200, {}),
                                                      .flight = context.flight,
                                                      .record = context.record,
                                                      .last_word = std::move(context.last_word)});
  // Until its end is known it may be left at any moment.
  streamed->record->stream = true;
  streamed->record->error = kClientLeft;
  if (streamed->kept) streamed->kept->content_type = answer.reply.content_type;
  net::Response response;
  response.content_type = std::move(answer.reply.content_type);
  response.headers.emplace_back("Cache-Control", "no-cache");
  response.body = net::StreamBody(
      [streamed](std::shared_ptr<net::BodyWriter> writer) { return pass_on(streamed, std::move(writer)); });
  return response;
}

// What the client sent, as the provider is given it.
std::shared_ptr<const provider::WireCall> wire_call(Context& context, const Operation& operation) {
  const WireFields& asked = *context.asked;
  const std::string* type = context.request.header("content-type");
  const policy::Ask& ask = asked.ask;
  return std::make_shared<const provider::WireCall>(
      provider::WireCall{.kind = operation.kind,
                         .stream = asked.stream,
                         .wants_usage = asked.wants_usage,
                         .choices = ask.choices,
                         .pixels = ask.width && ask.height ? *ask.width * *ask.height : 0,
                         .model = asked.model,
                         .content_type = operation.form && type != nullptr ? *type : "application/json",
                         .body = std::move(context.request.body)});
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

Handled call_wire(Context& context) {
  const Operation& operation = *operation_at(context.route->pattern);
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  std::string plan = tier_asked(fields, mistakes);
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  const std::string model = context.asked->model;
  context.record->task = operation.task;
  context.record->model_asked = model.substr(0, RequestRecord::kNameMax);
  if (!model_known(context, operation, model)) co_return model_not_found(context, model, operation.task);
  auto finding = acting_account(context, std::move(plan));
  const auto account = co_await std::move(finding);
  if (!account) co_return std::unexpected(account.error());
  node::CallRequest request{.account = *account,
                            .task = std::string(operation.task),
                            .model = model,
                            .content_type = {},
                            .ask = context.asked->ask,
                            .body = nullptr,
                            .wire = wire_call(context, operation),
                            .cache = cache_control(context),
                            .trail = context.record->trail};
  auto calling = context.node().call(std::move(request));
  auto answer = co_await std::move(calling);
  if (!answer) {
    const Asked asked{.task = operation.task, .model = model};
    if (answer.error().code == ErrorCode::kNotInPlan || answer.error().param == "model") {
      co_return model_not_found(context, model, operation.task, note_refusal(context, answer.error(), asked));
    }
    net::Response refused = refuse(context, answer.error(), asked);
    add_rate_headers(refused, context.node().rates(*account));
    co_return refused;
  }
  note_answer(*context.record, *answer);
  net::Response response =
      answer->stream ? stream_answer(context, operation, *answer) : whole_answer(context, *answer);
  add_rate_headers(response, answer->rates);
  add_call_headers(response, context, *answer);
  co_return response;
}

Handled list_models(Context& context) {
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  bool first = true;
  for (const auto& visible : visible_models(context)) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_model_entry(out, context, visible);
  }
  append(out, "]}");
  co_return json_response(200, out);
}

Handled get_model(Context& context) {
  for (const auto& visible : visible_models(context)) {
    if (visible.model->id != context.id) continue;
    Buffer out;
    append_model_entry(out, context, visible);
    co_return json_response(200, out);
  }
  co_return model_not_found(context, context.id, {});
}

}  // namespace turnpike::api
