// What the node's own events say, as JSON: Event::text of model.discovered and policy.changed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "policy/discovered.h"

namespace turnpike::policy {

// {"provider","kind":"model"|"voice","id","name","model","version","status":"discovered"}; name, and where it
// is no model's version model and version too, are null.
std::string discovered_json(const Discovery& found, const std::optional<Place>& place);

struct PolicyChanged {
  std::uint64_t version = 0;                         // in force now
  std::uint64_t previous = 0;                        // before it
  std::string hash;                                  // of its text
  std::string by;                                    // an actor
  std::string reason;                                // empty: none was given
  std::optional<std::uint64_t> rolled_back_to = {};  // the version whose text it is
};
// {"version","previous","hash","by","reason","rolled_back_to"}
std::string policy_changed_json(const PolicyChanged& changed);

}  // namespace turnpike::policy
