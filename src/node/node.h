// One running Turnpike: the engine behind its mutex, the commit loop, the runners, timers, the event hub and
// the artifact store. Handlers call it from io threads; every awaitable resumes on the caller's own executor.
//
// What is promised here:
//   N1  Effects are released only after their mutations are committed; nobody is told anything newer than
//   what is
//       committed.
//   N2  A commit that fails stops the process (Options::on_fatal), for what is in memory is then a guess.
//   N3  Every try is one coroutine in a TaskGroup on an io thread, and ends with exactly one settle.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "engine/engine.h"
#include "journal/journal.h"
#include "net/client.h"
#include "net/io_threads.h"
#include "node/alerts.h"
#include "node/answer_cache_control.h"
#include "node/refusals.h"
#include "node/watch_state.h"
#include "policy/discovered.h"
#include "policy/estimate.h"
#include "policy/load.h"
#include "policy/overlay.h"
#include "policy/policy.h"
#include "provider/provider.h"
#include "provider/work_desk.h"

namespace turnpike::node {

class CallTrail;

// What a job's input says, where it is one that its task takes.
struct StepInput {
  policy::Ask ask;
  std::optional<ArtifactId> image;  // an artifact that must be the account's own
};

struct Options {
  std::filesystem::path data_dir;  // journal, artifacts/, work/, spool/
  policy::PolicyPtr policy;
  std::string applied_by = "start";
  std::set<std::string> unavailable_providers;
  std::function<void(std::string_view why)>
      on_fatal;  // must not return control to the node: ends the process
  engine::EngineOptions engine;
  // Seams; each may be empty, and then is: SQLite in data_dir, the system's clock, provider::make_provider.
  std::unique_ptr<journal::Journal> journal;
  std::shared_ptr<const Clock> clock;
  std::function<std::unique_ptr<provider::Provider>(const policy::Provider& config,
                                                    std::vector<std::string>& warnings)>
      make_provider;
  std::shared_ptr<net::Client> list_client;     // reads providers' lists; null: one that is made
  std::shared_ptr<net::Client> picture_client;  // fetches pictures that inputs name; null: likewise
  // How a step's input is read: as a request's is. Empty: inputs are not looked at, and have no size.
  std::function<Result<StepInput>(std::string_view task, const boost::json::object& input)> read_input;
};

// A job as the api shows it: the committed row, and what memory knows beside it.
struct JobView {
  engine::JobRow row;
  engine::JobBodyPtr body;
  std::string user_id;
  std::string plan;  // shown plan: the account's while it waits, the row's after
  policy::PriorityClass priority_class{};
  std::optional<engine::QueueView> queue;
  std::uint8_t percent = 0;
  std::string progress_message;
};

struct SubmitRequest {
  AccountId account;
  std::string task;
  std::string model;  // empty: the task's default
  std::int32_t priority = 0;
  Wall run_at = kNever;
  std::optional<std::uint32_t> max_attempts;
  engine::JobOptions options;
  std::string dedupe_key;
  std::string content_type;  // empty: none
  policy::Ask ask;           // what the input says about its size
  engine::JobBodyPtr body;
  // With an Idempotency-Key: the row to store with the job in the same commit; `render` fills status and body
  // from the decision. Called under the engine's mutex: it must be quick and must not call the node.
  std::optional<journal::IdempotencyRow> idempotency;
  std::function<std::string(const JobView&)> render;
};
struct SubmitAnswer {
  JobView job;
  engine::RateView rates;  // after it was taken
  bool deduplicated = false;
  std::string rendered;  // by `render`
};

// A run as the api shows it.
struct RunView {
  engine::RunRow row;
  engine::RunBodyPtr body;  // null where it was not asked for
  std::string user_id;
  std::string plan;
  policy::PriorityClass priority_class{};
  std::vector<JobView> jobs;  // of its steps, by id, without bodies; where they were asked for
  std::uint8_t percent =
      0;  // of what its steps have made of it; its jobs' own progress counts where they are there
  std::optional<engine::QueueView> queue;  // of the first of its jobs that waits, where they are there
};

struct RunRequest {
  AccountId account;
  std::string workflow;
  std::int32_t priority = 0;
  WebhookId webhook{};
  std::string input;     // JSON object text
  std::string metadata;  // JSON object text, or empty
  std::string request_id;
  // As of SubmitRequest.
  std::optional<journal::IdempotencyRow> idempotency;
  std::function<std::string(const RunView&)> render;
};
struct RunAnswer {
  RunView run;
  engine::RateView rates;  // after it was taken
  std::string rendered;    // by `render`
};

// Work whose caller waits for the answer. It is not kept: who wants it to survive submits a job.
struct CallRequest {
  AccountId account;
  std::string task;
  std::string model;  // empty: the task's default
  std::string content_type;
  policy::Ask ask;
  engine::JobBodyPtr body;                           // of a task; null where there is a wire call
  std::shared_ptr<const provider::WireCall> wire{};  // over OpenAI's wire
  CacheControl cache{};                              // as the request's Cache-Control says
  std::shared_ptr<CallTrail> trail{};                // null: it belongs to no trace
};

// A wire call's answer beside its row.
struct CallReply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body{};  // in OpenAI's shape; of a stream: nothing. Of a failure: the upstream's words, or none
  std::string stream_end{};  // provider::Success::stream_end
  std::string param{};       // of a failure: the field at fault, where one is known
};
struct CallServing {  // what serves a call, known once its try has begun
  std::string provider, model, model_version;
  std::string upstream_model{};  // as the provider names it
  std::string plan{};            // that it was admitted by
};
struct CallTimes {
  Monotonic admitted{};
  Monotonic started{};     // of its first try; zero: none has been
  Monotonic first_byte{};  // handed on, of a stream; zero: none was
  Duration upstream{0};    // in tries that have ended
  // That it waited for room.
  Duration queued() const { return started == Monotonic{} ? Duration{0} : started - admitted; }
};

