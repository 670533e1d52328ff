// Requests to a server, one after the other, from a program that does nothing else meanwhile.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/client.h"

namespace turnpike::cli {

class Http {
 public:
  // `base`: what paths are put behind, e.g. "http://127.0.0.1:8080" or "unix:/data/control.sock:".
  explicit Http(std::string base, net::Headers headers = {});
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  Result<net::ClientResponse> send(std::string_view method, std::string_view path, std::string body = {},
                                   net::Headers more = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The server on this data folder, over its control socket: the operator of this machine.
Http control_of(const std::filesystem::path& data);
// Whether a server answers there.
bool server_runs(const std::filesystem::path& data);

// The message of an error answer; the status where it has none.
std::string error_message(const net::ClientResponse& response);

// Where a server writes the address it listens on, e.g. "http://127.0.0.1:8080".
std::filesystem::path address_file(const std::filesystem::path& data);

}  // namespace turnpike::cli
