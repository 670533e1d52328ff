// A few threads for work that blocks: reads of the journal, hashing, file work. Nothing that blocks runs on
// an io thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"
#include "node/deliveries.h"

namespace turnpike::node {

class Readers {
 public:
  using Work = std::move_only_function<void()>;

  // `waiting_max`: requests that may wait; beyond, run() refuses.
  Readers(std::size_t threads, std::size_t waiting_max);
  ~Readers();  // stop()
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

  // Runs `work` on one of the threads and comes back to the caller's executor. kUnavailable: too much waits,
  // or the threads have stopped; `work` was not run.
  boost::asio::awaitable<Result<void>> run(Work work);
  // For the node's own work, bounded by what asks for it (slots of pools, one refill at a time for each
  // queue): refused only when the threads have stopped. It goes before requests.
  boost::asio::awaitable<Result<void>> run_own(Work work);
  void post_own(Work work);
  // Ends the threads once what runs has ended; what waits is refused. Thread-safe, idempotent.
  void stop();

 private:
  struct Request {
    Work work;
    Resume resume;  // empty: nobody waits
    boost::asio::any_io_executor executor;
  };

  void work_loop();
  boost::asio::awaitable<Result<void>> run_in(std::deque<Request>& queue, std::size_t waiting_max, Work work);
  void add(std::deque<Request>& queue, std::size_t waiting_max, Request request);

  const std::size_t waiting_max_;
  std::mutex mutex_;
  std::condition_variable ready_;
  // Guarded by mutex_:
  std::deque<Request> own_;
  std::deque<Request> requests_;
  bool stopped_ = false;

  std::vector<std::thread> threads_;
};

}  // namespace turnpike::node
