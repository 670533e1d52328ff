#include "node/commit_loop.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "base/check.h"
#include "node/log.h"

namespace turnpike::node {
namespace asio = boost::asio;

CommitLoop::CommitLoop(engine::Engine engine, journal::Journal& journal, const Clock& clock,
                       std::uint64_t last_id, CommitListener& listener,
                       std::function<void(std::string_view why)> on_fatal)
    : journal_(journal),
      clock_(clock),
      listener_(listener),
      on_fatal_(std::move(on_fatal)),
      engine_(std::move(engine)),
      ids_(last_id),
      committed_(journal.last_batch()) {
  open_->begin(committed_ + 1);
}

CommitLoop::~CommitLoop() {
  halt();
}

// --- Turns

CommitLoop::Turn::Turn(CommitLoop& loop) : loop_(loop), lock_(loop.mutex_), now_(loop.clock_.now()) {
  loop_.changes_.batch = loop_.open_->number();
  if (!loop_.open_writes()) loop_.open_since_ = now_.mono;
}

// Takes what was changed; what need not wait for it is kept aside, unless the disk is behind.
void CommitLoop::Turn::absorb() {
  if (now_.mono - loop_.open_since_ < kAtOnceMax && !loop_.ended_)
    std::erase_if(loop_.changes_.effects, [this](engine::Effect& effect) { return goes_at_once(effect); });
  loop_.open_->absorb(loop_.changes_);
}

// True: the effect was taken. An answer whose hold is being committed goes with that batch.
bool CommitLoop::Turn::goes_at_once(engine::Effect& effect) {
  if (const auto* start = std::get_if<engine::StartTry>(&effect); start != nullptr && start->at_once) {
    at_once_.push_back(std::move(effect));
    return true;
  }
  const auto* answer = std::get_if<engine::AnswerCall>(&effect);
  if (answer == nullptr || !answer->at_once) return false;
  if (answer->held_in <= loop_.committed_.load(std::memory_order_acquire)) {
    at_once_.push_back(std::move(effect));
    return true;
  }
  OpenBatch& flying = *loop_.flying_;
  if (!loop_.in_flight_ || !flying.writes() || answer->held_in != flying.number()) return false;
  flying.effects().push_back(std::move(effect));
  return true;
}

CommitLoop::Turn::~Turn() {
  absorb();
  const bool writes = loop_.open_has_work();
  const bool wake = loop_.sleeping_ && writes;
  if (wake) loop_.sleeping_ = false;
  lock_.unlock();
  if (wake) loop_.work_.notify_one();
  // A turn may change what wait_until() looks at and leave nothing to commit: a cancelled job's try has
  // stopped.
  if (!writes) loop_.round_.notify_all();
  if (!at_once_.empty()) loop_.listener_.on_decided(at_once_);
}

engine::Batch CommitLoop::Turn::seal() {
  absorb();
  if (loop_.open_writes()) return loop_.open_->number();
  return loop_.open_->number() - 1;  // in flight, or durable
}

bool CommitLoop::Turn::account_pending(AccountId id) const {
  return loop_.open_->has_account(id) || (loop_.in_flight_ && loop_.flying_->has_account(id));
}

bool CommitLoop::Turn::overloaded() const {
  const OpenBatch& flying = *loop_.flying_;
  const std::size_t operations = loop_.open_->operations() + (loop_.in_flight_ ? flying.operations() : 0);
  const std::size_t bytes = loop_.open_->bytes() + (loop_.in_flight_ ? flying.bytes() : 0);
  return operations > kPendingOperationsMax || bytes > kPendingBytesMax;
}

// --- Waiting

asio::awaitable<bool> CommitLoop::committed(engine::Batch batch) {
  if (committed_.load(std::memory_order_acquire) >= batch) co_return true;
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto start = [this, batch, &executor](Resume resume) { wait_for(batch, executor, std::move(resume)); };
  co_return co_await suspend(start);
}

asio::awaitable<bool> CommitLoop::everything_committed() {
  engine::Batch batch = 0;
  {
    Turn turn(*this);
    batch = turn.seal();
  }
  co_return co_await committed(batch);
}

void CommitLoop::wait_for(engine::Batch batch, const asio::any_io_executor& executor, Resume resume) {
  const std::scoped_lock lock(mutex_);
  const bool done = committed_.load(std::memory_order_acquire) >= batch;
  if (done || (ended_ && !failed_)) {
    asio::post(executor, [resume = std::move(resume), done]() mutable { resume(done); });
    return;
  }
  const bool flies = in_flight_ && flying_->writes() && flying_->number() == batch;
  CHECK(flies || open_->number() == batch);
  (flies ? *flying_ : *open_).waiters().add(executor, std::move(resume));
}

bool CommitLoop::wait_until(const std::function<bool(engine::Engine&)>& done, Duration limit) {
  std::unique_lock lock(mutex_);
  return round_.wait_for(lock, limit, [&] { return done(engine_) || ended_; }) && done(engine_);
}

// --- The committer

Result<void> CommitLoop::commit_now() {
  std::unique_lock lock(mutex_);
  if (!open_has_work()) return {};
  changes_.batch = open_->number();
  engine_.close_batch(changes_);
  open_->absorb(changes_);
  std::swap(open_, flying_);
  const bool wrote = flying_->writes();
  open_->begin(flying_->number() + (wrote ? 1 : 0));
  in_flight_ = true;
  lock.unlock();
  const Result<Duration> took = wrote ? write() : Duration{};
  lock.lock();
  if (!took) return std::unexpected(took.error());  // in flight for ever: who waits for it is never answered
  after_commit(wrote, *took, lock);
  return {};
}

void CommitLoop::begin() {
  thread_ = std::thread([this] { run(); });
}

void CommitLoop::run() {
  std::unique_lock lock(mutex_);
  while (!halting_) {
    const Timestamp now = clock_.now();
    advance(now);
    if (open_has_work()) {
      if (!fly(lock)) return;
    } else if (stopping_) {
      break;
    }
    if (now.mono >= upkeep_at_) {
      lock.unlock();
      const Duration next = listener_.upkeep(now);
      lock.lock();
      upkeep_at_ = now.mono + next;
    }
    sleep(lock);
  }
  ended_ = true;
  Deliveries left = std::exchange(open_->waiters(), Deliveries{});
  lock.unlock();
  left.flush(false);
  round_.notify_all();
}

void CommitLoop::advance(Timestamp now) {
  const auto wait = engine_.next_wakeup(now);
  if (!wait || *wait > Duration::zero()) return;
  changes_.batch = open_->number();
  engine_.advance(now, kAdvanceWorkMax, changes_);
  open_->absorb(changes_);
}

// Commits the open batch and releases what follows from it. False: the commit failed.
bool CommitLoop::fly(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  const Result<void> result = commit_now();
  lock.lock();
  if (result) return true;
  // N2: nobody is answered any more, and what is in memory is not trusted.
  ended_ = true;
  failed_ = true;
  lock.unlock();
  log_event(LogLevel::kError, "commit.failed",
            {{"message", result.error().message}, {"cause", result.error().cause}});
  on_fatal_(result.error().message);
  round_.notify_all();
  return false;
}

Result<Duration> CommitLoop::write() {
  const Timestamp begun = clock_.now();
  flying_->set_time(begun.wall);
  const Result<void> result = journal_.commit(flying_->commit());
  if (!result) return std::unexpected(result.error());
  return clock_.now().mono - begun.mono;
}

void CommitLoop::after_commit(bool wrote, Duration took, std::unique_lock<std::mutex>& lock) {
  if (wrote) committed_.store(flying_->number(), std::memory_order_release);
  in_flight_ = false;
  Deliveries deliveries = std::exchange(flying_->waiters(), Deliveries{});
  lock.unlock();
  listener_.on_committed(*flying_, deliveries, took);
  deliveries.flush(true);
  flying_->begin(0);
  round_.notify_all();
  lock.lock();
}

void CommitLoop::sleep(std::unique_lock<std::mutex>& lock) {
  if (halting_ || stopping_ || open_has_work()) return;
  const Timestamp now = clock_.now();
  const Duration until_upkeep = std::max(Duration::zero(), upkeep_at_ - now.mono);
  const Duration wait =
      std::min({kSleepMax, until_upkeep, engine_.next_wakeup(now).value_or(Duration::max())});
  if (wait <= Duration::zero()) return;
  sleeping_ = true;
  work_.wait_for(lock, wait, [this] { return !sleeping_; });
  sleeping_ = false;
}

// --- The end

void CommitLoop::stop() {
  end(false);
}

void CommitLoop::halt() {
  end(true);
}

void CommitLoop::end(bool drop) {
  std::thread ending;
  {
    const std::scoped_lock lock(mutex_);
    (drop ? halting_ : stopping_) = true;
    sleeping_ = false;
    ending.swap(thread_);
  }
  work_.notify_all();
  if (ending.joinable()) ending.join();
}

}  // namespace turnpike::node
