#include "simulation/random_work.h"

#include <fmt/format.h>

#include <array>

#include "simulation/plans.h"

namespace turnpike::simulation {

using policy::Meter;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

// Mostly of what the plan limits.
engine::Grant random_grant(Random& random, const policy::Policy& policy, const policy::Plan& plan, GrantId id,
                           Wall now) {
  engine::Grant grant{.id = id, .meter = {}, .content = {}, .granted_at = now, .reason = "simulation"};
  const std::uint64_t dice = random.below(10);
  if (dice < 2 && !policy.content_types.empty()) {
    grant.content = policy.content_types[random.below(policy.content_types.size())];
    grant.amount = random.between(1, 10);
  } else if (dice < 4) {
    grant.amount = random.between(1, 20'000);  // cost
  } else {
    constexpr std::array kMeters{Meter::kTokens, Meter::kJobs, Meter::kCalls, Meter::kAudioMs,
                                 Meter::kImages};
    grant.meter = kMeters[random.below(kMeters.size())];
    for (const Meter meter : kMeters)
      if (plan.promise.quotas.meters[policy::index_of(meter)] && random.chance(700)) grant.meter = meter;
    const bool many = grant.meter == Meter::kTokens || grant.meter == Meter::kAudioMs;
    grant.amount = random.between(1, many ? 2'000 : 20);
  }
  if (random.chance(500)) grant.expires_at = now + minutes(random.between(1, 3'000));
  return grant;
}

std::string random_overrides(Random& random) {
  switch (random.below(7)) {
    case 0:
      return fmt::format(R"({{"limits":{{"concurrent_jobs":{}}}}})", random.between(1, 4));
    case 1:
      return fmt::format(R"({{"quotas":{{"tokens":{}}}}})", random.between(100, 5'000));
    case 2:
      return fmt::format(R"({{"rates":{{"rpm":{}}}}})", random.between(6, 60));
    case 3:
      return fmt::format(R"({{"priority_class":"{}"}})", random.chance(500) ? "high" : "low");
    case 4:
      return R"({"admission":"durable","limits":{"concurrent_calls":1}})";
    default:
      return "";
  }
}

}  // namespace

Fate random_fate(Random& random, bool calm) {
  Fate fate;
  const std::int64_t longest = random.chance(100) ? 60'000'000 : random.chance(500) ? 6'000'000 : 300'000;
  fate.after = Duration{random.between(0, longest)};
  if (calm) return fate;
  const std::uint64_t kind = random.below(1000);
  fate.reports_again = random.chance(150);
  if (kind < 680) {
    fate.ignores_stop = random.chance(300);
  } else if (kind < 850) {
    fate.kind = Fate::Kind::kFails;
    fate.failure = static_cast<policy::FailureClass>(random.below(policy::kFailureClassCount));
    if (random.chance(200)) fate.retry_after = seconds(random.between(0, 20));
  } else if (kind < 930) {
    fate.kind = Fate::Kind::kSilent;
  } else {
    fate.kind = Fate::Kind::kHangs;
  }
  return fate;
}

policy::Amounts random_estimate(Random& random) {
  policy::Amounts most;
  const std::uint64_t dice = random.below(10);
  if (dice < 6) {
    most[Meter::kInputTokens] = random.between(0, 150);
    most[Meter::kOutputTokens] = random.between(0, 150);
    most[Meter::kTokens] = most[Meter::kInputTokens] + most[Meter::kOutputTokens];
  } else if (dice < 8) {
    most[Meter::kCharacters] = random.between(1, 200);
    most[Meter::kAudioMs] = most[Meter::kCharacters] * 250;
  } else if (dice < 9) {
    most[Meter::kImages] = random.between(1, 4);
    most[Meter::kPixels] = most[Meter::kImages] * 65'536;
  } else {
    most[Meter::kVideoMs] = random.between(1'000, 600'000);
  }
  return most;
}

policy::Candidate priced_candidate(const policy::Policy& policy, const std::string& pool) {
  policy::Candidate made = candidate(pool);
  made.price = policy.price(made.provider, made.upstream_model);
  const auto provider = policy.providers.find(made.provider);
  made.remote = provider != policy.providers.end() && provider->second.kind == policy::ProviderKind::kOpenAi;
  return made;
}

std::string random_content(Random& random, const policy::Policy& policy) {
  if (policy.content_types.empty() || random.chance(700)) return {};
  return policy.content_types[random.below(policy.content_types.size())];
}

engine::NewCall random_call(Random& random, const policy::Policy& policy, JobId id, AccountId account,
                            const std::string& pool) {
  engine::NewCall call;
  call.id = id;
  call.account = account;
  call.task = fmt::format("task{}", random.below(3));
  call.route = routed(priced_candidate(policy, pool));
  call.content_type = random_content(random, policy);
  call.estimate = random_estimate(random);
  if (random.chance(20)) call.extras.emplace_back("web_search_options");
  if (random.chance(800)) call.patience = milliseconds(random.between(1, 20'000));
  call.timeout = seconds(random.between(1, 30));
  call.body = std::make_shared<const engine::JobBody>();
  return call;
}

engine::Engine::AccountChange random_change(Random& random, const policy::Policy& policy,
                                            const policy::Plan& plan, const engine::AccountRow& row,
                                            GrantId fresh, Wall now, bool generous) {
  engine::Engine::AccountChange change;
  change.by = "simulation";
  const std::uint64_t dice = generous && random.chance(700) ? 50 : random.below(100);
  if (dice < 35) {
    change.team =
        policy.teams.empty() || random.chance(300)
            ? std::string()
            : std::next(policy.teams.begin(), static_cast<std::ptrdiff_t>(random.below(policy.teams.size())))
                  ->first;
  } else if (dice < 65) {
    change.grant = random_grant(random, policy, plan, fresh, now);
  } else if (dice < 72 && !row.grants.empty()) {
    change.revoke = row.grants[random.below(row.grants.size())].id;
  } else if (dice < 90) {
    change.overrides = random_overrides(random);
  } else if (dice < 95) {
    constexpr std::array kZones{"", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"};
    change.time_zone = kZones[random.below(kZones.size())];
  } else {
    change.anchor_at = now - hours(random.between(0, 24 * 60));
  }
  return change;
}

}  // namespace turnpike::simulation
