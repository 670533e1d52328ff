#include "policy/choose.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "policy/contains.h"
#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

std::vector<std::string> names_of(const std::vector<const ModelVersion*>& versions) {
  std::vector<std::string> names;
  names.reserve(versions.size());
  for (const ModelVersion* version : versions) names.push_back(version->version);
  return names;
}

std::unexpected<Error> unavailable(std::string message) {
  auto refusal = fail(ErrorCode::kUnavailable, std::move(message));
  refusal.error().retryable = true;
  return refusal;
}

}  // namespace

Chooser::Chooser(const Asking& asking, const Model& model) : asking_(asking), model_(model) {
  hold();
  if (asking_.overlay.freeze) freeze();
}

void Chooser::hold() {
  policy_ = asking_.plan.models.policy_of(model_.task);
  const std::vector<Pin>& pins = asking_.plan.models.pins_of(model_.task);
  const auto pin = std::ranges::find(pins, model_.id, &Pin::model);
  if (const auto own = asking_.overlay.pin_of(asking_.plan.name, model_.id); !own.empty()) {
    hold_ = Hold::kOperator;
    policy_ = VersionPolicy::kPinned;
    held_name_ = own;
  } else if (policy_ == VersionPolicy::kLatest) {
    return;
  } else if (pin != pins.end()) {
    hold_ = Hold::kPlan;
    held_name_ = pin->version;
  } else {
    hold_ = Hold::kDefault;
    held_name_ = model_.default_version;
  }
  held_ = model_.version(held_name_);
}

void Chooser::freeze() {
  only_ = newest_with(VersionStatus::kBlessed);
  if (only_ == nullptr &&
      std::ranges::none_of(model_.versions, [this](const auto& each) { return fits(each); }))
    only_ = newest_with(VersionStatus::kApproved);
}

VersionStatus Chooser::status(const ModelVersion& version) const {
  return asking_.overlay.status_of(model_, version);
}

bool Chooser::sees(const ModelVersion& version) const {
  switch (status(version)) {
    case VersionStatus::kUnverified:
      return asking_.plan.models.unverified;
    case VersionStatus::kBeta:
      return asking_.plan.models.beta;
    case VersionStatus::kApproved:
    case VersionStatus::kBlessed:
      return true;
    case VersionStatus::kRetired:
    case VersionStatus::kDiscovered:
      return false;
  }
  return false;
}

bool Chooser::admits(const ModelVersion& version) const {
  // Who pins a version asks for it, whatever its status; a default is nobody's choice.
  if (&version == held_)
    return hold_ == Hold::kDefault ? sees(version) : status(version) != VersionStatus::kRetired;
  switch (policy_) {
    case VersionPolicy::kLatest:
      return sees(version);
    case VersionPolicy::kAllowMinor:
      return held_ != nullptr && same_major(version.parsed, held_->parsed) && sees(version);
    case VersionPolicy::kPinned:
      return false;
  }
  return false;
}

bool Chooser::fits(const ModelVersion& version) const {
  if (!asking_.overlay.freeze) return admits(version);
  if (only_ != nullptr) return &version == only_;
  return status(version) == VersionStatus::kApproved && admits(version);
}

bool Chooser::has_model() const {
  const ModelPolicy& rules = asking_.plan.models;
  if (!rules.allows(model_.id)) return false;
  const std::vector<Pin>& pins = rules.pins_of(model_.task);
  return rules.policy_of(model_.task) != VersionPolicy::kPinned || pins.empty() ||
         contains(pins, model_.id, &Pin::model);
}

bool Chooser::away(std::string_view provider) const {
  const auto found = asking_.policy.providers.find(provider);
  if (found == asking_.policy.providers.end() || asking_.overlay.provider_paused(provider)) return true;
  if (contains(asking_.unavailable, provider)) return true;
  const auto& keys = found->second.keys;
  return !keys.empty() && std::ranges::all_of(keys, [this, provider](const ProviderKey& key) {
    return asking_.overlay.key_paused(provider, key.name);
  });
}

