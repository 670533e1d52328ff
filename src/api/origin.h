// Which pages of other hosts a browser lets in. Browsers say whose page asks (`Origin`, RFC 6454). They let
// any page open a WebSocket to anywhere, so the server must look; what an ordinary request answers they show
// to a page of another host only where the answer says so (CORS, the Fetch standard).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http.h"

namespace turnpike::api {

// True if `origin` is the host that was asked (`host`, as the header has it), or one of `allowed`
// ("https://app.example", "http://localhost:3000", "*" for any). A scheme's own port need not be written.
bool origin_allowed(std::string_view origin, std::string_view host, const std::vector<std::string>& allowed);

// The answer to a browser that asks first whether a page may send a request (OPTIONS with `Origin` and
// `Access-Control-Request-Method`). Nothing: it is no such question, or that page is not among `allowed`.
std::optional<net::Response> preflight(const net::Request& request, const std::vector<std::string>& allowed);

// Lets a page among `allowed` read the answer to its request, headers included. Never with cookies: keys and
// tickets are what counts.
void let_page_read(const net::Request& request, const std::vector<std::string>& allowed,
                   net::Response& response);

}  // namespace turnpike::api
