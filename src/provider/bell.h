// Wakes one coroutine from any thread. What is rung while it does not wait is not lost.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>

#include "base/time.h"

namespace turnpike::provider {

class Bell : public std::enable_shared_from_this<Bell> {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `executor`: of the coroutine that waits; one thread.
  explicit Bell(const boost::asio::any_io_executor& executor);
  // Thread-safe.
  void ring();
  // Until it is rung, or `until`, or the coroutine is cancelled, which has to be asked for afterwards. Where
  // cancellation throws, it throws.
  boost::asio::awaitable<void> wait_until(Time until);
  boost::asio::awaitable<void> wait_for(Duration at_most);

 private:
  boost::asio::steady_timer timer_;
  bool rung_ = false;  // of the executor's thread
};

}  // namespace turnpike::provider