bool Chooser::has_route(const ModelVersion& version) const {
  bool any = false;
  each_route(version, [&any](const ModelRoute&) { return !(any = true); });
  return any;
}

bool Chooser::servable(const ModelVersion& version) const {
  bool any = false;
  each_route(version, [this, &any](const ModelRoute& route) { return !(any = !away(route.provider)); });
  return any;
}

const ModelVersion* Chooser::newest_with(VersionStatus wanted) const {
  const auto found =
      std::ranges::find(model_.versions, wanted, [this](const auto& each) { return status(each); });
  return found == model_.versions.end() ? nullptr : &*found;
}

std::string Chooser::why() const {
  const std::string& plan = asking_.plan.name;
  if (asking_.overlay.freeze) {
    return only_ != nullptr && status(*only_) == VersionStatus::kBlessed
               ? fmt::format("frozen at the blessed version of {}", model_.id)
               : fmt::format("frozen at approved versions: none of {} is blessed", model_.id);
  }
  switch (hold_) {
    case Hold::kNone:
      return fmt::format("latest of {} for plan {}", model_.id, plan);
    case Hold::kOperator:
      return fmt::format("pinned for plan {} by the operator", plan);
    case Hold::kPlan:
    case Hold::kDefault:
      break;
  }
  std::string held = hold_ == Hold::kPlan
                         ? fmt::format("pinned by plan {}", plan)
                         : fmt::format("the default of {}, which plan {} holds", model_.id, plan);
  const bool has_minors = held_ != nullptr && held_->parsed.kind == VersionText::Kind::kNumber;
  if (policy_ != VersionPolicy::kAllowMinor || !has_minors) return held;
  return fmt::format("newest minor of {}: {}", held_name_, held);
}

Result<Chosen> Chooser::standard() const {
  std::vector<const ModelVersion*> fitting;
  for (const ModelVersion& version : model_.versions) {
    if (fits(version)) {
      if (servable(version))
        return Chosen{.version = &version, .why = why(), .canary = false, .canary_id = {}};
      fitting.push_back(&version);
    }
    // Older minors than the pinned one are had by name only.
    if (&version == held_ && !asking_.overlay.freeze) break;
  }
  return fitting.empty() ? nothing_fits() : nothing_there(fitting);
}

bool Chooser::canary_touches(const Canary& canary, const ModelVersion& version) const {
  if (canary.model != model_.id || !contains(canary.plans, asking_.plan.name)) return false;
  if (status(version) == VersionStatus::kRetired) return false;
  using Kind = VersionText::Kind;
  const bool minor_only = policy_ == VersionPolicy::kAllowMinor && held_ != nullptr &&
                          held_->parsed.kind == Kind::kNumber && version.parsed.kind == Kind::kNumber;
  return !minor_only || same_major(version.parsed, held_->parsed);
}

std::optional<Chosen> Chooser::canary(std::string_view user_id) const {
  if (asking_.overlay.freeze || policy_ == VersionPolicy::kPinned) return std::nullopt;
  for (const Canary& canary : asking_.overlay.canaries) {
    const ModelVersion* candidate = model_.version(canary.candidate);
    if (candidate == nullptr || !canary_touches(canary, *candidate)) continue;
    if (place_in_share(canary.id, user_id) < canary.share_permille && servable(*candidate)) {
      return Chosen{.version = candidate,
                    .why = fmt::format("candidate of canary {}", canary.id),
                    .canary = true,
                    .canary_id = canary.id};
    }
    const ModelVersion* baseline = model_.version(canary.baseline);
    if (baseline == nullptr || !canary_touches(canary, *baseline) || !servable(*baseline)) continue;
    return Chosen{.version = baseline,
                  .why = fmt::format("baseline of canary {}", canary.id),
                  .canary = false,
                  .canary_id = canary.id};
  }
  return std::nullopt;
}

