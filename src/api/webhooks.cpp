// Outgoing webhooks: endpoints made, shown, changed, removed, their secrets rotated; what became of
// deliveries.
#include "api/webhooks.h"

#include <boost/json/array.hpp>
#include <boost/json/string.hpp>
#include <chrono>
#include <limits>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/render.h"
#include "net/public_address.h"
#include "policy/nearest.h"
#include "webhook/event_filter.h"
#include "webhook/signature.h"

namespace turnpike::api {
namespace {

using journal::DeliveryState;
using journal::WebhookDeliveryRow;
using journal::WebhookEndpointRow;

constexpr std::size_t kUrlMax = 2048;
constexpr std::size_t kDescriptionMax = 500;
constexpr std::size_t kFiltersMax = 32;
constexpr std::size_t kEverybodysMax = 100;       // endpoints of the operator's
constexpr std::int64_t kOverlapDefault = 86'400;  // seconds for which the old secret signs too
constexpr std::int64_t kOverlapMax = 30 * 86'400;

const char* state_name(DeliveryState state) {
  switch (state) {
    case DeliveryState::kPending:
      return "pending";
    case DeliveryState::kDelivered:
      return "delivered";
    case DeliveryState::kFailed:
      return "failed";
  }
  return "failed";
}

// `secret` empty: left out.
std::string shown(const WebhookEndpointRow& row, std::string_view secret = {}) {
  Buffer out;
  append(out, "{\"object\":\"webhook_endpoint\",\"id\":");
  append_quoted(out, to_string(row.id));
  append(out, ",\"account\":");
  append_quoted_or_null(out, row.account ? to_string(row.account) : std::string());
  append(out, ",\"url\":");
  append_quoted(out, row.url);
  append(out, ",\"events\":");
  append_names(out, row.events);
  append(out, ",\"description\":");
  append_quoted_or_null(out, row.description);
  fmt::format_to(fmt::appender(out), ",\"enabled\":{},\"disabled_reason\":", row.disabled.empty());
  append_quoted_or_null(out, row.disabled);
  append(out, ",\"created_at\":");
  append_time(out, row.created_at);
  append(out, ",\"old_secret_until\":");
  append_time(out, row.old_secret.empty() ? kNever : row.old_until);
  if (!secret.empty()) {
    append(out, ",\"secret\":");
    append_quoted(out, secret);
  }
  out.push_back('}');
  return to_text(out);
}

void append_delivery(Buffer& out, const WebhookDeliveryRow& row) {
  append(out, "{\"object\":\"webhook_delivery\",\"event\":");
  append_quoted(out, to_string(row.event));
  append(out, ",\"type\":");
  append_quoted(out, row.type);
  append(out, ",\"subject\":");
  append_quoted(out, row.subject);
  fmt::format_to(fmt::appender(out),
                 ",\"status\":\"{}\",\"attempts\":{},\"response_status\":", state_name(row.state),
                 row.attempts);
  append(out, row.status == 0 ? "null" : fmt::to_string(row.status));
  append(out, ",\"error\":");
  append_quoted_or_null(out, row.error);
  append(out, ",\"created_at\":");
  append_time(out, row.created_at);
  append(out, ",\"next_attempt_at\":");
  append_time(out, row.next_at);
  append(out, ",\"ended_at\":");
  append_time(out, row.ended_at);
  out.push_back('}');
}

void read_url(const Context& context, Fields& fields, WebhookEndpointRow& row) {
  if (auto url = read_webhook_url(*context.policy, fields, "url")) row.url = *std::move(url);
}

void read_events(Fields& fields, WebhookEndpointRow& row) {
  const auto* events = fields.array("events", 1, kFiltersMax);
  if (events == nullptr) return;
  const std::vector<std::string> known = webhook::known_filters();
  row.events.clear();
  for (const auto& event : *events) {
    const std::string name = event.is_string() ? std::string(event.get_string()) : std::string();
    if (std::ranges::find(known, name) == known.end()) {
      fields.mistake("events",
                     fmt::format("`events` must name types of events, `{}` is none: {}", name.substr(0, 64),
                                 policy::suggestion(name.substr(0, 64), known)));
      return;
    }
    row.events.push_back(name);
  }
}

void read_description(Fields& fields, WebhookEndpointRow& row) {
  if (const auto text = fields.text("description", 0, kDescriptionMax)) row.description = *text;
}

journal::AuditRow audit(const Context& context, std::string action, const WebhookEndpointRow& row) {
  // The path of a URL may be a secret: it is written down nowhere.
  return {.at = context.now,
          .actor = context.caller.actor(),
          .action = std::move(action),
          .subject = to_string(row.id),
          .detail = "{}"};
}

// Stores the change, audited; the answer that is kept for a replay never has the secret.
boost::asio::awaitable<Reply> put(Context& context, WebhookEndpointRow row, std::string action, int status,
                                  std::string secret = {}) {
  std::vector<journal::Record> records;
  records.emplace_back(audit(context, std::move(action), row));
  if (auto answer = take_idempotency(context, status, shown(row))) records.emplace_back(*std::move(answer));
  auto putting = context.services.outbox.put(row, std::move(records));
  const auto done = co_await std::move(putting);
  if (!done) co_return std::unexpected(done.error());
  co_return json_response(status, shown(row, secret));
}

Result<WebhookEndpointRow> find_endpoint(const Context& context) {
  const auto id = parse_id<WebhookTag>(context.id);
  auto row = id ? context.services.outbox.endpoint(*id) : std::nullopt;
  const auto scope = context.scope();
  // A user that is not known yet has none: not everybody's either.
  if (!row || (scope && (!*scope || row->account != *scope))) {
    return fail(ErrorCode::kNotFound, "there is no such endpoint", "id");
  }
  return *std::move(row);
}

Result<void> refuse_too_many(const Context& context, AccountId account) {
  const std::size_t most = account ? context.policy->webhooks.endpoints_per_account : kEverybodysMax;
  if (context.services.outbox.endpoints(account).size() < most) return {};
  return fail(ErrorCode::kLimitExceeded,
              fmt::format("at most {} endpoints: remove one that is no longer needed", most));
}

}  // namespace

std::optional<std::string> read_webhook_url(const policy::Policy& policy, Fields& fields,
                                            std::string_view name) {
  const auto url = fields.text(name, 1, kUrlMax);
  if (!url) return std::nullopt;
  std::string text(*url);
  const policy::Webhooks& config = policy.webhooks;
  const auto checked = config.allow_private ? net::check_url(text) : net::check_public_url(text);
  if (!checked) {
    fields.mistake(name, fmt::format("`{}` {}", name, checked.error().message));
  } else if (!config.allow_http && !text.starts_with("https://")) {
    fields.mistake(name, fmt::format("`{}` must begin with https://", name));
  }
  return text;
}

Handled create_webhook(Context& context) {
  AccountId account;
  if (!context.caller.operates() || !context.user.empty()) {
    auto acting = acting_account(context, {});
    const auto acted = co_await std::move(acting);
    if (!acted) co_return std::unexpected(acted.error());
    account = *acted;
  }
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  WebhookEndpointRow row;
  fields.require("url");
  fields.require("events");
  read_url(context, fields, row);
  read_events(fields, row);
  read_description(fields, row);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  if (auto room = refuse_too_many(context, account); !room) co_return std::unexpected(room.error());
  row.id = WebhookId{context.node().fresh_id()};
  row.account = account;
  row.secret = webhook::make_secret();
  row.since = journal::last_event_of(context.node().journal().last_batch());
  row.created_at = context.now;
  row.change = WebhookEndpointRow::Change::kNew;
  std::string secret = row.secret;
  auto putting = put(context, std::move(row), "webhook.created", 201, std::move(secret));
  co_return co_await std::move(putting);
}

Handled list_webhooks(Context& context) {
  const auto page = page_of(context, WebhookTag::kPrefix, {});
  if (!page) co_return std::unexpected(page.error());
  if (page->ending_before != 0) {
    co_return fail(ErrorCode::kInvalidRequest, "this list goes forward only: use `starting_after`",
                   "ending_before");
  }
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  std::size_t count = 0;
  bool has_more = false;
  const auto scope = context.scope();
  const bool unknown = scope && !*scope;  // a user without an account has none
  for (const WebhookEndpointRow& row : context.services.outbox.endpoints(scope)) {
    if (unknown || row.id.value <= page->starting_after) continue;
    if (count == page->limit) {
      has_more = true;
      break;
    }
    if (count++ > 0) out.push_back(',');
    append(out, shown(row));
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", has_more);
  co_return json_response(200, out);
}

Handled get_webhook(Context& context) {
  const auto row = find_endpoint(context);
  if (!row) co_return std::unexpected(row.error());
  co_return json_response(200, shown(*row));
}

Handled change_webhook(Context& context) {
  auto row = find_endpoint(context);
  if (!row) co_return std::unexpected(row.error());
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  read_url(context, fields, *row);
  read_events(fields, *row);
  read_description(fields, *row);
  if (const auto enabled = fields.boolean("enabled")) {
    if (*enabled) {
      row->disabled.clear();
    } else if (row->disabled.empty()) {
      row->disabled = "by " + context.caller.actor();
    }
  }
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  auto putting = put(context, *std::move(row), "webhook.changed", 200);
  co_return co_await std::move(putting);
}

Handled delete_webhook(Context& context) {
  auto row = find_endpoint(context);
  if (!row) co_return std::unexpected(row.error());
  row->change = WebhookEndpointRow::Change::kRemoved;
  std::string answer =
      fmt::format("{{\"object\":\"webhook_endpoint\",\"id\":\"{}\",\"deleted\":true}}", to_string(row->id));
  auto putting = put(context, *std::move(row), "webhook.removed", 200);
  const auto done = co_await std::move(putting);
  if (!done) co_return std::unexpected(done.error());
  co_return json_response(200, std::move(answer));
}

Handled rotate_webhook(Context& context) {
  auto row = find_endpoint(context);
  if (!row) co_return std::unexpected(row.error());
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const auto overlap = fields.integer("overlap_s", 0, kOverlapMax).value_or(kOverlapDefault);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  row->old_secret = overlap > 0 ? std::exchange(row->secret, {}) : std::string();
  row->old_until = overlap > 0 ? context.now + std::chrono::seconds(overlap) : kNever;
  row->secret = webhook::make_secret();
  std::string secret = row->secret;
  auto putting = put(context, *std::move(row), "webhook.rotated", 200, std::move(secret));
  co_return co_await std::move(putting);
}

Handled list_deliveries(Context& context) {
  const auto row = find_endpoint(context);
  if (!row) co_return std::unexpected(row.error());
  const auto page = page_of(context, EventTag::kPrefix, {"status"});
  if (!page) co_return std::unexpected(page.error());
  if (page->ending_before != 0) {
    co_return fail(ErrorCode::kInvalidRequest, "this list goes back in time only: use `starting_after`",
                   "ending_before");
  }
  journal::DeliveryQuery query{
      .endpoint = row->id,
      .before = {page->starting_after != 0 ? page->starting_after
                                           : std::numeric_limits<std::uint64_t>::max()},
      .limit = page->limit + 1};
  if (const auto status = context.request.query_value("status")) {
    for (const auto state : {DeliveryState::kPending, DeliveryState::kDelivered, DeliveryState::kFailed}) {
      if (*status == state_name(state)) query.state = state;
    }
    if (!query.state) {
      co_return fail(ErrorCode::kInvalidRequest, "`status` must be pending, delivered or failed", "status");
    }
  }
  Result<std::vector<WebhookDeliveryRow>> rows;
  std::function<void(journal::Journal&)> question = [&](auto& journal) { rows = journal.deliveries(query); };
  auto asking = ask_journal(context, std::move(question));
  if (const auto asked = co_await std::move(asking); !asked) co_return std::unexpected(asked.error());
  if (!rows) co_return std::unexpected(rows.error());
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  const std::size_t count = std::min(rows->size(), page->limit);
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) out.push_back(',');
    append_delivery(out, (*rows)[i]);
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", rows->size() > count);
  co_return json_response(200, out);
}

Handled redeliver(Context& context) {
  const auto row = find_endpoint(context);
  if (!row) co_return std::unexpected(row.error());
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  fields.require("event");
  const auto text = fields.text("event", 1, 64);
  const auto event = text ? parse_id<EventTag>(*text) : std::nullopt;
  if (text && !event) fields.mistake("event", "`event` must be the id of an event (evt_…)");
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  auto delivering = context.services.outbox.redeliver(row->id, *event);
  const auto delivery = co_await std::move(delivering);
  if (!delivery) co_return std::unexpected(delivery.error());
  Buffer out;
  append_delivery(out, *delivery);
  co_return json_response(202, out);
}

}  // namespace turnpike::api
