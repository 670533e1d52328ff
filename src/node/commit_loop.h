// The commit loop: one mutex guards the engine and the open batch; one thread commits. While one batch is
// being committed the next gathers; when nothing is, a batch is committed at once. What follows from a batch
// (effects, events, answers) is released after its commit, in order. A commit that fails ends the process.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>

#include "base/ids.h"
#include "base/time.h"
#include "engine/engine.h"
#include "journal/journal.h"
#include "node/open_batch.h"

namespace turnpike::node {

// Told by the committer's thread, without the mutex.
class CommitListener {
 public:
  virtual ~CommitListener() = default;
  // The batch is durable: do what follows from it. Work for io threads is added to `deliveries`, which is
  // flushed right after. `took`: of the commit itself; zero where nothing was written.
  virtual void on_committed(OpenBatch& batch, Deliveries& deliveries, Duration took) = 0;
  // By the thread of the turn, without the mutex: starts and answers of calls that need not wait for a
  // commit.
  virtual void on_decided(std::vector<engine::Effect>& effects) = 0;
  // Between batches. Returns when it wants to be called next.
  virtual Duration upkeep(Timestamp now) = 0;
};

class CommitLoop {
 public:
  static constexpr std::size_t kPendingOperationsMax = 50'000;   // beyond, new work is refused
  static constexpr std::size_t kPendingBytesMax = 256ULL << 20;  // likewise
  static constexpr std::size_t kAdvanceWorkMax = 1'000;          // timers handled in one step
  static constexpr Duration kAtOnceMax =
      std::chrono::milliseconds(5);  // age of the open batch at which calls wait for it
  static constexpr Duration kSleepMax = std::chrono::seconds(1);  // looks at the time at least so often

  CommitLoop(engine::Engine engine, journal::Journal& journal, const Clock& clock, std::uint64_t last_id,
             CommitListener& listener, std::function<void(std::string_view why)> on_fatal);
  ~CommitLoop();  // halt()
  CommitLoop(const CommitLoop&) = delete;
  CommitLoop& operator=(const CommitLoop&) = delete;

  // Holds the mutex: one command or a few that belong together, at one time. Never held across an await.
  class Turn {
   public:
    explicit Turn(CommitLoop& loop);
    ~Turn();  // takes what was changed into the open batch and wakes the committer
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    engine::Engine& engine() { return loop_.engine_; }
    Timestamp now() const { return now_; }
    engine::Changes& changes() { return loop_.changes_; }
    void record(journal::Record row) { loop_.open_->add(std::move(row)); }
    std::uint64_t fresh_id() { return loop_.ids_.next(now_.wall); }
    // The first of `count` ids in a row, all of them taken.
    std::uint64_t fresh_ids(std::uint64_t count) { return loop_.ids_.next_block(now_.wall, count); }
    // The batch after which all that was decided so far, this turn included, is durable.
    engine::Batch seal();
    // True if the account was changed by what is not durable yet; after seal().
    bool account_pending(AccountId id) const;
    // More waits to be committed than is good: new work should be refused.
    bool overloaded() const;

   private:
    void absorb();
    bool goes_at_once(engine::Effect& effect);

    CommitLoop& loop_;
    std::unique_lock<std::mutex> lock_;
    Timestamp now_;
    std::vector<engine::Effect> at_once_;
  };

  // Commits what is open, on the calling thread; before begin().
  Result<void> commit_now();
  void begin();

  // Resumes once the batch is durable: true. False: the loop has stopped without it. After a failed commit
  // nobody is resumed any more.
  boost::asio::awaitable<bool> committed(engine::Batch batch);
  // committed() of everything decided so far.
  boost::asio::awaitable<bool> everything_committed();

  // Waits until `done(engine)`, asked after every batch, or `limit` has passed. False: it has not come.
  bool wait_until(const std::function<bool(engine::Engine&)>& done, Duration limit);

  void stop();  // commits what is open, releases what follows, and ends the thread
  void halt();  // ends the thread after the commit under way; what is open is lost. Both are idempotent.

 private:
  void run();
  bool open_writes() const { return open_->writes() || engine_.has_unwritten(); }
  bool open_has_work() const { return open_->has_work() || engine_.has_unwritten(); }
  void advance(Timestamp now);
  bool fly(std::unique_lock<std::mutex>& lock);
  void after_commit(bool wrote, Duration took, std::unique_lock<std::mutex>& lock);
  void sleep(std::unique_lock<std::mutex>& lock);
  void end(bool drop);
  void wait_for(engine::Batch batch, const boost::asio::any_io_executor& executor, Resume resume);
  Result<Duration> write();

  journal::Journal& journal_;
  const Clock& clock_;
  CommitListener& listener_;
  const std::function<void(std::string_view)> on_fatal_;

  std::mutex mutex_;
  std::condition_variable work_;   // the committer sleeps on it
  std::condition_variable round_;  // told after every batch
  // Guarded by mutex_:
  engine::Engine engine_;
  IdSource ids_;
  engine::Changes changes_;  // of the turn under way
  std::unique_ptr<OpenBatch> open_ = std::make_unique<OpenBatch>();
  bool in_flight_ = false;
  Monotonic open_since_{};  // when the open batch took its first row
  bool sleeping_ = false;
  bool stopping_ = false;
  bool halting_ = false;
  bool ended_ = false;   // the thread commits no more
  bool failed_ = false;  // ended by a commit that failed
  Monotonic upkeep_at_{};
  // Owned by the committer while in_flight_, but for its waiters and effects.
  std::unique_ptr<OpenBatch> flying_ = std::make_unique<OpenBatch>();

  std::atomic<engine::Batch> committed_;
  std::thread thread_;
};

}  // namespace turnpike::node
