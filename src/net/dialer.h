// Opens a client's connection: name, address, socket, TLS; bounded in time. Inside net only.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>

#include "net/channel.h"
#include "net/client_address.h"

namespace turnpike::net {

using SteadyTime = std::chrono::steady_clock::time_point;

// Cancels a channel's waits once a moment has passed. One at a time; on the executor only.
class Deadline {
 public:
  explicit Deadline(const boost::asio::any_io_executor& executor);
  ~Deadline();  // disarmed
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  void arm(SteadyTime when, Channel& channel);
  void disarm();
  bool passed() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// kUpstreamTimeout, kUpstreamError: with the upstream's name and the cause. `public_only`: what the name was
// looked up to must be public; the very addresses that were checked are connected to.
boost::asio::awaitable<Result<std::unique_ptr<Channel>>> dial(ClientAddress address, const TlsContext& tls,
                                                              SteadyTime until, bool public_only);

std::unexpected<Error> upstream_timeout(const ClientAddress& address, std::string doing);
std::unexpected<Error> upstream_error(const ClientAddress& address, std::string cause, bool retryable);

}  // namespace turnpike::net
