#include "simulation/plans.h"

#include <fmt/format.h>

namespace turnpike::simulation {

using policy::Plan;
using policy::PriorityClass;
using std::chrono::milliseconds;
using std::chrono::seconds;

PolicyBuilder::PolicyBuilder() {
  shares(50, 100, 200, 0);
}

PolicyBuilder& PolicyBuilder::pool(const std::string& name, std::uint32_t slots, std::uint32_t headroom) {
  policy_.pools[name] = {.name = name, .slots = slots, .headroom = headroom};
  policy::Provider provider;
  provider.name = name + "-provider";
  provider.pool = name;
  policy_.providers[provider.name] = provider;
  return *this;
}

PolicyBuilder& PolicyBuilder::price(const std::string& pool, policy::PricePtr price, bool remote) {
  policy_.prices[pool + "-provider"]["u"] = std::move(price);
  if (remote) policy_.providers.at(pool + "-provider").kind = policy::ProviderKind::kOpenAi;
  return *this;
}

PolicyBuilder& PolicyBuilder::plan(Plan plan) {
  if (policy_.accounts.default_plan.empty()) policy_.accounts.default_plan = plan.name;
  policy_.plans[plan.name] = std::move(plan);
  return *this;
}

PolicyBuilder& PolicyBuilder::shares(std::uint32_t low, std::uint32_t standard, std::uint32_t high,
                                     std::uint32_t critical) {
  policy_.share_permille = {low, standard, high, critical};
  return *this;
}

policy::PolicyPtr PolicyBuilder::build() const {
  return std::make_shared<const policy::Policy>(policy_);
}

Plan simple_plan(const std::string& name, PriorityClass priority_class) {
  Plan plan;
  plan.name = name;
  plan.priority_class = priority_class;
  return plan;
}

policy::Candidate candidate(const std::string& pool) {
  return {.provider = pool + "-provider",
          .pool = pool,
          .model = "m",
          .model_version = "1",
          .upstream_model = "u",
          .price = nullptr};
}

namespace {

Plan random_plan(Random& random, const std::string& name) {
  Plan plan = simple_plan(name, static_cast<PriorityClass>(random.between(1, 4)));
  if (random.chance(800))
    plan.limits.concurrent_jobs = static_cast<std::uint32_t>(random.chance(60) ? 0 : random.between(1, 5));
  if (random.chance(300)) plan.limits.queue_depth = static_cast<std::uint32_t>(random.between(2, 30));
  plan.limits.dispatch_batch = static_cast<std::uint32_t>(random.chance(500) ? 1 : random.between(2, 6));
  plan.retry.standard.base = milliseconds(random.between(0, 2000));
  plan.retry.standard.cap = seconds(random.between(1, 10));
  plan.retry.standard.attempts = static_cast<std::uint32_t>(random.between(1, 4));
  if (random.chance(300))
    plan.retry.by_class[static_cast<std::size_t>(policy::FailureClass::kTimeout)] = plan.retry.standard;
  plan.attempt_timeout = seconds(random.between(2, 60));
  plan.job_timeout = seconds(random.between(30, 600));
  policy::Promise& promise = plan.promise;
  promise.period.kind =
      random.chance(500) ? policy::PeriodRule::Kind::kDay : policy::PeriodRule::Kind::kCalendarMonth;
  if (random.chance(250))
    promise.quotas.meters[policy::index_of(policy::Meter::kJobs)] = random.between(0, 60);
  if (random.chance(250))
    promise.quotas.meters[policy::index_of(policy::Meter::kTokens)] = random.between(0, 6'000);
  if (random.chance(300)) {
    promise.cost_cap =
        policy::CostCap{.monthly = {random.between(0, 30'000)}, .hard_stop = random.chance(700)};
  }
  if (random.chance(350)) plan.expire_after = seconds(random.between(1, 60));
  return plan;
}

policy::PricePtr random_price(Random& random) {
  policy::Price price;
  const auto rate = [&random] { return Rate{.picos = random.between(0, 20'000), .per = 1}; };
  price.tokens = {.input = rate(), .cached_input = {}, .output = rate()};
  if (random.chance(300)) price.request = Rate{.picos = random.between(0, 500'000), .per = 1};
  if (random.chance(300))
    price.tiers = {{.above = 80, .tokens = {.input = rate(), .cached_input = {}, .output = {}}}};
  return std::make_shared<const policy::Price>(std::move(price));
}

}  // namespace

policy::PolicyPtr random_policy(Random& random, const PolicyShape& shape) {
  PolicyBuilder builder;
  for (std::size_t i = 0; i < shape.pools; ++i) {
    const auto slots = static_cast<std::uint32_t>(random.between(1, 8));
    const auto headroom = static_cast<std::uint32_t>(random.chance(250) ? random.between(0, slots - 1) : 0);
    const std::string name = fmt::format("p{}", i);
    builder.pool(name, slots, headroom);
    if (random.chance(700)) builder.price(name, random_price(random), random.chance(500));
  }
  for (std::size_t i = 0; i < shape.plans; ++i) builder.plan(random_plan(random, fmt::format("plan{}", i)));
  if (!shape.shares) builder.shares(0, 0, 0, 0);
  return builder.build();
}

}  // namespace turnpike::simulation
