#include "provider/upstream_try.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <exception>

#include "provider/upstream_failure.h"

namespace turnpike::provider {

namespace asio = boost::asio;

Duration TryDeadline::remaining() const {
  const auto left = std::chrono::duration_cast<Duration>(until_ - std::chrono::steady_clock::now());
  return std::max<Duration>(left, std::chrono::milliseconds(1));
}

void carry_trace(const Request& request, net::Headers& headers) {
  constexpr const char* kName = "traceparent";
  if (request.traceparent.empty() || net::find_header(headers, kName) != nullptr) return;
  headers.emplace_back(kName, request.traceparent);
}

asio::awaitable<bool> is_cancelled() {
  const auto state = co_await asio::this_coro::cancellation_state;
  co_return state.cancelled() != asio::cancellation_type::none;
}

asio::awaitable<Outcome> run_exchange(asio::awaitable<Outcome> exchange, Progress progress) {
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  Outcome outcome = co_await std::move(exchange);
  const bool cancelled = co_await is_cancelled();
  if (cancelled && std::holds_alternative<Failure>(outcome))
    outcome = Cancelled{.billed = std::get<Failure>(outcome).billed};
  if (progress && std::holds_alternative<Success>(outcome)) progress(100, "answered");
  co_await asio::this_coro::throw_if_cancelled(throws);
  co_return outcome;
}

asio::awaitable<Result<net::ClientResponse>> send_request(std::shared_ptr<net::Client> client,
                                                          net::ClientRequest request) {
  try {
    co_return co_await client->send(std::move(request));
  } catch (const std::exception& problem) {
    auto failed = fail(ErrorCode::kUpstreamError, "the exchange broke off");
    failed.error().cause = problem.what();
    failed.error().retryable = true;
    co_return failed;
  }
}

asio::awaitable<Result<std::unique_ptr<net::ClientStream>>> open_stream(std::shared_ptr<net::Client> client,
                                                                        net::ClientRequest request) {
  try {
    co_return co_await client->open(std::move(request));
  } catch (const std::exception& problem) {
    auto failed = fail(ErrorCode::kUpstreamError, "the exchange broke off");
    failed.error().cause = problem.what();
    failed.error().retryable = true;
    co_return failed;
  }
}

asio::awaitable<Result<net::ClientResponse>> read_rest(net::ClientStream& stream, Duration silence) {
  net::ClientResponse response{.status = stream.status(), .headers = stream.headers(), .body = {}};
  while (response.body.size() < kRefusalBytesMax) {
    const auto bytes = co_await stream.read(silence);
    if (!bytes) co_return std::unexpected(bytes.error());
    if (bytes->empty()) break;
    response.body += *bytes;
  }
  co_return response;
}

Failure no_answer(const Error& error) {
  Failure broken = classify_no_answer(error);
  if (broken.failure != policy::FailureClass::kMisconfigured) broken.billed.reset();
  return broken;
}

}  // namespace turnpike::provider
