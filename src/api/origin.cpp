#include "api/origin.h"

#include <algorithm>

namespace turnpike::api {
namespace {

struct Parts {
  std::string scheme;
  std::string authority;
};

std::string lower(std::string_view text) {
  std::string made(text);
  std::ranges::transform(made, made.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  return made;
}

std::string_view without_own_port(std::string_view authority, std::string_view scheme) {
  const std::string_view port = scheme == "https" ? ":443" : ":80";
  if (authority.ends_with(port)) authority.remove_suffix(port.size());
  return authority;
}

// Empty parts where it is no origin, as "null" is none.
Parts parts_of(std::string_view origin) {
  const std::size_t mark = origin.find("://");
  if (mark == std::string_view::npos) return {};
  Parts parts{.scheme = lower(origin.substr(0, mark)), .authority = lower(origin.substr(mark + 3))};
  parts.authority = without_own_port(std::string(parts.authority), parts.scheme);
  return parts;
}

}  // namespace

bool origin_allowed(std::string_view origin, std::string_view host, const std::vector<std::string>& allowed) {
  if (std::ranges::find(allowed, "*") != allowed.end()) return true;
  const Parts asking = parts_of(origin);
  if (asking.authority.empty()) return false;
  // Whether it came over TLS a proxy in front alone may know: so the page's own scheme says which port is
  // left out.
  if (without_own_port(lower(host), asking.scheme) == asking.authority) return true;
  return std::ranges::any_of(allowed, [&](const std::string& one) {
    const Parts may = parts_of(one);
    return may.scheme == asking.scheme && may.authority == asking.authority;
  });
}

}  // namespace turnpike::api