struct CallAnswer;

// A stream that has begun. Used by one coroutine, on the executor that called.
class CallStream {
 public:
  // Leaves it, if it has not ended: the upstream is read on to its usage, and the account pays that.
  virtual ~CallStream() = default;
  // The next bytes; empty: no more come, see end().
  virtual boost::asio::awaitable<std::string> read() = 0;
  // How it ended, as CallAnswer::row says. After read() has said that no more comes. Error: kUnavailable.
  virtual boost::asio::awaitable<Result<CallAnswer>> end() = 0;
  // The client has gone: a read() that waits returns. From any thread.
  virtual void leave() = 0;
};

struct CallAnswer {
  // kCompleted or kFailed, with usage, cost, output or error; what a crash would charge for it is durable,
  // and no less than its cost (engine::AnswerCall). Of a stream that has begun: empty.
  engine::JobRow row;
  engine::RateView rates;
  CallReply reply{};
  CallServing serving{};
  CallTimes times{};
  std::shared_ptr<CallStream> stream{};    // not null: the answer comes by it
  CacheResult cache = CacheResult::kNone;  // kHit, kShared: it has no cost, and `usage` is the first answer's
};

// Who changed the policy in force, and why.
struct PolicyChange {
  std::string by;  // "start", "signal", "cli", a key's id
  std::string reason;
  std::optional<std::uint64_t> rolled_back_to = {};  // it is that version's text again
};

// A worker asks for work of providers of kind pull.
struct ClaimRequest {
  std::vector<std::string> providers;  // not empty, each once
  AccountId account{};                 // whose work alone it takes; none: anybody's
  std::uint32_t most = 1;              // tries
  provider::Worker worker;
};
// A claim that waits. Used by one coroutine, on the executor it was made for.
class WorkClaim {
 public:
  // What was not handed over goes back to the queue.
  virtual ~WorkClaim() = default;
  // Once: work of one account, as much as its plan hands out at once; nothing where none came within
  // `at_most`, the worker has left, or the server stops. What comes was committed as started.
  virtual boost::asio::awaitable<std::vector<provider::Work>> wait(Duration at_most) = 0;
  // The worker has gone: a wait() ends. From any thread.
  virtual void leave() = 0;
};

