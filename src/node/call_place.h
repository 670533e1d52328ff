// One call on its way, between the client that waits and the try that answers: what was sent, what has come
// of the answer, and how it ended. The two may be on different io threads.
//
// Thread-safe. Invariants:
// 1. What waits for the client is at most kBytesMax, and one write more: a slow client stops its own try at
//    its next write, and with it the upstream; nobody else waits.
// 2. Each side waits for one thing at a time, and is resumed once, on its own executor, from within no lock.
// 3. Once the answer is there or the place is closed, nothing waits here and nothing will.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "node/call_trail.h"
#include "node/deliveries.h"
#include "node/node.h"
#include "provider/provider.h"

namespace turnpike::node {

class CachedCall;

class CallPlace final : public provider::ReplySink {
 public:
  static constexpr std::size_t kBytesMax = 64 * 1024;
  static constexpr std::int64_t kOutputStep = 256;  // tokens of one answer
  static constexpr std::int64_t kOutputStepMax = 4096;

  // Holds more output for a try that streams, and waits until that may be used. Errors: those of
  // Engine::raise, kUnavailable (the node stops).
  using Raise = std::function<boost::asio::awaitable<Result<void>>(TryId try_id, std::int64_t output_tokens)>;

  // `client`: the executor of who waits. `raise`: null where all that may be used is held from the start.
  // `cached`: the answer may be given again; null: it may not. `trail`: told of each try; null: the call
  // belongs to no trace.
  CallPlace(boost::asio::any_io_executor client, std::shared_ptr<const provider::WireCall> wire,
            const Clock& clock, Raise raise = nullptr, std::shared_ptr<CachedCall> cached = nullptr,
            std::shared_ptr<CallTrail> trail = nullptr);

  const boost::asio::any_io_executor& executor() const { return client_; }
  const std::shared_ptr<const provider::WireCall>& wire() const { return wire_; }
  const std::shared_ptr<CachedCall>& cached() const { return cached_; }

  // --- The try's side. One try at a time.
  // The `traceparent` to send; empty: none.
  std::string try_begins(const engine::StartTry& start);
  void try_ends(std::string_view failure);  // as CallTrail::try_ends
  void head(int status, std::string content_type) override;
  boost::asio::awaitable<bool> write(std::string bytes) override;
  // Holds in steps: at first kOutputStep, then as much again as was held, at most kOutputStepMax.
  boost::asio::awaitable<bool> spend(std::int64_t output_tokens) override;
  // The client has begun to get the answer.
  bool begun() const;
  // The try is to stop: a write that waits for room returns. From any thread.
  void interrupt();
  // What the client gets beside the row; before the try is settled.
  void put_reply(CallReply reply);

  // --- The end
  void end(engine::AnswerCall answer, Deliveries& deliveries);
  // The node has stopped, and no answer will come.
  void close(Deliveries& deliveries);

  // --- The client's side; one coroutine
  // True: the answer has begun to come. False: it is there, or none will come.
  boost::asio::awaitable<bool> begins();
  // What has come; waits for some. Empty: no more will.
  boost::asio::awaitable<std::string> read();
  // Nobody reads any more: the try is told by its next write, and a read() that waits returns. On any thread.
  void leave();
  // An answer that was cut has the error that cut it.
  std::optional<engine::AnswerCall> take_answer();
  CallReply take_reply();
  CallReply head() const;  // status and type alone, of an answer that has begun
  CallServing serving() const;
  CallTimes times() const;

 private:
  struct Waiting {
    boost::asio::any_io_executor executor;
    Resume resume;  // empty: nobody waits
  };
  void wake(Waiting& waiting);                            // under mutex_
  static void wake(Waiting& waiting, Deliveries& later);  // likewise
  bool nobody_reads() const { return left_ || interrupted_ || closed_; }

  const boost::asio::any_io_executor client_;
  const std::shared_ptr<const provider::WireCall> wire_;
  const Clock& clock_;  // outlives the node's calls
  const Raise raise_;
  const std::shared_ptr<CachedCall> cached_;
  const std::shared_ptr<CallTrail> trail_;

  // Of the try alone:
  TryId try_id_{};
  std::int64_t output_held_ = 0;   // tokens
  std::int64_t output_limit_ = 0;  // as it was sent upstream

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  Waiting reader_, writer_;
  std::string bytes_;  // written and not read
  bool begun_ = false;
  bool left_ = false;
  bool interrupted_ = false;
  bool closed_ = false;
  std::optional<Error> cut_;
  std::optional<engine::AnswerCall> answer_;
  CallReply reply_;
  CallServing serving_;
  CallTimes times_;
  Monotonic try_begun_{};
};

}  // namespace turnpike::node
