// Pure resolution: who asks for what -> which model, version, provider and pool serve it, or why not.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "policy/policy.h"

namespace turnpike::policy {

// How a candidate came to be the one, for `why`.
struct Choice {
  bool model_named = false;  // by the request; else it is the first model of its task that the plan can use
  bool plan_order = false;   // its provider's place is in the plan's order of the task; else in the model's
  std::uint32_t place = 0;   // from 1: those before it were not there; 0: not told
  friend bool operator==(const Choice&, const Choice&) = default;
};

// One way to serve a request.
struct Candidate {
  std::string provider;
  std::string pool;
  std::string model;  // as users name it
  std::string model_version;
  std::string upstream_model;  // as the provider names it
  PricePtr price;              // null: none is known
  bool remote = false;         // an upstream that may bill what it began, whatever came back
  Choice choice = {};
};

// Candidates in the order to try them, at least one. `model` may be empty (the task's default). `unavailable`
// are the providers found missing at start (Provider::use); they are passed over. Errors: kInvalidRequest
// (unknown task: param "task", names those that exist), kNotInPlan (the plan does not have the task; says
// which plans do), kInvalidRequest (unknown model: param "model", names those of the task),
// kModelNotAllowed (the plan's providers do not serve it), kUnavailable (none of its providers was there).
Result<std::vector<Candidate>> resolve(const Policy& policy, const Plan& plan, std::string_view task,
                                       std::string_view model, const std::set<std::string>& unavailable);

// All task names that some model serves, sorted.
std::vector<std::string> known_tasks(const Policy& policy);

}  // namespace turnpike::policy
