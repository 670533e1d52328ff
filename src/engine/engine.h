// The engine: who may, who is next, and what follows. Commands and the time go in; a decision, mutations,
// events and effects come out. Pure: no I/O, no thread, no clock, no random of its own. The same commands at
// the same times give the same changes, bit for bit. It never fails halfway: a refusal is a value and leaves
// no change behind.
//
// Not thread-safe: the node guards it with one mutex. One engine is one shard and knows no other.
//
// Invariants (checked by tests/simulation; numbers as in the architecture):
//   I2  running(account) <= its cap whenever something is started.
//   I3  at most one live try for a job; a try is live from its start until it is settled or its lease has run
//   out. I4  a try that is not live changes no job. I6  counters = a recount of the rows. I7  order: see
//   engine/order.h. I10 no slot of a pool idles while a job that may run is loaded (headroom apart).
//
// Cold things. Of each queue only a window of heads is in memory, always a prefix of the queue; likewise of
// what is scheduled and of what expires. Refills are asked for by effects. Commands on a job that may not be
// in memory take the row as the caller read it, with the batch it was read at; if it changed since, the
// answer is ErrorCode::kStale, and the caller reads again once that batch has committed.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "engine/canaries.h"
#include "engine/gate.h"
#include "engine/rows.h"
#include "policy/overlay.h"
#include "policy/policy.h"
#include "policy/route.h"

