#include "api/origin.h"

#include <algorithm>

#include "net/text.h"

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

constexpr std::size_t kHeaderNamesMax = 2048;  // bytes of Access-Control-Request-Headers
constexpr const char* kMethods = "GET, POST, PUT, PATCH, DELETE";
constexpr const char* kKeptSeconds = "600";  // a browser need not ask again for so long
// What an answer says beside its body. Those of every answer (Content-Type) a page may read anyway.
constexpr const char* kReadable =
    "x-request-id, Retry-After, x-should-retry, Idempotent-Replayed, ETag, RateLimit, RateLimit-Policy, "
    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, turnpike-model, "
    "turnpike-provider, turnpike-cache, turnpike-cost-usd, turnpike-queue-ms, turnpike-overhead-us";

// The page that asks, where its host is another and named; null: no page asks, or it may not.
const std::string* page_let_in(const net::Request& request, const std::vector<std::string>& allowed) {
  if (allowed.empty()) return nullptr;
  const std::string* origin = request.header("Origin");
  if (origin == nullptr || !origin_allowed(*origin, {}, allowed)) return nullptr;
  return origin;
}

// "authorization, content-type": names of headers, and nothing else.
bool names_headers(std::string_view list) {
  if (list.size() > kHeaderNamesMax) return false;
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view name = list.substr(0, comma);
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    if (!net::is_token(name)) return false;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return true;
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

std::optional<net::Response> preflight(const net::Request& request, const std::vector<std::string>& allowed) {
  if (request.method != "OPTIONS" || request.header("Access-Control-Request-Method") == nullptr)
    return std::nullopt;
  const std::string* page = page_let_in(request, allowed);
  if (page == nullptr) return std::nullopt;
  net::Response response;
  response.status = 204;
  response.headers.emplace_back("Access-Control-Allow-Methods", kMethods);
  // Clients send headers of their own (OpenAI's a dozen): what is not known here is passed over, so none is
  // refused.
  if (const auto* names = request.header("Access-Control-Request-Headers");
      names != nullptr && !names->empty() && names_headers(*names))
    response.headers.emplace_back("Access-Control-Allow-Headers", *names);
  response.headers.emplace_back("Access-Control-Max-Age", kKeptSeconds);
  return response;
}

void let_page_read(const net::Request& request, const std::vector<std::string>& allowed,
                   net::Response& response) {
  if (allowed.empty()) return;
  response.headers.emplace_back("Vary", "Origin");
  const std::string* page = page_let_in(request, allowed);
  if (page == nullptr) return;
  response.headers.emplace_back("Access-Control-Allow-Origin", *page);
  response.headers.emplace_back("Access-Control-Expose-Headers", kReadable);
}

}  // namespace turnpike::api
