// The node as a whole: wires the parts together. Private to node*.cpp:
//   node.cpp       start, effects of commits, upkeep, drain and the end
//   node_jobs.cpp  jobs
//   node_accounts.cpp  accounts, what they use, and what they were refused
//   node_calls.cpp  calls; node_cached_calls.cpp  those that the cache may answer
//   node_runs.cpp  runs of workflows
//   node_work.cpp  what workers claim and report
//   node_keep.cpp  records, events, artifacts, policy, numbers
//   node_operator.cpp  what the operator decides beside the policy
//   node_discoveries.cpp  what providers' lists have
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "node/answer_cache.h"
#include "node/answer_cache_call.h"
#include "node/answer_cache_metrics.h"
#include "node/artifact_store.h"
#include "node/callers.h"
#include "node/cold.h"
#include "node/commit_loop.h"
#include "node/event_hub.h"
#include "node/gateway_metrics.h"
#include "node/metrics.h"
#include "node/model_watch.h"
#include "node/node.h"
#include "node/provider_set.h"
#include "node/readers.h"
#include "node/refusals.h"
#include "node/run_work.h"
#include "node/runners.h"
#include "policy/workflow_next.h"

namespace turnpike::node {

namespace asio = boost::asio;

constexpr std::size_t kReaderThreads = 3;
constexpr std::size_t kReadsWaitingMax = 4'096;
constexpr std::size_t kInputBytesMax = 1ULL << 20;
constexpr std::size_t kMetadataBytesMax = 16ULL << 10;
constexpr std::chrono::seconds kDrainRetryAfter{5};
constexpr std::size_t kUnreadOverridesLogged = 10;
constexpr Duration kStopTriesMax = std::chrono::seconds(10);  // tries to end after they were asked to

// kUnavailable: come back.
std::unexpected<Error> not_now(std::string message,
                               std::chrono::seconds retry_after = std::chrono::seconds(1));
// What is said of what came too late.
std::unexpected<Error> stopping();
// The answer to a request with an Idempotency-Key goes into the commit of what it is about.
void record_answer(CommitLoop::Turn& turn, const std::optional<journal::IdempotencyRow>& idempotency,
                   const std::string& rendered);

class NodeImpl final : public Node, public CommitListener {
 public:
  NodeImpl(Options options, net::IoThreads& threads, std::unique_ptr<journal::Journal> journal);
  ~NodeImpl() override;
  Result<void> recover();

  // --- Node
  asio::awaitable<Result<engine::Engine::EnsuredAccount>> ensure_account(std::string user_id,
                                                                         std::string plan, bool set_plan,
                                                                         std::string actor) override;
  std::optional<engine::AccountRow> account(AccountId id) override;
  std::optional<engine::AccountRow> account_by_user(std::string_view user_id) override;
  std::vector<engine::AccountRow> accounts(AccountId starting_after, std::size_t limit) override;

  asio::awaitable<Result<engine::AccountRow>> change_account(AccountId id,
                                                             engine::Engine::AccountChange change,
                                                             std::string reason) override;
  policy::Plan plan_of(AccountId id) override;
  engine::UsageView usage(AccountId id) override;
  std::optional<engine::UsageView> team_usage(std::string_view team) override;
  engine::UsageView platform_usage() override;
  engine::RateView rates(AccountId id) override;
  std::string overrides_mistake(AccountId id) override;
  void note_refusal(Refusal refusal) override;
  std::shared_ptr<const Refusal> refusal(std::string_view request_id,
                                         std::optional<AccountId> account) override;

  asio::awaitable<Result<CallAnswer>> call(CallRequest request) override;
  asio::awaitable<Result<SubmitAnswer>> submit(SubmitRequest request) override;
  asio::awaitable<Result<JobView>> job(JobId id, std::optional<AccountId> account, bool with_body) override;
  asio::awaitable<Result<std::vector<JobView>>> jobs(journal::JobQuery query, bool& has_more) override;
  asio::awaitable<Result<JobView>> cancel(JobId id, std::optional<AccountId> account,
                                          std::string by) override;
  asio::awaitable<Result<JobView>> retry(JobId id, std::optional<AccountId> account) override;
  asio::awaitable<Result<std::pair<JobView, engine::Why>>> why(JobId id,
                                                               std::optional<AccountId> account) override;
  asio::awaitable<Result<JobView>> wait(JobId id, std::optional<AccountId> account,
                                        Duration timeout) override;