namespace turnpike::engine {

// --- Effects: what to do once the mutations of the same batch are durable
// ------------------------------------------------

struct StartTry {
  TryId try_id;
  JobRow row;        // as committed: state kProcessing, attempt, provider, model
  JobBodyPtr body;   // null: not in memory, read it from the journal
  Duration timeout;  // of this attempt; > 0
  // For the log line of the start.
  policy::PriorityClass priority_class{};
  std::uint32_t active = 0;            // the account's running jobs, this one included
  std::optional<std::uint32_t> limit;  // its cap; nullopt: unlimited
  bool call = false;                   // row is in memory only; answered by an AnswerCall
  std::int64_t output_limit = 0;       // tokens of output that it may ask for; 0: none are held
  std::uint64_t upload_bytes_max = 0;  // of a file that it takes in: as much as the account may upload
  std::string key;  // of the provider's pool of keys: its name; empty: the provider's only one
  // A call that need not wait for its hold to be durable: it may start as soon as the command has returned.
  bool at_once = false;
  // Of a provider whose workers claim their work: the claim that it goes to, and how many tries that claim
  // was given, this one included.
  ClaimId claim{};
  std::uint32_t claimed = 0;
};
enum class StopReason : std::uint8_t { kCancelled, kTimeout, kLeaseLost, kDrain };
struct StopTry {  // interrupt the try; settle() it when it has stopped
  TryId try_id;
  StopReason reason{};
};
using QueueKey =
    std::pair<std::int32_t, JobId>;  // (priority, id); in queue order: priority descending, id ascending
struct RefillQueue {                 // answer with Engine::refill_queue
  std::uint64_t ticket = 0;
  AccountId account;
  std::string pool;
  std::optional<QueueKey> after;
  std::size_t limit = 0;
};
struct RefillScheduled {  // answer with Engine::refill_scheduled
  std::uint64_t ticket = 0;
  std::pair<Wall, JobId> after;
  std::size_t limit = 0;
};
struct RefillExpiring {  // answer with Engine::refill_expiring
  std::uint64_t ticket = 0;
  std::pair<Wall, JobId> after;
  std::size_t limit = 0;
};
struct ExpireCold {  // read the job, then Engine::expire_cold
  JobId job;
};
// A call has ended: its caller is waiting.
struct AnswerCall {
  JobRow row;                  // state kCompleted or kFailed; usage, cost, output, error
  std::optional<Error> error;  // refused after it had waited: no room in time, or the server stops
  // It completed and used no more than it held: the answer may be given as soon as the batch `held_in` is
  // durable, for after a crash what it held is taken as used. Any other waits for the batch of its charge.
  bool at_once = false;
  Batch held_in = 0;
};
// The candidate of a canary does clearly worse than its baseline: roll it back. Told once.
struct CanaryFailed {
  std::string canary;
  std::string why;  // for a person
};
// A step of the run has ended, or the run was retried, or found at a restart: read it, find what follows
// (policy::next_of), and tell by Engine::advance_run.
struct ContinueRun {
  RunId run;
};
// The run has ended, and jobs of it that are not in memory wait: cancel each that has not ended.
struct CancelJobs {
  RunId run;
};
using Effect = std::variant<StartTry, StopTry, RefillQueue, RefillScheduled, RefillExpiring, ExpireCold,
                            AnswerCall, CanaryFailed, ContinueRun, CancelJobs>;

// What a command changes. The caller sets `batch` (the batch that will carry these changes) before the
// command. Rows that most commands change (periods, counts of queues) are not among it: they are written once
// a batch, by Engine::close_batch.
struct Changes {
  Batch batch = 0;
  std::vector<Mutation> mutations;
  std::vector<Event> events;
  std::vector<Effect> effects;
};

// --- Commands
// ------------------------------------------------------------------------------------------------------------

// A row as the caller read it from the journal, and when.
struct ColdJob {
  JobRow row;
  JobBodyPtr body;  // may be null
  Batch at = 0;
};

struct NewJob {
  JobId id;  // fresh, increasing
  AccountId account;
  std::string task;
  policy::RoutePtr route;  // resolved before; never null
  std::int32_t priority = 0;
  Wall run_at = kNever;  // kNever or past: now
  std::optional<std::uint32_t> max_attempts;
  JobOptions options;
  std::string content_type;         // declared in the policy, and in the plan; empty: none
  policy::Amounts estimate;         // the most one try can use (policy/estimate.h); no counts
  std::vector<std::string> extras;  // fields that cost and have no price (policy::Ask)
  std::string dedupe_key;
  // With a dedupe_key: the live job that has it (or none), read at `dedupe_at`.
  std::optional<ColdJob> dedupe_job;
  Batch dedupe_at = 0;
  JobBodyPtr body;
};

// Work that is answered while its caller waits. It is kept in memory alone; its hold is in the books of its
// period.
struct NewCall {
  JobId id;  // fresh, increasing
  AccountId account;
  std::string task;
  policy::RoutePtr route;  // never null
  std::string content_type;
  policy::Amounts estimate;
  // Output tokens that are held at first, where they come as a stream: the others by raise(). 0: all of them.
  std::int64_t output_first = 0;
  // Where less output than `estimate` says is to be had, so little is admitted still (StartTry::output_limit
  // tells). 0: all or nothing.
  std::int64_t output_least = 0;
  std::vector<std::string> extras;
  Duration patience{0};  // how long it may wait for room, at most; then it is refused
  Duration timeout{0};   // of all its tries together; > 0
  JobBodyPtr body;
};
// A call that was answered with what an earlier one got.
struct CachedUse {
  JobId id;  // fresh, increasing
  AccountId account;
  std::string task;
  std::string provider, model, model_version;  // of the earlier one
  std::string content_type;
  Usage used;  // likewise
};
// A worker holds its hand out for work of providers of kind pull.
struct NewClaim {
  ClaimId id;                      // fresh, increasing
  std::vector<std::string> pools;  // those providers' own; not empty, each once
  AccountId account{};             // whose work alone it takes; none: anybody's
  std::uint32_t most = 1;          // tries at once; the account's plan (dispatch_batch) bounds them too
};
// A step of a run begins: its jobs are submitted, or it is passed over.
struct BeginStep {
  std::size_t step = 0;  // its place in RunRow::steps
  bool skipped = false;  // then it has no jobs
  // One, or one for each item of its list; none where that is empty. Their ids are the engine's to give; no
  // dedupe keys, no run_at.
  std::vector<NewJob> jobs = {};
};
struct NewRun {
  RunId id;  // fresh, and the kRunJobsMax ids that follow with it
  AccountId account;
  std::string workflow;
  std::vector<std::string> steps;  // names; 1..kRunStepsMax
  std::int32_t priority = 0;
  WebhookId webhook = {};
  RunBodyPtr body = {};
  std::vector<BeginStep> begin;  // at least one with jobs
  // Steps of later that will have one job for certain: what those count for is held from the start.
  struct Certain {
    std::size_t step = 0;
    std::string content_type;  // empty: none
  };
  std::vector<Certain> certain = {};
};
struct RunResult {
  std::string output;  // JSON text, at most kRunOutputMax
  std::vector<ArtifactRef> artifacts;
};
// What follows from the steps that have ended.
struct RunAdvance {
  RunId run;
  std::uint64_t revision = 0;  // of the row that it was found from
  std::vector<BeginStep> begin;
  std::optional<RunResult> result;  // all steps have ended well
  std::optional<JobError> error;    // it cannot go on
};
// A run as the caller read it from the journal.
struct ColdRun {
  RunRow row;
  Batch at = 0;
};
struct Admitted {
  bool started = false;  // false: it waits for room
};

// What the headers of a metered answer say. nullopt: no such limit.
struct RateView {
  struct Window {
    std::uint64_t limit = 0, remaining = 0;
    Duration resets_in{0};  // until `remaining` is `limit` again
    Duration window{0};     // that `limit` is for: a second or a minute
  };
  std::optional<Window> requests, tokens;
};

// What an account (or a group) has used and holds in its current period, and what it may.
struct MeterUsage {
  std::string meter;                  // policy::MeterName::name, or a content type
  std::optional<policy::Meter> of;    // nothing: a content type
  std::int64_t used = 0, held = 0;    // in the meter's units
  std::optional<std::int64_t> limit;  // grants included; nullopt: unlimited
};
struct UsageView {
  policy::Period period;
  std::vector<MeterUsage> meters;  // that have a limit, or were used
  Money cost_used, cost_held;
  std::optional<Money> cost_cap;  // grants included
  bool hard_stop = false;
};

// Work that holds something now.
struct Holder {
  JobId job;
  bool call = false;
  JobState state{};
  Money cost;
  policy::Amounts amounts;
  std::string content;  // content type it counts for; empty: none
};
struct Holders {
  std::vector<Holder> most;
  std::size_t looked_at = 0;  // jobs, to find them: what it cost
};

// Accounts whose overrides do not read under the policy in force, and so do not apply.
struct UnreadOverrides {
  std::size_t accounts = 0;                              // all
  std::vector<std::pair<AccountId, std::string>> shown;  // the first of them, by id, each with its mistake
};

enum class WaitingFor : std::uint8_t {
  kTurn,
  kConcurrencyLimit,
  kRateLimit,
  kProviderLimit,
  kQuota,
  kSchedule,
  kDependency,
  kPaused,
};
const char* waiting_for_name(WaitingFor w);  // as api.md spells it

// Where a job stands. For kProcessing, position and ahead are 0 and waiting_for is absent.
struct QueueView {
  std::uint64_t position = 0;  // 1-based: jobs that would start before this one under the order, plus one
  bool exact = true;           // false: estimated (beyond the loaded heads, or too many to walk)
  std::uint64_t ahead_in_account = 0;
  std::pair<std::int64_t, std::int64_t> eta_seconds{0, 0};  // until the job ends: likely range, low <= high
  std::optional<WaitingFor> waiting_for;
};

struct Submitted {
  JobRow row;  // after the decision: kScheduled, kQueued or (started at once) kProcessing
  std::optional<QueueView> queue;
  bool deduplicated = false;  // row is the live job that has the dedupe_key
};

// How a try ended.
struct TryCompleted {
  std::string output;                  // JSON text
  std::vector<ArtifactRef> artifacts;  // durable already
  Usage usage;
};
struct TryFailed {
  policy::FailureClass failure{};
  std::string message;
  std::optional<Duration> retry_after;
  // What the provider billed all the same; nullopt: it is not known, and what was held is taken.
  std::optional<Usage> billed = Usage{};
  bool began = false;        // the caller has part of the answer: nobody else can begin anew
  bool key_refused = false;  // kMisconfigured: it is the key that the upstream does not take
  bool lost = false;         // who worked at it is not heard of any more: of a job it counts as no attempt
  bool unasked = false;      // it failed before its provider was asked: nobody else is, and none is blamed
};
struct TryStopped {  // stopped as asked (cancel, timeout)
  std::optional<Usage> billed;
};
struct TryHandedBack {  // stopped, goes back to the queue, not an attempt
  std::optional<Usage> billed = Usage{};
  std::string why = "the server is stopping";
};
using TryOutcome = std::variant<TryCompleted, TryFailed, TryStopped, TryHandedBack>;

// What a restart begins with.
struct Recovery {
  std::vector<AccountRow> accounts;
  std::vector<PutQueueCount> queues;
  std::vector<JobRow> processing;
  std::vector<RunRow> runs;        // that have not ended, or have live jobs
  std::vector<PeriodRow> periods;  // current, or with something held
  // Policies that grandfathered accounts still live by, by version.
  std::map<std::uint64_t, policy::PolicyPtr> policies;
  std::uint64_t policy_version = 0;  // of the policy in force
  std::uint64_t price_version = 0;   // of its price table
  std::uint64_t last_id = 0;         // largest id value in use: ids of tries begin above it
};

// What holds a job now, in fields, for `why`.
struct Why {
  std::string plan;
  policy::PriorityClass priority_class{};
  std::uint32_t account_running = 0;
  std::optional<std::uint32_t> account_limit;
  std::uint64_t account_waiting = 0;
  std::string pool;
  std::uint32_t pool_running = 0;
  std::uint32_t pool_slots = 0;
  std::uint64_t pool_waiting_higher = 0;  // jobs of higher classes that wait in the pool
  std::uint64_t pool_waiting_same = 0;    // of the same class, other accounts
  bool draining = false;
  bool pool_paused = false;  // by the operator
  bool pool_down = false;    // its upstream only fails, or has asked to be left alone
  // Of a pool whose workers claim their work: how many of them wait for the account's. nullopt: no such pool.
  std::optional<std::uint64_t> pool_claims;
  // The limit that holds it back or ended it, if one does: a rate, a quota, a cap.
  std::shared_ptr<const LimitReached> limit;
  std::vector<Holder> holders;  // the account's own work that holds some of it; at most 10
};

// Engines that are wrong on purpose: the simulation must catch each. Never set outside of tests.
enum class Fault : std::uint8_t {
  kNone,
  kCapUnchecked,       // an account's cap is not asked before a start
  kTryNotFenced,       // a try whose lease has run out may still complete its job
  kCreditNeverSpent,   // an owed start costs its class nothing
  kWindowForgetful,    // what is inserted below the watermark is treated as cold
  kCountDrifts,        // a cancelled waiting job stays counted
  kCheckedNotHeld,     // limits are checked when work is accepted, and nothing is held
  kSettledTwice,       // a late report of a lost try is charged beside what was charged for it
  kCurrentPeriod,      // use is charged to the period in which it is settled
  kExpiredByPause,     // leases run out while the whole process stood still
  kRateNotTaken,       // a rate is asked, and what begins takes nothing from it
  kRefusalTakesRate,   // a call that is refused for its quota has taken from its rate
  kCallsForgotten,     // what calls held at a crash is let go instead of taken as used
  kGrantSpentTwice,    // what a period used of a grant is there again in the next
  kGrantThereTwice,    // likewise, until the period that is over has been closed
  kContentKept,        // a job that fails keeps its count of its content type
  kCallStaysCounted,   // a call that found no room in time counts as one at once for ever
  kUpstreamForgotten,  // after a restart upstreams may be used as if nothing had been asked of them
  kGateForgotten,      // so they may when their provider leaves the policy and comes back
  kFallsBackUnheld,    // a job goes to a dearer upstream with what it holds
  kRaiseUnchecked,     // more is held than limits leave
  kRaiseUnwritten,     // a job's row does not tell that it holds more
  kCancelBreaks,       // a try that was cancelled counts as a failure of its upstream
  kStepRepeated,       // a run that is retried runs all jobs of a failed step again
  kStepForgotten,      // a step whose end is committed with a crash is begun again
  kStepUnheld,         // what a run's later steps count for is checked at its start, and not held
  kRunOutlived,        // what waits of a run that was cancelled is started all the same
  kDebtToldAtOnce,     // a call that used more than it held is answered before that is durable
};

struct EngineOptions {
  std::size_t window_max = 256;  // heads kept for one queue, at most; >= 4
  std::size_t window_budget =
      200'000;  // heads kept in all: with many queues each keeps fewer, but at least window_min
  std::size_t window_min = 8;
  Duration lease = std::chrono::seconds(30);  // a try that is not extended for so long is lost
  Fault fault = Fault::kNone;
  Duration timeout_grace = std::chrono::seconds(5);  // after a try's timeout, before it is asked to stop
};

constexpr std::size_t kRunsMax = 100'000;  // live at once

class Engine {
 public:
  Engine(policy::PolicyPtr policy, EngineOptions options);
  ~Engine();
  Engine(Engine&&) noexcept;

