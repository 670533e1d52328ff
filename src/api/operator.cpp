// What an operator decides while it runs: models and their versions, providers and their keys, the freeze.
#include <algorithm>
#include <array>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/render.h"
#include "policy/overlay_json.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kReasonMax = 1000;
constexpr std::size_t kNameMax = 128;
constexpr std::size_t kPlansMax = 100;
constexpr std::int64_t kGuardMax = 1'000'000;

using Change = std::function<Result<void>(policy::Overlay&, const policy::Policy&)>;

boost::asio::awaitable<Result<policy::OverlayPtr>> decide(Context& context, std::string action,
                                                          std::string subject, std::string reason,
                                                          Change change) {
  node::OperatorDecision decision{.change = std::move(change),
                                  .by = context.caller.actor(),
                                  .action = std::move(action),
                                  .subject = std::move(subject),
                                  .reason = std::move(reason)};
  auto deciding = context.node().decide(std::move(decision));
  co_return co_await std::move(deciding);
}

std::string reason_in(Fields& fields) {
  return std::string(fields.text("reason", 1, kReasonMax).value_or(""));
}

std::string text_of(Fields& fields, std::string_view name) {
  fields.require(name);
  return std::string(fields.text(name, 1, kNameMax).value_or(""));
}

bool flag_of(Fields& fields, std::string_view name) {
  fields.require(name);
  return fields.boolean(name).value_or(false);
}

const policy::Model* model_at(const Context& context) {
  const auto found = context.policy->models.find(context.id);
  return found == context.policy->models.end() ? nullptr : &found->second;
}

std::unexpected<Error> no_such(std::string_view what, std::string_view name) {
  return fail(ErrorCode::kNotFound, fmt::format("there is no {} {}", what, quote(name)));
}

void append_side(Buffer& out, const char* name, const engine::CanarySide& side) {
  fmt::format_to(fmt::appender(out), ",\"{}\":{{\"tries\":{},\"failed\":{},\"p90_ms\":", name, side.tries,
                 side.failed);
  append(out, side.took.empty() ? "null" : fmt::to_string(side.took.percentile(900).count() / 1000));
  append(out, ",\"cost_usd\":");
  append_quoted(out, to_string(side.cost));
  out.push_back('}');
}

void append_canary(Buffer& out, const policy::Canary& canary, const engine::Canaries& canaries) {
  append(out, "{\"id\":");
  append_quoted(out, canary.id);
  append(out, ",\"candidate\":");
  append_quoted(out, canary.candidate);
  append(out, ",\"baseline\":");
  append_quoted(out, canary.baseline);
  append(out, ",\"plans\":");
  append_names(out, canary.plans);
  fmt::format_to(fmt::appender(out), ",\"share_percent\":{}.{}", canary.share_permille / 10,
                 canary.share_permille % 10);
  const policy::CanaryGuard& guard = canary.guard;
  fmt::format_to(
      fmt::appender(out),
      ",\"guard\":{{\"tries_min\":{},\"errors_permille\":{},\"latency_permille\":{},\"cost_permille\":{}}}",
      guard.tries_min, guard.errors_permille, guard.latency_permille, guard.cost_permille);
  const auto book = canaries.books().find(canary.id);
  if (book != canaries.books().end()) {
    append_side(out, "candidate_so_far", book->second.candidate);
    append_side(out, "baseline_so_far", book->second.baseline);
  }
  out.push_back('}');
}

void append_model(Buffer& out, const policy::Overlay& overlay, const engine::Canaries& canaries,
                  const policy::Model& model) {
  append(out, "{\"object\":\"model\",\"id\":");
  append_quoted(out, model.id);
  append(out, ",\"task\":");
  append_quoted(out, model.task);
  fmt::format_to(fmt::appender(out), ",\"paused\":{},\"versions\":[",
                 overlay.paused_models.contains(model.id));
  for (std::size_t i = 0; i < model.versions.size(); ++i) {
    const policy::ModelVersion& version = model.versions[i];
    append(out, i > 0 ? ",{\"version\":" : "{\"version\":");
    append_quoted(out, version.version);
    append(out, ",\"status\":");
    append_quoted(out, policy::version_status_name(overlay.status_of(model, version)));
    append(out, ",\"discovered_at\":");
    append_time(out, version.discovered_at.value_or(kNever));
    append(out, ",\"routes\":[");
    for (std::size_t n = 0; n < version.routes.size(); ++n) {
      append(out, n > 0 ? ",{\"provider\":" : "{\"provider\":");
      append_quoted(out, version.routes[n].provider);
      append(out, ",\"model\":");
      append_quoted(out, version.routes[n].upstream_model);
      out.push_back('}');
    }
    append(out, "]}");
  }
  append(out, "],\"pins\":{");
  bool first = true;
  for (const auto& [plan, pins] : overlay.pins) {
    const auto pin = pins.find(model.id);
    if (pin == pins.end()) continue;
    if (!std::exchange(first, false)) out.push_back(',');
    append_quoted(out, plan);
    out.push_back(':');
    append_quoted(out, pin->second);
  }
  append(out, "},\"canaries\":[");
  first = true;
  for (const policy::Canary& canary : overlay.canaries) {
    if (canary.model != model.id) continue;
    if (!std::exchange(first, false)) out.push_back(',');
    append_canary(out, canary, canaries);
  }
  append(out, "]}");
}

