// One simulated world: the real engine, the model journal and virtual time. It plays the node: merges what
// commands change into batches, commits them, releases effects only then, answers cold reads from what is
// committed, and runs tries whose fates are told beforehand. Single-threaded; the same seed gives the same
// world.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "engine/engine.h"
#include "journal/journal.h"
#include "simulation/broken.h"
#include "simulation/checker.h"
#include "simulation/run_graph.h"
#include "simulation/tally.h"
#include "support/memory_journal.h"

namespace turnpike::simulation {

// What will become of a try once it is started.
struct Fate {
  enum class Kind : std::uint8_t {
    kCompletes,
    kFails,
    kSilent,  // never reports, and its lease is not extended
    kHangs,   // goes on until it is asked to stop
  } kind = Kind::kCompletes;
  Duration after{0};
  policy::FailureClass failure{};
  std::optional<Duration> retry_after{};
  bool reports_again = false;  // once more, when it is over
  bool ignores_stop = false;   // finishes although it was asked to stop
};

struct WorldOptions {
  std::uint64_t seed = 1;
  bool verbose = false;
  Broken broken{};
  engine::EngineOptions engine{};
  Duration gather_max{0};               // how long a batch gathers before its commit begins, at most
  Duration commit_max{0};               // how long a commit takes, at most; 0: durable at once
  Duration refill_max{0};               // how long a cold read's answer may be under way
  std::size_t advance_max = 1000;       // work_max of advance()
  std::uint32_t look_at_all_every = 1;  // commands between two looks at the whole state
};

class World {
 public:
  using Action = std::function<void()>;
  World(WorldOptions options, policy::PolicyPtr policy, Tally& tally);

  // --- Time
  Timestamp now() const { return now_; }
  // Runs everything that happens until `time`, then it is `time`.
  void run_until(Monotonic time);
  void run_for(Duration duration) { run_until(now_.mono + duration); }
  void jump_wall(Duration by);
  // The whole process stands still for so long, as in a paused machine: nothing is done meanwhile, then
  // everything that is late happens.
  void stand_still(Duration duration);
  // `survives`: happens even if the process crashes before.
  void later(Duration delay, Action action, bool survives = false);

  // --- Commands, as the node gives them
  AccountId account(const std::string& user, const std::string& plan, bool set_plan);
  Result<engine::Submitted> submit(engine::NewJob job);
  Result<engine::Admitted> admit(engine::NewCall call);
  Result<engine::AccountRow> change(AccountId id, engine::Engine::AccountChange change);
  Result<engine::JobRow> cancel(JobId id, const engine::ColdJob* cold);
  Result<engine::Submitted> retry(engine::ColdJob cold);
  // A run of the graph of this text (run_graph.h).
  Result<engine::RunRow> start_run(AccountId account, const std::string& graph_text);
  void cancel_run(RunId id);
  void retry_run(RunId id);
  void progress(TryId id);
  void apply(policy::PolicyPtr policy);
  void set_draining(bool draining);
  bool draining() const { return draining_; }
  // Asks every running try to stop; each hands its job back.
  void stop_running();
  // The process dies. `durable`: the batch that was being committed became durable all the same.
  void crash(bool durable, Duration downtime);
  bool committing() const { return inflight_.has_value(); }
  // Commits until nothing is open.
  void commit_all();
  std::optional<engine::ColdJob> read(JobId id);
  // The live job that has the key, if any, and the batch it was read at.
  std::pair<std::optional<engine::ColdJob>, engine::Batch> read_key(AccountId account,
                                                                    const std::string& key);
  JobId fresh_job_id() { return JobId{ids_.next(now_.wall)}; }
  GrantId fresh_grant_id() { return GrantId{ids_.next(now_.wall)}; }
  // A refusal kStale must have a cause: the job changed, or something was decided after the read.
  void check_stale(engine::Batch read_at, engine::Batch changed) const;

  // --- What decides how tries end; set before anything starts.
  std::function<Fate(const engine::StartTry&)> fate;
  // A job of a run's step; its id is the engine's to give.
  std::function<engine::NewJob(AccountId)> step_job;
  // Told of every released start, if set.
  std::function<void(const engine::StartTry&)> on_start;

