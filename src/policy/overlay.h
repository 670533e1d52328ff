// What the operator has decided since the configuration was loaded: a value that changes while it runs. It
// names models, versions, plans and providers of the configuration; whatever a later configuration has no
// more is passed over. Who keeps it checks each change with check_overlay() first.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "policy/policy.h"

namespace turnpike::policy {

// When a candidate goes by itself: what it may be worse than the baseline. Counted in tries.
struct CanaryGuard {
  std::uint32_t tries_min = 30;        // of the candidate, before it is judged; 0: it is never judged
  std::uint32_t errors_permille = 50;  // failed tries above the baseline's share
  std::uint32_t latency_permille =
      2'000;  // of the baseline's time within which nine of ten end; 0: not looked at
  std::uint32_t cost_permille = 2'000;  // of the baseline's mean cost; 0: not looked at
  friend bool operator==(const CanaryGuard&, const CanaryGuard&) = default;
};

// A version that a share of some plans' accounts is served, to see how it does. An account keeps its side as
// the share grows (place_in_share). It touches no plan whose version is pinned, no request that names a
// version, and crosses no major where the plan allows minor versions only; a freeze suspends it.
struct Canary {
  std::string id;     // unique; where a user stands hangs on it
  std::string model;  // whose versions these are:
  std::string candidate;
  std::string baseline;            // for the plans' other accounts
  std::vector<std::string> plans;  // at least one
  std::uint32_t share_permille = 0;
  CanaryGuard guard = {};
  friend bool operator==(const Canary&, const Canary&) = default;
};

struct Overlay {
  template <typename V>
  using ByName = std::map<std::string, V, std::less<>>;
  using Names = std::set<std::string, std::less<>>;

  // Every plan, whatever it pins, is served by blessed versions only, and no canary runs. Of a model without
  // a blessed version a plan is served what it would be if nothing but approved versions existed; where that
  // is nothing, the newest approved one. A request that names another version is refused.
  bool freeze = false;
  Names paused_providers;                  // passed over, like one that was not there at start
  Names paused_models;                     // by id
  ByName<Names> paused_keys;               // provider -> names of keys
  ByName<ByName<VersionStatus>> statuses;  // model -> version -> in place of what the file says
  std::vector<Canary> canaries;
  ByName<ByName<std::string>> pins;  // plan -> model -> version: exactly this one, whatever the plan's policy

  // As things are now. At most one version of a model is blessed: one that is blessed here takes it from the
  // file's, which is then approved.
  VersionStatus status_of(const Model& model, const ModelVersion& version) const;
  bool provider_paused(std::string_view provider) const { return paused_providers.contains(provider); }
  bool key_paused(std::string_view provider, std::string_view key) const;
  // The version that `plan` is held at by the operator; empty: it is not.
  std::string_view pin_of(std::string_view plan, std::string_view model) const;
  friend bool operator==(const Overlay&, const Overlay&) = default;
};
using OverlayPtr = std::shared_ptr<const Overlay>;

// What holds while the operator has decided nothing.
const Overlay& no_overlay();

// Whether everything that it names is there and can have effect. Errors: kInvalidRequest, with the field at
// fault as `param` ("canaries.c1.candidate") and what would be right: names that do not exist, two blessed
// versions of one model, a version that is retired while a plan is pinned to it, a canary for a plan that it
// could not touch, two canaries for the same accounts.
Result<void> check_overlay(const Policy& policy, const Overlay& overlay);

// The canary is over, and its candidate is of status `becomes` (one that is blessed stays so, and one that is
// discovered becomes unverified by no canary). Error:
// kConflict (there is no such canary).
Result<void> end_canary(const Policy& policy, Overlay& overlay, std::string_view id, VersionStatus becomes);

}  // namespace turnpike::policy
