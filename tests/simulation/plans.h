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
  PolicyBuilder& team(policy::Group team);
  PolicyBuilder& platform(policy::Group platform);
  PolicyBuilder& content_types(std::vector<std::string> types);
  // In permille, by rank: low, standard, high, critical.
  PolicyBuilder& shares(std::uint32_t low, std::uint32_t standard, std::uint32_t high,
                        std::uint32_t critical);
  policy::PolicyPtr build() const;

 private:
  policy::Policy policy_;
};

policy::Plan simple_plan(const std::string& name, policy::PriorityClass priority_class);
policy::Candidate candidate(const std::string& pool);
// A route of one.
policy::RoutePtr routed(policy::Candidate candidate);

// A random policy whose plans are `plan0`.. and pools `p0`..: the same names whenever the counts are the
// same, so that one can be applied over another. Some limits are so small that every path is walked.
struct PolicyShape {
  std::size_t plans = 4;
  std::size_t pools = 2;
  bool shares = true;  // classes have guaranteed shares
  std::size_t teams = 2;
  std::int64_t slots_max = 8;  // of a pool
  bool grandfather = true;
  bool daily = false;                   // all periods are days
  std::uint64_t limits_permille = 120;  // how often something is limited
  std::int64_t scale = 1;               // of quotas and caps
};
policy::Promise random_promise(Random& random, const PolicyShape& shape);
policy::PricePtr random_price(Random& random);
policy::PolicyPtr random_policy(Random& random, const PolicyShape& shape);

}  // namespace turnpike::simulation
