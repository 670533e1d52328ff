// What an account's plan promises, what it has used of it, and what an operator changes of it.
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/render.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kNameMax = 64;
constexpr std::size_t kReasonMax = 1000;
constexpr Money kGrantUsdMax{1'000'000LL * 1'000'000'000LL};  // a million USD
constexpr std::int64_t kGrantMax = 1'000'000'000'000;         // of a meter's named units
constexpr std::int64_t kTimeMax = 16'725'225'600;             // 2500-01-01

std::string number_or_null(std::optional<std::uint32_t> number) {
  return number ? fmt::to_string(*number) : std::string("null");
}

void append_money_or_null(Buffer& out, std::optional<Money> money) {
  append_quoted_or_null(out, money ? to_string(*money) : std::string());
}

std::string show(const engine::MeterUsage& usage, std::int64_t amount) {
  return usage.of ? policy::show_amount(*usage.of, amount) : fmt::to_string(amount);
}

// What the period's use will come to if it goes on as until now. Exact integers; nothing before a hundredth
// has passed.
std::optional<std::int64_t> forecast(std::int64_t used, const policy::Period& period, Wall now) {
  const auto passed = (now - period.start).count();
  const auto whole = (period.end - period.start).count();
  if (passed <= 0 || passed < whole / 100) return std::nullopt;
  const __int128 reached = __int128{used} * whole / std::min(passed, whole);
  return static_cast<std::int64_t>(std::min<__int128>(reached, Money::kMax));
}

void append_scope(Buffer& out, const engine::UsageView& usage, Wall now) {
  fmt::format_to(fmt::appender(out), "\"period\":{{\"start_at\":{},\"resets_at\":{}}},\"meters\":[",
                 unix_seconds(usage.period.start), unix_seconds(usage.period.end));
  for (std::size_t i = 0; i < usage.meters.size(); ++i) {
    const engine::MeterUsage& meter = usage.meters[i];
    append(out, i > 0 ? ",{\"meter\":" : "{\"meter\":");
    append_quoted(out, meter.meter);
    fmt::format_to(fmt::appender(out), ",\"used\":{},\"held\":{}", show(meter, meter.used),
                   show(meter, meter.held));
    if (meter.limit) {
      const std::int64_t left = std::max<std::int64_t>(0, *meter.limit - meter.used - meter.held);
      fmt::format_to(fmt::appender(out), ",\"limit\":{},\"remaining\":{}", show(meter, *meter.limit),
                     show(meter, left));
    } else {
      append(out, ",\"limit\":null,\"remaining\":null");
    }
    const auto reached = forecast(meter.used, usage.period, now);
    fmt::format_to(fmt::appender(out), ",\"forecast\":{}}}", reached ? show(meter, *reached) : "null");
  }
  append(out, "],\"cost\":{\"used_usd\":");
  append_quoted(out, to_string(usage.cost_used));
  append(out, ",\"held_usd\":");
  append_quoted(out, to_string(usage.cost_held));
  append(out, ",\"cap_usd\":");
  append_money_or_null(out, usage.cost_cap);
  fmt::format_to(fmt::appender(out), ",\"hard_stop\":{}}},\"forecast\":{{\"cost_usd\":", usage.hard_stop);
  const auto reached = forecast(usage.cost_used.nanos, usage.period, now);
  append_money_or_null(out, reached ? std::optional(Money{*reached}) : std::nullopt);
  out.push_back('}');
}

void append_grants(Buffer& out, const engine::AccountRow& account) {
  append(out, ",\"grants\":[");
  for (std::size_t i = 0; i < account.grants.size(); ++i) {
    const engine::Grant& grant = account.grants[i];
    append(out, i > 0 ? ",{\"id\":" : "{\"id\":");
    append_quoted(out, to_string(grant.id));
    append(out, ",\"of\":");
    if (grant.meter) {
      append_quoted(out, policy::meter_name(*grant.meter).name);
    } else {
      append_quoted(out,
                    grant.content.empty() ? std::string_view("cost_usd") : std::string_view(grant.content));
    }
    const auto shown = [&grant](std::int64_t amount) {
      if (grant.meter) return policy::show_amount(*grant.meter, amount);
      return grant.content.empty() ? "\"" + to_string(Money{amount}) + "\"" : fmt::to_string(amount);
    };
    fmt::format_to(fmt::appender(out), ",\"amount\":{},\"spent\":{},\"expires_at\":", shown(grant.amount),
                   shown(grant.spent));
    append_time(out, grant.expires_at);
    append(out, ",\"reason\":");
    append_quoted(out, grant.reason);
    out.push_back('}');
  }
  out.push_back(']');
}

Reply subscription(const Context& context, const engine::AccountRow& account) {
  const policy::Plan plan = context.node().plan_of(account.id);
  Buffer out;
  append(out, "{\"object\":\"subscription\",\"account\":");
  append_quoted(out, to_string(account.id));
  append(out, ",\"user_id\":");
  append_quoted(out, account.user_id);
  append(out, ",\"plan\":");
  append_quoted(out, account.plan);
  fmt::format_to(fmt::appender(out), ",\"plan_version\":{},\"team\":",
                 account.plan_version == 0 ? "null" : fmt::to_string(account.plan_version));
  append_quoted_or_null(out, account.team);
  append(out, ",\"time_zone\":");
  append_quoted(out, account.time_zone.empty() ? context.policy->accounts.time_zone : account.time_zone);
  append(out, ",\"limits\":");
  append_limits(out, plan);
  append(out, ",\"overrides\":");
  append(out, account.overrides.empty() ? std::string_view("null") : std::string_view(account.overrides));
  append(out, ",\"overrides_mistake\":");
  append_quoted_or_null(out, context.node().overrides_mistake(account.id));
  append_grants(out, account);
  out.push_back('}');
  return json_response(200, out);
}

Result<engine::AccountRow> account_of_path(const Context& context) {
  auto account = context.node().account_by_user(context.id);
  if (!account) return fail(ErrorCode::kNotFound, "there is no account of this user", "userId");
  return *std::move(account);
}

// What may be changed of an account, as both PUTs take it.
engine::Engine::AccountChange read_change(Context& context, std::string& reason, Mistakes& mistakes) {
  engine::Engine::AccountChange change;
  Fields fields(context.fields(), "", mistakes);
  if (const auto plan = fields.text("plan", 1, kNameMax)) change.plan = *plan;
  if (const auto* overrides = fields.any("overrides"); context.fields().contains("overrides")) {
    if (overrides == nullptr || overrides->is_null()) {
      change.overrides = "";
    } else if (overrides->is_object()) {
      change.overrides = overrides->get_object().empty() ? std::string() : boost::json::serialize(*overrides);
    } else {
      fields.mistake("overrides", "`overrides` must be an object with the keys of a plan, or null for none");
    }
  }
  if (const auto team = fields.text("team", 0, kNameMax)) change.team = *team;
  if (const auto zone = fields.text("time_zone", 0, kNameMax)) change.time_zone = *zone;
  if (const auto anchor = fields.integer("anchor_at", 0, kTimeMax))
    change.anchor_at = wall_from_seconds(*anchor);
  reason = fields.text("reason", 0, kReasonMax).value_or("");
  fields.finish();
  change.by = context.caller.actor();
  return change;
}

// The amount of a grant: a whole number of the meter's named units, or USD as a text.
std::optional<std::int64_t> read_amount(Fields& fields, const boost::json::object& body, bool cost,
                                        std::int64_t units) {
  const auto* amount = body.if_contains("amount");
  (void)fields.any("amount");
  if (cost) {
    if (amount != nullptr && amount->is_string()) {
      const auto money = parse_money(std::string_view(amount->get_string()), kGrantUsdMax);
      if (money && money->nanos > 0) return money->nanos;
    }
    fields.mistake("amount",
                   "`amount` must be USD as a text, such as \"12.50\", above 0 and at most a million");
    return std::nullopt;
  }
  const std::int64_t whole = amount != nullptr && amount->is_int64() ? amount->get_int64() : 0;
  if (whole < 1 || whole > kGrantMax) {
    fields.mistake("amount", fmt::format("`amount` must be a whole number from 1 to {}", kGrantMax));
    return std::nullopt;
  }
  return whole * units;
}

Result<engine::Grant> read_grant(const Context& context, std::string& reason) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  engine::Grant grant;
  fields.require("of");
  fields.require("amount");
  const std::string of(fields.text("of", 1, kNameMax).value_or(""));
  grant.meter = policy::meter_named(of);
  const bool cost = of == "cost_usd";
  if (!grant.meter && !cost) grant.content = of;
  if (!of.empty() && !grant.meter && !cost &&
      std::ranges::find(context.policy->content_types, of) == context.policy->content_types.end()) {
    fields.mistake("of", fmt::format("there is no meter or content type `{}`: name a meter such as tokens, a "
                                     "content type, or cost_usd",
                                     of));
  }
  const auto amount =
      read_amount(fields, context.fields(), cost, grant.meter ? policy::meter_name(*grant.meter).units : 1);
  grant.amount = amount.value_or(0);
  if (const auto expires = fields.integer("expires_at", unix_seconds(context.now) + 1, kTimeMax)) {
    grant.expires_at = wall_from_seconds(*expires);
  }
  reason = fields.text("reason", 0, kReasonMax).value_or("");
  grant.reason = reason;
  grant.granted_at = context.now;
  fields.finish();
  if (mistakes.any()) return std::unexpected(mistakes.error());
  return grant;
}

