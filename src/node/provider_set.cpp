#include "node/provider_set.h"

#include <utility>

#include "node/log.h"

namespace turnpike::node {

ProviderSet::ProviderSet(Maker maker) : maker_(std::move(maker)) {}

ProviderSet::Map ProviderSet::build(const policy::Policy& policy) const {
  Map kept;
  {
    const std::scoped_lock lock(mutex_);
    kept = providers_;
  }
  Map all;
  for (const auto& [name, config] : policy.providers) {
    const auto before = kept.find(name);
    const bool same = before != kept.end() && !before->second.warned && *before->second.config == config;
    all.emplace(name, same ? std::move(before->second) : build_one(name, config));
  }
  return all;
}

ProviderSet::Built ProviderSet::build_one(const std::string& name, const policy::Provider& config) const {
  std::vector<std::string> warnings;
  Built built{.config = std::make_shared<const policy::Provider>(config),
              .provider = maker_(config, warnings),
              .by_key = {},
              .warned = !warnings.empty()};
  for (const std::string& warning : warnings) {
    log_event(LogLevel::kWarn, "provider.warning", {{"provider", name}, {"message", warning}});
  }
  // A key is all that tells them apart, so each of the pool has its own, with connections of its own.
  for (const policy::ProviderKey& key : config.keys) {
    policy::Provider one = config;
    one.api_key = key.key;
    one.keys.clear();
    built.by_key.emplace(key.name, maker_(one, warnings));
  }
  return built;
}

void ProviderSet::replace(Map providers) {
  const std::scoped_lock lock(mutex_);
  providers_.swap(providers);
}

std::optional<ProviderSet::Serving> ProviderSet::find(std::string_view name, std::string_view key) const {
  const std::scoped_lock lock(mutex_);
  const auto found = providers_.find(name);
  if (found == providers_.end()) return std::nullopt;
  const Built& built = found->second;
  const auto own = built.by_key.find(key);
  return Serving{.kind = built.config->kind,
                 .provider = own == built.by_key.end() ? built.provider : own->second};
}

}  // namespace turnpike::node
