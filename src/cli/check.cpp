// check, version: what needs no server.
#include <fmt/format.h>

#include <cstdio>

#include "cli/commands.h"
#include "policy/load.h"

namespace turnpike::cli {

int check(const CheckOptions& options) {
  const policy::Loaded loaded = policy::load_file(options.config);
  for (const auto& mistake : loaded.mistakes) fmt::print(stderr, "{}\n", policy::to_string(mistake));
  if (loaded.policy == nullptr) {
    fmt::print(stderr, "{}: {} mistakes\n", options.config, loaded.mistakes.size());
    return kBadConfiguration;
  }
  fmt::print("{}: no mistakes ({} plans, {} models, {} providers)\n", options.config,
             loaded.policy->plans.size(), loaded.policy->models.size(), loaded.policy->providers.size());
  return kOk;
}

int version() {
  fmt::print("turnpike {}\n", TURNPIKE_VERSION);
  return kOk;
}

}  // namespace turnpike::cli
