// Reads, each in a transaction of its own, on one connection. Used by one thread at a time.
#pragma once

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "journal/journal.h"
#include "journal/sqlite/database.h"
#include "journal/usage_sums.h"

namespace turnpike::journal::sqlite {

// How a list of one table finds its ids (reader_lists.cpp). All: ?1 id above, ?2 id below (both exclusive),
// ?3 how many; a group's: also ?4 state, ?5 account, ?6 name. The next group after ?1 state, ?2 account and,
// for `next_name`, ?3 name.
struct ListStatements {
  const char* all_newest;
  const char* all_oldest;
  const char* group_newest;
  const char* group_oldest;
  const char* next_name;
  const char* next_account;
};

class Reader {
 public:
  struct ListQuery {
    std::optional<AccountId> account;
    std::optional<engine::JobState> state;
    std::string name;         // task or workflow; empty: any
    std::uint64_t above = 0;  // ids, exclusive; if set, the oldest come first
    std::uint64_t below = 0;  // 0: none
    std::size_t count = 0;
    bool newest() const { return above == 0; }
  };
  static constexpr std::size_t kPageMax = 100;

  explicit Reader(Connection connection) : db_(std::move(connection)) {}

  // As in journal.h.
  Result<Recovered> recover();
  Result<std::optional<StoredJob>> job(JobId id, bool with_body);
  Result<JobPage> jobs(const JobQuery& query);
  Result<std::optional<StoredRun>> run(RunId id, bool with_body);
  Result<RunPage> runs(const RunQuery& query);
  Result<std::vector<StoredJob>> run_jobs(RunId id);
  Result<std::pair<std::optional<StoredJob>, Batch>> job_by_dedupe_key(AccountId account,
                                                                       std::string_view key);
  Result<QueueHeads> queue_heads(AccountId account, std::string_view pool,
                                 std::optional<std::pair<std::int32_t, JobId>> after, std::size_t limit);
  Result<TimedHeads> scheduled_heads(std::pair<Wall, JobId> after, std::size_t limit);
  Result<TimedHeads> expiring_heads(std::pair<Wall, JobId> after, std::size_t limit);
  Result<Journal::EventPage> events(EventId after, std::optional<AccountId> account, std::optional<JobId> job,
                                    std::optional<RunId> run, std::size_t limit);
  Result<std::optional<IdempotencyRow>> idempotency(std::string_view scope, Wall now);
  Result<std::optional<ArtifactRow>> artifact(ArtifactId id);
  Result<std::vector<ArtifactRow>> artifacts_by_sha256(std::string_view sha256);
  Result<std::vector<PolicyVersionRow>> policy_versions();
  Result<std::optional<PolicyVersionRow>> policy_version(std::uint64_t version);
  Result<std::vector<StoredAudit>> audit(std::uint64_t before, std::size_t limit);
  Result<AuditReport> verify_audit();
  Result<Webhooks> webhooks();
  Result<std::vector<WebhookDeliveryRow>> deliveries(const DeliveryQuery& query);
  Result<std::optional<WebhookDeliveryRow>> delivery(WebhookId endpoint, EventId event);
  Result<std::vector<StoredEvent>> alerts(EventId before, std::size_t limit);
  Result<UsageReport> usage(const UsageQuery& query);
  Result<Journal::LedgerPage> ledger(std::pair<Batch, std::uint32_t> after, std::optional<AccountId> account,
                                     std::size_t limit);
  Result<BooksReport> verify_books();
  Result<std::vector<engine::PeriodRow>> periods(AccountId account, std::size_t limit);

 private:
  // Runs `read` in a snapshot. A failed statement or a row that cannot be read is thrown as Failed and comes
  // back as its Error.
  template <typename Read>
  auto in_snapshot(Read&& read) -> Result<decltype(read())>;
  struct Failed;

  bool next(Statement& statement);  // true: a row
  template <typename Value>
  static Value take(Result<Value> result);  // what is in it, or Failed
  Batch snapshot_batch();
  StoredJob stored(Statement& row, Batch at);
  engine::JobBodyPtr body(Statement& row, int column, JobId id, bool large_too);
  std::vector<StoredJob> heads(Statement& query, Batch at);
  TimedHeads timed_heads(const char* same_time, const char* later, std::pair<Wall, JobId> after,
                         std::size_t limit);
  std::optional<StoredJob> find(JobId id, bool with_body, Batch at);
  std::vector<StoredJob> jobs_of(RunId run, Batch at);
  std::vector<JobId> ids_of_run(const JobQuery& query, std::size_t count, Batch at);
  engine::RunRow stored_run(Statement& row);
  std::vector<engine::RunRow> live_runs();
  std::optional<StoredRun> find(RunId id, bool with_body, Batch at);
  // In the order of the query; unsorted groups are merged.
  std::vector<std::uint64_t> list_ids(const ListStatements& sql, const ListQuery& query);
  void group_ids(const ListStatements& sql, const ListQuery& query, engine::JobState state,
                 std::vector<std::uint64_t>& ids);
  std::vector<engine::AccountRow> accounts();
  std::vector<DiscoveryRow> discoveries();
  std::vector<engine::PutQueueCount> queues();
  std::vector<engine::PeriodRow> periods(Statement& query);  // as the table has them
  // `stored` with what was changed since: in the order of their keys, and all that was changed among them.
  std::vector<engine::PeriodRow> with_changes(std::vector<engine::PeriodRow> stored,
                                              std::optional<AccountId> account);
  std::vector<engine::PeriodRow> open_periods();
  UsageSums uncounted(const UsageQuery& question);
  std::vector<KeyRow> keys();
  std::vector<StoredJob> processing(Batch at);
  std::vector<ArtifactRow> artifacts(Statement& query);
  // `version`: what ?1 stands for in `sql`, if it is there.
  std::vector<PolicyVersionRow> policies(const char* sql, std::optional<std::uint64_t> version = {});
  static StoredAudit audit_row(const Statement& query);

  Connection db_;
};

}  // namespace turnpike::journal::sqlite
