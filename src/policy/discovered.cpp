#include "policy/discovered.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "policy/contains.h"

namespace turnpike::policy {
namespace {

using Kind = VersionText::Kind;

constexpr std::size_t kVersionBytesMax = 64;

bool is_version_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
         c == '+';
}

bool of_numbers(const std::vector<ModelVersion>& versions) {
  return std::ranges::all_of(versions, [](const auto& each) { return each.parsed.kind == Kind::kNumber; });
}

// Puts it where it belongs, newest first. False: it has no place there.
bool insert(std::vector<ModelVersion>& versions, ModelVersion version, bool numbers) {
  if (numbers ? version.parsed.kind != Kind::kNumber : !version.day()) return false;
  const auto newer = [numbers](const ModelVersion& a, const ModelVersion& b) {
    if (numbers) return compare_numbers(a.parsed, b.parsed) == std::strong_ordering::greater;
    return a.day() > b.day();
  };
  const auto at = std::ranges::find_if(versions, [&](const auto& each) { return !newer(each, version); });
  if (at != versions.end() && !newer(version, *at)) return false;
  versions.insert(at, std::move(version));
  return true;
}

// True: the model has it now.
bool add(Model& model, const Discovery& found, const std::string& version, bool numbers, std::size_t& added) {
  const auto known = std::ranges::find(model.versions, version, &ModelVersion::version);
  ModelRoute route{.provider = found.provider, .upstream_model = found.id};
  if (known != model.versions.end()) {
    if (!known->discovered_at || known->served_by(found.provider)) return false;
    known->routes.push_back(std::move(route));
    return true;
  }
  if (added >= kDiscoveredVersionsMax) return false;
  ModelVersion made{.version = version, .parsed = parse_version(version)};
  made.status = VersionStatus::kDiscovered;
  made.discovered_at = found.found_at;
  // Beside numbers alone a day of release says nothing; a dated version says its own.
  if (!numbers && made.parsed.kind != Kind::kDate) made.released = found.released;
  made.routes.push_back(std::move(route));
  if (!insert(model.versions, std::move(made), numbers)) return false;
  ++added;
  return true;
}

// The version that the model's rules make of it; nullopt: none.
std::optional<std::string> version_by_rules(const Model& model, const Discovery& found) {
  for (const DiscoverRule& rule : model.discover) {
    if (rule.provider != found.provider) continue;
    if (auto version = version_in(rule.match, found.id)) return version;
  }
  return std::nullopt;
}

bool has_discovered(const Policy& policy) {
  return std::ranges::any_of(policy.models, [](const auto& entry) {
    return std::ranges::any_of(entry.second.versions,
                               [](const auto& each) { return each.discovered_at.has_value(); });
  });
}

}  // namespace

const char* discovery_kind_name(DiscoveryKind kind) {
  switch (kind) {
    case DiscoveryKind::kModel:
      return "model";
    case DiscoveryKind::kVoice:
      return "voice";
    case DiscoveryKind::kList:
      return "list";
  }
  return "model";
}

std::optional<std::string> version_in(std::string_view match, std::string_view id) {
  const std::size_t at = match.find(kVersionMark);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view before = match.substr(0, at);
  const std::string_view after = match.substr(at + kVersionMark.size());
  if (id.size() <= before.size() + after.size() || !id.starts_with(before) || !id.ends_with(after))
    return std::nullopt;
  const std::string_view version = id.substr(before.size(), id.size() - before.size() - after.size());
  if (version.size() > kVersionBytesMax || !std::ranges::all_of(version, is_version_character))
    return std::nullopt;
  if (parse_version(version).kind == Kind::kOther) return std::nullopt;
  return std::string(version);
}

bool in_file(const Policy& policy, std::string_view provider, std::string_view upstream_model) {
  const ModelRoute route{.provider = std::string(provider), .upstream_model = std::string(upstream_model)};
  return std::ranges::any_of(policy.models, [&route](const auto& entry) {
    return std::ranges::any_of(entry.second.versions, [&route](const ModelVersion& each) {
      return !each.discovered_at && std::ranges::find(each.routes, route) != each.routes.end();
    });
  });
}

std::optional<Place> place_of(const Policy& policy, const Discovery& discovery) {
  if (discovery.kind != DiscoveryKind::kModel) return std::nullopt;
  const ModelRoute route{.provider = discovery.provider, .upstream_model = discovery.id};
  for (const std::string& id : policy.model_order) {
    const auto model = policy.models.find(id);
    if (model == policy.models.end()) continue;
    for (const ModelVersion& version : model->second.versions) {
      if (std::ranges::find(version.routes, route) != version.routes.end())
        return Place{.model = id, .version = version.version};
    }
  }
  return std::nullopt;
}

PolicyPtr with_discovered(PolicyPtr policy, std::span<const Discovery> discoveries) {
  const bool rules =
      std::ranges::any_of(policy->models, [](const auto& entry) { return !entry.second.discover.empty(); });
  if (!rules && !has_discovered(*policy)) return policy;
  auto made = std::make_shared<Policy>(*policy);
  for (auto& [id, model] : made->models)
    std::erase_if(model.versions, [](const ModelVersion& each) { return each.discovered_at.has_value(); });
  struct Counted {
    bool numbers = false;
    std::size_t added = 0;
  };
  std::map<std::string_view, Counted> counted;
  for (const auto& [id, model] : made->models) counted[id].numbers = of_numbers(model.versions);
  for (const Discovery& found : discoveries) {
    if (found.kind != DiscoveryKind::kModel || !made->providers.contains(found.provider) ||
        in_file(*made, found.provider, found.id))
      continue;
    for (const std::string& id : made->model_order) {
      const auto model = made->models.find(id);
      if (model == made->models.end()) continue;
      const auto version = version_by_rules(model->second, found);
      if (!version) continue;
      Counted& so_far = counted[model->first];
      add(model->second, found, *version, so_far.numbers, so_far.added);
      break;
    }
  }
  return made;
}

}  // namespace turnpike::policy
