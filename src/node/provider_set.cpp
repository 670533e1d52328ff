#include "node/provider_set.h"

#include <utility>

#include "node/log.h"

namespace turnpike::node {

ProviderSet::ProviderSet(Maker maker) : maker_(std::move(maker)) {}

ProviderSet::Map ProviderSet::build(const policy::Policy& policy) const {
  Map built;
  for (const auto& [name, config] : policy.providers) {
    std::vector<std::string> warnings;
    Serving serving{.kind = config.kind, .provider = maker_(config, warnings)};
    for (const std::string& warning : warnings) {
      log_event(LogLevel::kWarn, "provider.warning", {{"provider", name}, {"message", warning}});
    }
    // A key is all that tells them apart, so each of the pool has its own, with connections of its own.
    for (const policy::ProviderKey& key : config.keys) {
      policy::Provider one = config;
      one.api_key = key.key;
      one.keys.clear();
      serving.by_key.emplace(key.name, maker_(one, warnings));
    }
    built.emplace(name, std::move(serving));
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
  const Serving& serving = found->second;
  const auto own = serving.by_key.find(key);
  return Serving{.kind = serving.kind,
                 .provider = own == serving.by_key.end() ? serving.provider : own->second};
}

}  // namespace turnpike::node