  Random& random() { return random_; }
  const engine::Engine& engine() const { return *engine_; }
  Checker& checker() { return checker_; }
  Tally& tally() { return *tally_; }
  const policy::PolicyPtr& policy() const { return policy_; }
  const WorldOptions& options() const { return options_; }
  std::size_t tries_running() const { return running_.size(); }
  void recount();
  void verify_books();
  template <typename... Args>
  void say(fmt::format_string<Args...> text, Args&&... args) const {
    if (options_.verbose) say_line(fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  struct Open {  // a batch that gathers or is being committed
    engine::Changes changes;
    std::vector<JobId> submitted;  // acknowledged once it is committed
    std::vector<RunId> runs;       // likewise
    std::size_t commands = 0;
    bool has_rows() const { return !changes.mutations.empty() || !changes.events.empty(); }
    bool empty() const { return !has_rows() && changes.effects.empty() && submitted.empty() && runs.empty(); }
  };
  struct Event {
    Monotonic at;
    std::uint64_t order = 0;
    std::uint64_t life = 0;  // 0: any
    Action action;
    bool operator<(const Event& other) const { return std::tie(other.at, other.order) < std::tie(at, order); }
  };
  // What a submit or an admit asks, and how things stood when it came.
  struct Asking {
    JobId id;
    AccountId account;
    engine::Batch read_at = 0;      // when the holder of its dedupe key was read
    JobId holder{};                 // of its dedupe key
    engine::Batch key_changed = 0;  // when the holder last changed
    std::uint64_t waiting = 0;      // jobs of the account
    std::optional<std::uint32_t> depth{};
    // What its request, or what is spent, forbids by the checker's own reckoning.
    std::set<ErrorCode> reasons{};
    std::string standing{};
  };
  struct Running {
    JobId job;
    Fate fate;
    policy::Amounts held;
    bool call = false;
  };

  void say_line(const std::string& line) const;
  Asking asked_of(const engine::NewJob& job) const;
  void check_accepted(const Asking& asked, const engine::Submitted& answer, bool changed_nothing) const;
  static bool over_limit(ErrorCode code);
  // Rates and usage of the account, its team and the platform, as anyone may ask for them: a refusal leaves
  // them alone.
  std::string standing(AccountId id) const;
  void check_call_refused(const Asking& asking, const Asked& asked, const Error& error) const;
  void count_refusal(const Error& error) const;
  void check_refused(const Asking& asked, const Error& error, bool changed_nothing) const;
  void start_engine(Timestamp at);
  engine::Changes changes() const;
  void took_place(Command command, engine::Changes out);
  void add_to_open(engine::Changes out);
  void advance();
  void plan_commit();
  void begin_commit();
  void finish_commit();
  journal::Commit merged(const Open& batch);
  void release(Open batch);
  void release(const engine::Effect& effect);
  void start_try(const engine::StartTry& start);
  void stop_try(const engine::StopTry& stop);
  void end_try(TryId id);
  engine::Usage some_usage(const policy::Amounts& held);
  std::optional<engine::Usage> some_bill(const policy::Amounts& held);
  void settle(TryId id, engine::TryOutcome outcome);
  void report(const engine::TryOutcome& outcome, std::optional<engine::Usage>& completed);
  void settle_after(TryId id, Duration delay, engine::TryOutcome outcome);
  void extend_leases();
  void answer_queue(const engine::RefillQueue& request);
  void answer_scheduled(const engine::RefillScheduled& request);
  void answer_expiring(const engine::RefillExpiring& request);
  void answer_expiry(JobId id, int tries_left);
  std::vector<engine::ColdJob> cold(const std::vector<journal::StoredJob>& rows, engine::Batch at);
  std::vector<engine::BeginStep> steps_to_begin(const std::vector<Following::Begin>& begin, AccountId account,
                                                const std::vector<engine::StepRow>& rows);
  void continue_run(RunId id);
  void cancel_jobs(RunId id, int rounds_left);
  Duration delay(Duration max);
  bool breaks(NodeFault fault, std::uint64_t permille);

  WorldOptions options_;
  Tally* tally_;
  Random random_;
  policy::PolicyPtr policy_;
  Timestamp now_;
  IdSource ids_;
  turnpike::testing::MemoryJournal journal_;
  std::unique_ptr<engine::Engine> engine_;
  Checker checker_;
  Open open_;
  std::optional<Open> inflight_;
  bool commit_planned_ = false;
  bool draining_ = false;
  std::uint64_t policy_version_ = 1;
  std::uint64_t life_ = 1;
  std::uint64_t order_ = 0;
  std::priority_queue<Event> events_;
  std::map<TryId, Running> running_;
  std::map<JobId, engine::JobRow> settled_rows_;  // for NodeFault::kWritesTwice
};

}  // namespace turnpike::simulation
