// Plans, the policy in force, and how full the queues are.
#include <utility>

#include "api/handlers.h"
#include "api/render.h"
#include "policy/load.h"

namespace turnpike::api {
namespace {

void append_plan(Buffer& out, const policy::Policy& policy, const policy::Plan& plan) {
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
  out.push_back('}');
}

void append_mistakes(Buffer& out, const std::vector<policy::Mistake>& mistakes) {
  append(out, ",\"mistakes\":[");
  for (std::size_t i = 0; i < mistakes.size(); ++i) {
    const auto& mistake = mistakes[i];
    fmt::format_to(fmt::appender(out), "{}{{\"line\":{},\"column\":{},\"path\":", i > 0 ? "," : "",
                   mistake.line, mistake.column);
    append_quoted(out, mistake.path);
    append(out, ",\"message\":");
    append_quoted(out, mistake.message);
    append(out, ",\"text\":");
    append_quoted(out, policy::to_string(mistake));
    out.push_back('}');
  }
  out.push_back(']');
}

std::string policy_json(std::uint64_t version, std::string_view hash, std::string_view text) {
  Buffer out;
  fmt::format_to(fmt::appender(out), "{{\"object\":\"policy\",\"version\":{},\"hash\":", version);
  append_quoted(out, hash);
  if (!text.empty()) {
    append(out, ",\"text\":");
    append_quoted(out, text);
  }
  out.push_back('}');
  return to_text(out);
}

}  // namespace

Handled list_plans(Context& context) {
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  bool first = true;
  for (const auto& [name, plan] : context.policy->plans) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_plan(out, *context.policy, plan);
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
  if (loaded.policy == nullptr) {
    Buffer mistakes;
    append_mistakes(mistakes, loaded.mistakes);
    ErrorExtras extras;
    extras.fields = to_text(mistakes);
    const auto refused =
        fail(ErrorCode::kUnprocessable,
             fmt::format("the configuration has {} mistakes; nothing was changed", loaded.mistakes.size()));
    co_return error_response(refused.error(), context.wire, extras);
  }
  const std::string* reason = context.request.header("Turnpike-Reason");
  auto applying = context.node().apply(
      loaded.policy, {.by = context.caller.actor(),
                      .reason = reason != nullptr && reason->size() <= 1000 ? *reason : std::string()});
  const auto version = co_await std::move(applying);
  if (!version) co_return std::unexpected(version.error());
  co_return json_response(200, policy_json(*version, loaded.policy->hash, {}));
}

Handled list_policy_versions(Context& context) {
  const auto page = page_of(context, "", {});
  if (!page) co_return std::unexpected(page.error());
  Result<std::vector<journal::PolicyVersionRow>> versions;
  std::function<void(journal::Journal&)> question = [&versions](auto& journal) {
    versions = journal.policy_versions();
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  if (!versions) co_return std::unexpected(versions.error());
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  const std::size_t count = std::min(versions->size(), page->limit);
  for (std::size_t i = 0; i < count; ++i) {
    const auto& row = (*versions)[versions->size() - 1 - i];  // newest first
    fmt::format_to(fmt::appender(out),
                   "{}{{\"object\":\"policy_version\",\"version\":{},\"hash\":", i > 0 ? "," : "",
                   row.version);
    append_quoted(out, row.hash);
    append(out, ",\"applied_at\":");
    append_time(out, row.applied_at);
    append(out, ",\"applied_by\":");
    append_quoted(out, row.applied_by);
    append(out, ",\"reason\":");
    append_quoted_or_null(out, row.reason);
    fmt::format_to(fmt::appender(out), ",\"price_version\":{}",
                   row.price_version == 0 ? row.version : row.price_version);
    append(out, ",\"text\":");
    append_quoted(out, row.text);
    out.push_back('}');
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", versions->size() > count);
  co_return json_response(200, out);
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