  // Call once, before any other command, on a new engine. Jobs that were processing were lost with the
  // process: they go back to their queue without counting as an attempt, or fail as `crashed` after kLostMax
  // losses.
  void recover(Recovery recovery, Timestamp now, Changes& out);

  // --- Accounts
  // The account of the application's user; made on its first appearance, on `plan` (empty: the default plan).
  // A plan that differs from an existing account's changes it only if `set_plan`. Errors: kInvalidRequest
  // (plan unknown).
  struct EnsuredAccount {
    AccountRow row;
    bool created = false;
    std::string previous_plan;  // not empty: the plan was changed
  };
  Result<EnsuredAccount> ensure_account(std::string_view user_id, AccountId fresh_id, std::string_view plan,
                                        bool set_plan, Timestamp now, Changes& out,
                                        std::string_view by = "request");
  const AccountRow* account(AccountId id) const;
  const AccountRow* account_by_user(std::string_view user_id) const;
  std::vector<AccountRow> accounts(AccountId starting_after, std::size_t limit) const;  // by id, ascending
  // The plan that applies; falls back to the default plan where the account's was removed from the
  // configuration.
  const policy::Plan& plan_of(AccountId id) const;
  // Why the account's overrides do not apply: the first mistake; empty: they do, or there are none. They were
  // checked when they were set; a later policy may no longer know what they name.
  std::string_view overrides_mistake(AccountId id) const;
  UnreadOverrides unread_overrides(std::size_t shown_max) const;

