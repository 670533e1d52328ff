#include "policy/models.h"

#include <algorithm>

#include "policy/contains.h"

namespace turnpike::policy {

const char* version_policy_name(VersionPolicy policy) {
  switch (policy) {
    case VersionPolicy::kLatest:
      return "latest";
    case VersionPolicy::kAllowMinor:
      return "allow_minor";
    case VersionPolicy::kPinned:
      return "pinned";
  }
  return "latest";
}

bool ModelVersion::served_by(std::string_view provider) const {
  return contains(routes, provider, &ModelRoute::provider);
}

std::optional<std::chrono::sys_days> ModelVersion::day() const {
  return parsed.kind == VersionText::Kind::kDate ? parsed.day : released;
}

const ModelVersion* Model::version(std::string_view text) const {
  const auto found = std::ranges::find(versions, text, &ModelVersion::version);
  return found == versions.end() ? nullptr : &*found;
}

bool Model::has_version_within(std::string_view text) const {
  if (version(text) != nullptr) return true;
  const VersionText range = parse_version(text);
  return std::ranges::any_of(versions,
                             [&range](const ModelVersion& each) { return within(each.parsed, range); });
}

std::vector<std::string> Model::version_names() const {
  std::vector<std::string> names;
  names.reserve(versions.size());
  for (const ModelVersion& each : versions) names.push_back(each.version);
  return names;
}

bool Model::served_by(std::string_view provider) const {
  return std::ranges::any_of(versions,
                             [provider](const ModelVersion& each) { return each.served_by(provider); });
}

VersionPolicy ModelPolicy::policy_of(std::string_view task) const {
  const auto found = tasks.find(task);
  return found == tasks.end() ? policy : found->second.policy.value_or(policy);
}

const std::vector<Pin>& ModelPolicy::pins_of(std::string_view task) const {
  static const std::vector<Pin> kNone;
  const auto found = tasks.find(task);
  return found == tasks.end() ? kNone : found->second.pins;
}

bool ModelPolicy::allows(std::string_view model) const {
  return !allow || contains(*allow, model);
}

}  // namespace turnpike::policy
