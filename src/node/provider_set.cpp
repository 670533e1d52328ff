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
    built.emplace(name, std::move(serving));
  }
  return built;
}

void ProviderSet::replace(Map providers) {
  const std::scoped_lock lock(mutex_);
  providers_.swap(providers);
}

std::optional<ProviderSet::Serving> ProviderSet::find(std::string_view name) const {
  const std::scoped_lock lock(mutex_);
  const auto found = providers_.find(name);
  if (found == providers_.end()) return std::nullopt;
  return found->second;
}

}  // namespace turnpike::node
