// Which addresses belong to the public internet: the rest (private, loopback, link-local, shared, reserved,
// multicast, tunnels into IPv4) must not be reached on behalf of a stranger.
#pragma once

#include <string_view>

#include "base/result.h"

namespace turnpike::net {

// By IANA's registries of special-purpose addresses (RFC 6890 and what amends it). False where the text is no
// address.
bool is_public_address(std::string_view text);

// Whether a client can go there over TCP: http:// or https://, a host, no user. Error: kInvalidRequest, what
// is wrong without repeating it.
Result<void> check_url(const std::string& url);

// Whether the URL may be asked for a stranger: http or https, and where its host is an address, a public one.
// A name is checked when it has been looked up (ClientRequest::public_only). Error: kInvalidRequest, what is
// wrong without repeating it.
Result<void> check_public_url(const std::string& url);

}  // namespace turnpike::net
