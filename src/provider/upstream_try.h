// What every try over HTTP has in common: its time, its cancellation, and a client that may fail in any way.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <memory>

#include "base/result.h"
#include "net/client.h"
#include "provider/provider.h"

namespace turnpike::provider {

class TryDeadline {
 public:
  explicit TryDeadline(Duration limit) : until_(std::chrono::steady_clock::now() + limit) {}
  bool passed() const { return std::chrono::steady_clock::now() >= until_; }
  // At least 1 ms, so that what is begun at the last moment ends by its own timeout.
  Duration remaining() const;

 private:
  std::chrono::steady_clock::time_point until_;
};

// The trace that the try belongs to goes on in the upstream's, unless the configuration writes that header.
void carry_trace(const Request& request, net::Headers& headers);

// Whether the coroutine has been asked to stop.
boost::asio::awaitable<bool> is_cancelled();

// Runs `exchange` so that its awaits see a cancellation as an error and not as a throw past a connection's
// return, and tells what was cancelled midway, which looks like a broken connection, from what failed. An
// answer that had come is an answer.
boost::asio::awaitable<Outcome> run_exchange(boost::asio::awaitable<Outcome> exchange, Progress progress);

// A client that throws is a bug of ours; a try must still end as a value.
boost::asio::awaitable<Result<net::ClientResponse>> send_request(std::shared_ptr<net::Client> client,
                                                                 net::ClientRequest request);

// Likewise, for an answer that is read as it comes.
boost::asio::awaitable<Result<std::unique_ptr<net::ClientStream>>> open_stream(
    std::shared_ptr<net::Client> client, net::ClientRequest request);
// The rest of an answer that is no stream after all, a refusal's: at most kRefusalBytesMax of it.
constexpr std::size_t kRefusalBytesMax = 256U << 10U;
boost::asio::awaitable<Result<net::ClientResponse>> read_rest(net::ClientStream& stream, Duration silence);

// Why there was no answer to what was sent: what the upstream made of it, and bills for it, is not known.
Failure no_answer(const Error& error);

}  // namespace turnpike::provider
