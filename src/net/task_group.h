// A gate for coroutines: work is spawned through it, and stop() refuses new work, cancels what runs, and
// waits for it. Nothing is ever detached. Thread-safe.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <string_view>

#include "base/time.h"

namespace turnpike::net {

class TaskGroup {
 public:
  // `on_exception`: told of anything a task throws (a bug): it is contained and the group goes on.
  explicit TaskGroup(std::function<void(std::string_view what)> on_exception);
  ~TaskGroup();  // stop() must have been called, or nothing spawned

  // Cancels one task: terminal cancellation, delivered on the task's own executor. Copyable; safe after the
  // end.
  class Handle {
   public:
    Handle() = default;
    void cancel() const;

   private:
    friend class TaskGroup;
    struct State;
    std::shared_ptr<State> state_;
  };

  // Starts `task` on `executor`. Returns an empty handle (and the task never runs) once stop() was called.
  Handle spawn(boost::asio::any_io_executor executor, boost::asio::awaitable<void> task);
  std::size_t running() const;
  // Refuses new work, cancels all, and waits until all have ended or `timeout` has passed. True: all ended.
  // Call it from no thread that runs a task.
  bool stop(Duration timeout);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace turnpike::net
