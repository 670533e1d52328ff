#include "simulation/plans.h"

#include <fmt/format.h>

#include <array>
#include <utility>

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

PolicyBuilder& PolicyBuilder::team(policy::Group team) {
  policy_.teams[team.name] = std::move(team);
  return *this;
}

PolicyBuilder& PolicyBuilder::platform(policy::Group platform) {
  policy_.platform = std::move(platform);
  return *this;
}

PolicyBuilder& PolicyBuilder::content_types(std::vector<std::string> types) {
  policy_.content_types = std::move(types);
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

policy::RoutePtr routed(policy::Candidate candidate) {
  return std::make_shared<const policy::Route>(policy::Route{.candidates = {std::move(candidate)}});
}

policy::Candidate candidate(const std::string& pool) {
  return {.provider = pool + "-provider",
          .pool = pool,
          .model = "m",
          .model_version = "1",
          .upstream_model = "u",
          .price = nullptr};
}

policy::Promise random_promise(Random& random, const PolicyShape& shape) {
  using policy::Meter;
  policy::Promise promise;
  const auto limited = [&] { return random.chance(shape.limits_permille); };
  const std::uint64_t kind = shape.daily ? 0 : random.below(10);
  promise.period.kind = kind < 5   ? policy::PeriodRule::Kind::kDay
                        : kind < 8 ? policy::PeriodRule::Kind::kCalendarMonth
                                   : policy::PeriodRule::Kind::kAnchored;
  constexpr std::array<std::pair<Meter, std::int64_t>, 10> kQuotas{{{Meter::kJobs, 60},
                                                                    {Meter::kJobs, 60},
                                                                    {Meter::kTokens, 6'000},
                                                                    {Meter::kTokens, 6'000},
                                                                    {Meter::kCalls, 40},
                                                                    {Meter::kCachedTokens, 1'000},
                                                                    {Meter::kCharacters, 3'000},
                                                                    {Meter::kAudioMs, 500'000},
                                                                    {Meter::kImages, 30},
                                                                    {Meter::kVideoMs, 5'000'000}}};
  for (const auto& [meter, most] : kQuotas)
    if (limited()) promise.quotas.meters[policy::index_of(meter)] = random.between(0, most * shape.scale);
  for (const char* type : {"image", "podcast"})
    if (limited()) promise.quotas.content[type] = random.between(0, 15 * shape.scale);
  if (random.chance(2 * shape.limits_permille)) {
    promise.cost_cap = policy::CostCap{.monthly = {random.between(0, 40'000) * shape.scale},
                                       .hard_stop = random.chance(700)};
  }
  if (limited()) promise.rates.rps = static_cast<std::uint32_t>(random.between(1, 4));
  if (limited()) promise.rates.rpm = static_cast<std::uint32_t>(random.between(7, 90));
  if (limited()) promise.rates.burst = static_cast<std::uint32_t>(random.between(1, 8));
  if (limited()) promise.rates.tpm = static_cast<std::uint64_t>(random.between(200, 5'000));
  return promise;
}

namespace {

policy::Group random_group(Random& random, const std::string& name, const PolicyShape& shape) {
  policy::Group group;
  group.name = name;
  PolicyShape wide = shape;
  wide.scale = shape.scale * 4;
  group.promise = random_promise(random, wide);
  if (random.chance(shape.limits_permille))
    group.concurrent_jobs = static_cast<std::uint32_t>(random.between(1, 6));
  if (random.chance(shape.limits_permille))
    group.concurrent_calls = static_cast<std::uint32_t>(random.between(1, 4));
  return group;
}

Plan random_plan(Random& random, const std::string& name, const PolicyShape& shape) {
  Plan plan = simple_plan(name, static_cast<PriorityClass>(random.between(1, 4)));
  if (random.chance(800))
    plan.limits.concurrent_jobs = static_cast<std::uint32_t>(random.chance(60) ? 0 : random.between(1, 5));
  if (random.chance(300)) plan.limits.queue_depth = static_cast<std::uint32_t>(random.between(2, 30));
  if (random.chance(400)) plan.limits.concurrent_calls = static_cast<std::uint32_t>(random.between(0, 4));
  plan.limits.dispatch_batch = static_cast<std::uint32_t>(random.chance(500) ? 1 : random.between(2, 6));
  plan.retry.standard.base = milliseconds(random.between(0, 2000));
  plan.retry.standard.cap = seconds(random.between(1, 10));
  plan.retry.standard.attempts = static_cast<std::uint32_t>(random.between(1, 4));
  if (random.chance(300))
    plan.retry.by_class[static_cast<std::size_t>(policy::FailureClass::kTimeout)] = plan.retry.standard;
  plan.attempt_timeout = seconds(random.between(2, 60));
  plan.job_timeout = seconds(random.between(30, 600));
  plan.promise = random_promise(random, shape);
  plan.admission = random.chance(500) ? policy::Admission::kFast : policy::Admission::kDurable;
  plan.grandfather = shape.grandfather && random.chance(150);
  if (random.chance(100)) plan.content_types = {"podcast"};
  if (random.chance(350)) plan.expire_after = seconds(random.between(1, 60));
  return plan;
}

}  // namespace

// Now and then a price says nothing about some meter.
policy::PricePtr random_price(Random& random) {
  policy::Price price;
  const auto rate = [&random](std::int64_t most, std::int64_t per) {
    return Rate{.picos = random.between(0, most), .per = per};
  };
  price.tokens = {.input = rate(20'000, 1), .cached_input = {}, .output = rate(20'000, 1)};
  if (random.chance(300)) price.tokens.cached_input = rate(10'000, 1);
  if (random.chance(300)) price.request = rate(500'000, 1);
  if (random.chance(800)) price.character = rate(20'000, 1);
  if (random.chance(300)) price.audio = rate(1'000'000, 1'000);
  if (random.chance(800)) price.video = rate(100'000, 1'000);
  if (random.chance(800)) price.image = rate(1'000'000, 1);
  if (random.chance(300)) price.pixel = rate(20, 1);
  if (random.chance(300))
    price.tiers = {{.above = 80, .tokens = {.input = rate(20'000, 1), .cached_input = {}, .output = {}}}};
  return std::make_shared<const policy::Price>(std::move(price));
}

policy::PolicyPtr random_policy(Random& random, const PolicyShape& shape) {
  PolicyBuilder builder;
  for (std::size_t i = 0; i < shape.pools; ++i) {
    const auto slots = static_cast<std::uint32_t>(random.between(1, shape.slots_max));
    const auto headroom = static_cast<std::uint32_t>(random.chance(250) ? random.between(0, slots - 1) : 0);
    const std::string name = fmt::format("p{}", i);
    builder.pool(name, slots, headroom);
    if (random.chance(700)) builder.price(name, random_price(random), random.chance(500));
  }
  for (std::size_t i = 0; i < shape.plans; ++i)
    builder.plan(random_plan(random, fmt::format("plan{}", i), shape));
  for (std::size_t i = 0; i < shape.teams; ++i)
    builder.team(random_group(random, fmt::format("team{}", i), shape));
  // What all share is limited seldom, for it stops all.
  if (PolicyShape rarely = shape; random.chance(300)) {
    rarely.scale *= 4;
    rarely.limits_permille /= 2;
    builder.platform(random_group(random, "platform", rarely));
  }
  builder.content_types({"image", "podcast"});
  if (!shape.shares) builder.shares(0, 0, 0, 0);
  return builder.build();
}

}  // namespace turnpike::simulation
