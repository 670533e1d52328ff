// Policies for simulated worlds.
#pragma once

#include <string>
#include <vector>

#include "base/random.h"
#include "policy/policy.h"
#include "policy/resolve.h"

namespace turnpike::simulation {

// Builds a policy by hand: pools p0.., one provider `pN-provider` each, and plans.
class PolicyBuilder {
 public:
  PolicyBuilder();
  PolicyBuilder& pool(const std::string& name, std::uint32_t slots, std::uint32_t headroom = 0);
  PolicyBuilder& price(const std::string& pool, policy::PricePtr price, bool remote);
  PolicyBuilder& plan(policy::Plan plan);
  // In permille, by rank: low, standard, high, critical.
  PolicyBuilder& shares(std::uint32_t low, std::uint32_t standard, std::uint32_t high,
                        std::uint32_t critical);
  policy::PolicyPtr build() const;

 private:
  policy::Policy policy_;
};

policy::Plan simple_plan(const std::string& name, policy::PriorityClass priority_class);
policy::Candidate candidate(const std::string& pool);

// A random policy whose plans are `plan0`.. and pools `p0`..: the same names whenever the counts are the
// same, so that one can be applied over another. Some limits are so small that every path is walked.
struct PolicyShape {
  std::size_t plans = 4;
  std::size_t pools = 2;
  bool shares = true;  // classes have guaranteed shares
};
policy::PolicyPtr random_policy(Random& random, const PolicyShape& shape);

}  // namespace turnpike::simulation