boost::asio::awaitable<Reply> change(Context& context, AccountId id, engine::Engine::AccountChange change,
                                     std::string reason) {
  auto changing = context.node().change_account(id, std::move(change), std::move(reason));
  const auto changed = co_await std::move(changing);
  if (!changed) co_return std::unexpected(changed.error());
  co_return subscription(context, *changed);
}

boost::asio::awaitable<Result<engine::AccountRow>> own_account(Context& context) {
  auto finding = acting_account(context, {});
  const auto id = co_await std::move(finding);
  if (!id) co_return std::unexpected(id.error());
  auto account = context.node().account(*id);
  if (!account) co_return fail(ErrorCode::kNotFound, "there is no such account", "account");
  co_return *std::move(account);
}

}  // namespace

void append_limits(Buffer& out, const policy::Plan& plan) {
  const policy::Limits& limits = plan.limits;
  fmt::format_to(fmt::appender(out),
                 "{{\"concurrent_jobs\":{},\"concurrent_calls\":{},\"queue_depth\":{},\"dispatch_batch\":{},"
                 "\"batches\":{},\"batch_operations\":{},\"agents\":{},\"upload_bytes\":{},\"quotas\":{{",
                 number_or_null(limits.concurrent_jobs), number_or_null(limits.concurrent_calls),
                 number_or_null(limits.queue_depth), limits.dispatch_batch,
                 number_or_null(limits.concurrent_batches), number_or_null(limits.batch_operations),
                 number_or_null(limits.agents), limits.upload_bytes_max);
  bool first = true;
  const auto quota = [&](std::string_view name, const std::string& limit) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_quoted(out, name);
    fmt::format_to(fmt::appender(out), ":{}", limit);
  };
  const policy::Promise& promise = plan.promise;
  for (const policy::MeterName& name : policy::meter_names()) {
    const auto& limit = promise.quotas.meters[policy::index_of(name.meter)];
    if (limit) quota(name.name, policy::show_amount(name.meter, *limit));
  }
  for (const auto& [type, limit] : promise.quotas.content)
    quota(type, limit ? fmt::to_string(*limit) : "null");
  fmt::format_to(
      fmt::appender(out), "}},\"rates\":{{\"rps\":{},\"rpm\":{},\"burst\":{},\"tpm\":{}}},\"cost_cap\":",
      number_or_null(promise.rates.rps), number_or_null(promise.rates.rpm),
      number_or_null(promise.rates.burst), promise.rates.tpm ? fmt::to_string(*promise.rates.tpm) : "null");
  if (promise.cost_cap) {
    fmt::format_to(fmt::appender(out), "{{\"monthly_usd\":\"{}\",\"hard_stop\":{}}}",
                   to_string(promise.cost_cap->monthly), promise.cost_cap->hard_stop);
  } else {
    append(out, "null");
  }
  out.push_back('}');
}

