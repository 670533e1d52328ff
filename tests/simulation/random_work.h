// Work, and changes of accounts, as random worlds ask for them.
#pragma once

#include <string>

#include "base/random.h"
#include "engine/engine.h"
#include "policy/policy.h"
#include "simulation/world.h"

namespace turnpike::simulation {

// How a try ends. `calm`: it completes.
Fate random_fate(Random& random, bool calm);
// Text, speech, pictures or video: the most that one try can use.
policy::Amounts random_estimate(Random& random);
// Of the pool's provider, at today's price.
policy::Candidate priced_candidate(const policy::Policy& policy, const std::string& pool);
// Mostly none.
std::string random_content(Random& random, const policy::Policy& policy);
engine::NewCall random_call(Random& random, const policy::Policy& policy, JobId id, AccountId account,
                            const std::string& pool);
// A team, a grant given or revoked, overrides, a zone, a day of the month. `fresh`: for a grant; `generous`:
// mostly grants.
engine::Engine::AccountChange random_change(Random& random, const policy::Policy& policy,
                                            const policy::Plan& plan, const engine::AccountRow& row,
                                            GrantId fresh, Wall now, bool generous);

}  // namespace turnpike::simulation
