// The journal: batches in, rows out. It is the truth; whatever it acknowledged survives a crash of the
// process and of the machine. One writer (the node's committer thread) calls commit(); any number of threads
// read.
//
// Invariants:
//   J1  commit() is all or nothing, and durable when it returns.
//   J2  batches are committed in order, numbered from last_batch()+1 without a gap.
//   J3  a read sees all of some committed batch and nothing of a later one; it says which (`at`).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/rows.h"
#include "policy/discovered.h"

namespace turnpike::journal {

using engine::Batch;

// --- Rows that the node and the api keep beside the engine's
// ------------------------------------------------------------

enum class Role : std::uint8_t { kAdmin = 0, kService = 1, kAccount = 2, kWorker = 3 };

struct KeyRow {
  KeyId id;
  std::string hash;  // SHA-256 of the key's text, 32 raw bytes; the text itself is stored nowhere
  Role role = Role::kAccount;
  AccountId account;  // role kAccount: whose; else none
  std::string name;   // what its maker calls it
  Wall created_at;
  Wall expires_at = kNever;  // kNever: does not expire
  Wall revoked_at = kNever;  // kNever: in force
};

struct ArtifactRow {
  engine::ArtifactRef ref;
  AccountId account;  // who may see it
  JobId job;          // the job that made it; none for an upload
  Wall created_at;
};

struct IdempotencyRow {
  std::string scope;      // SHA-256 of account, method, path and Idempotency-Key, 32 raw bytes
  std::string body_hash;  // SHA-256 of the request body, 32 raw bytes
  int status = 0;         // of the stored answer
  std::string content_type;
  std::string body;  // of the stored answer; at most 1 MiB
  Wall expires_at;
};

struct PolicyVersionRow {
  std::uint64_t version = 0;  // from 1
  std::string hash;           // SHA-256 of text, hex
  std::string text;           // the YAML as applied; secrets are references in it
  Wall applied_at;
  std::string applied_by;           // "start", "signal", "cli", a key's id
  std::string reason = {};          // as given; "roll back to version 3"
  std::uint64_t price_version = 0;  // the version whose price table this one has; 0: its own
};

struct AuditRow {
  Wall at;
  std::string actor;    // key id, "cli", "start"
  std::string action;   // "account.plan_changed"
  std::string subject;  // the id it is about
  std::string detail;   // JSON text
};

// A row of the audit as it stands: append-only, each hashed together with the one before it.
struct StoredAudit {
  std::uint64_t number = 0;  // from 1, without a gap
  AuditRow row;
  std::string hash;  // audit_chain.h, 32 raw bytes
};

// Where an application wants to be told of events.
struct WebhookEndpointRow {
  WebhookId id;
  AccountId account;  // whose events; none: everybody's
  std::string url;
  std::vector<std::string> events;  // names of types; "job.*" and "*" stand for many; no spaces in them
  std::string description;
  std::string secret;      // "whsec_" and base64; what its deliveries are signed with
  std::string old_secret;  // signs too until `old_until`; empty: none
  Wall old_until = kNever;
  std::string disabled;  // why nothing is sent to it; empty: in force
  EventId since;         // only events after this one concern it
  Wall created_at;
  // What putting the row does. One that was removed meanwhile is not made again by a change; removing takes
  // its deliveries along.
  enum class Change : std::uint8_t { kNew, kChanged, kRemoved } change = Change::kChanged;
};

// One event on its way to one endpoint.
enum class DeliveryState : std::uint8_t { kPending = 0, kDelivered = 1, kFailed = 2 };
struct WebhookDeliveryRow {
  WebhookId endpoint;
  EventId event;
  std::string type;     // "job.completed"
  std::string subject;  // deliveries of one subject to one endpoint keep their order
  std::string payload;  // JSON, as it is signed; put again while empty: the stored one stays
  DeliveryState state = DeliveryState::kPending;
  std::uint32_t attempts = 0;  // that were made
  int status = 0;              // HTTP status of the last; 0: there was no answer
  std::string error;           // of the last; empty: it was taken
  Wall created_at;
  Wall next_at = kNever;   // kPending: not before
  Wall ended_at = kNever;  // kDelivered, kFailed
};

// Deliveries of all events up to this one were made.
struct WebhookCursorRow {
  EventId event;
};

// What the operator has decided beside the configuration. There is one; the audit has what came before.
struct OverlayRow {
  std::string text;  // JSON, as policy::overlay_json writes it
  Wall changed_at;
  std::string changed_by;  // a key's id, "cli", "canary:ID"
};

// Something that a provider's list had and the configuration did not. Put once, and kept for good: what was
// seen is not announced again. One of that provider, kind and id that is there already stays as it was.
struct DiscoveryRow {
  std::uint64_t number = 0;  // in the order in which they were found, from 1, without a gap
  policy::Discovery found;
};

using Record =
    std::variant<KeyRow, ArtifactRow, IdempotencyRow, PolicyVersionRow, AuditRow, WebhookEndpointRow,
                 WebhookDeliveryRow, WebhookCursorRow, OverlayRow, DiscoveryRow>;

// One group commit. The node merges before: at most one PutJob/PutAccount/PutQueueCount a key.
struct Commit {
  Batch batch = 0;
  Wall at;
  std::vector<engine::Mutation> mutations;
  std::vector<Record> records;
  std::vector<engine::Event> events;
  bool empty() const { return mutations.empty() && records.empty() && events.empty(); }
};

// --- Reads
// -------------------------------------------------------------------------------------------------------------

struct StoredJob {
  engine::JobRow row;
  engine::JobBodyPtr body;  // null where the caller did not ask for it
  Batch at = 0;             // the batch this was read at
};

struct JobQuery {
  std::optional<AccountId> account{};  // nullopt: all accounts (admin)
  std::optional<engine::JobState> state{};
  std::string task{};      // empty: any
  JobId starting_after{};  // exclusive; newest first, so smaller ids follow
  JobId ending_before{};   // exclusive; the page just before this one
  RunId run{};             // whose steps; none: any
  std::size_t limit = 20;  // 1..100
};
struct JobPage {
  std::vector<StoredJob> jobs;  // newest first; bodies included
  bool has_more = false;
};

struct StoredRun {
  engine::RunRow row;
  engine::RunBodyPtr body;  // null where the caller did not ask for it
  Batch at = 0;             // the batch this was read at
};
struct RunQuery {
  std::optional<AccountId> account{};  // nullopt: all accounts (admin)
  std::optional<engine::JobState> state{};
  std::string workflow{};  // empty: any
  RunId starting_after{};  // exclusive; newest first, so smaller ids follow
  RunId ending_before{};   // exclusive; the page just before this one
  std::size_t limit = 20;  // 1..100
};
struct RunPage {
  std::vector<StoredRun> runs;  // newest first; bodies included
  bool has_more = false;
};

// The heads of one queue beyond a watermark, in queue order (priority descending, then id ascending).
struct QueueHeads {
  std::vector<StoredJob> jobs;  // state kQueued; bodies included up to kInlineBody bytes, else null
  Batch at = 0;
};
struct TimedHeads {
  std::vector<StoredJob> jobs;  // in order of (time, id); bodies not included
  Batch at = 0;
};
constexpr std::size_t kInlineBody = 4096;

struct StoredEvent {
  EventId id;
  engine::Event event;
};
// An event's id is (batch << 20) | its index in the batch.
constexpr unsigned kEventIndexBits = 20;
constexpr std::size_t kEventsInBatchMax = std::size_t{1} << kEventIndexBits;
constexpr EventId event_id(Batch batch, std::size_t index) {
  return {(batch << kEventIndexBits) | index};
}
constexpr Batch batch_of(EventId id) {
  return id.value >> kEventIndexBits;
}
// No event of `batch` comes after this.
constexpr EventId last_event_of(Batch batch) {
  return event_id(batch, kEventsInBatchMax - 1);
}
// Batches that one call of Journal::events looks through at most.
constexpr std::size_t kEventBatchesScanMax = 4096;

// What a start needs. Bounded by accounts, running jobs and queues, not by queued jobs.
struct Recovered {
  Batch last_batch = 0;       // 0: a new journal
  std::uint64_t last_id = 0;  // largest id value that any batch ever named, dropped rows included
  Wall last_at = kNever;      // time of the last batch
  std::vector<engine::AccountRow> accounts;
  std::vector<engine::PutQueueCount> queues;  // with queued + scheduled > 0
  std::vector<StoredJob> processing;          // bodies not included
  std::vector<engine::RunRow> runs;           // not ended, or with live jobs
  std::vector<KeyRow> keys;
  std::optional<PolicyVersionRow> policy;       // the version in force
  std::optional<OverlayRow> overlay;            // nothing: the operator has decided nothing yet
  std::vector<DiscoveryRow> discoveries;        // by number
  std::vector<engine::PeriodRow> periods;       // current, or with something held
  std::vector<PolicyVersionRow> grandfathered;  // versions that accounts refer to by plan_version
};

// --- Usage, as it was rolled up

struct UsageQuery {
  enum class Grain : std::uint8_t { kHour, kDay } grain = Grain::kDay;
  Wall from, to;  // [from, to), by when it was settled
  std::optional<AccountId> account;
  // What to tell apart; sums over the rest.
  bool by_time = true, by_account = false, by_plan = false, by_task = false, by_model = false,
       by_provider = false;
  std::size_t limit = 1000;  // rows, 1..10,000
};
struct UsageRow {
  Wall at = kNever;  // start of the hour or day, UTC; kNever: not told apart
  AccountId account;
  std::string plan, task, model, provider;
  policy::Amounts meters = {};
  Money cost = {};
  std::uint64_t completed = 0,
                failed = 0;  // tries: kCompleted and kCorrection; kFailed, kLost and kCallsLost
};
struct UsageReport {
  std::vector<UsageRow> rows;  // by time, then by the other keys
  bool truncated = false;
};

// Everything recounted from the ledger and the rows. `mistakes`: what does not agree, at most 100, a sentence
// each.
struct BooksReport {
  std::uint64_t entries = 0, periods = 0, rollups = 0, jobs = 0;
  std::vector<std::string> mistakes;
};

// The audit's chain, recomputed. `mistake`: the first row that does not agree, in a sentence; empty: all do.
struct AuditReport {
  std::uint64_t rows = 0;
  std::string head;  // hash of the last row, 32 raw bytes; empty: there is none
  std::string mistake;
};

struct Webhooks {
  std::vector<WebhookEndpointRow> endpoints;  // by id
  EventId cursor;
  std::vector<std::pair<WebhookId, std::uint64_t>> pending;  // deliveries that wait, where there are any
};
struct DeliveryQuery {
  WebhookId endpoint;
  std::optional<DeliveryState> state{};
  EventId after{};   // exclusive; oldest first, unless
  EventId before{};  // this is set: exclusive, newest first; max() for the newest of all
  std::size_t limit = 100;
};

class Journal {
 public:
  virtual ~Journal() = default;

