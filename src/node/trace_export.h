// Sends spans to the collector of the policy in force (telemetry.otlp), gathered, by OTLP over HTTP.
//
// What is promised:
//   1. add() never waits: a collector that is away costs spans, never a request. What waits is bounded, what
//   does
//      not fit is dropped, and both are counted.
//   2. One request to the collector at a time; one that a later attempt may mend (no answer, 429, 502, 503,
//   504) is
//      sent again, after a while that doubles.
//   3. stop() sends what waits, within kStopMax.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "net/client.h"
#include "net/io_threads.h"
#include "net/task_group.h"
#include "node/otlp.h"
#include "policy/policy.h"

namespace turnpike::node {

class TraceExport {
 public:
  using InForce = std::function<policy::PolicyPtr()>;

  static constexpr std::size_t kWaitingMax = 16'384;  // spans
  static constexpr std::size_t kBatchMax = 512;       // spans of one request
  static constexpr std::uint64_t kAnswerBytesMax = 64U << 10;
  static constexpr std::chrono::seconds kGatherTime{2};  // a span waits at most so long for others
  static constexpr std::chrono::seconds kSendTime{5};    // one request
  static constexpr std::chrono::seconds kAgainFirst{1}, kAgainMax{60};
  static constexpr std::chrono::seconds kStopMax{3};

  // Borrows `threads`; `in_force` is asked until stop().
  TraceExport(InForce in_force, net::IoThreads& threads,
              std::shared_ptr<net::Client> client = net::Client::create());
  ~TraceExport();
  TraceExport(const TraceExport&) = delete;
  TraceExport& operator=(const TraceExport&) = delete;

  // All of them or none; the first span of a trace is worth little without the others. Thread-safe, as all
  // is.
  void add(std::vector<Span> spans);
  std::string metrics_text() const;  // Prometheus text format
  // Call it from no io thread, while the io threads run. What is added afterwards is dropped.
  void stop();

 private:
  enum class Sent : std::uint8_t { kTaken, kRefused, kLater };

  boost::asio::awaitable<void> run();
  boost::asio::awaitable<void> wait(Duration time, bool until_full);
  boost::asio::awaitable<Sent> send(std::vector<Span>& batch, std::shared_ptr<const policy::Policy> policy);
  std::vector<Span> take();
  void put_back(std::vector<Span> batch);
  void wake();  // under mutex_
  void complain(std::string_view why, std::size_t spans);

  const InForce in_force_;
  net::IoThreads& threads_;
  const std::shared_ptr<net::Client> client_;
  std::atomic<std::uint64_t> sent_ = 0, dropped_ = 0, refused_ = 0, failures_ = 0;

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::deque<Span> waiting_;
  std::shared_ptr<boost::asio::steady_timer> timer_;  // what run() waits for; null: it does not
  bool until_full_ = false;                           // that wait ends when a batch is full
  bool running_ = false;                              // run() is under way
  bool stopping_ = false;
  std::condition_variable idle_;
  Monotonic complained_at_{};  // run()'s own

  net::TaskGroup group_;  // last: its task uses all of the above
};

}  // namespace turnpike::node
