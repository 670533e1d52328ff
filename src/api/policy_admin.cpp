// Plans, the policy in force, and how full the queues are.
#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "api/handlers.h"
#include "api/policy_json.h"
#include "api/render.h"
#include "policy/load.h"
#include "policy/resolve.h"

namespace turnpike::api {
namespace {

// What the plan is served now, canaries apart: each model, by which rule, and the versions it may name.
void append_reached(Buffer& out, const policy::Plan& plan, const policy::Overlay& overlay,
                    const policy::VisibleModel& visible) {
  const policy::Model& model = *visible.model;
  append(out, "{\"model\":");
  append_quoted(out, model.id);
  append(out, ",\"task\":");
  append_quoted(out, model.task);
  const std::string_view held = overlay.pin_of(plan.name, model.id);
  append(out, ",\"policy\":");
  append_quoted(out, policy::version_policy_name(held.empty() ? plan.models.policy_of(model.task)
                                                              : policy::VersionPolicy::kPinned));
  const auto& pins = plan.models.pins_of(model.task);
  const auto pin = std::ranges::find(pins, model.id, &policy::Pin::model);
  append(out, ",\"pin\":");
  append_quoted_or_null(out, !held.empty() ? std::string(held) : pin != pins.end() ? pin->version : "");
  append(out, ",\"version\":");
  append_quoted(out, visible.version->version);
  append(out, ",\"versions\":[");
  for (std::size_t i = 0; i < visible.versions.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_quoted(out, visible.versions[i]->version);
  }
  append(out, "]}");
}

void append_plan(Buffer& out, const policy::Policy& policy, const policy::Plan& plan,
                 const policy::Overlay& overlay, const std::set<std::string>& unavailable) {
  append(out, "{\"object\":\"plan\",\"name\":");
  append_quoted(out, plan.name);
  append(out, ",\"priority_class\":");
  append_quoted(out, policy::class_name(plan.priority_class));
  const auto share = policy.share_permille[policy::class_index(plan.priority_class)];
  fmt::format_to(fmt::appender(out), ",\"guaranteed_share_percent\":{}.{}", share / 10, share % 10);
  append(out, ",\"limits\":");
  append_limits(out, plan);
  append(out, ",\"tasks\":");
  if (plan.tasks) {
    out.push_back('[');
    for (std::size_t i = 0; i < plan.tasks->size(); ++i) {
      if (i > 0) out.push_back(',');
      append_quoted(out, (*plan.tasks)[i]);
    }
    out.push_back(']');
  } else {
    append(out, "\"all\"");
  }
  append(out, ",\"models\":[");
  bool first = true;
  for (const auto& visible : policy::visible_models(policy, &plan, overlay, unavailable)) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_reached(out, plan, overlay, visible);
  }
  append(out, "]}");
}

}  // namespace

Handled list_plans(Context& context) {
  const policy::OverlayPtr overlay = context.node().overlay();
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  bool first = true;
  for (const auto& [name, plan] : context.policy->plans) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_plan(out, *context.policy, plan, *overlay, context.node().unavailable_providers());
  }
  append(out, "],\"has_more\":false}");
  co_return json_response(200, out);
}

Handled get_policy(Context& context) {
  co_return json_response(
      200, policy_json(context.node().policy_version(), context.policy->hash, context.policy->text));
}

Handled apply_policy(Context& context) {
  if (context.request.body.empty()) {
    co_return fail(ErrorCode::kInvalidRequest, "the body is empty: send the configuration as YAML", "body");
  }
  const std::string* given = context.request.header("Turnpike-Config-Name");
  const std::string name = given != nullptr && given->size() <= 1024 ? *given : std::string("(applied)");
  // Parsing takes milliseconds at most, but not on an io thread.
  policy::Loaded loaded;
  std::function<void(journal::Journal&)> question = [&loaded, &context, &name](auto&) {
    loaded = policy::load_text(std::move(context.request.body), name);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  const std::string* reason = context.request.header("Turnpike-Reason");
  auto putting = put_in_force(context, std::move(loaded),
                              reason != nullptr && reason->size() <= 1000 ? *reason : std::string());
  co_return co_await std::move(putting);
}

Handled get_queue(Context& context) {
  const auto stats = context.node().stats();
  Buffer out;
  fmt::format_to(
      fmt::appender(out),
      "{{\"object\":\"queue\",\"queued\":{},\"scheduled\":{},\"processing\":{},\"accounts\":{},\"pools\":[",
      stats.queued, stats.scheduled, stats.processing, stats.accounts);
  for (std::size_t i = 0; i < stats.pools.size(); ++i) {
    const auto& pool = stats.pools[i];
    append(out, i > 0 ? ",{\"name\":" : "{\"name\":");
    append_quoted(out, pool.name);
    fmt::format_to(fmt::appender(out), ",\"slots\":{},\"running\":{},\"queued\":{{", pool.slots,
                   pool.running);
    for (std::size_t c = 0; c < policy::kClassCount; ++c) {
      const auto priority_class = static_cast<policy::PriorityClass>(c + 1);
      fmt::format_to(fmt::appender(out), "{}\"{}\":{}", c > 0 ? "," : "", policy::class_name(priority_class),
                     pool.queued[c]);
    }
    append(out, "}}");
  }
  append(out, "]}");
  co_return json_response(200, out);
}

}  // namespace turnpike::api
