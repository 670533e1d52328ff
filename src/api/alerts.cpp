// What operators are told of: alerts as they were raised and cleared, and the rules as they stand.
#include <functional>
#include <utility>
#include <vector>

#include "api/handlers.h"
#include "api/render.h"
#include "node/alerts.h"

namespace turnpike::api {

Handled list_alerts(Context& context) {
  const auto page = page_of(context, EventTag::kPrefix, {});
  if (!page) co_return std::unexpected(page.error());
  if (page->ending_before != 0) {
    co_return fail(ErrorCode::kInvalidRequest, "this list goes back in time only: use `starting_after`",
                   "ending_before");
  }
  Result<std::vector<journal::StoredEvent>> alerts;
  std::function<void(journal::Journal&)> question = [&](auto& journal) {
    alerts = journal.alerts({page->starting_after}, page->limit + 1);
  };
  auto asking = ask_journal(context, std::move(question));
  if (const auto asked = co_await std::move(asking); !asked) co_return std::unexpected(asked.error());
  if (!alerts) co_return std::unexpected(alerts.error());
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  const std::size_t count = std::min(alerts->size(), page->limit);
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) out.push_back(',');
    const journal::StoredEvent& alert = (*alerts)[i];
    const auto account = alert.event.account ? context.node().account(alert.event.account) : std::nullopt;
    append(out, "{\"object\":\"alert\",\"id\":");
    append_quoted(out, to_string(alert.id));
    fmt::format_to(fmt::appender(out), ",\"type\":\"{}\",\"at\":", engine::event_type_name(alert.event.type));
    append_time(out, alert.event.at);
    append(out, ",\"account\":");
    append_quoted_or_null(out, alert.event.account ? to_string(alert.event.account) : std::string());
    append(out, ",\"user_id\":");
    append_quoted_or_null(out, account ? account->user_id : std::string());
    append(out, ",\"data\":");
    append(out, alert.event.text);
    out.push_back('}');
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", alerts->size() > count);
  co_return json_response(200, out);
}

Handled list_alert_rules(Context& context) {
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  bool first = true;
  for (const node::AlertState& state : context.services.alerts->states()) {
    const policy::AlertRule& rule = state.rule;
    if (!std::exchange(first, false)) out.push_back(',');
    append(out, "{\"object\":\"alert_rule\",\"name\":");
    append_quoted(out, rule.name);
    fmt::format_to(fmt::appender(out),
                   ",\"signal\":\"{}\",\"over\":{},\"over_unit\":\"{}\",\"within_seconds\":{},\"at_least\":",
                   policy::signal_name(rule.signal), policy::signal_amount(rule.signal, rule.over),
                   policy::signal_unit(rule.signal), rule.within / std::chrono::seconds(1));
    if (policy::counts_ends(rule.signal)) {
      fmt::format_to(fmt::appender(out), "{}", rule.at_least);
    } else {
      append(out, "null");
    }
    fmt::format_to(fmt::appender(out),
                   ",\"value\":{},\"value_unit\":\"{}\",\"upstreams\":", node::alert_value(state),
                   node::alert_value_unit(rule.signal));
    append_names(out, state.upstreams);
    append(out, ",\"raised_at\":");
    append_time(out, state.raised_at.value_or(kNever));
    out.push_back('}');
  }
  append(out, "],\"has_more\":false}");
  co_return json_response(200, out);
}

}  // namespace turnpike::api
