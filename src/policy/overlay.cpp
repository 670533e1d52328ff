#include "policy/overlay.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

constexpr std::uint32_t kShareMax = 1'000;

// A mistake, unless all is well.
using Refused = std::optional<Error>;

Refused refuse(std::string field, const std::string& why) {
  std::string message = fmt::format("{}: {}", field, why);
  return fail(ErrorCode::kInvalidRequest, std::move(message), std::move(field)).error();
}

template <typename M>
Refused unknown(std::string field, const char* what, std::string_view name, const M& known) {
  if (known.contains(name)) return std::nullopt;
  return refuse(std::move(field),
                fmt::format("there is no {} `{}`: {}", what, name, suggestion(name, keys_of(known))));
}

Refused unknown_version(std::string field, const Model& model, std::string_view version) {
  if (model.version(version) != nullptr) return std::nullopt;
  return refuse(std::move(field), fmt::format("model `{}` has no version `{}`: {}", model.id, version,
                                              possession(model.version_names())));
}

Refused check_paused(const Policy& policy, const Overlay& overlay) {
  for (const std::string& name : overlay.paused_providers) {
    if (auto no = unknown(fmt::format("paused_providers.{}", name), "provider", name, policy.providers))
      return no;
  }
  for (const std::string& name : overlay.paused_models) {
    if (auto no = unknown(fmt::format("paused_models.{}", name), "model", name, policy.models)) return no;
  }
  for (const auto& [name, keys] : overlay.paused_keys) {
    const std::string field = fmt::format("paused_keys.{}", name);
    if (auto no = unknown(field, "provider", name, policy.providers)) return no;
    const auto& provider = policy.providers.find(name)->second;
    for (const std::string& key : keys) {
      if (contains(provider.keys, key, &ProviderKey::name)) continue;
      std::vector<std::string> known;
      for (const ProviderKey& each : provider.keys) known.push_back(each.name);
      return refuse(fmt::format("{}.{}", field, key), fmt::format("provider `{}` has no key `{}`: {}", name,
                                                                  key, suggestion(key, std::move(known))));
    }
  }
  return std::nullopt;
}

Refused check_statuses(const Policy& policy, const Overlay& overlay) {
  for (const auto& [name, versions] : overlay.statuses) {
    const std::string field = fmt::format("statuses.{}", name);
    if (auto no = unknown(field, "model", name, policy.models)) return no;
    const Model& model = policy.models.find(name)->second;
    std::string_view blessed;
    for (const auto& [version, status] : versions) {
      const std::string own = fmt::format("{}.{}", field, version);
      if (auto no = unknown_version(own, model, version)) return no;
      if (status != VersionStatus::kBlessed) continue;
      if (!blessed.empty()) {
        return refuse(own, fmt::format("`{}` is blessed already: a model has one version that a freeze falls "
                                       "back to",
                                       blessed));
      }
      blessed = version;
    }
  }
  return std::nullopt;
}

Refused check_pins(const Policy& policy, const Overlay& overlay) {
  for (const auto& [plan, pins] : overlay.pins) {
    const std::string field = fmt::format("pins.{}", plan);
    if (auto no = unknown(field, "plan", plan, policy.plans)) return no;
    for (const auto& [name, version] : pins) {
      const std::string own = fmt::format("{}.{}", field, name);
      if (auto no = unknown(own, "model", name, policy.models)) return no;
      if (auto no = unknown_version(own, policy.models.find(name)->second, version)) return no;
    }
  }
  return std::nullopt;
}

// The version that a plan of the configuration holds a model at; empty: none.
std::string_view held_version(const Plan& plan, const Overlay& overlay, const Model& model) {
  if (const auto own = overlay.pin_of(plan.name, model.id); !own.empty()) return own;
  if (plan.models.policy_of(model.task) == VersionPolicy::kLatest) return {};
  const std::vector<Pin>& pins = plan.models.pins_of(model.task);
  const auto pin = std::ranges::find(pins, model.id, &Pin::model);
  if (pin != pins.end()) return pin->version;
  // Where others are pinned, this one is not the plan's.
  const bool had = pins.empty() || plan.models.policy_of(model.task) != VersionPolicy::kPinned;
  return had && plan.models.allows(model.id) ? std::string_view(model.default_version) : std::string_view{};
}

// A version that somebody is held at cannot be taken away from under him.
Refused check_retired(const Policy& policy, const Overlay& overlay) {
  for (const auto& [name, plan] : policy.plans) {
    for (const auto& [id, model] : policy.models) {
      if (!plan.has_task(model.task)) continue;
      const std::string_view held = held_version(plan, overlay, model);
      const ModelVersion* version = model.version(held);
      if (version == nullptr || overlay.status_of(model, *version) != VersionStatus::kRetired) continue;
      return refuse(fmt::format("statuses.{}.{}", id, held),
                    fmt::format("plan `{}` is held at it: pin the plan to another version first", name));
    }
  }
  return std::nullopt;
}

