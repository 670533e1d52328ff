// A journal in memory, for tests and the simulation: the same contract as the SQLite one, deterministic, and
// quick with 100,000 jobs. What was committed outlives the engine that is thrown away by a simulated crash:
// keep the journal, make a new engine, recover().
//
// Thread-safe: one mutex around everything.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "journal/journal.h"
#include "journal/usage_sums.h"

namespace turnpike::testing {

class MemoryJournal final : public journal::Journal {
 public:
  // How a commit that was told to fail leaves the truth: after an I/O error both are possible.
  enum class Failing { kNothingStored, kAllStored };

  // The next commit() fails with kIo; so does every later one until recover() opens the journal again.
  void fail_next_commit(Failing how = Failing::kNothingStored);

  // Every job row, by id: for recounts.
  std::map<JobId, engine::JobRow> job_rows() const;
  // The same without a copy; `visit` must not call the journal.
  template <typename Visit>
  void for_each_job(Visit&& visit) const {
    const std::scoped_lock lock(mutex_);
    for (const auto& [id, stored] : state_.jobs) visit(stored.row);
  }
  // Every queue count that is not zero, by (account, pool).
  std::map<std::pair<AccountId, std::string>, engine::PutQueueCount> queue_counts() const;
  std::size_t job_count() const;
  // Every run row, by id: for recounts.
  std::map<RunId, engine::RunRow> run_rows() const;

  Result<void> commit(const journal::Commit& commit) override;
  Result<journal::Recovered> recover() override;
  journal::Batch last_batch() const override;
  Result<std::optional<journal::StoredJob>> job(JobId id, bool with_body) override;
  Result<journal::JobPage> jobs(const journal::JobQuery& query) override;
  Result<std::optional<journal::StoredRun>> run(RunId id, bool with_body) override;
  Result<journal::RunPage> runs(const journal::RunQuery& query) override;
  Result<std::vector<journal::StoredJob>> run_jobs(RunId id) override;
  Result<std::pair<std::optional<journal::StoredJob>, journal::Batch>> job_by_dedupe_key(
      AccountId account, std::string_view key) override;
  Result<journal::QueueHeads> queue_heads(AccountId account, std::string_view pool,
                                          std::optional<std::pair<std::int32_t, JobId>> after,
                                          std::size_t limit) override;
  Result<journal::TimedHeads> scheduled_heads(std::pair<Wall, JobId> after, std::size_t limit) override;
  Result<journal::TimedHeads> expiring_heads(std::pair<Wall, JobId> after, std::size_t limit) override;
  Result<EventPage> events(EventId after, std::optional<AccountId> account, std::optional<JobId> job,
                           std::optional<RunId> run, std::size_t limit) override;
  Result<std::optional<journal::IdempotencyRow>> idempotency(std::string_view scope, Wall now) override;
  Result<std::optional<journal::ArtifactRow>> artifact(ArtifactId id) override;
  Result<std::vector<journal::ArtifactRow>> artifacts_by_sha256(std::string_view sha256) override;
  Result<std::vector<journal::PolicyVersionRow>> policy_versions() override;
  Result<std::optional<journal::PolicyVersionRow>> policy_version(std::uint64_t version) override;
  Result<std::vector<journal::StoredAudit>> audit(std::uint64_t before, std::size_t limit) override;
  Result<journal::AuditReport> verify_audit() override;
  Result<journal::Webhooks> webhooks() override;
  Result<std::vector<journal::WebhookDeliveryRow>> deliveries(const journal::DeliveryQuery& query) override;
  Result<std::optional<journal::WebhookDeliveryRow>> delivery(WebhookId endpoint, EventId event) override;
  Result<std::vector<journal::StoredEvent>> alerts(EventId before, std::size_t limit) override;
  Result<journal::UsageReport> usage(const journal::UsageQuery& query) override;
  Result<LedgerPage> ledger(std::pair<journal::Batch, std::uint32_t> after, std::optional<AccountId> account,
                            std::size_t limit) override;
  Result<journal::BooksReport> verify_books() override;
  Result<std::vector<engine::PeriodRow>> periods(AccountId account, std::size_t limit) override;
  Result<Removed> retain(const Retention& retention) override;
  // Every period row, in the order of their keys.
  std::vector<engine::PeriodRow> period_rows() const;

