#include "provider/bell.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace turnpike::provider {

namespace asio = boost::asio;

Bell::Bell(const asio::any_io_executor& executor) : timer_(executor) {}

void Bell::ring() {
  asio::post(timer_.get_executor(), [self = shared_from_this()] {
    self->rung_ = true;
    self->timer_.cancel();
  });
}

asio::awaitable<void> Bell::wait_until(Time until) {
  if (std::exchange(rung_, false)) co_return;
  timer_.expires_at(until);
  co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
  rung_ = false;
}

asio::awaitable<void> Bell::wait_for(Duration at_most) {
  return wait_until(std::chrono::steady_clock::now() + at_most);
}

}  // namespace turnpike::provider
