// The engine's memory and the steps its commands are made of. Private to engine/*.cpp.
//
//   commands.cpp  what callers ask: submit, cancel, retry, accounts, policy
//   tries.cpp     the life of a try: start, settle, loss
//   time.cpp      what comes due by itself
//   cold.cpp      windows, refills, jobs that are not in memory
//   view.cpp      questions: position, estimate, why
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/random.h"
#include "engine/durations.h"
#include "engine/engine.h"
#include "engine/order.h"
#include "engine/window.h"

namespace turnpike::engine {

// Queue order: higher priority first, then older.
struct QueueKeyLess {
  bool operator()(const QueueKey& a, const QueueKey& b) const {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  }
};
using TimedKey = std::pair<Wall, JobId>;

struct Account;
struct Pool;

// What one account has waiting in one pool.
struct Queue {
  Account* account = nullptr;
  Pool* pool = nullptr;
  Window<QueueKey, QueueKeyLess> window;
  std::uint64_t queued = 0;  // all, in memory or not
  std::uint64_t scheduled = 0;
  std::uint64_t told_queued = 0;  // what the journal was last told
  std::uint64_t told_scheduled = 0;
  bool told_dirty = false;  // stands in State::dirty_
  JobId newest;             // youngest job ever queued here: the far end, for estimates of rank
};

struct Account {
  AccountRow row;
  const policy::Plan* plan = nullptr;          // that applies; never null
  std::uint32_t running = 0;                   // live tries
  std::uint64_t waiting = 0;                   // queued + scheduled over all pools
  std::vector<std::unique_ptr<Queue>> queues;  // few: one for each pool it has used
};

struct Pool {
  std::string name;
  std::uint32_t slots = 0;  // 0: no longer in the configuration; what waits is paused
  std::uint32_t running = 0;
  Order order;
  Monotonic accounted;                                      // until when slot time was consumed into credit
  std::array<std::uint64_t, policy::kClassCount> queued{};  // by class_index
  std::unordered_map<AccountId, Queue*> queues;
  bool touched = false;  // stands in State::touched_
};

// A job in memory: a head of a window, a scheduled job within its window, or one with a live try.
struct Job {
  JobRow row;
  JobBodyPtr body;  // may be null: read by the runner
  Durations* took = nullptr;
  std::uint8_t percent = 0;
  std::string progress = {};
};

// A live try holds a slot of its account and of its pool until it is settled or its lease has run out.
struct Try {
  TryId id;
  JobId job;
  Account* account = nullptr;
  Pool* pool = nullptr;
  Order::Pick pick;
  Durations* took = nullptr;
  SlotTime charged = 0;  // so far
  Monotonic started;
  Monotonic stop_at;  // timeout + grace: asked to stop
  Monotonic lease_until;
  Monotonic timer;  // its place in State::timers_
  bool stop_sent = false;
  bool lost = false;  // Fault::kTryNotFenced alone: slot given back, yet still believed
};

class Engine::State {
 public:
  State(policy::PolicyPtr policy, EngineOptions options);

  // --- commands.cpp
  void recover(Recovery recovery, Timestamp now, Changes& out);
  Result<EnsuredAccount> ensure_account(std::string_view user_id, AccountId fresh_id, std::string_view plan,
                                        bool set_plan, Timestamp now, Changes& out);
  Result<Submitted> submit(NewJob job, Timestamp now, Changes& out);
  Result<JobRow> cancel(JobId id, std::string_view by, const ColdJob* cold, Timestamp now, Changes& out);
  Result<Submitted> retry(ColdJob cold, Timestamp now, Changes& out);
  void apply(policy::PolicyPtr policy, Timestamp now, Changes& out);
  void set_draining(bool draining, Timestamp now, Changes& out);

  // --- tries.cpp
  bool settle(TryId try_id, TryOutcome outcome, Timestamp now, Changes& out);
  bool progress(TryId try_id, std::uint8_t percent, std::string_view message, Timestamp now, Changes& out);
  void extend_leases(std::span<const TryId> tries, Timestamp now);

  // --- time.cpp
  Advanced advance(Timestamp now, std::size_t work_max, Changes& out);
  std::optional<Duration> next_wakeup(Timestamp now) const;

  // --- cold.cpp
  bool refill_queue(const RefillQueue& request, std::vector<ColdJob> heads, Timestamp now, Changes& out);
  bool refill_scheduled(const RefillScheduled& request, std::vector<ColdJob> heads, Timestamp now,
                        Changes& out);
  bool refill_expiring(const RefillExpiring& request, std::vector<ColdJob> heads, Timestamp now,
                       Changes& out);
  Result<void> expire_cold(const ColdJob& cold, Timestamp now, Changes& out);

  // --- view.cpp
  // Plays at most `walk_max` starts forward to tell the position; beyond, it is estimated.
  std::optional<QueueView> queue_view(const JobRow& row, Timestamp now, std::size_t walk_max) const;
  Why why(const JobRow& row) const;
  Stats stats() const;
  std::vector<PutQueueCount> queue_counts() const;
  std::optional<JobId> startable() const;

  EngineOptions options_;
  policy::PolicyPtr policy_;
  bool draining_ = false;

  std::map<AccountId, std::unique_ptr<Account>> accounts_;
  std::unordered_map<std::string, Account*> by_user_;
  std::map<std::string, std::unique_ptr<Pool>, std::less<>> pools_;
  std::unordered_map<JobId, Job> jobs_;
  std::unordered_map<TryId, Try> tries_;
  std::map<std::pair<std::string, std::string>, Durations> durations_;  // by (task, provider)

