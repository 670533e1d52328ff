#include "net/task_group.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>
#include <condition_variable>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "base/check.h"

namespace turnpike::net {

namespace asio = boost::asio;

// Everything but `executor` is touched on the executor only: a cancellation signal is not thread-safe.
struct TaskGroup::Handle::State {
  explicit State(asio::any_io_executor on) : executor(std::move(on)) {}

  const asio::any_io_executor executor;
  asio::cancellation_signal signal;
  bool cancelled = false;
  bool ended = false;
};

struct TaskGroup::Shared {
  std::function<void(std::string_view)> on_exception;
  std::mutex mutex;
  std::condition_variable empty;
  // Guarded by mutex:
  bool stopping = false;
  std::unordered_set<std::shared_ptr<Handle::State>> running;

  void report(const std::exception_ptr& exception, const Handle::State& state) const;
  void leave(const std::shared_ptr<Handle::State>& state);

  // Leaves the group when the task has ended, or when its executor is destroyed before it could.
  class Membership {
   public:
    Membership(std::shared_ptr<Shared> group, std::shared_ptr<Handle::State> state)
        : group_(std::move(group)), state_(std::move(state)) {}
    Membership(Membership&&) noexcept = default;  // leaves group_ empty
    Membership(const Membership&) = delete;
    Membership& operator=(const Membership&) = delete;
    Membership& operator=(Membership&&) = delete;
    ~Membership() {
      if (group_) group_->leave(state_);
    }

   private:
    std::shared_ptr<Shared> group_;
    std::shared_ptr<Handle::State> state_;
  };
};

void TaskGroup::Shared::leave(const std::shared_ptr<Handle::State>& state) {
  const std::scoped_lock lock(mutex);
  running.erase(state);
  if (running.empty()) empty.notify_all();
}

void TaskGroup::Shared::report(const std::exception_ptr& exception, const Handle::State& state) const {
  try {
    std::rethrow_exception(exception);
  } catch (const boost::system::system_error& error) {
    // How a cancelled task unwinds is no bug.
    if (state.cancelled && error.code() == asio::error::operation_aborted) return;
    if (on_exception) on_exception(error.what());
  } catch (const std::exception& error) {
    if (on_exception) on_exception(error.what());
  } catch (...) {
    if (on_exception) on_exception("an exception of unknown type");
  }
}

TaskGroup::TaskGroup(std::function<void(std::string_view what)> on_exception)
    : shared_(std::make_shared<Shared>()) {
  shared_->on_exception = std::move(on_exception);
}

TaskGroup::~TaskGroup() {
  const std::scoped_lock lock(shared_->mutex);
  CHECK(shared_->stopping || shared_->running.empty());
}

void TaskGroup::Handle::cancel() const {
  if (!state_) return;
  asio::post(state_->executor, [state = state_] {
    if (state->ended) return;
    state->cancelled = true;
    state->signal.emit(asio::cancellation_type::terminal);
  });
}

TaskGroup::Handle TaskGroup::spawn(asio::any_io_executor executor, asio::awaitable<void> task) {
  Handle handle;
  auto state = std::make_shared<Handle::State>(executor);
  {
    const std::scoped_lock lock(shared_->mutex);
    if (shared_->stopping) return handle;
    shared_->running.insert(state);
  }
  handle.state_ = state;
  Shared::Membership membership(shared_, state);
  asio::post(executor, [shared = shared_, state, task = std::move(task),
                        membership = std::move(membership)]() mutable {
    if (state->cancelled) {
      state->ended = true;
      return;
    }
    auto finish = [shared, state, membership = std::move(membership)](const std::exception_ptr& exception) {
      state->ended = true;
      if (exception) shared->report(exception, *state);
    };
    asio::co_spawn(state->executor, std::move(task),
                   asio::bind_cancellation_slot(state->signal.slot(), std::move(finish)));
  });
  return handle;
}

std::size_t TaskGroup::running() const {
  const std::scoped_lock lock(shared_->mutex);
  return shared_->running.size();
}

bool TaskGroup::stop(Duration timeout) {
  std::unique_lock lock(shared_->mutex);
  shared_->stopping = true;
  for (const auto& state : shared_->running) {
    Handle handle;
    handle.state_ = state;
    handle.cancel();
  }
  return shared_->empty.wait_for(lock, timeout, [this] { return shared_->running.empty(); });
}

}  // namespace turnpike::net