 private:
  struct Stored {
    engine::JobRow row;
    engine::JobBodyPtr body;
  };
  struct StoredWorkflowRun {
    engine::RunRow row;
    engine::RunBodyPtr body;
  };
  struct LoggedBatch {
    Wall at;
    std::vector<engine::Event> events;
  };
  using QueueKey = std::pair<AccountId, std::string>;  // account, pool
  using QueueOrder = std::pair<std::int64_t, JobId>;   // -priority, id
  using PeriodKey =
      std::tuple<engine::Scope, std::uint64_t, std::string, Wall>;    // scope, account, team, start
  using Timed = std::set<std::pair<Wall, JobId>>;                     // (time, id)
  using Undo = std::vector<std::pair<JobId, std::optional<Stored>>>;  // jobs as they were before a commit

  // Everything that is committed.
  struct State {
    journal::Batch last_batch = 0;
    std::uint64_t last_id = 0;
    Wall last_at = kNever;
    std::map<JobId, Stored> jobs;
    std::map<RunId, StoredWorkflowRun> runs;
    std::map<AccountId, engine::AccountRow> accounts;
    std::map<std::string, AccountId, std::less<>> account_by_user;
    std::map<QueueKey, engine::PutQueueCount> counts;
    std::map<KeyId, journal::KeyRow> keys;
    std::map<ArtifactId, journal::ArtifactRow> artifacts;
    std::map<std::string, std::set<ArtifactId>, std::less<>> artifacts_by_sha;
    std::map<std::string, journal::IdempotencyRow, std::less<>> idempotency;
    std::map<std::uint64_t, journal::PolicyVersionRow> policies;
    std::optional<journal::OverlayRow> overlay;
    std::vector<journal::DiscoveryRow> discoveries;
    std::vector<journal::StoredAudit> audit;
    std::map<WebhookId, journal::WebhookEndpointRow> webhooks;
    std::map<std::pair<WebhookId, EventId>, journal::WebhookDeliveryRow> deliveries;
    EventId webhook_cursor;
    std::map<EventId, engine::Event> alerts;
    std::map<PeriodKey, engine::PeriodRow> periods;
    std::map<journal::Batch, std::pair<Wall, std::vector<engine::LedgerEntry>>> ledger;
    Wall ledger_cut = kNever;
    journal::UsageSums usage;
    std::map<journal::Batch, LoggedBatch> log;
    // Indexes over jobs.
    std::map<QueueKey, std::set<QueueOrder>> queued;
    Timed scheduled, expiring, ended;
    std::set<JobId> processing;
    std::map<AccountId, std::set<JobId>> by_account;
    std::map<std::pair<AccountId, std::string>, std::set<JobId>> by_dedupe_key;
  };

  Result<void> check(const journal::Commit& commit) const;
  Result<void> apply_jobs(const journal::Commit& commit, Undo& undo);
  void apply_others(const journal::Commit& commit);
  void apply(const journal::Record& record);
  // The ids of a run's jobs, in order.
  std::vector<JobId> job_ids_of(RunId run) const;
  void put_job(const engine::JobRow& row, engine::JobBodyPtr body);
  void drop_job(JobId id);
  void index(const engine::JobRow& row, bool add);
  journal::StoredJob read(const Stored& stored, bool with_body) const;
  journal::TimedHeads timed_heads(const Timed& times, std::pair<Wall, JobId> after, std::size_t limit) const;
  void retain_jobs(const Retention& retention, Removed& removed);
  void retain_runs(const Retention& retention, Removed& removed);
  void retain_artifacts(const Retention& retention, Removed& removed);
  void retain_told(const Retention& retention, Removed& removed);
  void retain_ledger(const Retention& retention, Removed& removed);

  mutable std::mutex mutex_;
  State state_;                     // guarded by mutex_
  std::optional<Failing> failing_;  // guarded by mutex_: what the next commit is to do
  bool failed_ = false;             // guarded by mutex_
};

}  // namespace turnpike::testing