Handled current_subscription(Context& context) {
  auto finding = own_account(context);
  const auto account = co_await std::move(finding);
  if (!account) co_return std::unexpected(account.error());
  co_return subscription(context, *account);
}

Handled subscription_usage(Context& context) {
  auto finding = own_account(context);
  const auto account = co_await std::move(finding);
  if (!account) co_return std::unexpected(account.error());
  Buffer out;
  append(out, "{\"object\":\"usage\",\"account\":");
  append_quoted(out, to_string(account->id));
  append(out, ",\"plan\":");
  append_quoted(out, account->plan);
  out.push_back(',');
  append_scope(out, context.node().usage(account->id), context.now);
  if (!account->team.empty()) {
    if (const auto team = context.node().team_usage(account->team)) {
      append(out, ",\"team\":{\"name\":");
      append_quoted(out, account->team);
      out.push_back(',');
      append_scope(out, *team, context.now);
      out.push_back('}');
    }
  }
  if (context.caller.operates()) {
    append(out, ",\"platform\":{");
    append_scope(out, context.node().platform_usage(), context.now);
    out.push_back('}');
  }
  out.push_back('}');
  co_return json_response(200, out);
}

Handled get_flags(Context& context) {
  auto finding = own_account(context);
  const auto account = co_await std::move(finding);
  if (!account) co_return std::unexpected(account.error());
  Buffer out;
  append(out, "{\"object\":\"flags\",\"flags\":{");
  bool first = true;
  for (const auto& [name, flag] : context.policy->flags) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_quoted(out, name);
    fmt::format_to(fmt::appender(out), ":{}", policy::flag_on(flag, account->user_id, account->plan));
  }
  append(out, "}}");
  co_return json_response(200, out);
}