  asio::awaitable<Result<RunAnswer>> start_run(RunRequest request) override;
  asio::awaitable<Result<RunView>> run(RunId id, std::optional<AccountId> account) override;
  asio::awaitable<Result<std::vector<RunView>>> runs(journal::RunQuery query, bool& has_more) override;
  asio::awaitable<Result<RunView>> cancel_run(RunId id, std::optional<AccountId> account,
                                              std::string by) override;
  asio::awaitable<Result<RunView>> retry_run(RunId id, std::optional<AccountId> account) override;
  asio::awaitable<Result<RunView>> wait_run(RunId id, std::optional<AccountId> account,
                                            Duration timeout) override;

  asio::awaitable<Result<std::shared_ptr<Subscription>>> subscribe(std::optional<AccountId> account,
                                                                   Subscription::Subject subject,
                                                                   std::optional<EventId> after) override;
  std::shared_ptr<Subscription> listen(std::optional<AccountId> account) override;

  Result<std::shared_ptr<WorkClaim>> claim(ClaimRequest request,
                                           const asio::any_io_executor& executor) override;
  provider::WorkDesk& desk() override { return *desk_; }
  asio::awaitable<Result<void>> report_work(TryId id, provider::Worker worker,
                                            provider::WorkReport report) override;

  asio::awaitable<Result<void>> store(std::vector<journal::Record> records) override;
  journal::Journal& journal() override { return *journal_; }
  asio::awaitable<Result<void>> read(std::function<void(journal::Journal&)> question) override;
  asio::awaitable<Result<void>> catch_up() override;
  std::vector<journal::KeyRow> keys_at_start() override { return keys_; }
  std::uint64_t fresh_id() override;
  Timestamp now() override { return clock_->now(); }

  asio::awaitable<Result<engine::ArtifactRef>> store_artifact(std::filesystem::path file, std::string mime,
                                                              std::string extension,
                                                              AccountId account) override;
  std::filesystem::path artifact_path(std::string_view sha256, std::string_view extension) const override;

  policy::PolicyPtr policy() const override;
  std::uint64_t policy_version() const override;
  const std::set<std::string>& unavailable_providers() const override {
    return options_.unavailable_providers;
  }
  asio::awaitable<Result<std::uint64_t>> apply(policy::PolicyPtr policy, PolicyChange change) override;
  policy::OverlayPtr overlay() override;
  engine::Canaries canaries() override;
  asio::awaitable<Result<policy::OverlayPtr>> decide(OperatorDecision decision) override;

  std::vector<policy::Discovery> discoveries() override;
  std::vector<WatchState> watches() override { return watch_->states(); }
  asio::awaitable<Result<void>> look(std::string provider) override;

  bool draining() const override { return draining_.load(std::memory_order_relaxed); }
  void drain_and_stop(Duration limit) override;
  std::string metrics_text() override;
  engine::Engine::Stats stats() override;
  std::shared_ptr<Alerts> alerts() override { return alerts_; }

  // --- CommitListener
  void on_committed(OpenBatch& batch, Deliveries& deliveries, Duration took) override;
  void on_decided(std::vector<engine::Effect>& effects) override;
  Duration upkeep(Timestamp now) override;

 private:
  friend class WaitingClaim;
  // The live job that has a dedupe key, as read, and when.
  struct Dedupe {
    std::optional<engine::ColdJob> job;
    engine::Batch at = 0;
  };

