// What was found in providers' lists and stands in no configuration, and which versions of models it makes.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/time.h"
#include "policy/policy.h"

namespace turnpike::policy {

enum class DiscoveryKind : std::uint8_t {
  kModel = 0,
  kVoice = 1,
  kList = 2,  // no entry: the list `id` (list_kind_name) itself, read for the first time
};
const char* discovery_kind_name(DiscoveryKind kind);  // "model", "voice", "list"

// One entry of a provider's list. Unique by provider, kind and id.
struct Discovery {
  std::string provider;
  DiscoveryKind kind = DiscoveryKind::kModel;
  std::string id;                                      // as the provider names it, 1..256 bytes of UTF-8
  std::string name;                                    // for a person; may be empty; at most 256 bytes
  std::optional<std::chrono::sys_days> released = {};  // as the list says
  Wall found_at{};                                     // when it was first seen
  friend bool operator==(const Discovery&, const Discovery&) = default;
};

// The version that a rule's `match` finds in an id: a number or a day; nullopt: it is another model's.
std::optional<std::string> version_in(std::string_view match, std::string_view id);

// Whether the configuration itself names this model of the provider.
bool in_file(const Policy& policy, std::string_view provider, std::string_view upstream_model);

// Where a discovery stands in `policy`, as with_discovered() made it.
struct Place {
  std::string model;
  std::string version;
};
std::optional<Place> place_of(const Policy& policy, const Discovery& discovery);

// Discovered versions that one model may have; later ones stay discoveries without a model.
constexpr std::size_t kDiscoveredVersionsMax = 100;

// `policy` with the versions that its models' `discover` rules make of `discoveries` (in the order in which
// they were found), each of status `discovered`, at its place among the model's own; discovered versions that
// were in it are left out first. The first model of the file whose rule matches has the version; the same
// version from several providers has a route to each. One that has no order with the file's versions (a day
// beside numbers, the same day or number) or bears the name of one of those is not made. text and hash stay
// those of the file. `policy` itself where nothing changes.
PolicyPtr with_discovered(PolicyPtr policy, std::span<const Discovery> discoveries);

}  // namespace turnpike::policy