  struct AccountChange {  // what is set is changed
    std::optional<std::string> plan;
    std::optional<std::string> overrides;  // "": none
    std::optional<std::string> team;       // "": none
    std::optional<std::string> time_zone;  // "": the configuration's
    std::optional<Wall> anchor_at;
    std::optional<Grant> grant;  // added
    std::optional<GrantId> revoke;
    std::string by;  // actor, for the event
  };
  // Acts at once and keeps usage: more room starts waiting work now, less lets what runs finish and blocks
  // new work. A new time zone or anchor counts from the next period. Errors: kNotFound (account; grant to
  // revoke), kInvalidRequest (names the field: an unknown plan, team, zone, content type; overrides that do
  // not read; too many grants).
  Result<AccountRow> change_account(AccountId id, AccountChange change, Timestamp now, Changes& out);

  // --- Calls
  // Checks rates, concurrency, quotas and caps of all scopes, then takes all; starts the call if there is
  // room, else it waits in its pool's ring. Ends with an AnswerCall. Errors, which change nothing:
  // kRateLimited, kConcurrencyLimited (with retry_after), kQuotaExceeded, kCostCapReached (with `limit`),
  // kModelNotAllowed (no price under a hard cap), kNotInPlan (content type), kNotFound (account).
  Result<Admitted> admit(NewCall call, Timestamp now, Changes& out);
  // Counts a call that needed no upstream: checked as admit() does, against what it used, and charged at once
  // without a cost. Errors, which change nothing: those of admit().
  Result<void> count_cached(CachedUse use, Timestamp now, Changes& out);