Handled get_subscription(Context& context) {
  const auto account = account_of_path(context);
  if (!account) co_return std::unexpected(account.error());
  co_return subscription(context, *account);
}

Handled put_subscription(Context& context) {
  if (!valid_user_id(context.id))
    co_return fail(ErrorCode::kInvalidRequest, "the path names no valid user id", "userId");
  Mistakes mistakes;
  std::string reason;
  auto wanted = read_change(context, reason, mistakes);
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  auto ensuring = context.node().ensure_account(context.id, {}, false, context.caller.actor());
  const auto ensured = co_await std::move(ensuring);
  if (!ensured) co_return std::unexpected(ensured.error());
  auto changing = change(context, ensured->row.id, std::move(wanted), std::move(reason));
  co_return co_await std::move(changing);
}

Handled put_account(Context& context) {
  const auto id = parse_id<AccountTag>(context.id);
  if (!id || !context.node().account(*id))
    co_return fail(ErrorCode::kNotFound, "there is no such account", "id");
  Mistakes mistakes;
  std::string reason;
  auto wanted = read_change(context, reason, mistakes);
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  auto changing = change(context, *id, std::move(wanted), std::move(reason));
  co_return co_await std::move(changing);
}

Handled create_grant(Context& context) {
  const auto id = parse_id<AccountTag>(context.id);
  if (!id || !context.node().account(*id))
    co_return fail(ErrorCode::kNotFound, "there is no such account", "id");
  std::string reason;
  auto grant = read_grant(context, reason);
  if (!grant) co_return std::unexpected(std::move(grant.error()));
  engine::Engine::AccountChange wanted;
  wanted.grant = *std::move(grant);
  wanted.by = context.caller.actor();
  auto changing = change(context, *id, std::move(wanted), std::move(reason));
  co_return co_await std::move(changing);
}

Handled revoke_grant(Context& context) {
  const auto id = parse_id<GrantTag>(context.id);
  const auto of = context.request.query_value("account");
  const auto account = of ? parse_id<AccountTag>(*of) : std::nullopt;
  if (!account) co_return fail(ErrorCode::kInvalidRequest, "name the account: ?account=acct_…", "account");
  if (!id) co_return fail(ErrorCode::kNotFound, "there is no such grant", "id");
  engine::Engine::AccountChange wanted;
  wanted.revoke = *id;
  wanted.by = context.caller.actor();
  auto changing = change(context, *account, std::move(wanted), {});
  co_return co_await std::move(changing);
}

}  // namespace turnpike::api
