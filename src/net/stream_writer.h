// The BodyWriter of one streamed answer. Inside net only.
#pragma once

#include <atomic>
#include <functional>

#include "net/http.h"

namespace turnpike::net {

class Connection;

class StreamWriter final : public BodyWriter {
 public:
  StreamWriter(Connection& connection, bool chunked) : connection_(&connection), chunked_(chunked) {}

  boost::asio::awaitable<Result<void>> write(std::string bytes) override;
  bool closed() const override { return closed_.load(std::memory_order_relaxed); }
  void on_close(std::function<void()> callback) override;

  // From the connection, on its io thread:
  void close();  // tells the handler to end
  // The client has left or does not read: what was written may not have reached it.
  void break_off();
  bool broken() const { return broken_; }
  void detach();  // the handler has ended: nothing reaches the connection any more

 private:
  Connection* connection_;
  const bool chunked_;
  bool broken_ = false;
  bool writing_ = false;
  std::atomic<bool> closed_ = false;
  std::function<void()> on_close_;
};

}  // namespace turnpike::net
