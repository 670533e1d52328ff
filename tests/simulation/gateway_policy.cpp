// Random configurations of upstreams.
#include "simulation/gateway.h"
#include "simulation/plans.h"

namespace turnpike::simulation {

using engine::Changes;
using policy::Meter;
using std::chrono::milliseconds;
using std::chrono::seconds;

void Gateway::bound(policy::Provider& provider) {
  if (random_.chance(400))
    provider.limit = policy::UpstreamLimit{.requests = static_cast<std::uint32_t>(random_.between(1, 12)),
                                           .per = seconds(random_.between(1, 90))};
  if (random_.chance(600))
    provider.breaker = policy::Breaker{.failures = static_cast<std::uint32_t>(random_.between(1, 4)),
                                       .cool_down = seconds(random_.between(1, 40))};
  if (random_.chance(400)) {
    for (const char* key : {"one", "two"}) {
      if (random_.chance(250)) continue;
      auto& made = provider.keys.emplace_back(policy::ProviderKey{.name = key});
      if (random_.chance(500)) made.requests_per_minute = static_cast<std::uint32_t>(random_.between(1, 20));
      if (count_tokens_ && random_.chance(700))
        made.tokens_per_minute = static_cast<std::uint64_t>(random_.between(50, 2'000));
      if (random_.chance(300)) made.concurrency = static_cast<std::uint32_t>(random_.between(1, 3));
    }
  }
}

void Gateway::put_provider(std::size_t number) {
  const std::string name = provider_name(number);
  policy::Provider provider;
  const bool own = number < kOwnPools;
  provider.name = name;
  provider.pool = own ? name : kSharedPool;
  provider.kind = number == 0 || !own ? policy::ProviderKind::kExec : policy::ProviderKind::kOpenAi;
  provider.cool_down = seconds(random_.between(1, 20));
  if (random_.chance(500)) provider.saturation = policy::Saturation::kSpill;
  if (own) bound(provider);
  policy_.providers[name] = std::move(provider);
  const std::string pool = policy_.providers[name].pool;
  policy_.pools[pool] = {
      .name = pool, .slots = static_cast<std::uint32_t>(random_.between(1, 4)), .headroom = 0};
  policy_.prices[name].clear();
  if (random_.chance(900)) policy_.prices[name]["u"] = random_price(random_);
}

void Gateway::put_plan(std::size_t number) {
  policy::Plan plan = simple_plan(fmt::format("plan{}", number), policy::PriorityClass::kStandard);
  plan.retry.standard.base = milliseconds(random_.between(0, 2000));
  plan.retry.standard.cap = seconds(random_.between(1, 10));
  plan.retry.standard.attempts = static_cast<std::uint32_t>(random_.between(1, 4));
  plan.attempt_timeout = seconds(random_.between(2, 60));
  plan.job_timeout = seconds(random_.between(30, 600));
  plan.admission = random_.chance(500) ? policy::Admission::kFast : policy::Admission::kDurable;
  if (number > 0)
    plan.promise.cost_cap =
        policy::CostCap{.monthly = {random_.between(5'000, 150'000)}, .hard_stop = random_.chance(850)};
  if (random_.chance(300))
    plan.promise.quotas.meters[policy::index_of(Meter::kTokens)] = random_.between(500, 30'000);
  policy_.plans[plan.name] = std::move(plan);
}

policy::RoutePtr Gateway::some_route() {
  std::vector<std::string> names;
  for (const auto& [name, provider] : policy_.providers) names.push_back(name);
  policy::Route route;
  const std::size_t wanted = static_cast<std::size_t>(random_.between(1, 3));
  while (!names.empty() && route.candidates.size() < wanted) {
    const std::size_t at = random_.below(names.size());
    const policy::Provider& provider = policy_.providers.at(names[at]);
    route.candidates.push_back({.provider = provider.name,
                                .pool = provider.pool,
                                .model = "m",
                                .model_version = "1",
                                .upstream_model = "u",
                                .price = policy_.price(provider.name, "u"),
                                .remote = policy::is_remote(provider.kind),
                                .saturation = provider.saturation});
    names.erase(names.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return route.candidates.empty() ? nullptr : std::make_shared<const policy::Route>(std::move(route));
}

void Gateway::change_policy() {
  const std::size_t number = random_.below(kProviders);
  if (number < kOwnPools && policy_.providers.contains(provider_name(number)) && random_.chance(250)) {
    policy_.providers.erase(provider_name(number));
    policy_.pools.erase(provider_name(number));
    tally_->add(Seen::kProvidersRemoved);
  } else {
    put_provider(number);
  }
  if (random_.chance(200)) put_plan(random_.below(kPlans));
  tally_->add(Seen::kApplies);
  say("apply");
  command([&](Changes& out) {
    ++version_;
    model_.configured(policy_);
    engine_->apply(shared(), version_, version_, now_, out);
  });
}

void Gateway::pause() {
  overlay_ = {};
  for (std::size_t i = 0; i < kProviders; ++i) {
    if (random_.chance(200)) overlay_.paused_providers.insert(provider_name(i));
    if (random_.chance(200)) overlay_.paused_keys[provider_name(i)].insert("one");
  }
  say("pauses");
  command([&](Changes& out) {
    engine_->set_overlay(std::make_shared<const policy::Overlay>(overlay_), now_, out);
  });
}

}  // namespace turnpike::simulation