// What an operator decides while it runs: pauses, statuses of versions, pins, canaries, the freeze.
struct OperatorDecision {
  std::function<Result<void>(policy::Overlay& overlay, const policy::Policy& policy)> change;
  std::string by;       // a key's id, "cli", "canary:ID"
  std::string action;   // for the audit: "model.blessed"
  std::string subject;  // what it is about: "writer@2.0.0"
  std::string reason;
};

// The job has ended with this event.
bool is_end(engine::EventType type);
// The run has ended with this event.
bool is_run_end(engine::EventType type);

// Live events for one subscriber, in the order of their ids, each once. Bounded: a subscriber that does not
// keep up is told so and ends.
class Subscription {
 public:
  // A job, a run with the jobs of its steps, or everything of the account that it was made for: of all, where
  // it was made for none.
  struct Everything {
    friend bool operator==(Everything, Everything) = default;
  };
  using Subject = std::variant<Everything, JobId, RunId>;

  virtual ~Subscription() = default;
  struct Item {
    std::vector<journal::StoredEvent> events;  // may be empty on timeout
    bool lagged = false;                       // fell behind: resume from the last event id
    bool closed = false;                       // server stops
  };
  virtual boost::asio::awaitable<Item> next(Duration timeout) = 0;
  // It is told of these too: of what follows `after`, or of what follows now; returns the id of the event
  // that it begins after. `after` may be given only while it is told of nothing, so that the order of ids
  // holds. Not while next() runs.
  virtual EventId add(const std::vector<Subject>& subjects, std::optional<EventId> after) = 0;
  // No more of these; those that it was not told of do not matter. Not while next() runs.
  virtual void remove(const std::vector<Subject>& subjects) = 0;
  // Ends the next() that waits, or the one to come, at once, though nothing may have come. Thread-safe.
  virtual void interrupt() = 0;
  // Wakes next() at once with `closed`; thread-safe (for a client that left).
  virtual void close() = 0;
};

class Node {
 public:
  // Opens the journal in data_dir (and with it locks the folder), removes what an ended process left in work/
  // and spool/, recovers, keeps or makes a policy version, and begins to work. Errors: kConfiguration (the
  // folder is in use: says by whom), kIo.
  static Result<std::unique_ptr<Node>> start(Options options, net::IoThreads& threads);
  virtual ~Node() = default;

  // --- Accounts
  // The account of a user id, made if new (awaits its commit where something changed). `plan` empty: leave or
  // default.
  virtual boost::asio::awaitable<Result<engine::Engine::EnsuredAccount>> ensure_account(
      std::string user_id, std::string plan, bool set_plan, std::string actor) = 0;
  // Engine::change_account, audited; durable on return.
  virtual boost::asio::awaitable<Result<engine::AccountRow>> change_account(
      AccountId id, engine::Engine::AccountChange change, std::string reason) = 0;
  virtual std::optional<engine::AccountRow> account(AccountId id) = 0;
  virtual std::optional<engine::AccountRow> account_by_user(std::string_view user_id) = 0;
  virtual std::vector<engine::AccountRow> accounts(AccountId starting_after, std::size_t limit) = 0;

  // The plan that applies to the account: overrides and grandfathering included.
  virtual policy::Plan plan_of(AccountId id) = 0;
  virtual engine::UsageView usage(AccountId id) = 0;
  virtual std::optional<engine::UsageView> team_usage(std::string_view team) = 0;
  virtual engine::UsageView platform_usage() = 0;
  virtual engine::RateView rates(AccountId id) = 0;
  // Why its overrides do not apply (Engine::overrides_mistake); empty: they do, or it has none.
  virtual std::string overrides_mistake(AccountId id) = 0;

