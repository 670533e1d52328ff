// Signatures of Standard Webhooks (github.com/standard-webhooks/standard-webhooks, spec, symmetric keys).
#pragma once

#include <string>
#include <string_view>

#include "base/time.h"

namespace turnpike::webhook {

// "whsec_" and the base64 of 24 random bytes. Throws std::runtime_error where the system has none to give.
std::string make_secret();

// "v1," and the base64 of HMAC-SHA256 over "id.seconds.payload" with the bytes that the secret carries. Empty
// if it is no secret.
std::string sign(std::string_view secret, std::string_view id, Wall at, std::string_view payload);

}  // namespace turnpike::webhook
