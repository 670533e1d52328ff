// How a request is served: what resolve() found.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "policy/policy.h"

namespace turnpike::policy {

// One way to serve a request.
struct Candidate {
  std::string provider;  // whose key pool, limit and breaker hold
  std::string pool;
  std::string model;  // as users name it: Model::id
  std::string model_version;
  std::string upstream_model;                 // as the provider names it
  PricePtr price;                             // null: none is known
  bool remote = false;                        // an upstream that may bill what it began, whatever came back
  Saturation saturation = Saturation::kWait;  // what to do while this provider has no room
};

struct Route {
  std::vector<Candidate> candidates;  // of one version, in the order to try them; at least one
  std::string why;        // how the version was chosen, for a person: "latest of writer for plan free"
  bool canary = false;    // the candidate of a canary
  std::string canary_id;  // of the canary that decided, for either of its sides; empty: none did
};

using RoutePtr = std::shared_ptr<const Route>;

}  // namespace turnpike::policy