  // --- Refusals
  // Counts it, and keeps it for a while (node/refusals.h) with the plan of its account and who holds what
  // it lacked, as both stand now; fills `plan` and `held_by`.
  virtual void note_refusal(Refusal refusal) = 0;
  // `account` nullopt: of any. Null: there is none, or none any more.
  virtual std::shared_ptr<const Refusal> refusal(std::string_view request_id,
                                                 std::optional<AccountId> account) = 0;

  // --- Calls
  // Resolves once the call has ended and its charge is committed. Errors: those of policy::resolve and
  // Engine::admit; kUnavailable while draining. A call that failed upstream is an answer with an error in its
  // row. A stream resolves as soon as its first bytes have come, or it has ended without any.
  virtual boost::asio::awaitable<Result<CallAnswer>> call(CallRequest request) = 0;

  // --- Jobs
  // Errors: those of policy::resolve and Engine::submit; kUnavailable while draining (with retry_after);
  // kTooLarge.
  virtual boost::asio::awaitable<Result<SubmitAnswer>> submit(SubmitRequest request) = 0;
  // `account` nullopt: any (admin). Another account's job is kNotFound.
  virtual boost::asio::awaitable<Result<JobView>> job(JobId id, std::optional<AccountId> account,
                                                      bool with_body) = 0;
  virtual boost::asio::awaitable<Result<std::vector<JobView>>> jobs(journal::JobQuery query,
                                                                    bool& has_more) = 0;
  virtual boost::asio::awaitable<Result<JobView>> cancel(JobId id, std::optional<AccountId> account,
                                                         std::string by) = 0;
  virtual boost::asio::awaitable<Result<JobView>> retry(JobId id, std::optional<AccountId> account) = 0;
  virtual boost::asio::awaitable<Result<std::pair<JobView, engine::Why>>> why(
      JobId id, std::optional<AccountId> account) = 0;
  // The job once it has ended, or as it stands when `timeout` has passed.
  virtual boost::asio::awaitable<Result<JobView>> wait(JobId id, std::optional<AccountId> account,
                                                       Duration timeout) = 0;

  // --- Runs of workflows
  // Errors: those of Engine::start_run and policy::resolve (the message names the step); kInvalidRequest
  // (`workflow` is unknown; a step that would begin at once has no input that its task takes); kTooLarge;
  // kUnavailable.
  virtual boost::asio::awaitable<Result<RunAnswer>> start_run(RunRequest request) = 0;
  // `account` nullopt: any (admin). With its body, and with its jobs. Another account's run is kNotFound.
  virtual boost::asio::awaitable<Result<RunView>> run(RunId id, std::optional<AccountId> account) = 0;
  virtual boost::asio::awaitable<Result<std::vector<RunView>>> runs(journal::RunQuery query,
                                                                    bool& has_more) = 0;
  virtual boost::asio::awaitable<Result<RunView>> cancel_run(RunId id, std::optional<AccountId> account,
                                                             std::string by) = 0;
  virtual boost::asio::awaitable<Result<RunView>> retry_run(RunId id, std::optional<AccountId> account) = 0;
  // The run once it has ended, or as it stands when `timeout` has passed.
  virtual boost::asio::awaitable<Result<RunView>> wait_run(RunId id, std::optional<AccountId> account,
                                                           Duration timeout) = 0;

  // --- Workers
  // Errors: those of Engine::claim.
  virtual Result<std::shared_ptr<WorkClaim>> claim(ClaimRequest request,
                                                   const boost::asio::any_io_executor& executor) = 0;
  virtual provider::WorkDesk& desk() = 0;  // heartbeats, progress, files
  // The end of a try; durable on return. Errors: kConflict (WorkDesk, or the job was cancelled meanwhile);
  // kUnavailable: the server stops, and whether it was taken is not known.
  virtual boost::asio::awaitable<Result<void>> report_work(TryId id, provider::Worker worker,
                                                           provider::WorkReport report) = 0;

