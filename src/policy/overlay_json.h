// The operator's decisions as JSON: how they are kept and shown.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "policy/overlay.h"

namespace turnpike::policy {

// {"freeze":false,"paused_providers":["a"],"paused_models":[],"paused_keys":{"a":["k1"]},
//  "statuses":{"writer":{"2.0":"blessed"}},"canaries":[{"id","model","candidate","baseline","plans","share_permille"}],
//  "pins":{"pro":{"writer":"2.0"}}}
std::string overlay_json(const Overlay& overlay);
// Errors: kInvalidRequest, with the field at fault as `param`. What the configuration has is not looked at.
Result<Overlay> overlay_from_json(std::string_view text);
// For the audit: {"reason":"...","overlay":{...}}, `overlay` as overlay_json wrote it.
std::string decision_json(std::string_view reason, std::string_view overlay);
std::optional<VersionStatus> version_status_named(std::string_view name);

}  // namespace turnpike::policy