Refused check_canary_plan(const Policy& policy, const Overlay& overlay, const Canary& canary,
                          const Model& model, const std::string& name) {
  const std::string field = fmt::format("canaries.{}.plans", canary.id);
  if (auto no = unknown(field, "plan", name, policy.plans)) return no;
  const Plan& plan = policy.plans.find(name)->second;
  const VersionPolicy version_policy = plan.models.policy_of(model.task);
  if (!overlay.pin_of(name, model.id).empty() || version_policy == VersionPolicy::kPinned) {
    return refuse(field, fmt::format("plan `{}` is pinned, and pinned plans never move by themselves", name));
  }
  if (version_policy == VersionPolicy::kLatest) return std::nullopt;
  const ModelVersion* held = model.version(held_version(plan, overlay, model));
  for (const std::string& side : {canary.candidate, canary.baseline}) {
    const ModelVersion* version = model.version(side);
    if (held == nullptr || version == nullptr || held->parsed.kind != VersionText::Kind::kNumber ||
        version->parsed.kind != VersionText::Kind::kNumber || same_major(held->parsed, version->parsed))
      continue;
    return refuse(field, fmt::format("plan `{}` allows minor versions of {} only, and {} is none", name,
                                     held->version, side));
  }
  return std::nullopt;
}

Refused check_canary(const Policy& policy, const Overlay& overlay, const Canary& canary) {
  if (!is_name(canary.id)) return refuse("canaries", "each needs a name of its own");
  const auto field = [&canary](const char* key) { return fmt::format("canaries.{}.{}", canary.id, key); };
  if (auto no = unknown(field("model"), "model", canary.model, policy.models)) return no;
  const Model& model = policy.models.find(canary.model)->second;
  for (const auto& [key, name] :
       {std::pair("candidate", &canary.candidate), std::pair("baseline", &canary.baseline)}) {
    if (auto no = unknown_version(field(key), model, *name)) return no;
    if (overlay.status_of(model, *model.version(*name)) == VersionStatus::kRetired)
      return refuse(field(key), fmt::format("version `{}` is retired", *name));
  }
  if (canary.candidate == canary.baseline) return refuse(field("candidate"), "is the baseline itself");
  if (canary.share_permille > kShareMax) return refuse(field("share"), "must be at most 100%");
  if (canary.plans.empty()) return refuse(field("plans"), "needs at least one plan");
  for (const std::string& plan : canary.plans) {
    if (auto no = check_canary_plan(policy, overlay, canary, model, plan)) return no;
  }
  return std::nullopt;
}

Refused check_canaries(const Policy& policy, const Overlay& overlay) {
  for (auto it = overlay.canaries.begin(); it != overlay.canaries.end(); ++it) {
    if (auto no = check_canary(policy, overlay, *it)) return no;
    for (auto other = overlay.canaries.begin(); other != it; ++other) {
      if (other->id == it->id)
        return refuse(fmt::format("canaries.{}", it->id), "there are two of this name");
      const bool overlap = other->model == it->model && std::ranges::any_of(it->plans, [&](const auto& plan) {
                             return contains(other->plans, plan);
                           });
      if (!overlap) continue;
      return refuse(fmt::format("canaries.{}.plans", it->id),
                    fmt::format("canary `{}` runs for the same model and plan: end it first", other->id));
    }
  }
  return std::nullopt;
}

}  // namespace

VersionStatus Overlay::status_of(const Model& model, const ModelVersion& version) const {
  if (statuses.empty()) return version.status;
  const auto found = statuses.find(model.id);
  if (found == statuses.end()) return version.status;
  const auto own = found->second.find(version.version);
  if (own != found->second.end()) return own->second;
  if (version.status != VersionStatus::kBlessed) return version.status;
  // Another one that the file does not know is blessed now?
  const bool taken = std::ranges::any_of(found->second, [&model](const auto& entry) {
    return entry.second == VersionStatus::kBlessed && model.version(entry.first) != nullptr;
  });
  return taken ? VersionStatus::kApproved : version.status;
}

bool Overlay::key_paused(std::string_view provider, std::string_view key) const {
  const auto found = paused_keys.find(provider);
  return found != paused_keys.end() && found->second.contains(key);
}

std::string_view Overlay::pin_of(std::string_view plan, std::string_view model) const {
  const auto found = pins.find(plan);
  if (found == pins.end()) return {};
  const auto pin = found->second.find(model);
  return pin == found->second.end() ? std::string_view{} : std::string_view(pin->second);
}

const Overlay& no_overlay() {
  static const Overlay kNone;
  return kNone;
}

Result<void> check_overlay(const Policy& policy, const Overlay& overlay) {
  for (const auto check : {check_paused, check_statuses, check_pins, check_retired, check_canaries}) {
    if (auto refused = check(policy, overlay)) return std::unexpected(std::move(*refused));
  }
  return {};
}

Result<void> end_canary(const Policy& policy, Overlay& overlay, std::string_view id, VersionStatus becomes) {
  const auto found = std::ranges::find(overlay.canaries, id, &Canary::id);
  if (found == overlay.canaries.end()) {
    return fail(ErrorCode::kConflict, fmt::format("there is no canary {}: it may be over", id), "canary");
  }
  const Canary canary = std::move(*found);
  overlay.canaries.erase(found);
  const auto model = policy.models.find(canary.model);
  const ModelVersion* candidate =
      model == policy.models.end() ? nullptr : model->second.version(canary.candidate);
  if (candidate == nullptr) return {};
  const VersionStatus has = overlay.status_of(model->second, *candidate);
  // What nobody was served before is nobody's again, not that of plans which see unverified versions.
  const bool as_before = has == VersionStatus::kDiscovered && becomes == VersionStatus::kUnverified;
  if (has != VersionStatus::kBlessed && !as_before)
    overlay.statuses[canary.model][canary.candidate] = becomes;
  return {};
}

}  // namespace turnpike::policy
