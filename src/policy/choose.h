// Which version of one model a plan is served. Inside of resolve().
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "policy/overlay.h"
#include "policy/policy.h"

namespace turnpike::policy {

// Who asks, and how things are. Borrowed for the length of one resolution.
struct Asking {
  const Policy& policy;
  const Plan& plan;
  const Overlay& overlay;
  const std::set<std::string>& unavailable;
};

struct Chosen {
  const ModelVersion* version = nullptr;
  std::string why;
  bool canary = false;
  std::string canary_id;
};

class Chooser {
 public:
  Chooser(const Asking& asking, const Model& model);

  // The plan has the model, whatever version.
  bool has_model() const;
  // The version for a request that names none, canaries apart.
  Result<Chosen> standard() const;
  // Likewise, with the canaries' share.
  Result<Chosen> for_user(std::string_view user_id) const;
  // `range` is a version, or "2", "2.1".
  Result<Chosen> named(std::string_view range) const;
  // That a request may name and that can be served, newest first.
  std::vector<const ModelVersion*> nameable() const;

  // Calls `use(route)` for each route of a version in the plan's order, else the version's, until it says
  // false.
  template <typename F>
  void each_route(const ModelVersion& version, F use) const {
    const auto order = asking_.plan.providers.find(model_.task);
    if (order == asking_.plan.providers.end()) {
      for (const ModelRoute& route : version.routes) {
        if (!use(route)) return;
      }
      return;
    }
    for (const std::string& provider : order->second) {
      for (const ModelRoute& route : version.routes) {
        if (route.provider == provider && !use(route)) return;
      }
    }
  }
  // The provider is not there: since the start, or because the operator has paused it or all of its keys.
  bool away(std::string_view provider) const;

 private:
  // Why the plan is held at a version.
  enum class Hold : std::uint8_t { kNone, kPlan, kDefault, kOperator };

  void hold();
  void freeze();
  VersionStatus status(const ModelVersion& version) const;
  bool sees(const ModelVersion& version) const;    // by its status
  bool admits(const ModelVersion& version) const;  // the plan may be served it, no freeze considered
  bool fits(const ModelVersion& version) const;    // likewise, as things are: freeze included
  bool has_route(const ModelVersion& version) const;
  bool servable(const ModelVersion& version) const;  // and its provider is there
  const ModelVersion* newest_with(VersionStatus status) const;
  bool canary_touches(const Canary& canary, const ModelVersion& version) const;
  std::optional<Chosen> canary(std::string_view user_id) const;
  std::string why() const;
  std::unexpected<Error> nothing_fits() const;
  std::unexpected<Error> nothing_there(const std::vector<const ModelVersion*>& fitting) const;
  std::unexpected<Error> not_had(std::string_view range) const;

  const Asking& asking_;
  const Model& model_;
  VersionPolicy policy_ = VersionPolicy::kLatest;
  Hold hold_ = Hold::kNone;
  std::string_view held_name_;          // empty: not held
  const ModelVersion* held_ = nullptr;  // null: not held, or at one that is not there
  const ModelVersion* only_ = nullptr;  // while frozen: the one that is served, where that is so
};

}  // namespace turnpike::policy