  void act(engine::Effect effect, Deliveries& deliveries);
  void answer(engine::AnswerCall answer, Deliveries& deliveries);
  bool retain(Timestamp now);
  void recall_alerts();
  void look_at_alerts(Timestamp now);
  std::optional<std::uint64_t> same_version(const policy::Policy& policy) const;
  static void log_unread(const engine::UnreadOverrides& unread);
  void put_in_force(policy::PolicyPtr policy, std::uint64_t version, std::uint64_t price_version);
  // Under the engine's mutex.
  void tell_change(CommitLoop::Turn& turn, const policy::Policy& policy, std::uint64_t version,
                   std::uint64_t previous, const PolicyChange& change) const;
  journal::PolicyVersionRow version_row(const policy::Policy& policy, std::uint64_t version,
                                        std::uint64_t price_version, PolicyChange change) const;
  // The policies that grandfathered accounts live by.
  static std::map<std::uint64_t, policy::PolicyPtr> read_policies(
      std::vector<journal::PolicyVersionRow> rows);
  // The candidate of a canary has done worse than it may.
  asio::awaitable<void> roll_back(engine::CanaryFailed failed);
  // What lists had before this start.
  void recall(std::vector<journal::DiscoveryRow> rows);
  // The configuration with the versions that were found.
  policy::PolicyPtr discovered_in(policy::PolicyPtr policy) const;
  // Stores and announces what of it is new; how many entries that were.
  asio::awaitable<Result<std::size_t>> store_looked(Looked looked);
  std::vector<policy::Discovery> fresh_in(const Looked& looked, Wall now);
  void announce(CommitLoop::Turn& turn, const std::vector<policy::Discovery>& fresh,
                const policy::Policy& policy, bool first_look) const;
  std::unique_ptr<ModelWatch> make_watch();
  asio::awaitable<void> look_due(std::string provider);
  // What was decided before this start.
  static policy::OverlayPtr read_overlay(const std::optional<journal::OverlayRow>& row);
  // How the account's request is served, as things are now.
  Result<policy::RoutePtr> route_for(const engine::Engine& engine, AccountId account, std::string_view task,
                                     std::string_view model) const;
  Result<engine::NewCall> resolve_call(CommitLoop::Turn& turn, const CallRequest& request);
  // For a try that streams; returns when what is held may be used.
  asio::awaitable<Result<void>> hold_more(TryId try_id, std::int64_t output_tokens);
  // `cached`: told of what comes; null: the answer is the caller's alone.
  asio::awaitable<Result<CallAnswer>> call_upstream(CallRequest request, std::shared_ptr<CachedCall> cached);

  // What the cache may do for a call.
  struct CacheTerms {
    policy::PlanCache cache;
    std::string plan;
    policy::Candidate candidate;  // that would be asked first
    Duration patience{};          // of who follows, for each thing that comes
    std::uint64_t bytes_max = 0;
    CacheKey key;
  };
  using Followed = std::variant<Result<CallAnswer>, Lead>;
  std::optional<CacheTerms> cache_terms(const CallRequest& request);
  // Both: nothing where the answer is not to be kept.
  asio::awaitable<std::optional<CacheKey>> find_key(const CallRequest& request, const CacheTerms& terms);
  static std::optional<CacheKey> key_of(const CallRequest& request, const CacheTerms& terms);
  asio::awaitable<Result<CallAnswer>> call_cached(CallRequest request, CacheTerms terms);
  asio::awaitable<Result<CallAnswer>> ask_upstream(CallRequest request, CacheTerms terms, Lead lead,
                                                   CacheResult result);
  // The caller awaits it in the scope of what it borrows.
  asio::awaitable<Followed> follow(const CallRequest& request, const CacheTerms& terms,
                                   std::shared_ptr<Follower> follower);
  // Counts a hit as the plan says; durable on return.
  asio::awaitable<Result<void>> count_again(const CallRequest& request, const CacheTerms& terms,
                                            AnswerPtr answer);
  CallAnswer answer_again(const CallRequest& request, const CacheTerms& terms, const CachedAnswer& answer,
                          CacheResult result);
  asio::awaitable<Result<CallAnswer>> replay(const CallRequest& request, const CacheTerms& terms,
                                             AnswerPtr answer, CacheResult result);
  CallAnswer follow_stream(const CallRequest& request, const CacheTerms& terms,
                           std::shared_ptr<Follower> follower, std::string content_type);

  std::optional<Error> refusal(const SubmitRequest& request) const;
  asio::awaitable<Result<Dedupe>> read_dedupe(AccountId account, std::string key);
  Result<SubmitAnswer> take(const SubmitRequest& request, Dedupe dedupe, engine::Batch& batch);
  static engine::NewJob new_job(const SubmitRequest& request, JobId id, policy::RoutePtr route,
                                const policy::Policy& policy, Dedupe dedupe);

