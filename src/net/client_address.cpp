#include "net/client_address.h"

#include <fmt/format.h>

#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <charconv>

namespace turnpike::net {
namespace {

constexpr std::string_view kUnix = "unix:";

Result<ClientAddress> parse_unix(std::string_view rest) {
  const auto split = rest.find(":/");
  if (!rest.starts_with('/') || split == std::string_view::npos) {
    return fail(ErrorCode::kInvalidRequest, "a unix URL is written unix:/path/to.sock:/path");
  }
  const std::string origin = "http://localhost" + std::string(rest.substr(split + 1));
  auto address = parse_client_url(origin);  // the same rules for what follows the socket
  if (!address) return address;
  address->unix_path = rest.substr(0, split);
  return address;
}

}  // namespace

std::string ClientAddress::name() const {
  if (!unix_path.empty()) return "unix:" + unix_path;
  return (tls ? "https://" : "http://") + host_header;
}

Result<ClientAddress> parse_client_url(const std::string& url) {
  if (url.starts_with(kUnix)) return parse_unix(std::string_view(url).substr(kUnix.size()));
  const auto parsed = boost::urls::parse_uri(url);
  if (!parsed || (parsed->scheme_id() != boost::urls::scheme::http &&
                  parsed->scheme_id() != boost::urls::scheme::https)) {
    return fail(ErrorCode::kInvalidRequest, "the URL of an upstream begins with http://, https:// or unix:/");
  }
  if (parsed->has_userinfo()) {
    return fail(ErrorCode::kInvalidRequest, "the URL of an upstream holds no user or password: use a header");
  }
  ClientAddress address;
  address.tls = parsed->scheme_id() == boost::urls::scheme::https;
  address.host = parsed->host_address();
  const std::string digits(parsed->port());
  address.port = address.tls ? 443 : 80;
  if (!digits.empty() &&
      std::from_chars(digits.data(), digits.data() + digits.size(), address.port).ec != std::errc{}) {
    address.port = 0;
  }
  if (address.host.empty() || address.port == 0) {
    return fail(ErrorCode::kInvalidRequest, "the URL of an upstream needs a host and a port from 1 to 65535");
  }
  address.host_header = std::string(parsed->encoded_host());
  if (address.port != (address.tls ? 443 : 80)) address.host_header += fmt::format(":{}", address.port);
  address.target = std::string(parsed->encoded_target());
  if (!address.target.starts_with('/')) address.target.insert(0, "/");
  return address;
}

}  // namespace turnpike::net