  // --- Jobs
  // A job that is not scheduled holds its worst case from here on; a scheduled one from when it is due, and
  // waits for the next period where nothing is left by then. Rates delay jobs, and never refuse them. Errors:
  // those of admit() but for rates and concurrency; kQueueFull (with retry_after), kStale, kNotFound
  // (account).
  Result<Submitted> submit(NewJob job, Timestamp now, Changes& out);
  // Ends a job that has not ended: at once in the journal; a running try is asked to stop and keeps its slot
  // until it has. `cold` is the row as read, needed where the job is not in memory. Errors: kNotFound (no
  // cold row given and not in memory), kConflict (ended already: says how), kStale.
  Result<JobRow> cancel(JobId id, std::string_view by, const ColdJob* cold, Timestamp now, Changes& out);
  // Queues an ended job (failed, cancelled, expired) again with a fresh set of attempts. Errors: kConflict
  // (completed, not ended, or its try is still stopping), kQueueFull, kStale.
  Result<Submitted> retry(ColdJob cold, Timestamp now, Changes& out);

  // --- Runs of workflows
  // Its first steps are accepted as submit() would each, together with the counts of those that are certain
  // to follow; all or nothing. What comes later is never refused: it waits where a quota is used up. Errors:
  // those of submit(); kQueueFull too where kRunsMax are live.
  Result<RunRow> start_run(NewRun run, Timestamp now, Changes& out);
  // Errors, which change nothing: kStale (a step has ended since: another ContinueRun follows), kConflict
  // (the run has ended).
  Result<RunRow> advance_run(RunAdvance advance, Timestamp now, Changes& out);
  // Ends it: nothing of it starts any more; what runs is asked to stop. Errors: kNotFound (it is not live),
  // kConflict (it has ended).
  Result<RunRow> cancel_run(RunId id, std::string_view by, Timestamp now, Changes& out);
  // A run that failed or was cancelled goes on: its jobs that did not complete are queued again, and what has
  // completed is never run again. `jobs`: all those that did not complete. Errors: kConflict (completed, not
  // ended, or its jobs are still stopping), kQueueFull, kStale.
  Result<RunRow> retry_run(ColdRun cold, std::vector<ColdJob> jobs, Timestamp now, Changes& out);
  // Of a run that is live; null: it is not.
  const RunRow* run(RunId id) const;
  std::vector<RunRow> runs() const;  // that are live, by id; for a recount by tests