Reply model_reply(const Context& context, const policy::Overlay& overlay, const policy::Model& model) {
  Buffer out;
  append_model(out, overlay, context.node().canaries(), model);
  return json_response(200, out);
}

// The change, and the model as it is then.
Handled decide_model(Context& context, const policy::Model& model, std::string action, std::string subject,
                     std::string reason, Change change) {
  auto deciding =
      decide(context, std::move(action), std::move(subject), std::move(reason), std::move(change));
  const auto decided = co_await std::move(deciding);
  if (!decided) co_return std::unexpected(decided.error());
  co_return model_reply(context, **decided, model);
}

void append_provider(Buffer& out, const policy::Provider& provider, const engine::Engine::Stats& stats) {
  static constexpr std::array<std::string_view, 6> kKinds = {"exec",      "openai", "sandbox",
                                                             "anthropic", "http",   "pull"};
  append(out, "{\"object\":\"provider\",\"name\":");
  append_quoted(out, provider.name);
  append(out, ",\"kind\":");
  append_quoted(out, kKinds.at(static_cast<std::size_t>(provider.kind)));
  append(out, ",\"pool\":");
  append_quoted(out, provider.pool);
  const auto pool = std::ranges::find(stats.pools, provider.pool, &engine::Engine::PoolStats::name);
  if (pool == stats.pools.end()) {
    append(out, ",\"health\":\"unused\",\"slots\":null,\"running\":0,\"queued\":0,\"keys\":[]}");
    return;
  }
  std::uint64_t queued = 0;
  for (const std::uint64_t of_class : pool->queued) queued += of_class;
  const bool cooling = !pool->keys.empty() && std::ranges::all_of(pool->keys, [](const auto& key) {
    return key.paused || key.cools_for > Duration{0};
  });
  const char* health = pool->paused         ? "paused"
                       : pool->breaker_open ? "failing"
                       : cooling            ? "cooling_down"
                                            : "ok";
  fmt::format_to(fmt::appender(out), ",\"health\":\"{}\",\"slots\":{},\"running\":{},\"queued\":{}", health,
                 pool->slots, pool->running, queued);
  if (pool->claims) fmt::format_to(fmt::appender(out), ",\"claims\":{}", *pool->claims);
  append(out, ",\"keys\":[");
  bool first = true;
  for (const auto& key : pool->keys) {
    if (!std::exchange(first, false)) out.push_back(',');
    append(out, "{\"name\":");
    append_quoted_or_null(out, key.name);
    fmt::format_to(fmt::appender(out), ",\"running\":{},\"paused\":{},\"cools_for_seconds\":{}}}",
                   key.running, key.paused, std::chrono::ceil<std::chrono::seconds>(key.cools_for).count());
  }
  append(out, "]}");
}

Reply provider_reply(Context& context, const policy::Provider& provider) {
  Buffer out;
  append_provider(out, provider, context.node().stats());
  return json_response(200, out);
}

Reply freeze_reply(const policy::Overlay& overlay) {
  Buffer out;
  fmt::format_to(fmt::appender(out), "{{\"object\":\"freeze\",\"frozen\":{}}}", overlay.freeze);
  return json_response(200, out);
}

// The canary that the body names, or the model's only one.
Result<policy::Canary> canary_in(const policy::Overlay& overlay, const policy::Model& model,
                                 std::string_view id) {
  const policy::Canary* found = nullptr;
  for (const policy::Canary& each : overlay.canaries) {
    if (each.model != model.id || (!id.empty() && each.id != id)) continue;
    if (found != nullptr) {
      return fail(ErrorCode::kInvalidRequest,
                  fmt::format("model {} has several canaries: name one in `canary`", model.id), "canary");
    }
    found = &each;
  }
  if (found == nullptr) {
    return fail(ErrorCode::kConflict,
                fmt::format("model {} has no {}canary", model.id, id.empty() ? "" : "such "));
  }
  return *found;
}

