// Which pages may open a WebSocket: browsers say whose page asks (`Origin`, RFC 6454), and unlike fetch they
// let any page open a socket to anywhere.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace turnpike::api {

// True if `origin` is the host that was asked (`host`, as the header has it), or one of `allowed`
// ("https://app.example", "http://localhost:3000", "*" for any). A scheme's own port need not be written.
bool origin_allowed(std::string_view origin, std::string_view host, const std::vector<std::string>& allowed);

}  // namespace turnpike::api