  // --- Workers
  // A claim is filled once, with tries of one account in the order of one of its pools: at once or later, by
  // whatever command makes work there. They say so (StartTry::claim). Errors: kUnavailable (draining),
  // kRateLimited (as many wait as may; with retry_after), kInvalidRequest (a pool that takes no claims).
  Result<void> claim(NewClaim claim, Timestamp now, Changes& out);
  // It waits no longer. False: it does not wait, for it has been filled, or was withdrawn.
  bool withdraw(ClaimId id);
  // A try has ended. A try that is not live changes no job (returns false).
  bool settle(TryId try_id, TryOutcome outcome, Timestamp now, Changes& out);
  // A live try may use so much `more` than was held for it: held now, in all scopes, in the periods that
  // admitted it. For text that streams. True: it may be used before it is durable. Errors, which change
  // nothing: kQuotaExceeded, kCostCapReached, kModelNotAllowed (under a hard cap, for it has no price),
  // kInvalidRequest (beyond what money can count), kConflict (the try is not live).
  Result<bool> raise(TryId try_id, const policy::Amounts& more, Timestamp now, Changes& out);
  // A running try tells how far it is. Nothing durable but the event. False: not live.
  bool progress(TryId try_id, std::uint8_t percent, std::string_view message, Timestamp now, Changes& out);
  // The runner still works on these: their leases begin anew. To be called at least every third of a lease,
  // with nothing to extend too: a longer silence means that the whole process stood still, and all leases are
  // extended by it.
  void extend_leases(std::span<const TryId> tries, Timestamp now);

  // --- Time
  // Schedules, retries, expiry, leases, timeouts: at most `work_max` of them; call again while `more`.
  struct Advanced {
    bool more = false;
  };
  Advanced advance(Timestamp now, std::size_t work_max, Changes& out);
  // How long until advance() has something to do; nullopt: nothing is waiting for time. 0: at once.
  std::optional<Duration> next_wakeup(Timestamp now) const;

