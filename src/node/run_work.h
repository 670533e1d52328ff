// Runs that are to go on, or whose jobs are to be cancelled: each once, in order, looked at by a bounded
// number of workers, however many runs a restart finds. Thread-safe.
#pragma once

#include <compare>
#include <cstddef>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "base/ids.h"
#include "base/time.h"

namespace turnpike::node {

class RunWork {
 public:
  static constexpr std::size_t kWorkersMax = 8;

  enum class Kind : std::uint8_t { kContinue, kCancelJobs };
  struct Item {
    RunId run;
    Kind kind{};
    friend auto operator<=>(const Item&, const Item&) = default;
  };

  // True: the caller is to start a worker, which take()s until there is nothing.
  bool add(Item item);
  // Likewise, but not before `at`: due() tells of it.
  void add_later(Item item, Monotonic at);
  // What was put off until now stands in line; how many workers are to be started.
  std::size_t due(Monotonic now);
  // nullopt: the worker is to end.
  std::optional<Item> take();

 private:
  bool put(Item item);  // with the mutex

  std::mutex mutex_;
  std::deque<Item> line_;
  std::set<Item> waiting_;  // what is in line
  std::multimap<Monotonic, Item> later_;
  std::size_t workers_ = 0;
};

}  // namespace turnpike::node
