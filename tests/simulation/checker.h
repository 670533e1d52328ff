// Watches every command and every commit of one simulated life, and throws a Violation where an invariant of
// the architecture does not hold. It knows what was asked, what was answered, and the rows; of the engine it
// uses only the questions that anyone may ask.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/engine.h"
#include "journal/journal.h"
#include "simulation/books.h"
#include "simulation/call_book.h"
#include "simulation/judge.h"
#include "simulation/ledger.h"
#include "simulation/promises.h"
#include "simulation/rates_model.h"
#include "simulation/run_book.h"
#include "simulation/tally.h"

namespace turnpike::simulation {

// Classes that leave a pool's headroom free.
constexpr bool below_high(policy::PriorityClass c) {
  return c < policy::PriorityClass::kHigh;
}

// What the checker has to know of a command besides its changes.
struct Command {
  std::string_view name;
  TryId settled{};                                        // a settle that returned true
  JobId retried{};                                        // a retry that was accepted
  RunId retried_run{};                                    // likewise, of a run
  bool advanced_all = false;                              // advance(), with nothing left to do
  bool advanced_part = false;                             // advance(), and more is to be done at once
  std::optional<engine::Usage> completed = std::nullopt;  // a settle of a try that completed: what it used
};

struct LiveTry {
  JobId job;
  AccountId account;
  std::string pool;
  policy::PriorityClass priority_class{};
  Monotonic started{};
  Monotonic lease_until{};
  bool before_higher = false;  // a higher class waited when it started
  bool call = false;
  std::string team = {};  // the account's when it started
};

class Checker {
 public:
  Checker(engine::EngineOptions options, Tally& tally)
      : options_(options),
        tally_(&tally),
        promises_(ledger_),
        books_(promises_, tally),
        calls_(tally),
        runs_(tally),
        judge_(promises_, books_, rates_, calls_) {}

  void set_policy(policy::PolicyPtr policy, std::uint64_t version);
  // With thousands of accounts the whole state is looked at after every so many commands.
  void look_at_all_every(std::uint32_t commands) { whole_every_ = commands; }
  void set_draining(bool draining) { draining_ = draining; }

  // Before each command: slot time passes.
  void pass_time(Timestamp now);
  void observe(const Command& command, const engine::Changes& out, const engine::Engine& engine,
               Timestamp now);
  // A call was admitted; its changes follow with observe().
  void admitted(CallBook::Call call);
  void call_answered(const engine::AnswerCall& answer, engine::Batch durable) {
    calls_.told(answer, durable);
  }
  void lease_extended(TryId id, Timestamp now);
  void refill_answered(const engine::RefillQueue& request);
  void scheduled_refill_answered(std::uint64_t ticket) { scheduled_refills_.erase(ticket); }
  void expiring_refill_answered(std::uint64_t ticket) { expiring_refills_.erase(ticket); }
  void cold_expiry_answered(JobId id) { cold_expiries_.erase(id); }

  void committed(const journal::Commit& commit);
  void released(const engine::StartTry& start, const std::optional<journal::StoredJob>& stored);
  // `durable`: the last batch that is committed.
  void call_released(const engine::StartTry& start, engine::Batch durable);
  void acknowledged(JobId id) { acknowledged_.insert(id); }
  // A new life begins with what the journal holds.
  void restarted(const journal::Recovered& recovered, const std::vector<engine::JobRow>& rows,
                 const std::map<RunId, engine::RunRow>& runs, const std::vector<engine::PeriodRow>& periods,
                 const std::vector<engine::LedgerEntry>& entries);
  // The rows and counts of the journal agree with each other and with what was committed.
  void recount(const journal::Recovered& recovered, const std::vector<engine::JobRow>& rows) const;
  // Everything acknowledged has ended.
  void all_ended() const;