// The canary is over: its candidate is approved for everybody, or nobody's any more.
Handled end_canary(Context& context, policy::VersionStatus becomes, std::string action) {
  const policy::Model* model = model_at(context);
  if (model == nullptr) co_return no_such("model", context.id);
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const std::string id(fields.text("canary", 1, kNameMax).value_or(""));
  std::string reason = reason_in(fields);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  Change change = [model, id, becomes](policy::Overlay& overlay,
                                       const policy::Policy& policy) -> Result<void> {
    const auto canary = canary_in(overlay, *model, id);
    if (!canary) return std::unexpected(canary.error());
    return policy::end_canary(policy, overlay, canary->id, becomes);
  };
  auto deciding =
      decide_model(context, *model, std::move(action), model->id, std::move(reason), std::move(change));
  co_return co_await std::move(deciding);
}

}  // namespace

Handled admin_models(Context& context) {
  const policy::OverlayPtr overlay = context.node().overlay();
  const engine::Canaries canaries = context.node().canaries();
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  bool first = true;
  for (const std::string& id : context.policy->model_order) {
    const auto found = context.policy->models.find(id);
    if (found == context.policy->models.end()) continue;
    if (!std::exchange(first, false)) out.push_back(',');
    append_model(out, *overlay, canaries, found->second);
  }
  append(out, "],\"has_more\":false}");
  co_return json_response(200, out);
}

Handled set_version_status(Context& context) {
  const policy::Model* model = model_at(context);
  if (model == nullptr) co_return no_such("model", context.id);
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const std::string version = text_of(fields, "version");
  fields.require("status");
  const auto word = fields.word("status", {"unverified", "beta", "approved", "blessed", "retired"});
  std::string reason = reason_in(fields);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  const policy::VersionStatus status = *policy::version_status_named(*word);
  Change change = [model, version, status](policy::Overlay& overlay, const policy::Policy&) -> Result<void> {
    auto& statuses = overlay.statuses[model->id];
    // One at a time is blessed: the one before it is approved.
    if (status == policy::VersionStatus::kBlessed) {
      for (auto& [other, has] : statuses) {
        if (has == policy::VersionStatus::kBlessed) has = policy::VersionStatus::kApproved;
      }
    }
    statuses[version] = status;
    return {};
  };
  auto deciding = decide_model(context, *model, fmt::format("model.{}", *word), model->id + "@" + version,
                               std::move(reason), std::move(change));
  co_return co_await std::move(deciding);
}

Handled pin_model(Context& context) {
  const policy::Model* model = model_at(context);
  if (model == nullptr) co_return no_such("model", context.id);
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const std::string plan = text_of(fields, "plan");
  const std::string version(fields.text("version", 1, kNameMax).value_or(""));  // none: the pin is lifted
  std::string reason = reason_in(fields);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  Change change = [model, plan, version](policy::Overlay& overlay, const policy::Policy&) -> Result<void> {
    if (!version.empty()) {
      overlay.pins[plan][model->id] = version;
      return {};
    }
    const auto pins = overlay.pins.find(plan);
    if (pins == overlay.pins.end() || pins->second.erase(model->id) == 0) {
      return fail(ErrorCode::kConflict,
                  fmt::format("plan {} is not held at a version of {}", plan, model->id));
    }
    if (pins->second.empty()) overlay.pins.erase(pins);
    return {};
  };
  auto deciding = decide_model(context, *model, version.empty() ? "model.unpinned" : "model.pinned",
                               plan + ":" + model->id + (version.empty() ? "" : "@" + version),
                               std::move(reason), std::move(change));
  co_return co_await std::move(deciding);
}

