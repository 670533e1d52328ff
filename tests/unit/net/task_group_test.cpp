#include "net/task_group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "net/io_threads.h"

namespace turnpike::net {
namespace {

namespace asio = boost::asio;
using std::chrono::seconds;

// Sets its promise when the coroutine that owns it is gone.
struct Tell {
  std::promise<void> gone;
  ~Tell() { gone.set_value(); }
};

asio::awaitable<void> sleep_long(std::shared_ptr<Tell> tell, std::promise<void>* began) {
  asio::steady_timer timer(co_await asio::this_coro::executor, seconds(600));
  if (began != nullptr) began->set_value();
  co_await timer.async_wait(asio::use_awaitable);
  ADD_FAILURE() << "slept to the end";
  tell.reset();
}

asio::awaitable<void> count_up(std::atomic<int>* count) {
  ++*count;
  co_return;
}

asio::awaitable<void> fail_badly() {
  throw std::runtime_error("a bug");
  co_return;
}

struct Log {
  std::mutex mutex;
  std::vector<std::string> lines;
  std::promise<void> first;
  void add(std::string_view what) {
    const std::scoped_lock lock(mutex);
    lines.emplace_back(what);
    if (lines.size() == 1) first.set_value();
  }
};

TEST(TaskGroup, RunsWhatIsSpawnedAndWaitsForIt) {
  IoThreads threads(2);
  std::atomic<int> count = 0;
  TaskGroup group({});
  for (int i = 0; i < 1000; ++i) {
    group.spawn(threads.context(static_cast<std::size_t>(i) % 2).get_executor(), count_up(&count));
  }
  EXPECT_TRUE(group.stop(seconds(20)));
  EXPECT_EQ(count, 1000);
  EXPECT_EQ(group.running(), 0);
}

TEST(TaskGroup, RefusesWorkOnceStopped) {
  IoThreads threads(1);
  std::atomic<int> count = 0;
  TaskGroup group({});
  EXPECT_TRUE(group.stop(seconds(20)));
  const auto handle = group.spawn(threads.context(0).get_executor(), count_up(&count));
  handle.cancel();  // an empty handle does nothing
  EXPECT_EQ(group.running(), 0);
  EXPECT_EQ(count, 0);
}

TEST(TaskGroup, StopCancelsWhatRunsAndDestroysItBeforeItReturns) {
  IoThreads threads(1);
  std::atomic<int> reported = 0;
  TaskGroup group([&reported](std::string_view) { ++reported; });
  auto tell = std::make_shared<Tell>();
  auto gone = tell->gone.get_future();
  std::promise<void> began;
  group.spawn(threads.context(0).get_executor(), sleep_long(std::move(tell), &began));
  began.get_future().get();
  EXPECT_EQ(group.running(), 1);
  EXPECT_TRUE(group.stop(seconds(20)));
  EXPECT_EQ(gone.wait_for(seconds(0)), std::future_status::ready);
  EXPECT_EQ(reported, 0) << "a cancelled task is no failure";
}

TEST(TaskGroup, AHandleCancelsItsTaskAlone) {
  IoThreads threads(1);
  TaskGroup group({});
  auto first = std::make_shared<Tell>();
  auto first_gone = first->gone.get_future();
  auto second = std::make_shared<Tell>();
  auto second_gone = second->gone.get_future();
  std::promise<void> second_began;
  const auto handle = group.spawn(threads.context(0).get_executor(), sleep_long(std::move(first), nullptr));
  group.spawn(threads.context(0).get_executor(), sleep_long(std::move(second), &second_began));
  second_began.get_future().get();
  handle.cancel();
  EXPECT_EQ(first_gone.wait_for(seconds(20)), std::future_status::ready);
  EXPECT_EQ(second_gone.wait_for(seconds(0)), std::future_status::timeout);
  EXPECT_TRUE(group.stop(seconds(20)));
  handle.cancel();  // after the end: nothing
}

TEST(TaskGroup, ContainsWhatATaskThrows) {
  IoThreads threads(1);
  auto log = std::make_shared<Log>();
  TaskGroup group([log](std::string_view what) { log->add(what); });
  group.spawn(threads.context(0).get_executor(), fail_badly());
  log->first.get_future().get();
  std::promise<void> began;
  group.spawn(threads.context(0).get_executor(), sleep_long(std::make_shared<Tell>(), &began));
  began.get_future().get();
  EXPECT_TRUE(group.stop(seconds(20)));
  EXPECT_EQ(log->lines, std::vector<std::string>{"a bug"});
}

TEST(TaskGroup, StopSaysWhenATaskDoesNotEnd) {
  IoThreads threads(1);
  std::promise<void> release;
  std::promise<void> blocked;
  TaskGroup group({});
  asio::post(threads.context(0), [&] {
    blocked.set_value();
    release.get_future().get();
  });
  blocked.get_future().get();
  std::atomic<int> count = 0;
  group.spawn(threads.context(0).get_executor(), count_up(&count));
  EXPECT_FALSE(group.stop(std::chrono::milliseconds(1)));
  release.set_value();
  EXPECT_TRUE(group.stop(seconds(20)));
  EXPECT_EQ(count, 1);
}

TEST(TaskGroup, TasksThatNeverRanAreDestroyedWithTheirContext) {
  TaskGroup group({});
  auto tell = std::make_shared<Tell>();
  auto gone = tell->gone.get_future();
  {
    asio::io_context never_run;
    group.spawn(never_run.get_executor(), sleep_long(std::move(tell), nullptr));
    EXPECT_EQ(group.running(), 1);
  }
  EXPECT_EQ(gone.wait_for(seconds(0)), std::future_status::ready);
  EXPECT_EQ(group.running(), 0);
}

TEST(IoThreads, StopEndsThreadsWithWorkLeftUndone) {
  auto threads = std::make_unique<IoThreads>(3);
  EXPECT_EQ(threads->size(), 3);
  auto timer = std::make_unique<asio::steady_timer>(threads->context(1), seconds(600));
  timer->async_wait([](const boost::system::error_code&) { ADD_FAILURE() << "ran after stop"; });
  threads->stop();
  threads->stop();  // again: nothing
  timer.reset();
}

}  // namespace
}  // namespace turnpike::net
