// Where a client request goes. Inside net only.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace turnpike::net {

struct ClientAddress {
  bool tls = false;
  std::string unix_path;  // instead of host and port
  std::string host;       // without brackets
  std::uint16_t port = 0;
  std::string host_header;  // "api.example.com", "localhost:11434", "[::1]:80"
  std::string target;       // "/v1/models?x=1"

  // Connections with the same name are interchangeable; also what messages call the upstream (no path: it may
  // hold a secret).
  std::string name() const;
};

// kInvalidRequest: what is wrong with the URL (without repeating it).
Result<ClientAddress> parse_client_url(const std::string& url);

}  // namespace turnpike::net