  const Ledger& ledger() const { return ledger_; }
  Books& books() { return books_; }
  RunBook& runs() { return runs_; }
  const Judge& judge() const { return judge_; }
  const CallBook& calls() const { return calls_; }
  const Promises& promises() const { return promises_; }
  bool is_live(TryId id) const { return live_.contains(id); }
  const std::map<TryId, LiveTry>& live() const { return live_; }
  std::uint32_t running(AccountId id) const;
  const policy::Plan& plan_of(AccountId id) const { return promises_.plan_of(id); }
  std::uint64_t completed() const { return completed_.size(); }

 private:
  struct PoolBooks {
    std::uint32_t running = 0, running_low = 0;
    // Since the class last had nothing waiting: permille x slot time it may have been owed, and slot time of
    // the starts it made before a higher class.
    std::array<std::int64_t, policy::kClassCount> earned_permille{}, spent{};
    std::array<std::uint32_t, policy::kClassCount> share_max{};
  };

  std::vector<TryId> end_tries(const Command& command, const engine::Engine& engine, Timestamp now);
  void see_job(const Command& command, const engine::JobRow& row, engine::Batch batch,
               const std::vector<TryId>& over, Timestamp now);
  void see_start(const engine::JobRow& row, Timestamp now);
  // Effects that concern calls, up to the start of `until`: they happened before it.
  void see_calls(const engine::Changes& out, std::size_t& next, TryId until, Timestamp now);
  void see_call_start(const engine::StartTry& start, Timestamp now);
  std::uint32_t running_jobs(const Who& who) const;
  void begin_try(TryId id, LiveTry attempt, Timestamp now);
  void end_rates(const Command& command, Timestamp now);
  bool higher_class_waits(const std::string& pool, policy::PriorityClass own, Timestamp now) const;
  void see_starts(const engine::Changes& out) const;
  // Of a queue whose refill is under way not all heads are loaded: what follows must not be held against the
  // engine.
  void see_refills(const engine::Changes& out);
  void check_counts(const engine::Engine& engine) const;
  void check_tries(const engine::Engine& engine) const;
  void check_no_idle_slot(const engine::Engine& engine, Timestamp now) const;
  void check_idle_slot_of(const QueueName& name, const std::string& who) const;
  void check_grandfathered() const;
  void check_due(Timestamp now) const;
  // Whether the first of them may run by all caps and rates. What a rate has let through just now waits for a
  // timer that is due in this instant.
  bool may_run(const QueueName& name, const WaitingJobs& waiting, Timestamp now) const;
  const policy::Pool* pool(const std::string& name) const;

  engine::EngineOptions options_;
  Tally* tally_;
  policy::PolicyPtr policy_;
  bool draining_ = false;
  bool behind_ = false;  // time has been told, and not all that is due was done
  std::uint32_t whole_every_ = 1, commands_ = 0;
  Ledger ledger_;
  Promises promises_;
  Books books_;
  RateModel rates_;
  CallBook calls_;
  RunBook runs_;
  Judge judge_;
  std::map<TryId, LiveTry> live_;
  std::map<AccountId, std::uint32_t> live_by_account_;  // jobs
  std::map<std::string, std::uint32_t> live_by_team_;   // likewise
  std::uint32_t live_jobs_ = 0;
  std::unordered_map<JobId, TryId> live_by_job_;
  std::vector<std::pair<TryId, JobId>> over_jobs_;  // of the tries that ended in this command
  std::vector<TryId> lost_with_process_;            // ended by a crash; the next command is recover()
  std::map<std::string, PoolBooks> pools_;
  Monotonic accounted_{};
  Duration longest_{0};
  std::map<QueueName, std::set<std::uint64_t>> refills_;
  std::set<std::uint64_t> scheduled_refills_, expiring_refills_;
  std::unordered_set<JobId> cold_expiries_;
  std::unordered_set<TryId> decided_, released_;  // decided in this life; released in any
  std::unordered_set<JobId> acknowledged_, completed_;
};

}  // namespace turnpike::simulation