  // --- Events. `after` nullopt: from now on.
  virtual boost::asio::awaitable<Result<std::shared_ptr<Subscription>>> subscribe(
      std::optional<AccountId> account, Subscription::Subject subject, std::optional<EventId> after) = 0;
  // One that is told of nothing yet (Subscription::add), and never of another account's.
  virtual std::shared_ptr<Subscription> listen(std::optional<AccountId> account) = 0;

  // --- Records of the api's own: durable when the awaitable returns.
  virtual boost::asio::awaitable<Result<void>> store(std::vector<journal::Record> records) = 0;
  virtual journal::Journal& journal() = 0;  // for reads; they block: call them through read()
  // Runs a blocking read on a reader thread (bounded queue: kUnavailable when it is full).
  virtual boost::asio::awaitable<Result<void>> read(std::function<void(journal::Journal&)> question) = 0;
  // All that was decided before is durable: what a caller was told is in what is read then. Error:
  // kUnavailable.
  virtual boost::asio::awaitable<Result<void>> catch_up() = 0;
  virtual std::vector<journal::KeyRow> keys_at_start() = 0;
  virtual std::uint64_t fresh_id() = 0;
  virtual Timestamp now() = 0;

  // --- Artifacts: content-addressed files, durable before their row is.
  // Moves `file` into the store (rename; fsync of file and folder) and makes its row. The content keeps one
  // file however many rows name it.
  virtual boost::asio::awaitable<Result<engine::ArtifactRef>> store_artifact(std::filesystem::path file,
                                                                             std::string mime,
                                                                             std::string extension,
                                                                             AccountId account) = 0;
  virtual std::filesystem::path artifact_path(std::string_view sha256, std::string_view extension) const = 0;

  // --- Policy
  virtual policy::PolicyPtr policy() const = 0;  // thread-safe, the version in force
  virtual std::uint64_t policy_version() const = 0;
  virtual const std::set<std::string>& unavailable_providers() const = 0;
  // Makes `policy` the version in force, unless it equals it (then: the same number). Audited; durable on
  // return.
  virtual boost::asio::awaitable<Result<std::uint64_t>> apply(policy::PolicyPtr policy,
                                                              PolicyChange change) = 0;

  // --- What the operator decides beside the policy
  virtual policy::OverlayPtr overlay() = 0;
  virtual engine::Canaries canaries() = 0;  // how they do
  // `change` is given a copy of it, under the engine's mutex: it must be quick and must not call the node.
  // What it makes is checked against the policy (policy::check_overlay), audited, durable on return, and in
  // force for whatever comes after. Errors, which change nothing: those of `change` and of the check.
  virtual boost::asio::awaitable<Result<policy::OverlayPtr>> decide(OperatorDecision decision) = 0;

  // --- What providers' lists have. Versions that were found there are in policy(), of status `discovered`.
  virtual std::vector<policy::Discovery> discoveries() = 0;  // in the order in which they were found
  virtual std::vector<WatchState> watches() = 0;             // by the provider's name
  // Reads the provider's lists now; empty: those of all that can be asked. What came of it is in watches(), a
  // list that cannot be read too. Errors: kNotFound (its lists are not watched), kConflict (it is paused, or
  // was missing at the start), kUnavailable.
  virtual boost::asio::awaitable<Result<void>> look(std::string provider) = 0;

  // --- Life
  virtual bool draining() const = 0;
  // Refuses new work, lets running attempts finish up to `limit`, hands the rest back to the queue, commits,
  // and stops everything. Blocks; call it from no io thread.
  virtual void drain_and_stop(Duration limit) = 0;
  virtual std::string metrics_text() = 0;  // Prometheus text format, the node's own metrics
  virtual engine::Engine::Stats stats() = 0;
  // Where what clients ask is counted for alerts, and how these stand. Never null.
  virtual std::shared_ptr<Alerts> alerts() = 0;
};

}  // namespace turnpike::node