  // --- Cold things. False: stale or no longer wanted; the engine has asked again by itself where it needs
  // to.
  bool refill_queue(const RefillQueue& request, std::vector<ColdJob> heads, Timestamp now, Changes& out);
  bool refill_scheduled(const RefillScheduled& request, std::vector<ColdJob> heads, Timestamp now,
                        Changes& out);
  bool refill_expiring(const RefillExpiring& request, std::vector<ColdJob> heads, Timestamp now,
                       Changes& out);
  // Error kStale: read again. Ok: done, or nothing to do any more.
  Result<void> expire_cold(const ColdJob& cold, Timestamp now, Changes& out);

  // --- The batch
  // The rows of books and counts as the commands of the batch left them: to be called last, in the same
  // batch.
  void close_batch(Changes& out);
  // Whether close_batch() has something to write.
  bool has_unwritten() const;

  // --- Policy and state of the whole
  // Takes effect at once: raised limits start waiting jobs now, lowered ones let running jobs finish.
  // Accounts on a plan that changed and has `grandfather` stay on the plan as it was. `version`: of this
  // policy; `price_version`: the version that brought its price table.
  void apply(policy::PolicyPtr policy, std::uint64_t version, std::uint64_t price_version, Timestamp now,
             Changes& out);
  const policy::PolicyPtr& policy() const;
  // What the operator has decided beside the policy: providers and keys that are paused take no more work,
  // and what waits for them goes elsewhere where it can.
  void set_overlay(policy::OverlayPtr overlay, Timestamp now, Changes& out);
  const policy::OverlayPtr& overlay() const;
  const Canaries& canaries() const;
  // While draining nothing is started.
  void set_draining(bool draining, Timestamp now, Changes& out);
  std::vector<TryId> live_tries() const;

  // --- Questions. Change nothing.
  // For a row as read from the journal; nullopt if it has ended.
  std::optional<QueueView> queue_view(const JobRow& row, Timestamp now) const;
  Why why(const JobRow& row, Timestamp now) const;
  // Current periods as they are at `now`, whether or not anything has happened in them yet.
  UsageView usage(AccountId id, Timestamp now) const;
  std::optional<UsageView> team_usage(std::string_view team, Timestamp now) const;  // nullopt: no such team
  UsageView platform_usage(Timestamp now) const;
  RateView rates(AccountId id, Timestamp now) const;
  // The account's work in memory, running and waiting heads, that holds something of `meter` (as
  // LimitReached::meter names it; empty: of anything), the most first, at most `limit`. Looks at the heads of
  // its queues, and at all that run or are scheduled.
  Holders holders(AccountId id, std::size_t limit, std::string_view meter = {}) const;
  // Books in memory, for a recount by tests: sorted by (scope, account, team, start).
  std::vector<PeriodRow> periods() const;
  // percent and message of a running job; 0 and "" otherwise.
  std::pair<std::uint8_t, std::string> progress_of(JobId id) const;

  struct PoolStats {
    std::string name;
    std::uint32_t slots = 0, running = 0;
    bool paused = false;        // by the operator
    bool breaker_open = false;  // its upstream only fails
    std::vector<Gate::KeyState> keys = {};
    std::array<std::uint64_t, policy::kClassCount> queued{};  // by class_index
    std::optional<std::uint64_t> claims = {};  // that wait for work; nullopt: nobody claims it here
  };
  struct Stats {
    std::vector<PoolStats> pools;
    std::uint64_t queued = 0, scheduled = 0, processing = 0;
    std::size_t accounts = 0, jobs_in_memory = 0;
  };
  Stats stats() const;
  // Counters and what is in memory, for a recount against the journal by tests: sorted by (account, pool).
  std::vector<PutQueueCount> queue_counts() const;
  std::uint32_t running(AccountId id) const;  // live tries
  // Why no slot should idle: a job that may run now in a pool with room, if any. Tests expect none (I10).
  std::optional<JobId> startable(Timestamp now) const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace turnpike::engine
