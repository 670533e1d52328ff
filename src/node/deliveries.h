// How other threads reach an io thread: actions are gathered by executor, and each executor is woken once for
// all of its own.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>
#include <utility>
#include <vector>

namespace turnpike::node {

// Resumes what waits: true when what it waited for has come, false when it never will.
using Resume = std::move_only_function<void(bool)>;

// Not thread-safe.
class Deliveries {
 public:
  void add(const boost::asio::any_io_executor& executor, Resume action);
  // Hands everything over, with `done` as the argument: one post for each executor, actions in the order they
  // came.
  void flush(bool done);
  bool empty() const { return groups_.empty(); }

 private:
  struct Group {
    boost::asio::any_io_executor executor;
    std::vector<Resume> actions;
  };
  std::vector<Group> groups_;  // few: one for each io thread
};

// Suspends the coroutine. `start(Resume)` leaves the Resume where somebody will call it, once, from the
// coroutine's own executor and never from within start() itself.
template <typename Start>
boost::asio::awaitable<bool> suspend(Start start) {
  auto initiate = [](auto handler, Start begin) { begin(Resume(std::move(handler))); };
  co_return co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void(bool)>(
      std::move(initiate), boost::asio::use_awaitable, std::move(start));
}

}  // namespace turnpike::node