Result<Chosen> Chooser::for_user(std::string_view user_id) const {
  if (auto side = canary(user_id)) return std::move(*side);
  return standard();
}

Result<Chosen> Chooser::named(std::string_view range) const {
  const ModelVersion* exact = model_.version(range);
  const VersionText parts = exact != nullptr ? VersionText{} : parse_version(range);
  std::vector<const ModelVersion*> fitting;
  for (const ModelVersion& version : model_.versions) {
    const bool meant = exact != nullptr ? &version == exact : within(version.parsed, parts);
    if (!meant || !fits(version)) continue;
    if (servable(version)) {
      return Chosen{.version = &version,
                    .why = exact != nullptr
                               ? std::string("named by the request")
                               : fmt::format("newest {} of {}, named by the request", range, model_.id),
                    .canary = false,
                    .canary_id = {}};
    }
    fitting.push_back(&version);
  }
  return fitting.empty() ? not_had(range) : nothing_there(fitting);
}

std::vector<const ModelVersion*> Chooser::nameable() const {
  std::vector<const ModelVersion*> versions;
  for (const ModelVersion& version : model_.versions) {
    if (fits(version) && servable(version)) versions.push_back(&version);
  }
  return versions;
}

std::unexpected<Error> Chooser::nothing_fits() const {
  if (asking_.overlay.freeze)
    return unavailable(
        fmt::format("model {} has no blessed or approved version, and the operator has frozen all "
                    "plans at those",
                    model_.id));
  const bool unseen = held_ != nullptr && status(*held_) != VersionStatus::kRetired;
  if (policy_ == VersionPolicy::kLatest || unseen) {
    return fail(ErrorCode::kModelNotAllowed,
                fmt::format("plan {} sees no version of model {}", asking_.plan.name, model_.id), "model");
  }
  if (held_name_.empty()) {
    return unavailable(fmt::format("plan {} holds model {} at a version, and nothing says which",
                                   asking_.plan.name, model_.id));
  }
  return unavailable(fmt::format("plan {} is held at version {} of model {}, which {}", asking_.plan.name,
                                 held_name_, model_.id,
                                 held_ == nullptr ? "is not there any more" : "is retired"));
}

std::unexpected<Error> Chooser::nothing_there(const std::vector<const ModelVersion*>& fitting) const {
  std::vector<std::string> missing;
  std::vector<std::string> paused;
  for (const ModelVersion* version : fitting) {
    each_route(*version, [&](const ModelRoute& route) {
      const bool absent =
          contains(asking_.unavailable, route.provider) || !asking_.policy.providers.contains(route.provider);
      std::vector<std::string>& names = absent ? missing : paused;
      if (!contains(names, route.provider)) names.push_back(route.provider);
      return true;
    });
  }
  if (missing.empty() && paused.empty()) {
    return fail(ErrorCode::kModelNotAllowed,
                fmt::format("plan {} has no provider that serves model {}", asking_.plan.name, model_.id),
                "model");
  }
  std::string reason;
  if (!missing.empty()) reason = fmt::format("{} not found at start", fmt::join(missing, ", "));
  if (!paused.empty()) {
    reason += fmt::format("{}{} paused by the operator", reason.empty() ? "" : "; ", fmt::join(paused, ", "));
  }
  return unavailable(fmt::format("no provider of model {} is there ({})", model_.id, reason));
}

std::unexpected<Error> Chooser::not_had(std::string_view range) const {
  const std::string has = possession(names_of(nameable()));
  if (!model_.has_version_within(range)) {
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("model {} has no version of that name: {}", model_.id, has), "model");
  }
  const std::string_view frozen = asking_.overlay.freeze ? " while the operator's freeze holds" : "";
  return fail(ErrorCode::kModelNotAllowed,
              fmt::format("plan {} does not have version {} of model {}{}: {}", asking_.plan.name, range,
                          model_.id, frozen, has),
              "model");
}

}  // namespace turnpike::policy