  // Durable on success. On failure nothing of the batch is stored, or (after an I/O error) it is unknown what
  // is: the caller must stop the process and recover. Every commit after a failed one is refused.
  // Refused with kInternal: a batch out of turn, a PutJob without body for a job that is not there, a user id
  // or a live dedupe key that another row has.
  virtual Result<void> commit(const Commit& commit) = 0;
  virtual Result<Recovered> recover() = 0;
  virtual Batch last_batch() const = 0;  // last committed; thread-safe

  // Reads. Thread-safe.
  virtual Result<std::optional<StoredJob>> job(JobId id, bool with_body) = 0;
  virtual Result<JobPage> jobs(const JobQuery& query) = 0;
  virtual Result<std::optional<StoredRun>> run(RunId id, bool with_body) = 0;
  virtual Result<RunPage> runs(const RunQuery& query) = 0;
  // All jobs of a run, by id; without bodies. At most engine::kRunJobsMax.
  virtual Result<std::vector<StoredJob>> run_jobs(RunId id) = 0;
  // The account's job that has this dedupe key and has not ended; `at` is set either way.
  virtual Result<std::pair<std::optional<StoredJob>, Batch>> job_by_dedupe_key(AccountId account,
                                                                               std::string_view key) = 0;
  // Jobs in state kQueued of (account, pool) that come after (priority, id) in queue order; nullopt: from the
  // first.
  virtual Result<QueueHeads> queue_heads(AccountId account, std::string_view pool,
                                         std::optional<std::pair<std::int32_t, JobId>> after,
                                         std::size_t limit) = 0;
  // Jobs in state kScheduled after (due_at, id).
  virtual Result<TimedHeads> scheduled_heads(std::pair<Wall, JobId> after, std::size_t limit) = 0;
  // Jobs in state kQueued with expires_at set, after (expires_at, id).
  virtual Result<TimedHeads> expiring_heads(std::pair<Wall, JobId> after, std::size_t limit) = 0;
  // Events after `after`, in order, of one account, one job and one run (nullopt: any); at most `limit`.
  // `truncated` is true if events after `after` may already have been dropped by retention. Work is bounded:
  // a page may be short, or empty, and not be the last; all is read once batch_of(scanned_to) >=
  // last_batch().
  struct EventPage {
    std::vector<StoredEvent> events;
    bool truncated = false;
    EventId scanned_to;  // pass it as the next `after`: nothing up to here is left to see
  };
  virtual Result<EventPage> events(EventId after, std::optional<AccountId> account, std::optional<JobId> job,
                                   std::optional<RunId> run, std::size_t limit) = 0;
  virtual Result<std::optional<IdempotencyRow>> idempotency(std::string_view scope, Wall now) = 0;
  virtual Result<std::optional<ArtifactRow>> artifact(ArtifactId id) = 0;
  // Rows that name this content; several accounts may own the same bytes.
  virtual Result<std::vector<ArtifactRow>> artifacts_by_sha256(std::string_view sha256) = 0;
  virtual Result<std::vector<PolicyVersionRow>> policy_versions() = 0;  // oldest first
  virtual Result<std::optional<PolicyVersionRow>> policy_version(std::uint64_t version) = 0;
  // Newest first; below `before`, or from the newest where that is 0.
  virtual Result<std::vector<StoredAudit>> audit(std::uint64_t before, std::size_t limit) = 0;
  // Recomputes the chain in one snapshot.
  virtual Result<AuditReport> verify_audit() = 0;
  virtual Result<Webhooks> webhooks() = 0;
  virtual Result<std::vector<WebhookDeliveryRow>> deliveries(const DeliveryQuery& query) = 0;  // no payloads
  virtual Result<std::optional<WebhookDeliveryRow>> delivery(WebhookId endpoint, EventId event) = 0;
  // Events that operators look for (is_alert): kept as long as the ledger. Newest first; before
  // `before`, or from the newest where that is none.
  virtual Result<std::vector<StoredEvent>> alerts(EventId before, std::size_t limit) = 0;
  virtual Result<UsageReport> usage(const UsageQuery& query) = 0;
  // Entries of the ledger in order, after (batch, index); at most `limit`. For exports and recounts.
  struct LedgerPage {
    std::vector<engine::LedgerEntry> entries;
    std::pair<Batch, std::uint32_t> last;  // of the page; pass it on
    bool more = false;
  };
  virtual Result<LedgerPage> ledger(std::pair<Batch, std::uint32_t> after, std::optional<AccountId> account,
                                    std::size_t limit) = 0;
  // One consistent snapshot: holds of all jobs that have not ended = held; entries of the ledger = used and
  // rollups; no try charged twice.
  virtual Result<BooksReport> verify_books() = 0;
  // Books of an account's periods, newest first.
  virtual Result<std::vector<engine::PeriodRow>> periods(AccountId account, std::size_t limit) = 0;

  // Retention: removes what ended, or was made, before these times (the jobs of a run with it, none before);
  // bounded work a call, called by the committer between batches (it is a commit of its own). An artifact
  // stays as long as the job that made it is there. Returns the content hashes that no ArtifactRow names any
  // more, whose files the caller then deletes; `more` if another call would find more to do.
  struct Retention {
    Wall jobs_before{}, artifacts_before{}, events_before{}, now{};
    // Ledger entries, alerts and hourly rollups by their time, ended periods by their end. Daily rollups
    // stay.
    Wall ledger_before{};
    Wall deliveries_before{};  // of webhooks, that have ended
    std::size_t rows_max = 500;
  };
  struct Removed {
    std::vector<std::pair<std::string, std::string>> files;  // sha256, extension
    std::size_t rows = 0;
    bool more = false;
  };
  virtual Result<Removed> retain(const Retention& retention) = 0;
};

}  // namespace turnpike::journal