Handled start_canary(Context& context) {
  const policy::Model* model = model_at(context);
  if (model == nullptr) co_return no_such("model", context.id);
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  policy::Canary canary{.id = std::string(fields.text("canary", 1, kNameMax).value_or("")),
                        .model = model->id,
                        .candidate = text_of(fields, "candidate"),
                        .baseline = text_of(fields, "baseline")};
  fields.require("plans");
  if (const auto* plans = fields.array("plans", 1, kPlansMax)) {
    for (const auto& each : *plans) {
      const auto* name = each.if_string();
      if (name == nullptr) {
        fields.mistake("plans", "must be a list of names of plans");
        break;
      }
      canary.plans.emplace_back(name->data(), name->size());
    }
  }
  fields.require("share_percent");
  canary.share_permille = static_cast<std::uint32_t>(fields.number("share_percent", 0, 100).value_or(0) * 10);
  if (const auto* given = fields.object("guard")) {
    Fields guard(*given, "guard.", mistakes);
    for (const auto& [name, into] : {std::pair{"tries_min", &canary.guard.tries_min},
                                     {"errors_permille", &canary.guard.errors_permille},
                                     {"latency_permille", &canary.guard.latency_permille},
                                     {"cost_permille", &canary.guard.cost_permille}}) {
      if (const auto number = guard.integer(name, 0, kGuardMax)) *into = static_cast<std::uint32_t>(*number);
    }
    guard.finish();
  }
  std::string reason = reason_in(fields);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  if (canary.id.empty()) canary.id = canary.model + "-" + canary.candidate;
  std::ranges::replace_if(canary.id, [](char c) { return c == '.' || c == '/' || c == ' '; }, '-');
  std::string subject = canary.model + "@" + canary.candidate;
  Change change = [canary](policy::Overlay& overlay, const policy::Policy&) -> Result<void> {
    const auto known = std::ranges::find(overlay.canaries, canary.id, &policy::Canary::id);
    if (known != overlay.canaries.end()) {
      *known = canary;  // its share grows, its plans change
    } else {
      overlay.canaries.push_back(canary);
    }
    return {};
  };
  auto deciding = decide_model(context, *model, "canary.started", std::move(subject), std::move(reason),
                               std::move(change));
  co_return co_await std::move(deciding);
}

Handled approve_canary(Context& context) {
  auto ending = end_canary(context, policy::VersionStatus::kApproved, "canary.approved");
  co_return co_await std::move(ending);
}

Handled roll_back_canary(Context& context) {
  auto ending = end_canary(context, policy::VersionStatus::kUnverified, "canary.rolled_back");
  co_return co_await std::move(ending);
}

Handled pause_model(Context& context) {
  const policy::Model* model = model_at(context);
  if (model == nullptr) co_return no_such("model", context.id);
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const bool paused = flag_of(fields, "paused");
  std::string reason = reason_in(fields);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  Change change = [model, paused](policy::Overlay& overlay, const policy::Policy&) -> Result<void> {
    if (paused) {
      overlay.paused_models.insert(model->id);
    } else {
      overlay.paused_models.erase(model->id);
    }
    return {};
  };
  auto deciding = decide_model(context, *model, paused ? "model.paused" : "model.resumed", model->id,
                               std::move(reason), std::move(change));
  co_return co_await std::move(deciding);
}

Handled get_freeze(Context& context) {
  co_return freeze_reply(*context.node().overlay());
}

Handled set_freeze(Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const bool frozen = flag_of(fields, "frozen");
  std::string reason = reason_in(fields);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  Change change = [frozen](policy::Overlay& overlay, const policy::Policy&) -> Result<void> {
    overlay.freeze = frozen;
    return {};
  };
  auto deciding = decide(context, frozen ? "freeze.begun" : "freeze.lifted", "platform", std::move(reason),
                         std::move(change));
  const auto decided = co_await std::move(deciding);
  if (!decided) co_return std::unexpected(decided.error());
  co_return freeze_reply(**decided);
}

Handled admin_providers(Context& context) {
  const auto stats = context.node().stats();
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  bool first = true;
  for (const auto& [name, provider] : context.policy->providers) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_provider(out, provider, stats);
  }
  append(out, "],\"has_more\":false}");
  co_return json_response(200, out);
}

Handled pause_provider(Context& context) {
  const auto found = context.policy->providers.find(context.id);
  if (found == context.policy->providers.end()) co_return no_such("provider", context.id);
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const bool paused = flag_of(fields, "paused");
  const std::string key(fields.text("key", 1, kNameMax).value_or(""));  // none: the whole provider
  std::string reason = reason_in(fields);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  const std::string name = found->first;
  Change change = [name, key, paused](policy::Overlay& overlay, const policy::Policy&) -> Result<void> {
    policy::Overlay::Names& names = key.empty() ? overlay.paused_providers : overlay.paused_keys[name];
    const std::string& what = key.empty() ? name : key;
    if (paused) {
      names.insert(what);
    } else {
      names.erase(what);
    }
    if (!key.empty() && names.empty()) overlay.paused_keys.erase(name);
    return {};
  };
  auto deciding = decide(context, paused ? "provider.paused" : "provider.resumed",
                         key.empty() ? name : name + "/" + key, std::move(reason), std::move(change));
  const auto decided = co_await std::move(deciding);
  if (!decided) co_return std::unexpected(decided.error());
  co_return provider_reply(context, found->second);
}

}  // namespace turnpike::api
