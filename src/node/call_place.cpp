#include "node/call_place.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <utility>

namespace turnpike::node {
namespace asio = boost::asio;

void CallPlace::wake(Waiting& waiting) {
  if (!waiting.resume) return;
  asio::post(waiting.executor, [resume = std::exchange(waiting.resume, nullptr)]() mutable { resume(true); });
}

void CallPlace::wake(Waiting& waiting, Deliveries& later) {
  if (waiting.resume) later.add(waiting.executor, std::exchange(waiting.resume, nullptr));
}

CallPlace::CallPlace(asio::any_io_executor client, std::shared_ptr<const provider::WireCall> wire,
                     const Clock& clock, Raise raise, std::shared_ptr<CachedCall> cached,
                     std::shared_ptr<CallTrail> trail)
    : client_(std::move(client)),
      wire_(std::move(wire)),
      clock_(clock),
      raise_(std::move(raise)),
      cached_(std::move(cached)),
      trail_(std::move(trail)) {
  times_.admitted = clock.now().mono;
  if (trail_) trail_->admitted(times_.admitted);
}

// --- The try's side

std::string CallPlace::try_begins(const engine::StartTry& start) {
  const engine::JobRow& row = start.row;
  try_id_ = start.try_id;
  output_held_ = row.hold ? row.hold->amounts[policy::Meter::kOutputTokens] : 0;
  output_limit_ = start.output_limit;
  const std::scoped_lock lock(mutex_);
  try_begun_ = clock_.now().mono;
  interrupted_ = false;  // that was the try before
  if (times_.started == Monotonic{}) times_.started = try_begun_;
  serving_.provider = row.provider;
  serving_.model = row.model;
  serving_.model_version = row.model_version;
  serving_.upstream_model = row.upstream_model;
  serving_.plan = row.plan;
  return trail_ ? trail_->try_begins(row, try_begun_) : std::string();
}

void CallPlace::try_ends(std::string_view failure) {
  const std::scoped_lock lock(mutex_);
  const Monotonic now = clock_.now().mono;
  times_.upstream += now - try_begun_;
  if (trail_) trail_->try_ends(failure, now);
}

void CallPlace::head(int status, std::string content_type) {
  const std::scoped_lock lock(mutex_);
  begun_ = true;
  reply_.status = status;
  reply_.content_type = std::move(content_type);
  times_.first_byte = clock_.now().mono;
  wake(reader_);
}

asio::awaitable<bool> CallPlace::write(std::string bytes) {
  {
    const std::scoped_lock lock(mutex_);
    if (nobody_reads()) co_return false;
    if (bytes_.empty()) {
      bytes_ = std::move(bytes);
    } else {
      bytes_ += bytes;
    }
    wake(reader_);
    if (bytes_.size() < kBytesMax) co_return true;
  }
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto start = [this, &executor](Resume resume) {
    const std::scoped_lock lock(mutex_);
    writer_ = Waiting{.executor = executor, .resume = std::move(resume)};
    if (bytes_.size() < kBytesMax || nobody_reads()) wake(writer_);
  };
  co_await suspend(start);
  const std::scoped_lock lock(mutex_);
  co_return !nobody_reads();
}

// An upstream that keeps to the limit that it was sent is never asked for more than that; one that does not
// is held for token by token, as far as there is something to hold.
asio::awaitable<bool> CallPlace::spend(std::int64_t output_tokens) {
  if (output_tokens <= output_held_ || !raise_) co_return true;
  const std::int64_t needed = output_tokens - output_held_;
  std::int64_t step = std::clamp(output_held_, kOutputStep, kOutputStepMax);
  if (output_held_ < output_limit_) step = std::min(step, output_limit_ - output_held_);
  step = std::max(step, needed);
  Result<void> raised;
  for (;;) {
    auto raising = raise_(try_id_, step);
    raised = co_await std::move(raising);
    if (raised || step == needed) break;
    step = std::max(needed, step / 2);
  }
  if (raised) {
    output_held_ += step;
    co_return true;
  }
  if (raised.error().code != ErrorCode::kConflict) {  // else the try is over, and has its end already
    const std::scoped_lock lock(mutex_);
    cut_ = std::move(raised.error());
  }
  co_return false;
}

bool CallPlace::begun() const {
  const std::scoped_lock lock(mutex_);
  return begun_;
}

void CallPlace::interrupt() {
  const std::scoped_lock lock(mutex_);
  interrupted_ = true;
  wake(writer_);
}

void CallPlace::put_reply(CallReply reply) {
  const std::scoped_lock lock(mutex_);
  // What the head has said stands.
  if (begun_) {
    reply.status = reply_.status;
    reply.content_type = std::move(reply_.content_type);
  }
  reply_ = std::move(reply);
}

// --- The end

void CallPlace::end(engine::AnswerCall answer, Deliveries& deliveries) {
  const std::scoped_lock lock(mutex_);
  answer_ = std::move(answer);
  wake(reader_, deliveries);
}

void CallPlace::close(Deliveries& deliveries) {
  const std::scoped_lock lock(mutex_);
  closed_ = true;
  wake(reader_, deliveries);
  wake(writer_, deliveries);
}

// --- The client's side

asio::awaitable<bool> CallPlace::begins() {
  auto start = [this](Resume resume) {
    const std::scoped_lock lock(mutex_);
    reader_ = Waiting{.executor = client_, .resume = std::move(resume)};
    if (begun_ || answer_ || closed_) wake(reader_);
  };
  co_await suspend(start);
  const std::scoped_lock lock(mutex_);
  co_return begun_;
}

asio::awaitable<std::string> CallPlace::read() {
  for (;;) {
    {
      const std::scoped_lock lock(mutex_);
      if (!bytes_.empty()) {
        wake(writer_);
        co_return std::exchange(bytes_, std::string());
      }
      if (answer_ || closed_ || left_) co_return std::string();
    }
    auto start = [this](Resume resume) {
      const std::scoped_lock lock(mutex_);
      reader_ = Waiting{.executor = client_, .resume = std::move(resume)};
      if (!bytes_.empty() || answer_ || closed_ || left_) wake(reader_);
    };
    co_await suspend(start);
  }
}

void CallPlace::leave() {
  const std::scoped_lock lock(mutex_);
  left_ = true;
  bytes_ = std::string();
  wake(writer_);
  wake(reader_);
}

std::optional<engine::AnswerCall> CallPlace::take_answer() {
  const std::scoped_lock lock(mutex_);
  if (answer_ && cut_) answer_->error = std::exchange(cut_, std::nullopt);
  return std::exchange(answer_, std::nullopt);
}

CallReply CallPlace::take_reply() {
  const std::scoped_lock lock(mutex_);
  return std::move(reply_);
}

CallReply CallPlace::head() const {
  const std::scoped_lock lock(mutex_);
  return CallReply{.status = reply_.status, .content_type = reply_.content_type};
}

CallServing CallPlace::serving() const {
  const std::scoped_lock lock(mutex_);
  return serving_;
}

CallTimes CallPlace::times() const {
  const std::scoped_lock lock(mutex_);
  return times_;
}

}  // namespace turnpike::node
