// A node for tests: a real data folder, a policy of a few lines, io threads, and providers that do what the
// input says.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "net/io_threads.h"
#include "net/task_group.h"
#include "node/node.h"
#include "support/temp_folder.h"

namespace turnpike::node::testing {

using turnpike::support::TempFolder;

// Three plans (basic: 2 at once, team: 4, free: none at once), a pool of 8 slots, tasks `noop` and `paint`;
// `paint`'s provider gets a work folder. `extra` goes below the plan `basic`.
policy::PolicyPtr sample_policy(const std::string& basic_concurrency = "2",
                                const std::string& expire = "never");

// What the providers of a test have seen and wait for. An input {"do": WORD} is done as follows:
//   ok (and none)   completes with {"ok":true}
//   hold            waits for release(), or is cancelled
//   fail, reject    a transient failure; invalid input
//   throw           throws
//   file            completes with a file "note.txt" that says {"text": ...}
//   large           completes with an output over the limit
//   progress        reports 50 percent, then holds
class Stage {
 public:
  void release();  // lets all that hold, now or later, go on
  bool released() const;
  void note(const provider::Request& request);
  // Waits until so many tries have begun; false after ten seconds.
  bool wait_begun(std::size_t count);
  std::vector<provider::Request> begun() const;
  void on_release(std::function<void()> wake);

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<provider::Request> begun_;
  std::vector<std::function<void()>> wakes_;
  bool released_ = false;
};

std::unique_ptr<provider::Provider> make_stage_provider(std::shared_ptr<Stage> stage);

// The outside of a node.
class World {
 public:
  World();
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Options options();                  // for start(): data folder, policy, stage, a fatal that is noted
  void start() { start(options()); }  // expects success
  void start(Options options);
  void crash() { node.reset(); }  // as abrupt as a destructor can be
  Node& operator*() { return *node; }
  Node* operator->() { return node.get(); }

  // Runs it on an io thread and waits for its result, at most half a minute.
  template <typename T>
  T run(boost::asio::awaitable<T> task);
  // Starts it and leaves it; the future may never be ready.
  template <typename T>
  std::future<T> begin(boost::asio::awaitable<T> task);

  AccountId account(const std::string& user, const std::string& plan = "basic");
  SubmitRequest request(AccountId account, const std::string& input = R"({"do":"ok"})",
                        const std::string& task = "noop");
  // Expects to be accepted.
  JobView submit(AccountId account, const std::string& input = R"({"do":"ok"})",
                 const std::string& task = "noop");
  JobView ended(JobId id);  // waits for its end, at most ten seconds
  JobView job(JobId id);
  bool wait_all_ended();  // nothing waits and nothing runs

  TempFolder folder;
  policy::PolicyPtr policy = sample_policy();
  std::shared_ptr<Stage> stage = std::make_shared<Stage>();
  std::promise<std::string> fatal;
  net::IoThreads threads{2};
  net::TaskGroup tasks;
  std::unique_ptr<Node> node;

 private:
  template <typename T>
  static boost::asio::awaitable<void> fulfil(boost::asio::awaitable<T> task,
                                             std::shared_ptr<std::promise<T>> promise);
  std::size_t turn_ = 0;
  std::atomic<bool> fatal_told_ = false;
};

template <typename T>
boost::asio::awaitable<void> World::fulfil(boost::asio::awaitable<T> task,
                                           std::shared_ptr<std::promise<T>> promise) {
  T value = co_await std::move(task);
  promise->set_value(std::move(value));
}

template <typename T>
std::future<T> World::begin(boost::asio::awaitable<T> task) {
  auto promise = std::make_shared<std::promise<T>>();
  auto future = promise->get_future();
  tasks.spawn(threads.context(turn_++ % threads.size()).get_executor(),
              fulfil(std::move(task), std::move(promise)));
  return future;
}

template <typename T>
T World::run(boost::asio::awaitable<T> task) {
  auto future = begin(std::move(task));
  if (future.wait_for(std::chrono::seconds(30)) != std::future_status::ready) {
    throw std::runtime_error("an awaitable did not end within half a minute");
  }
  return future.get();
}

}  // namespace turnpike::node::testing
