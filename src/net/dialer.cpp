#include "net/dialer.h"

#include <fmt/format.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <utility>
#include <vector>

#include "net/public_address.h"

namespace turnpike::net {

namespace asio = boost::asio;
using boost::system::error_code;
using Endpoint = asio::generic::stream_protocol::endpoint;

namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kEndpointsMax = 8;

// A look-up runs in a thread of Asio's and cannot be interrupted: whoever waits leaves, and it ends by
// itself.
struct Lookup {
  explicit Lookup(const asio::any_io_executor& executor) : resolver(executor), done(executor) {}

  asio::ip::tcp::resolver resolver;
  asio::steady_timer done;  // expires when the wait is over; cancelled when the answer is there
  bool answered = false;
  error_code error;
  std::vector<Endpoint> endpoints;
};

asio::awaitable<Result<std::vector<Endpoint>>> resolve(const ClientAddress& address, SteadyTime until) {
  std::vector<Endpoint> endpoints;
  if (!address.unix_path.empty()) {
    if (address.unix_path.size() >= sizeof(sockaddr_un::sun_path)) {
      co_return fail(ErrorCode::kInvalidRequest, "the path of the unix socket is too long");
    }
    endpoints.emplace_back(asio::local::stream_protocol::endpoint(address.unix_path));
    co_return endpoints;
  }
  error_code ec;
  const auto literal = asio::ip::make_address(address.host, ec);
  if (!ec) {
    endpoints.emplace_back(asio::ip::tcp::endpoint(literal, address.port));
    co_return endpoints;
  }
  const auto executor = co_await asio::this_coro::executor;
  auto lookup = std::make_shared<Lookup>(executor);
  lookup->done.expires_at(until);
  lookup->resolver.async_resolve(
      address.host, std::to_string(address.port), asio::ip::tcp::resolver::numeric_service,
      [lookup](const error_code& failed, const asio::ip::tcp::resolver::results_type& results) {
        lookup->answered = true;
        lookup->error = failed;
        for (const auto& result : results) {
          if (lookup->endpoints.size() < kEndpointsMax) lookup->endpoints.emplace_back(result.endpoint());
        }
        lookup->done.cancel();
      });
  co_await lookup->done.async_wait(kAsTuple);
  if (!lookup->answered) {
    lookup->resolver.cancel();
    co_return upstream_timeout(address, "looking up its name");
  }
  if (lookup->error || lookup->endpoints.empty()) {
    co_return upstream_error(address, "its name could not be looked up: " + lookup->error.message(), true);
  }
  co_return std::move(lookup->endpoints);
}

bool is_public(const Endpoint& endpoint) {
  const int family = endpoint.protocol().family();
  if (family != AF_INET && family != AF_INET6) return false;
  asio::ip::tcp::endpoint address;
  address.resize(endpoint.size());
  std::memcpy(address.data(), endpoint.data(), endpoint.size());
  return is_public_address(address.address().to_string());
}

asio::awaitable<Result<std::unique_ptr<Channel>>> connect(const ClientAddress& address,
                                                          const std::vector<Endpoint>& endpoints,
                                                          SteadyTime until) {
  const auto executor = co_await asio::this_coro::executor;
  Deadline deadline(executor);
  error_code last;
  for (const Endpoint& endpoint : endpoints) {
    auto channel = std::make_unique<Channel>(Channel::Socket(executor));
    deadline.arm(until, *channel);
    const auto [ec] = co_await channel->socket().async_connect(endpoint, kAsTuple);
    deadline.disarm();
    if (deadline.passed()) co_return upstream_timeout(address, "connecting");
    last = ec ? ec : channel->prepare();
    if (!last) co_return channel;
  }
  co_return upstream_error(address, "cannot connect: " + last.message(), true);
}

}  // namespace

struct Deadline::State {
  explicit State(const asio::any_io_executor& executor) : timer(executor) {}

  // A deadline that is moved on, as one between the pieces of a stream is, leaves the timer alone: it looks
  // again when it fires.
  static void wait(std::shared_ptr<State> state, SteadyTime when);

  asio::steady_timer timer;
  SteadyTime until;
  std::uint64_t round = 0;
  bool waiting = false;
  Channel* channel = nullptr;  // set while armed
  bool passed = false;
};

void Deadline::State::wait(std::shared_ptr<State> state, SteadyTime when) {
  State& self = *state;
  self.waiting = true;
  self.timer.expires_at(when);
  self.timer.async_wait([state = std::move(state), round = ++self.round](const error_code& ec) {
    // A wait that had ended before it was replaced still comes here: it is not the one that counts.
    if (round != state->round) return;
    state->waiting = false;
    if (ec || state->channel == nullptr) return;
    if (std::chrono::steady_clock::now() < state->until) return wait(state, state->until);
    state->passed = true;
    state->channel->cancel();
  });
}

Deadline::Deadline(const asio::any_io_executor& executor) : state_(std::make_shared<State>(executor)) {}

Deadline::~Deadline() {
  disarm();
  state_->timer.cancel();
}

void Deadline::arm(SteadyTime when, Channel& channel) {
  state_->channel = &channel;
  state_->until = when;
  if (!state_->waiting || when < state_->timer.expiry()) State::wait(state_, when);
}

void Deadline::disarm() {
  state_->channel = nullptr;
}

bool Deadline::passed() const {
  return state_->passed;
}

asio::awaitable<Result<std::unique_ptr<Channel>>> dial(ClientAddress address, const TlsContext& tls,
                                                       SteadyTime until, bool public_only) {
  auto endpoints = co_await resolve(address, until);
  if (!endpoints) co_return std::unexpected(endpoints.error());
  if (public_only) {
    std::erase_if(*endpoints, [](const Endpoint& endpoint) { return !is_public(endpoint); });
    if (endpoints->empty())
      co_return upstream_error(address, "it leads to an address that is not public", false);
  }
  auto channel = co_await connect(address, *endpoints, until);
  if (!channel || !address.tls) co_return channel;

  const auto executor = co_await asio::this_coro::executor;
  Deadline deadline(executor);
  Channel& connected = **channel;
  connected.use_tls(tls.open(connected.socket().native_handle()));
  if (!connected.tls()->expect_host(address.host))
    co_return upstream_error(address, "its name cannot be verified", false);
  deadline.arm(until, connected);
  const Io io = co_await connected.handshake(false);
  deadline.disarm();
  if (deadline.passed()) co_return upstream_timeout(address, "the TLS handshake");
  if (io.kind != IoKind::kDone) {
    const bool retryable = !connected.tls()->verification_failed();
    co_return upstream_error(address, "TLS: " + connected.failure(io), retryable);
  }
  co_return channel;
}

std::unexpected<Error> upstream_timeout(const ClientAddress& address, std::string doing) {
  return std::unexpected(
      Error{.code = ErrorCode::kUpstreamTimeout,
            .message = fmt::format("{} did not answer in time ({})", address.name(), doing),
            .param = {},
            .retryable = true,
            .retry_after = {},
            .cause = std::move(doing)});
}

std::unexpected<Error> upstream_error(const ClientAddress& address, std::string cause, bool retryable) {
  return std::unexpected(Error{.code = ErrorCode::kUpstreamError,
                               .message = fmt::format("{}: {}", address.name(), cause),
                               .param = {},
                               .retryable = retryable,
                               .retry_after = {},
                               .cause = std::move(cause)});
}

}  // namespace turnpike::net
