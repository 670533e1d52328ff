#include "api/api.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <system_error>
#include <utility>

#include "api/auth.h"
#include "api/idempotency.h"
#include "api/origin.h"
#include "api/refuse.h"
#include "api/report.h"
#include "api/router.h"

namespace turnpike::api {
namespace {

constexpr std::uint64_t kPolicyBytesMax = 1 << 20;
constexpr std::size_t kPathShownMax = 200;

// The path of a route of ours that an operator's alias stands for, with what follows it; or the path itself.
std::string follow_alias(const policy::Policy& policy, const std::string& path) {
  for (const auto& endpoint : policy.endpoints) {
    if (endpoint.alias.empty() || !path.starts_with(endpoint.path)) continue;
    const std::string_view rest = std::string_view(path).substr(endpoint.path.size());
    if (rest.empty() || rest.front() == '/') return endpoint.alias + std::string(rest);
  }
  return path;
}

const policy::Endpoint* endpoint_at(const policy::Policy& policy, std::string_view path) {
  const auto found = std::ranges::find_if(policy.endpoints, [path](const policy::Endpoint& endpoint) {
    return endpoint.alias.empty() && endpoint.path == path;
  });
  return found == policy.endpoints.end() ? nullptr : &*found;
}

std::string shown(std::string_view path) {
  return quote(path.substr(0, kPathShownMax));
}

// Fills route, path, id, endpoint and wire; a refusal if nothing serves the request.
std::optional<net::Response> find_route(Context& context) {
  context.path = context.request.path;
  Match match = match_route(context.request.method, context.path);
  if (match.route == nullptr && match.allow.empty()) {
    context.path = follow_alias(*context.policy, context.path);
    if (context.path != context.request.path) match = match_route(context.request.method, context.path);
  }
  if (context.path.starts_with("/v1/")) context.wire = Wire::kOpenAi;
  if (match.route == nullptr && match.allow.empty()) {
    context.endpoint = endpoint_at(*context.policy, context.request.path);
    if (context.endpoint != nullptr) {
      if (context.request.method == "POST") match.route = &endpoint_route();
      match.allow = "POST";
    }
  }
  if (match.route != nullptr) {
    context.route = match.route;
    context.id = std::move(match.id);
    return std::nullopt;
  }
  context.record->error =
      error_code_name(match.allow.empty() ? ErrorCode::kNotFound : ErrorCode::kMethodNotAllowed);
  if (match.allow.empty()) {
    const auto absent =
        fail(ErrorCode::kNotFound, fmt::format("there is nothing at {}; see /docs", shown(context.path)));
    return error_response(absent.error(), context.wire);
  }
  ErrorExtras extras;
  extras.headers.emplace_back("Allow", match.allow);
  const auto refused =
      fail(ErrorCode::kMethodNotAllowed,
           fmt::format("{} does not take this method; it takes {}", shown(context.path), match.allow));
  return error_response(refused.error(), context.wire, extras);
}

Result<void> read_json(Context& context) {
  if (context.request.body.empty() && context.route->body == BodyKind::kMaybe) {
    context.body = boost::json::object(context.storage());
    return {};
  }
  if (context.request.body.empty()) {
    return fail(ErrorCode::kInvalidRequest, "the body is empty: send a JSON object", "body");
  }
  auto parsed = parse_json(context.request.body, context.storage());
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  if (!parsed->is_object()) {
    return fail(ErrorCode::kInvalidRequest, "the body must be a JSON object", "body");
  }
  context.body = std::move(*parsed);
  return {};
}

Result<void> read_wire_body(Context& context) {
  const Operation& operation = *operation_at(context.route->pattern);
  const std::string* type = context.request.header("content-type");
  auto asked = read_wire(operation, type != nullptr ? *type : "", context.request.body);
  if (!asked) return std::unexpected(std::move(asked.error()));
  auto identity = parse_json(asked->identity, context.storage());
  if (!identity) return std::unexpected(std::move(identity.error()));
  context.body = std::move(*identity);
  context.asked = std::move(*asked);
  return {};
}

Result<void> read_body(Context& context) {
  switch (context.route->body) {
    case BodyKind::kNone:
      if (context.request.body_bytes == 0) return {};
      return fail(ErrorCode::kInvalidRequest, "this request takes no body: leave it out", "body");
    case BodyKind::kJson:
    case BodyKind::kMaybe:
      return read_json(context);
    case BodyKind::kWire:
      return read_wire_body(context);
    case BodyKind::kYaml:
    case BodyKind::kUpload:
      return {};
  }
  return {};
}

// What the record says of the request as such, once it is known what serves it.
void begin_record(Context& context) {
  RequestRecord& record = *context.record;
  record.call = context.route->body == BodyKind::kWire || context.endpoint != nullptr;
  record.route = context.endpoint != nullptr ? context.endpoint->path : std::string(context.route->pattern);
  record.paced = context.route->body == BodyKind::kUpload;
  if (!record.call) return;
  if (const Operation* operation = operation_at(context.route->pattern)) record.wire = operation->kind;
  const policy::Otlp* otlp =
      context.services.traces && context.policy->otlp ? &*context.policy->otlp : nullptr;
  begin_trace(record, context.request.headers, otlp);
}

// What it has come to, before it is sent; the body of a stream tells its own end.
void end_record(Context& context, const net::Response& response) {
  RequestRecord& record = *context.record;
  record.status = response.status;
  record.caller = context.caller.actor();
  if (context.account) {
    record.account = *context.account;
  } else if (!context.caller.operates()) {
    record.account = context.caller.account;
  }
  if (record.call && record.plan.empty() && record.account) {
    if (const auto account = context.node().account(record.account)) record.plan = account->plan;
  }
  if (const auto* body = std::get_if<std::string>(&response.body)) record.bytes_out = body->size();
  if (const auto* file = std::get_if<net::FileBody>(&response.body)) {
    std::error_code error;
    const auto size = std::filesystem::file_size(file->path, error);
    if (!error) record.bytes_out = size;
  }
  if (context.last_word) context.last_word->say(context.node().now());
}

boost::asio::awaitable<Reply> serve(Context& context) {
  if (context.services.stopped.load(std::memory_order_relaxed)) {
    co_return fail(ErrorCode::kUnavailable, "the server is stopping: come back in a moment");
  }
  if (auto allowed = preflight(context.request, context.policy->server.origins))
    co_return *std::move(allowed);
  if (auto refusal = find_route(context)) co_return std::move(*refusal);
  begin_record(context);
  auto permitted = authorize(context);
  if (!permitted) co_return std::unexpected(std::move(permitted.error()));
  auto read = read_body(context);
  if (!read) co_return std::unexpected(std::move(read.error()));
  auto named = name_user(context);
  if (!named) co_return std::unexpected(std::move(named.error()));
  const std::string* key =
      context.request.method == "POST" ? context.request.header("Idempotency-Key") : nullptr;
  auto serving =
      key != nullptr ? serve_once(context, *key, context.route->handler) : context.route->handler(context);
  co_return co_await std::move(serving);
}

boost::asio::awaitable<net::Response> answer(Services& services, net::Request request) {
  Context context(services, std::move(request));
  context.policy = services.node.policy();
  Reply reply = std::unexpected(Error{});
  try {
    auto serving = serve(context);
    reply = co_await std::move(serving);
  } catch (const std::exception& bug) {
    report_bug(context, bug.what());
    reply = fail(ErrorCode::kInternal, "something went wrong here; the request id finds it in the logs");
  }
  if (!reply) context.record->error = error_code_name(reply.error().code);
  net::Response response = reply ? std::move(*reply) : refuse(context, reply.error());
  if (!reply && response.status >= 500) report_failure(context, reply.error());
  services.counts.count(context.route != nullptr ? route_index(*context.route) : RequestCounts::kRoutesMax,
                        response.status);
  end_record(context, response);
  let_page_read(context.request, context.policy->server.origins, response);
  response.headers.emplace_back("x-request-id", std::move(context.request_id));
  co_return response;
}

// Asked on an io thread before a body is read.
net::BodyRule rule_for(node::Node& node, std::string_view method, std::string_view path) {
  const auto policy = node.policy();
  net::BodyRule rule;
  rule.bytes_max = policy->server.body_bytes_max;
  const Match match = match_route(method, follow_alias(*policy, std::string(path)));
  if (match.route == nullptr) return rule;
  if (match.route->body == BodyKind::kYaml) rule.bytes_max = kPolicyBytesMax;
  if (match.route->body == BodyKind::kWire) {
    rule.bytes_max = std::max(rule.bytes_max, operation_at(match.route->pattern)->body_bytes_max);
  }
  if (match.route->body == BodyKind::kUpload) {
    rule.spool = true;
    rule.bytes_max = 0;
    const bool of_work = match.route->access == Access::kWorker;
    for (const auto& [name, provider] : policy->providers) {
      if (of_work && provider.kind == policy::ProviderKind::kPull)
        rule.bytes_max = std::max(rule.bytes_max, provider.file_bytes_max);
    }
    for (const auto& [name, plan] : policy->plans) {
      if (of_work) break;
      rule.bytes_max = std::max(rule.bytes_max, plan.limits.upload_bytes_max);
    }
  }
  return rule;
}

}  // namespace

Api::Api(node::Node& node, webhook::Outbox& outbox, std::shared_ptr<node::TraceExport> traces)
    : services_(node, outbox, std::move(traces), node.now().wall) {}

net::Handler Api::handler() {
  return [this](net::Request request) { return answer(services_, std::move(request)); };
}

net::BodyRules Api::body_rules() {
  return [this](std::string_view method, std::string_view path) {
    return rule_for(services_.node, method, path);
  };
}

net::ErrorRenderer Api::error_renderer() {
  return [](int status, std::string_view message) {
    net::Response response = transport_error(status, message);
    response.headers.emplace_back("x-request-id", fresh_request_id(SystemClock().now().wall));
    return response;
  };
}

}  // namespace turnpike::api
