// What the listeners and connections of one server share. Inside net only.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "net/server.h"
#include "net/task_group.h"
#include "net/tls.h"

namespace turnpike::net {

class Connection;
using SteadyTime = std::chrono::steady_clock::time_point;

// How often deadlines are looked at: timers armed and cancelled for each request would cost more than they
// give.
constexpr std::chrono::milliseconds kSweepEvery{250};
// Beyond connections_max, so many at once are told 503; the rest are closed without a word.
constexpr std::size_t kRejectedMax = 64;
// The operator gets in when the public side is full.
constexpr std::size_t kControlConnectionsExtra = 64;

// One io thread's part. Touched on that thread only.
struct IoLoop {
  explicit IoLoop(boost::asio::io_context& on) : context(on) {}

  boost::asio::io_context& context;
  std::list<Connection*> connections;  // each takes itself out when it ends
  SteadyTime now;    // as of the last sweep: at most kSweepEvery old, unless the thread is busy
  std::string date;  // the Date header's value, as of the last sweep

  void tick();   // refreshes now and date
  void sweep();  // tick, and cut every connection whose deadline has passed
};

struct ServerCore {
  explicit ServerCore(ServerOptions with) : options(std::move(with)) {}

  const ServerOptions options;
  Handler handler;
  BodyRules body_rules;
  ErrorRenderer render_error;
  std::optional<TlsContext> tls;  // of the TCP listeners
  std::vector<std::unique_ptr<IoLoop>> loops;

  std::atomic<bool> stopping = false;
  std::atomic<std::size_t> open = 0;  // connections
  std::atomic<std::size_t> rejected = 0;
  std::mutex mutex;
  std::condition_variable none_open;  // with mutex

  TaskGroup listeners{options.on_error};
  TaskGroup connections{options.on_error};

  void report(std::string_view what) const {
    if (options.on_error) options.on_error(what);
  }
};

}  // namespace turnpike::net