  Account* find_account(AccountId id) const;

 private:
  // --- commands.cpp
  const policy::Plan& plan_named(std::string_view name) const;
  void change_plan(Account& account, const policy::Plan& plan, Timestamp now);
  std::optional<Error> queue_full(const Account& account) const;
  Result<std::optional<Submitted>> deduplicate(const NewJob& job, Timestamp now) const;
  JobRow make_row(const NewJob& job, const Account& account, Timestamp now) const;
  Submitted submitted(const JobRow& row, Timestamp now) const;
  JobRow end_waiting(JobRow row, JobState state, HistoryEntry entry, Timestamp now, Changes& out);

  // --- tries.cpp
  void dispatch(Pool& pool, Timestamp now, Changes& out);
  void start(Queue& queue, const Order::Pick& pick, Job& job, Duration timeout, Timestamp now, Changes& out);
  // What remains of the job's time: the attempt's timeout, or less; <= 0: none is left.
  Duration time_left(const Job& job, const policy::Plan& plan, Timestamp now) const;
  void release(Try& attempt, Timestamp now);
  void complete(Job& job, TryCompleted outcome, Timestamp now, Changes& out);
  void fail_attempt(Job& job, TryFailed outcome, Timestamp now, Changes& out);
  void fail_job(Job& job, JobError error, Timestamp now, Changes& out);
  void requeue(Job& job, Timestamp now, Changes& out);
  void lose(Job& job, std::string_view why, Timestamp now, Changes& out);
  void set_timer(Try& attempt);
  Duration retry_delay(const Job& job, const policy::Backoff& backoff, const TryFailed& outcome) const;

  // --- time.cpp
  void try_timer(TryId id, Timestamp now, Changes& out);
  void due(JobId id, Timestamp now, Changes& out);
  void expire(JobId id, Timestamp now, Changes& out);

  // --- cold.cpp
  std::size_t window_max() const;
  // The job stands in its queue, in memory or cold; writes its row. The reference dies if it went cold.
  void enqueue(Job& job, JobBodyPtr first_body, Timestamp now, Changes& out);
  void schedule(Job& job, JobBodyPtr first_body, Timestamp now, Changes& out);
  void unqueue(Queue& queue, const JobRow& row, Batch batch);
  void unschedule(Queue& queue, const JobRow& row, Batch batch);
  void forget_expiry(JobRow& row, Batch batch);
  void leave_memory(JobId id, Batch batch);
  bool changed_since(std::uint64_t subject, Batch read_at) const;
  void note_changed(std::uint64_t subject, Batch batch);
  bool is_current(const ColdJob& cold) const;
  void ask_refills(Queue& queue, Changes& out);
  void ask_timed_refills(Changes& out);
  void trim(Queue& queue, Batch batch);

  // --- engine.cpp: small steps used everywhere
  Queue& queue_of(Account& account, std::string_view pool);
  Queue* find_queue(const Account& account, std::string_view pool) const;
  Pool& pool_named(std::string_view name);
  Durations& took(const std::string& task, const std::string& provider);
  bool may_run(const Queue& queue) const;
  // Puts the queue into its pool's ring, or takes it out, as it may run or not.
  void sync_ring(Queue& queue, Timestamp now);
  void sync_rings(Account& account, Timestamp now);
  void count_queued(Queue& queue, std::int64_t delta);
  void count_scheduled(Queue& queue, std::int64_t delta);
  void mark(Queue& queue);
  void touch(Pool& pool);
  void account_for(Pool& pool, Timestamp now);
  void put_job(const JobRow& row, JobBodyPtr body, Changes& out) const;
  void tell(EventType type, const JobRow& row, Timestamp now, Changes& out, std::string text = {},
            std::uint8_t percent = 0) const;
  static void remember(JobRow& row, HistoryEntry entry);
  // Ends every command: starts what may start now, asks for refills, tells changed counts.
  void finish(Timestamp now, Changes& out);

  friend class Engine;

  IdSource try_ids_;
  std::set<std::pair<Monotonic, TryId>> timers_;
  std::unordered_map<JobId, TryId> stopping_;  // jobs that ended while their try still runs
  Window<TimedKey> scheduled_;
  Window<TimedKey> expiring_;
  std::vector<Pool*> touched_;
  std::vector<Queue*> dirty_;
  std::size_t queue_count_ = 0;
  std::uint64_t scheduled_total_ = 0;
  std::uint64_t next_ticket_ = 1;
  // What left memory, or came and went without ever being in it, in recent batches: answers "changed since".
  std::unordered_map<std::uint64_t, Batch> recent_;
  std::deque<std::pair<Batch, std::uint64_t>> recent_order_;
  Batch recent_floor_ = 0;  // changes up to this batch may have been forgotten
};

// Names an account's dedupe key among the subjects of "changed since".
std::uint64_t dedupe_subject(AccountId account, std::string_view key);

constexpr std::size_t kBodyInMemoryMax = 4'096;  // larger inputs are read when they run
constexpr std::size_t kRecentMax = 65'536;
constexpr std::size_t kTimedWindowMax = 4'096;
// Starts played forward to tell a position, under the engine's mutex: few where a job is submitted, for that
// is the hot path; more where somebody asks.
constexpr std::size_t kSubmitWalkMax = 64;
constexpr std::size_t kAskWalkMax = 512;
constexpr std::size_t kPositionAccountsMax = 128;  // accounts in the pool's rings up to which they are played

}  // namespace turnpike::engine
