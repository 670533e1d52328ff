#include "simulation/upstream_model.h"

#include <algorithm>
#include <utility>

#include "simulation/violation.h"

namespace turnpike::simulation {
namespace {

constexpr Duration kMinute = std::chrono::minutes(1);

std::size_t within(const std::vector<Monotonic>& began, Duration per, Monotonic now) {
  return static_cast<std::size_t>(std::ranges::count_if(began, [&](Monotonic at) { return at + per > now; }));
}

}  // namespace

void UpstreamModel::check_key(const policy::Provider& provider, const Key& key, const engine::StartTry& start,
                              std::int64_t tokens, Monotonic now) const {
  const auto config = std::ranges::find(provider.keys, start.key, &policy::ProviderKey::name);
  if (provider.keys.empty()) {
    require(start.key.empty(), "upstreams", "{} has no key `{}`", provider.name, start.key);
    return;
  }
  require(config != provider.keys.end(), "upstreams", "{} has no key `{}`", provider.name, start.key);
  if (const auto& most = config->requests_per_minute) {
    const std::size_t before = within(key.began, kMinute, now);
    require(before < *most, "upstreams", "{} of {} requests began in a minute at key {} of {}", before + 1,
            *most, start.key, provider.name);
  }
  if (const auto& most = config->tokens_per_minute) {
    std::int64_t before = 0;
    for (const Part& part : key.parts)
      if (part.at + kMinute > now) before += part.tokens;
    const auto limit = static_cast<std::int64_t>(*most);
    require(before + std::min(tokens, limit) <= limit || tokens == 0, "upstreams",
            "{} tokens and {} more in a minute at key {} of {}, which may have {}", before, tokens, start.key,
            provider.name, limit);
  }
  require(!config->concurrency || key.running < *config->concurrency, "upstreams",
          "{} tries at once at key {} of {}", key.running + 1, start.key, provider.name);
}

void UpstreamModel::began(const policy::Policy& policy, const policy::Overlay& overlay,
                          const engine::StartTry& start, Monotonic now) {
  const std::string& name = start.row.provider;
  const std::string id = to_string(start.row.id);
  const auto config = policy.providers.find(name);
  require(config != policy.providers.end(), "upstreams", "{} started at {}, which is not there", id, name);
  require(!overlay.provider_paused(name), "upstreams", "{} started at {}, which is paused", id, name);
  const auto paused = overlay.paused_keys.find(name);
  require(paused == overlay.paused_keys.end() || !paused->second.contains(start.key), "upstreams",
          "{} started with a key of {} that is paused", id, name);
  const policy::Provider& provider = config->second;
  Upstream& upstream = upstreams_[name];
  Key& key = upstream.keys[start.key];
  const std::int64_t tokens = start.row.hold->amounts[policy::Meter::kTokens];
  if (provider.limit) {
    const std::size_t before = within(upstream.began, provider.limit->per, now);
    require(before < provider.limit->requests, "upstreams", "{} of {} requests began in {} s at {}",
            before + 1, provider.limit->requests, provider.limit->per.count() / 1'000'000, name);
  }
  check_key(provider, key, start, tokens, now);
  const bool bounded = engine::Gate::bounds(provider);
  require(!bounded || key.cool_until <= now, "upstreams", "{} started at {}, which is to be left alone", id,
          name);
  if (provider.breaker && upstream.open_until) {
    require(now >= *upstream.open_until, "upstreams", "{} started at {}, whose breaker is open", id, name);
    require(!upstream.probe, "upstreams", "{} started at {} while another one looks whether it is back", id,
            name);
    upstream.probe = start.try_id;
    tally_->add(Seen::kProbes);
  }
  upstream.began.push_back(now);
  key.began.push_back(now);
  key.parts.push_back({.id = start.try_id, .at = now, .tokens = tokens});
  if (bounded) ++key.running;
  running_[start.try_id] = {.provider = name, .key = start.key, .tokens = tokens, .bounded = bounded};
}

void UpstreamModel::raised(TryId id, std::int64_t tokens, Monotonic now) {
  Running& running = running_.at(id);
  running.tokens += tokens;
  upstreams_[running.provider].keys[running.key].parts.push_back({.id = id, .at = now, .tokens = tokens});
}

void UpstreamModel::ended(TryId id, Said said, std::optional<std::int64_t> used,
                          std::optional<Duration> retry_after, Monotonic now) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  const Running running = found->second;
  running_.erase(found);
  Upstream& upstream = upstreams_[running.provider];
  Key& key = upstream.keys[running.key];
  // More than was taken counts as if it had been taken last; of less, what was taken last goes first.
  std::int64_t beyond = used.value_or(running.tokens) - running.tokens;
  for (auto part = key.parts.rbegin(); part != key.parts.rend() && beyond != 0; ++part) {
    if (part->id != id) continue;
    const std::int64_t by = std::max(beyond, -part->tokens);
    part->tokens += by;
    beyond -= by;
  }
  // What ran while nothing was bounded was not looked at.
  if (!running.bounded) return;
  --key.running;
  const bool probed = std::exchange(upstream.probe, upstream.probe == id ? TryId{} : upstream.probe) == id;
  switch (said) {
    case Said::kNothing:
      return;
    case Said::kTooFast:
      if (retry_after) key.cool_until = std::max(key.cool_until, now + *retry_after);
      [[fallthrough]];
    case Said::kAnswer:
      upstream.failures = 0;
      upstream.open_until.reset();
      upstream.probe = {};
      return;
    case Said::kFailure:
      ++upstream.failures;
      if (!upstream.breaker || (!probed && upstream.failures < upstream.breaker->failures)) return;
      upstream.open_until = now + upstream.breaker->cool_down;
      tally_->add(Seen::kBreakersOpened);
      return;
  }
}

bool UpstreamModel::breaker_open(const std::string& provider, Monotonic now) const {
  const auto found = upstreams_.find(provider);
  if (found == upstreams_.end()) return false;
  const Upstream& upstream = found->second;
  return upstream.breaker && upstream.open_until && (now < *upstream.open_until || upstream.probe);
}

void UpstreamModel::configured(const policy::Policy& policy) {
  for (const auto& [name, provider] : policy.providers)
    if (engine::Gate::bounds(provider)) upstreams_[name].breaker = provider.breaker;
}

void UpstreamModel::restarted() {
  running_.clear();
  for (auto& [name, upstream] : upstreams_) {
    upstream.breaker.reset();
    upstream.failures = 0;
    upstream.open_until.reset();
    upstream.probe = {};
    for (auto& [key_name, key] : upstream.keys) {
      key.running = 0;
      key.cool_until = {};
    }
  }
}

}  // namespace turnpike::simulation
