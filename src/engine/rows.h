// What the engine decided, as rows for the journal. The journal stores them as they are and gives them back;
// it knows none of their rules. Every persisted field is documented here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/money.h"
#include "base/time.h"
#include "policy/meters.h"
#include "policy/policy.h"

namespace turnpike::engine {

// Numbers group commits, from 1, without a gap. Everything decided into one batch becomes durable together.
using Batch = std::uint64_t;

// More of a meter, or of cost, than the plan gives; until it expires.
struct Grant {
  GrantId id;
  std::optional<policy::Meter> meter;  // one of meter, content type and cost is meant
  std::string content;                 // content type; empty: none
  std::int64_t amount = 0;             // > 0; the meter's units, jobs of the type, or nano-USD of cost
  std::int64_t spent = 0;  // of amount, in periods that are over; what is left stacks on the plan's limit
  Wall granted_at;
  Wall expires_at = kNever;  // kNever: never
  std::string reason;        // for the audit and for the account to read
  friend bool operator==(const Grant&, const Grant&) = default;
};
constexpr std::size_t kGrantsMax = 64;  // of one account; expired ones are dropped with the next change

struct AccountRow {
  AccountId id;
  std::string user_id;  // the application's own id of this user: unique, 1..255 bytes of UTF-8
  std::string plan;     // name of the plan that applies
  Wall created_at;
  // The policy version whose plan applies, for who was subscribed when a plan with `grandfather` changed; 0:
  // the one in force.
  std::uint64_t plan_version = 0;
  std::string overrides =
      {};  // own limits over the plan's: a JSON object as policy::overridden reads it; empty: none
  std::string team = {};       // shares this team's limits; empty: none
  std::string time_zone = {};  // of its periods, IANA name; empty: accounts.time_zone of the configuration
  Wall anchor_at = kNever;     // whose day anchored periods begin on; kNever: created_at
  std::vector<Grant> grants = {};
};

// --- Holds, books of a period, ledger

// What work has set aside, from when it was accepted until it ends. Released where nothing was used, settled
// where something was. All in the periods and at the price that admitted it.
struct Hold {
  policy::Amounts amounts;    // the most it can use, its own count (jobs or calls: 1) included
  Money cost;                 // the most that its next try can cost
  std::string content;        // content type it counts for, once; empty: none
  std::string team;           // the account's team when it was taken; empty: none
  Wall account_period;        // starts of the periods it is held in
  Wall team_period = kNever;  // kNever: no team
  Wall platform_period;
  policy::PricePtr price;           // its candidate's; null: none known, costs are recorded as 0
  std::uint64_t price_version = 0;  // policy version that brought the price table
  bool may_bill = false;            // a try of it that is lost may have been billed
  friend bool operator==(const Hold& a, const Hold& b);  // prices by value
};

enum class Scope : std::uint8_t { kAccount = 0, kTeam = 1, kPlatform = 2 };
const char* scope_name(Scope scope);  // "account", "team", "platform"

// The books of one scope for one period. `held` of jobs + `calls_held` of calls = all that is held; `used` is
// what the ledger's entries of this period add up to.
struct PeriodRow {
  Scope scope{};
  AccountId account;  // kAccount
  std::string team;   // kTeam
  Wall start;
  Wall end;
  policy::Amounts used, held, calls_held;
  Money cost_used, cost_held, cost_calls_held;
  // Settled above what was held for it: what a limit may be passed by.
  policy::Amounts debt;
  Money cost_debt;
  struct Content {
    std::string type;
    std::int64_t used = 0, held = 0, calls_held = 0;
    friend bool operator==(const Content&, const Content&) = default;
  };
  std::vector<Content> content;  // in order of first use
  std::uint64_t holds = 0;       // jobs and calls that hold something here
  // Thresholds told in this period: (meter's number, 100 + n: content[n], 255: cost; threshold in permille).
  std::vector<std::pair<std::uint8_t, std::uint32_t>> told;
  bool current = true;  // false: over; loaded at a start only while something is held in it
};

enum class EntryKind : std::uint8_t {
  kCompleted = 0,   // a try that completed its job or call: meters and cost
  kFailed = 1,      // a try that failed or was stopped, and was billed: cost alone
  kLost = 2,        // a try that was lost and may have been billed: at what was held
  kReversal = 3,    // takes a kLost back, once: its amounts negated
  kCorrection = 4,  // what the lost try turned out to have used; follows its reversal
  // Calls in flight at a crash, at what was held: one entry for each period row that held for calls, charging
  // that row alone (the other periods are kNever; of a team or the platform also the account is none, and
  // nothing is rolled up).
  kCallsLost = 5,
};
const char* entry_kind_name(EntryKind kind);

// One line of the ledger. Append-only; unique on (try, kind), and so on (job, attempt, try).
struct LedgerEntry {
  EntryKind kind{};
  Wall at;
  AccountId account;
  std::string team;  // the hold's
  std::string plan;  // that admitted it
  JobId job;         // or call; none for kCallsLost
  std::uint32_t attempt = 0;
  TryId try_id;
  bool call = false;
  std::string task, provider, model, model_version;
  std::uint64_t price_version = 0;
  policy::Amounts meters;  // charged to quotas
  std::string content;     // content type charged, once; kReversal takes it back; empty: none
  Money cost;              // charged
  Money debt;              // of cost: what was not held
  // Starts of the periods charged.
  Wall account_period, team_period = kNever, platform_period;
};

enum class JobState : std::uint8_t {
  kScheduled = 0,  // waits for a time: run_at, or the delay before a retry
  kQueued = 1,     // waits for its turn
  kProcessing = 2,
  kCompleted = 3,
  kFailed = 4,
  kCancelled = 5,
  kExpired = 6,  // waited longer than its plan allows
};
constexpr bool ended(JobState s) {
  return s >= JobState::kCompleted;
}
const char* job_state_name(JobState s);  // as api.md spells `status`

struct JobError {
  std::string code;      // "transient", "timeout", ... (failure_class_name), "crashed", "provider_removed"
  std::string message;   // for a person
  std::string provider;  // who failed; empty if none was asked
  friend bool operator==(const JobError&, const JobError&) = default;
};

// What decided so far, for `why`. At most kHistoryMax entries a job; beyond, the oldest after the first are
// dropped.
enum class HistoryKind : std::uint8_t {
  kSubmitted,      // text: what it waits for at first; a: its model was named by the request (1) or is the
                   // first of its task that the plan could use (2), 0: not recorded; b: its provider's place,
                   // from 1, in the plan's order (> 0) or in the model's (< 0)
  kStarted,        // a: account's running jobs with this one, b: its cap (0: unlimited); text: provider
  kAttemptFailed,  // a: attempt; text: code: message
  kRetryAt,        // a: Unix microseconds of the next attempt
  kTryLost,        // a: tries lost so far; text: why (server stopped, lease ran out)
  kHandedBack,     // drain: back to the queue, not an attempt
  kCompleted,
  kFailed,     // text: code: message
  kCancelled,  // text: by whom
  kExpired,
  kRetriedByUser,
  kWaitsForQuota,  // when due, nothing was left of a limit; a: Unix microseconds of the next attempt; text:
                   // which
  kRouted,         // text: how its model's version was chosen
  kFellBack,       // a: attempt, which goes on elsewhere; text: provider, class: message
};
struct HistoryEntry {
  HistoryKind kind{};
  Wall at;
  std::int64_t a = 0;
  std::int64_t b = 0;
  std::string text;
  friend bool operator==(const HistoryEntry&, const HistoryEntry&) = default;
};
constexpr std::size_t kHistoryMax = 24;

struct ArtifactRef {
  ArtifactId id;
  std::string sha256;  // hex
  std::string mime;
  std::uint64_t bytes = 0;
  std::string extension;  // without dot: the name of the file is sha256.extension
  friend bool operator==(const ArtifactRef&, const ArtifactRef&) = default;
};

using Usage =
    std::vector<std::pair<std::string, std::int64_t>>;  // meter -> amount, e.g. audio_ms 2350, pixels 65536

// Overrides a request may carry for its own job.
struct JobOptions {
  std::optional<policy::Backoff> backoff;  // whole: base, factor, cap, jitter; attempts are in max_attempts
  std::optional<Duration> timeout;         // of each attempt
  WebhookId webhook;  // the endpoint that is told how the job ends, whatever else it wants; none: no such
  friend bool operator==(const JobOptions& a, const JobOptions& b);
};

// One of the upstreams that can serve a job. Its price is today's where the job is read back.
struct RouteStep {
  std::string provider;
  std::string pool;            // where it waits for it
  std::string upstream_model;  // as the provider names it
  friend bool operator==(const RouteStep&, const RouteStep&) = default;
};
constexpr std::size_t kRouteMax = 32;  // more upstreams than that are not tried

// The part of a job that changes. An update writes this and leaves the body alone.
struct JobRow {
  JobId id;  // also its age: smaller is older
  AccountId account;
  JobState state = JobState::kQueued;
  std::string pool;           // where it waits and runs
  std::int32_t priority = 0;  // the account's own; higher first
  Wall due_at = kNever;       // kScheduled: when it becomes queued
  Wall expires_at = kNever;   // queued before its first start: when it expires
  std::string dedupe_key;     // unique among the account's jobs that have not ended; empty: none
  // Below: not looked up by the journal.
  std::string task;
  std::string plan;      // of the last start; before that, of the submit
  std::string provider;  // candidate that serves it
  std::string model;     // as users name it
  std::string model_version;
  std::string upstream_model;  // as the provider names it
  std::vector<RouteStep> route =
      {};                     // upstreams in the order to try them; empty: there is only the one above
  std::uint32_t step = 0;     // of route: the one above
  bool falls_back = false;    // its next try belongs to the attempt that has begun
  std::uint32_t attempt = 0;  // attempts begun; a try lost in a crash does not count
  std::uint32_t max_attempts = 3;
  std::uint32_t lost = 0;  // tries lost (crash, lease); bounded by kLostMax
  TryId current_try;       // while processing
  JobOptions options;
  Wall created_at;
  Wall queued_at = kNever;  // when it last began to wait for its turn
  Wall first_started_at = kNever;
  Wall started_at = kNever;  // of the last attempt
  Wall finished_at = kNever;
  Usage usage;               // of the try that completed it
  Money cost;                // of all its tries, as charged when they ended; the ledger may know better later
  std::string content_type;  // it counts for; empty: none
  policy::Amounts estimate;  // the most that one try can use; what a hold for it is made of
  std::optional<Hold> hold;  // while it waits for its turn, runs, or waits for another attempt
  std::optional<JobError> error;  // of the last failed attempt; cleared on completion
  std::string output;             // completed: the result's `output`, JSON text, at most 64 KiB
  std::vector<ArtifactRef> artifacts;
  std::vector<HistoryEntry> history;
  RunId run;  // whose step it is (job_of); none: it belongs to no run
};
constexpr std::uint32_t kLostMax = 16;

// The part of a job that never changes. Written once.
struct JobBody {
  std::string input;       // JSON text, at most 1 MiB
  std::string metadata;    // JSON object text, at most 16 KiB; empty: {}
  std::string request_id;  // of the request that submitted it
};
using JobBodyPtr = std::shared_ptr<const JobBody>;

// --- Runs of workflows

enum class StepState : std::uint8_t {
  kWaiting = 0,  // for steps that it needs
  kRunning = 1,  // its jobs were submitted, and not all have ended
  kCompleted = 2,
  kSkipped = 3,  // its `when` did not hold
  kFailed = 4,   // one of its jobs failed or expired
  kCancelled = 5,
};
const char* step_state_name(StepState s);  // "waiting", "running", ...

struct StepRow {
  std::string name;
  StepState state = StepState::kWaiting;
  std::uint32_t first_job = 0;  // place of its first job among the run's, from 0: see job_of
  std::uint32_t jobs = 0;  // one, or one for each item of its list; 0: not begun, skipped, or an empty list
  std::uint32_t completed = 0;  // of its jobs
  Wall started_at = kNever;     // when its jobs were submitted
  Wall finished_at = kNever;
  // While it waits, of a step that will have one job for certain: what that will count for, its content type
  // and one of `jobs`. Its job's hold takes its place.
  std::optional<Hold> hold = {};
  friend bool operator==(const StepRow&, const StepRow&) = default;
};

// A run of a workflow, as far as it changes. It holds no slot: its steps are jobs.
struct RunRow {
  RunId id;  // also its age, and that of its jobs
  AccountId account;
  JobState state = JobState::kQueued;  // kQueued (nothing of it has started yet), kProcessing, or ended:
                                       // kCompleted, kFailed, kCancelled
  // Jobs of it that have not ended. A run that has ended is looked after until there are none.
  std::uint32_t live_jobs = 0;
  // Below: not looked up by the journal.
  std::string workflow = {};        // its name
  std::string plan = {};            // of the account when it was started
  std::int32_t priority = 0;        // of its jobs
  std::uint64_t revision = 0;       // counts what changes the state of a step or the run
  std::uint32_t next_job = 0;       // places of jobs given out
  std::vector<StepRow> steps = {};  // as the workflow has them
  Wall created_at = {};
  Wall started_at = kNever;  // when the first of its jobs started
  Wall finished_at = kNever;
  Money cost = {};                          // of its jobs that have ended
  WebhookId webhook = {};                   // the endpoint that is told how it ends; none: no such
  std::optional<JobError> error = {};       // kFailed; its code is that of the job, or "invalid_step"
  std::string cancelled_by = {};            // kCancelled: by whom
  std::string output = {};                  // completed: JSON text, at most kRunOutputMax
  std::vector<ArtifactRef> artifacts = {};  // of the result
};
constexpr std::uint32_t kRunJobsMax = 1'000;  // jobs of one run, all steps together
constexpr std::size_t kRunStepsMax = 100;
constexpr std::size_t kRunOutputMax = std::size_t{64} << 10;
// The job in a place of a run: ids are set aside when a run starts, so its jobs are as old as it is, and a
// place is one job for ever.
constexpr JobId job_of(RunId run, std::uint32_t place) {
  return JobId{run.value + 1 + place};
}

// The part of a run that never changes. Written once.
struct RunBody {
  std::string workflow;    // the definition when it was started: JSON, as policy::Workflow::parse reads it
  std::string input;       // JSON object text, at most 1 MiB
  std::string metadata;    // JSON object text, at most 16 KiB; empty: {}
  std::string request_id;  // of the request that started it
};
using RunBodyPtr = std::shared_ptr<const RunBody>;

// --- Mutations: upserts by key; within a batch the last one wins
// --------------------------------------------------------

struct PutAccount {
  AccountRow row;
};
struct PutJob {
  JobRow row;
  JobBodyPtr body;  // set exactly once, with the first PutJob of a job
};
// How many jobs of an account wait in a pool (state kQueued) and how many are scheduled. Counts are kept,
// never counted.
struct PutQueueCount {
  AccountId account;
  std::string pool;
  std::uint64_t queued = 0;
  std::uint64_t scheduled = 0;
};
struct PutRun {
  RunRow row;
  RunBodyPtr body;  // set exactly once, with the first PutRun of a run
};
struct DropJob {
  JobId id;
};  // retention
struct PutPeriod {  // key: scope, account or team, start
  PeriodRow row;
};
// Appended, never merged. Reads find it rolled up by hour and by day from the same commit on.
struct AddEntry {
  LedgerEntry entry;
};

using Mutation = std::variant<PutAccount, PutJob, PutQueueCount, DropJob, PutPeriod, AddEntry, PutRun>;

// --- Events: what users are told, in order for each subject
// --------------------------------------------------------------

enum class EventType : std::uint8_t {
  kJobQueued,
  kJobStarted,
  kJobProgress,
  kJobCompleted,
  kJobFailed,
  kJobCancelled,
  kJobExpired,
  kUsageThreshold,  // text: JSON {"scope","team","meter","threshold_percent","used","limit","resets_at"};
                    // account: none for a group
  kPlanChanged,     // text: JSON {"from","to","by"}; by: an actor, or "rule:NAME"
  // Made by the node, of no account:
  kModelDiscovered,  // text: JSON {"provider","kind","id","name","model","version","status"}
  kPolicyChanged,    // text: JSON {"version","previous","hash","by","reason","rolled_back_to"}
  // text of both: JSON {"alert","signal","unit","value","over","within_seconds","upstreams"}; of
  // kAlertCleared also "raised_at" and "reason"
  kAlertRaised,
  kAlertCleared,
  // Of a run; text of kRunFailed: code.
  kRunStarted,
  kRunCompleted,
  kRunFailed,
  kRunCancelled,
  // Of a step of a run; text: its name.
  kStepQueued,
  kStepCompleted,
  kStepSkipped,
  kStepFailed,
};
constexpr EventType kLastEventType = EventType::kStepFailed;
const char* event_type_name(EventType t);  // "job.queued"
// An event's id is (batch << 20) | its index in the batch.
struct Event {
  EventType type{};
  Wall at;
  AccountId account;
  JobId job;
  std::uint32_t attempt = 0;
  std::uint8_t percent = 0;  // kJobProgress, 0..100
  std::string text = {};     // progress: message; failed: code; started: provider
  WebhookId webhook = {};    // of a job or run that names one
  RunId run = {};            // of a run, or of a job that is a step of one
};

}  // namespace turnpike::engine
