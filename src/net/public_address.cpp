#include "net/public_address.h"

#include <algorithm>
#include <array>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>
#include <cstdint>

#include "net/client_address.h"

namespace turnpike::net {
namespace {

namespace ip = boost::asio::ip;

struct V4Block {
  std::uint32_t address;
  unsigned bits;
};
constexpr std::array kSpecialV4 = {
    V4Block{0x00000000, 8},   // "this network"
    V4Block{0x0a000000, 8},   // private
    V4Block{0x64400000, 10},  // shared by carriers
    V4Block{0x7f000000, 8},   // loopback
    V4Block{0xa9fe0000, 16},  // link-local, where clouds keep their metadata
    V4Block{0xac100000, 12},  // private
    V4Block{0xc0000000, 24},  // protocol assignments
    V4Block{0xc0000200, 24},  // documentation
    V4Block{0xc0586300, 24},  // 6to4 relays
    V4Block{0xc0a80000, 16},  // private
    V4Block{0xc6120000, 15},  // benchmarking
    V4Block{0xc6336400, 24},  // documentation
    V4Block{0xcb007100, 24},  // documentation
    V4Block{0xe0000000, 3},   // multicast, reserved, broadcast
};

// Of the one block of IPv6 that is given out, 2000::/3, those that lead elsewhere.
constexpr std::array kSpecialV6 = {
    "2001::/23",      // protocol assignments: Teredo, benchmarking, ORCHID
    "2001:db8::/32",  // documentation
    "2002::/16",      // 6to4
    "3fff::/20",      // documentation
};

bool is_public(const ip::address_v4& address) {
  const std::uint32_t bits = address.to_uint();
  return std::ranges::none_of(kSpecialV4, [bits](const V4Block& block) {
    return bits >> (32 - block.bits) == block.address >> (32 - block.bits);
  });
}

bool within(const ip::address_v6& address, const char* block) {
  const auto network = ip::make_network_v6(block);
  return ip::network_v6(address, network.prefix_length()).network() == network.network();
}

bool is_public(const ip::address_v6& address) {
  if (address.is_v4_mapped()) return is_public(ip::make_address_v4(ip::v4_mapped, address));
  return within(address, "2000::/3") &&
         std::ranges::none_of(kSpecialV6, [&](const char* block) { return within(address, block); });
}

}  // namespace

bool is_public_address(std::string_view text) {
  boost::system::error_code ec;
  const ip::address address = ip::make_address(text, ec);
  if (ec) return false;
  return address.is_v4() ? is_public(address.to_v4()) : is_public(address.to_v6());
}

Result<void> check_url(const std::string& url) {
  const auto address = parse_client_url(url);
  if (address && address->unix_path.empty()) return {};
  return fail(
      ErrorCode::kInvalidRequest,
      "must be a URL such as https://example.com/hook: https:// or http://, a host, no user or password");
}

Result<void> check_public_url(const std::string& url) {
  if (auto checked = check_url(url); !checked) return checked;
  const std::string host = parse_client_url(url)->host;
  boost::system::error_code ec;
  ip::make_address(host, ec);
  if (!ec && !is_public_address(host)) {
    return fail(ErrorCode::kInvalidRequest, "leads to an address that is not public");
  }
  return {};
}

}  // namespace turnpike::net
