// Pure resolution: who asks for what -> which model, version, provider and pool serve it, or why not.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "policy/overlay.h"
#include "policy/policy.h"
#include "policy/route.h"

namespace turnpike::policy {

// `model` is a model, MODEL@VERSION, MODEL@2 or MODEL@2.1 (the newest of those), an alias, or empty (the
// first model that the plan pins for the task, else the first of the file, that can be served). Without a
// version the plan's policy, the operator's pins, canaries and freeze choose one; `user_id` (the account's)
// says on which side of a canary it is. Versions whose providers are all away are passed over where the plan
// leaves a choice. `unavailable` are the providers found missing at start (Provider::use).
//
// Errors: kInvalidRequest (unknown task: param "task", names those that exist; unknown model or version:
// param "model", names what the plan has), kNotInPlan (the plan does not have the task; says which plans do),
// kModelNotAllowed (the plan does not have the model or version, or its providers do not serve it; names what
// it has), kUnavailable (none of its providers is there, or the operator has paused it).
Result<Route> resolve(const Policy& policy, const Plan& plan, const Overlay& overlay,
                      std::string_view user_id, std::string_view task, std::string_view model,
                      const std::set<std::string>& unavailable);

// A model as an account of a plan sees it.
struct VisibleModel {
  const Model* model = nullptr;
  // What a request that names no version is served, canaries apart. Never null.
  const ModelVersion* version = nullptr;
  std::vector<const ModelVersion*> versions;  // that a request may name, newest first; at least one
  std::vector<std::string> aliases;           // other names of it, sorted
};
// In the order of the file: what can be served at present. `plan` null: the operator, who sees all that is
// not retired.
std::vector<VisibleModel> visible_models(const Policy& policy, const Plan* plan, const Overlay& overlay,
                                         const std::set<std::string>& unavailable);

// The model that `text` (as resolve() takes it, not empty) names, whatever plan asks; null: there is none.
// The version in it is not looked at.
const Model* model_named(const Policy& policy, std::string_view text);

// All task names that some model serves, sorted.
std::vector<std::string> known_tasks(const Policy& policy);

}  // namespace turnpike::policy