  // A run and its jobs as committed, read together.
  struct ReadRun {
    journal::StoredRun run;
    std::vector<engine::ColdJob> jobs;  // by id; without bodies
  };
  // A step that is to begin, its inputs made and read.
  struct ReadyJob {
    engine::JobBodyPtr body;
    policy::Ask ask;
  };
  struct ReadyStep {
    std::size_t step = 0;
    bool skipped = false;
    std::vector<ReadyJob> jobs;
  };
  // Errors: kNotFound, kUnavailable, kIo.
  asio::awaitable<Result<ReadRun>> read_run(RunId id, std::optional<AccountId> account, bool with_body);
  static RunView view_run(CommitLoop::Turn& turn, engine::RunRow row, engine::RunBodyPtr body,
                          std::vector<engine::JobRow> jobs);
  asio::awaitable<Result<std::vector<ReadyStep>>> read_steps(policy::WorkflowPtr workflow, AccountId account,
                                                             policy::NextOf next, std::string request_id);
  asio::awaitable<Result<bool>> owns_artifact(ArtifactId id, AccountId account);
  Result<std::vector<engine::BeginStep>> resolve_steps(const engine::Engine& engine, AccountId account,
                                                       const policy::Workflow& workflow,
                                                       const std::vector<ReadyStep>& ready) const;
  Result<RunAnswer> take_run(const RunRequest& request, const policy::Workflow& workflow,
                             const boost::json::object& input, const std::vector<ReadyStep>& ready,
                             engine::Batch& batch);
  void look_after(RunWork::Item item);
  asio::awaitable<void> work_on_runs();
  asio::awaitable<Result<void>> continue_run(RunId id);
  // The caller awaits it in the scope of what it borrows.
  asio::awaitable<Result<void>> find_next(const ReadRun& read, policy::WorkflowPtr& workflow,
                                          std::vector<ReadyStep>& ready, engine::RunAdvance& advance);
  asio::awaitable<Result<void>> cancel_jobs(RunId id);

  // The committed row, if the account may see it. Errors: kNotFound, kUnavailable, kIo.
  asio::awaitable<Result<engine::ColdJob>> read_job(JobId id, std::optional<AccountId> account,
                                                    bool with_body);
  JobView seen(engine::ColdJob cold);
  // What memory knows beside a row. Under the mutex.
  static JobView view(CommitLoop::Turn& turn, engine::JobRow row, engine::JobBodyPtr body);

  Options options_;
  net::IoThreads& threads_;
  const std::shared_ptr<const Clock> clock_;
  const std::unique_ptr<journal::Journal> journal_;
  const std::shared_ptr<Alerts> alerts_ = std::make_shared<Alerts>(clock_);
  Metrics metrics_{*alerts_};
  GatewayMetrics gateway_metrics_;
  Readers readers_{kReaderThreads, kReadsWaitingMax};
  const std::shared_ptr<provider::WorkDesk> desk_ = std::make_shared<provider::WorkDesk>();
  ProviderSet providers_;
  ArtifactStore artifacts_;
  std::unique_ptr<AnswerCache> cache_;
  CacheMetrics cache_metrics_;
  std::vector<journal::KeyRow> keys_;
  Refusals refusals_;
  RunWork run_work_;
  LookBudget looks_;  // guarded by the engine's mutex
  std::atomic<bool> draining_ = false;
  std::once_flag stopped_;

  mutable std::mutex policy_mutex_;
  policy::PolicyPtr policy_;          // guarded by policy_mutex_
  std::uint64_t policy_version_ = 0;  // guarded by policy_mutex_
  std::uint64_t price_version_ = 0;   // guarded by policy_mutex_

  // What lists had, by number from 1; and what of it is what. Guarded by discoveries_mutex_, changed under
  // the engine's too.
  using DiscoveryKey = std::tuple<std::string, policy::DiscoveryKind, std::string>;
  mutable std::mutex discoveries_mutex_;
  std::vector<policy::Discovery> discoveries_;
  std::set<DiscoveryKey> discovered_;
  std::map<std::string, std::size_t, std::less<>> discovered_of_;  // entries, by provider
  std::unique_ptr<ModelWatch> watch_;

  Monotonic watch_at_{};      // the committer's own
  Monotonic alerts_at_{};     // likewise
  Monotonic runs_at_{};       // likewise
  Monotonic leases_at_{};     // the committer's own
  Monotonic retention_at_{};  // likewise
  Monotonic cache_at_{};      // likewise

  // In order of need: what stands first outlives what follows.
  std::shared_ptr<EventHub> hub_;
  std::unique_ptr<CommitLoop> loop_;
  std::unique_ptr<ColdReads> cold_;
  Callers callers_;
  std::unique_ptr<Runners> runners_;
};

}  // namespace turnpike::node
