// A client whose answers a test writes down by their address, and that remembers what it was asked.
#pragma once

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "net/client.h"

namespace turnpike::support {

struct ScriptedAnswer {
  int status = 200;
  net::Headers headers{};
  std::deque<std::string> pieces{};  // of the body, as they are read
  std::optional<Error> error{};      // instead of an answer, or after the pieces where there are some
  bool hangs = false;                // after the pieces: until it is cancelled
};

inline Error client_error(ErrorCode code, std::string message, bool retryable) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  error.retryable = retryable;
  return error;
}

class ScriptedClient final : public net::Client {
 public:
  // The answers to an address, one after the other; the last of them stays.
  void put(const std::string& url, std::vector<ScriptedAnswer> answers) {
    const std::scoped_lock lock(mutex_);
    answers_[url] = {answers.begin(), answers.end()};
  }
  std::vector<net::ClientRequest> asked() const {
    const std::scoped_lock lock(mutex_);
    return asked_;
  }
  std::size_t pieces_read() const {
    const std::scoped_lock lock(mutex_);
    return pieces_read_;
  }

  boost::asio::awaitable<Result<net::ClientResponse>> send(net::ClientRequest) override {
    co_return fail(ErrorCode::kUpstreamError, "this client opens streams only");
  }
  boost::asio::awaitable<Result<net::ClientResponse>> stream(net::ClientRequest,
                                                             std::function<bool(std::string_view)>) override {
    co_return fail(ErrorCode::kUpstreamError, "this client opens streams only");
  }
  boost::asio::awaitable<Result<std::unique_ptr<net::ClientStream>>> open(net::ClientRequest request,
                                                                          Duration) override {
    auto answer = next(std::move(request));
    if (answer.error && answer.pieces.empty()) co_return std::unexpected(std::move(*answer.error));
    co_return std::make_unique<Stream>(*this, std::move(answer));
  }

 private:
  class Stream final : public net::ClientStream {
   public:
    Stream(ScriptedClient& client, ScriptedAnswer answer) : client_(client), answer_(std::move(answer)) {}
    int status() const override { return answer_.status; }
    const net::Headers& headers() const override { return answer_.headers; }
    boost::asio::awaitable<Result<std::string>> read(Duration) override {
      if (!answer_.pieces.empty()) {
        {
          const std::scoped_lock lock(client_.mutex_);
          ++client_.pieces_read_;
        }
        std::string piece = std::move(answer_.pieces.front());
        answer_.pieces.pop_front();
        co_return piece;
      }
      if (answer_.hangs) {
        const auto executor = co_await boost::asio::this_coro::executor;
        boost::asio::steady_timer timer(executor, std::chrono::seconds(60));
        co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
        co_return std::unexpected(client_error(ErrorCode::kUpstreamError, "broken off", true));
      }
      if (answer_.error) co_return std::unexpected(*answer_.error);
      co_return std::string();
    }

   private:
    ScriptedClient& client_;
    ScriptedAnswer answer_;
  };

  ScriptedAnswer next(net::ClientRequest request) {
    const std::scoped_lock lock(mutex_);
    auto& answers = answers_[request.url];
    asked_.push_back(std::move(request));
    if (answers.empty()) return {.error = client_error(ErrorCode::kUpstreamError, "nobody is there", true)};
    ScriptedAnswer answer = answers.front();
    if (answers.size() > 1) answers.pop_front();
    return answer;
  }

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::map<std::string, std::deque<ScriptedAnswer>> answers_;
  std::vector<net::ClientRequest> asked_;
  std::size_t pieces_read_ = 0;
};

}  // namespace turnpike::support
