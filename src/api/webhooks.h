// What requests say of webhooks.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "api/fields.h"
#include "policy/policy.h"

namespace turnpike::api {

// The URL in the field `name`, of a kind and place that the policy allows, else a mistake is noted. Where its
// host's name leads is looked at when something is sent there.
std::optional<std::string> read_webhook_url(const policy::Policy& policy, Fields& fields,
                                            std::string_view name);

}  // namespace turnpike::api
