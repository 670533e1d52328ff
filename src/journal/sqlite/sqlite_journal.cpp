#include "journal/sqlite/sqlite_journal.h"

#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "journal/folder_lock.h"
#include "journal/sqlite/checkpointer.h"
#include "journal/sqlite/migrations.h"
#include "journal/sqlite/reader.h"
#include "journal/sqlite/writer.h"

namespace turnpike::journal {
namespace {

using sqlite::Checkpointer;
using sqlite::Connection;
using sqlite::Reader;
using sqlite::Writer;

constexpr const char* kFile = "journal.db";
constexpr int kCheckpointerCacheKib = 256;  // it copies pages, it keeps none

// At most `max` readers, opened when they are first needed; the one used last is lent first.
class ReaderPool {
 public:
  ReaderPool(std::filesystem::path path, const SqliteOptions& options)
      : path_(std::move(path)),
        cache_kib_(options.reader_cache_kib),
        max_(std::max<std::size_t>(1, options.readers_max)) {}

  template <typename Read>
  auto with(Read&& read) -> decltype(read(std::declval<Reader&>())) {
    auto reader = take();
    if (!reader) return std::unexpected(reader.error());
    const auto give_back = [this](std::unique_ptr<Reader>* lent) { give(std::move(*lent)); };
    const std::unique_ptr<std::unique_ptr<Reader>, decltype(give_back)> lent(&*reader, give_back);
    return read(**reader);
  }

 private:
  Result<std::unique_ptr<Reader>> take() {
    std::unique_lock lock(mutex_);
    free_.wait(lock, [this] { return !idle_.empty() || made_ < max_; });
    if (!idle_.empty()) {
      auto reader = std::move(idle_.back());
      idle_.pop_back();
      return reader;
    }
    ++made_;
    lock.unlock();
    auto connection = Connection::open(path_, false, cache_kib_);
    if (connection) return std::make_unique<Reader>(std::move(*connection));
    lock.lock();
    --made_;
    free_.notify_one();
    return std::unexpected(connection.error());
  }
  void give(std::unique_ptr<Reader> reader) {
    {
      const std::scoped_lock lock(mutex_);
      idle_.push_back(std::move(reader));
    }
    free_.notify_one();
  }

  const std::filesystem::path path_;
  const int cache_kib_;
  const std::size_t max_;
  std::mutex mutex_;
  std::condition_variable free_;
  std::vector<std::unique_ptr<Reader>> idle_;  // guarded by mutex_
  std::size_t made_ = 0;                       // guarded by mutex_
};

class SqliteJournal final : public Journal {
 public:
  SqliteJournal(FolderLock lock, std::unique_ptr<Checkpointer> checkpointer, std::unique_ptr<Writer> writer,
                const std::filesystem::path& path, const SqliteOptions& options)
      : lock_(std::move(lock)),
        checkpointer_(std::move(checkpointer)),
        writer_(std::move(writer)),
        readers_(path, options) {}

  Result<void> commit(const Commit& commit) override { return writer_->commit(commit); }
  Result<Removed> retain(const Retention& retention) override { return writer_->retain(retention); }
  Batch last_batch() const override { return writer_->last_batch(); }

  Result<Recovered> recover() override {
    return readers_.with([](Reader& r) { return r.recover(); });
  }
  Result<std::optional<StoredJob>> job(JobId id, bool with_body) override {
    return readers_.with([&](Reader& r) { return r.job(id, with_body); });
  }
  Result<JobPage> jobs(const JobQuery& query) override {
    return readers_.with([&](Reader& r) { return r.jobs(query); });
  }
  Result<std::optional<StoredRun>> run(RunId id, bool with_body) override {
    return readers_.with([&](Reader& r) { return r.run(id, with_body); });
  }
  Result<RunPage> runs(const RunQuery& query) override {
    return readers_.with([&](Reader& r) { return r.runs(query); });
  }
  Result<std::vector<StoredJob>> run_jobs(RunId id) override {
    return readers_.with([&](Reader& r) { return r.run_jobs(id); });
  }
  Result<std::pair<std::optional<StoredJob>, Batch>> job_by_dedupe_key(AccountId account,
                                                                       std::string_view key) override {
    return readers_.with([&](Reader& r) { return r.job_by_dedupe_key(account, key); });
  }
  Result<QueueHeads> queue_heads(AccountId account, std::string_view pool,
                                 std::optional<std::pair<std::int32_t, JobId>> after,
                                 std::size_t limit) override {
    return readers_.with([&](Reader& r) { return r.queue_heads(account, pool, after, limit); });
  }
  Result<TimedHeads> scheduled_heads(std::pair<Wall, JobId> after, std::size_t limit) override {
    return readers_.with([&](Reader& r) { return r.scheduled_heads(after, limit); });
  }
  Result<TimedHeads> expiring_heads(std::pair<Wall, JobId> after, std::size_t limit) override {
    return readers_.with([&](Reader& r) { return r.expiring_heads(after, limit); });
  }
  Result<EventPage> events(EventId after, std::optional<AccountId> account, std::optional<JobId> job,
                           std::optional<RunId> run, std::size_t limit) override {
    return readers_.with([&](Reader& r) { return r.events(after, account, job, run, limit); });
  }
  Result<std::optional<IdempotencyRow>> idempotency(std::string_view scope, Wall now) override {
    return readers_.with([&](Reader& r) { return r.idempotency(scope, now); });
  }
  Result<std::optional<ArtifactRow>> artifact(ArtifactId id) override {
    return readers_.with([&](Reader& r) { return r.artifact(id); });
  }
  Result<std::vector<ArtifactRow>> artifacts_by_sha256(std::string_view sha256) override {
    return readers_.with([&](Reader& r) { return r.artifacts_by_sha256(sha256); });
  }
  Result<std::vector<PolicyVersionRow>> policy_versions() override {
    return readers_.with([](Reader& r) { return r.policy_versions(); });
  }
  Result<std::optional<PolicyVersionRow>> policy_version(std::uint64_t version) override {
    return readers_.with([&](Reader& r) { return r.policy_version(version); });
  }
  Result<std::vector<StoredAudit>> audit(std::uint64_t before, std::size_t limit) override {
    return readers_.with([&](Reader& r) { return r.audit(before, limit); });
  }
  Result<AuditReport> verify_audit() override {
    return readers_.with([](Reader& r) { return r.verify_audit(); });
  }
  Result<Webhooks> webhooks() override {
    return readers_.with([](Reader& r) { return r.webhooks(); });
  }
  Result<std::vector<WebhookDeliveryRow>> deliveries(const DeliveryQuery& query) override {
    return readers_.with([&](Reader& r) { return r.deliveries(query); });
  }
  Result<std::optional<WebhookDeliveryRow>> delivery(WebhookId endpoint, EventId event) override {
    return readers_.with([&](Reader& r) { return r.delivery(endpoint, event); });
  }
  Result<std::vector<StoredEvent>> alerts(EventId before, std::size_t limit) override {
    return readers_.with([&](Reader& r) { return r.alerts(before, limit); });
  }
  Result<UsageReport> usage(const UsageQuery& query) override {
    return readers_.with([&](Reader& r) { return r.usage(query); });
  }
  Result<LedgerPage> ledger(std::pair<Batch, std::uint32_t> after, std::optional<AccountId> account,
                            std::size_t limit) override {
    return readers_.with([&](Reader& r) { return r.ledger(after, account, limit); });
  }
  Result<BooksReport> verify_books() override {
    return readers_.with([](Reader& r) { return r.verify_books(); });
  }
  Result<std::vector<engine::PeriodRow>> periods(AccountId account, std::size_t limit) override {
    return readers_.with([&](Reader& r) { return r.periods(account, limit); });
  }

 private:
  FolderLock lock_;  // first: released when all connections are closed
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<Writer> writer_;  // tells checkpointer_ of its commits
  ReaderPool readers_;
};

Result<Connection> open_writer(const std::filesystem::path& path, const SqliteOptions& options) {
  auto connection = Connection::open(path, true, options.writer_cache_kib);
  if (!connection) return connection;
  auto set = connection->run(
      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA "
      "temp_store=MEMORY",
      "cannot prepare the database");
  if (!set) return std::unexpected(set.error());
  if (auto migrated = sqlite::migrate(*connection); !migrated) return std::unexpected(migrated.error());
  return connection;
}

}  // namespace

Result<std::unique_ptr<Journal>> open_sqlite(const std::filesystem::path& folder, SqliteOptions options) {
  auto lock = FolderLock::take(folder);
  if (!lock) return std::unexpected(lock.error());
  const auto path = folder / kFile;
  auto connection = open_writer(path, options);
  if (!connection) return std::unexpected(connection.error());
  auto second = Connection::open(path, false, kCheckpointerCacheKib);
  if (!second) return std::unexpected(second.error());
  auto checkpointer = std::make_unique<Checkpointer>(std::move(*second), options);
  auto writer = Writer::make(std::move(*connection), *checkpointer, options);
  if (!writer) return std::unexpected(writer.error());
  return std::make_unique<SqliteJournal>(std::move(*lock), std::move(checkpointer), std::move(*writer), path,
                                         options);
}

namespace {

// A reader of the journal in `folder`, which may be in use by a server.
Result<Reader> look_into(const std::filesystem::path& folder) {
  const auto path = folder / kFile;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return fail(ErrorCode::kIo, "there is no journal in " + folder.string());
  }
  auto connection = Connection::open(path, false, kCheckpointerCacheKib);
  if (!connection) return std::unexpected(connection.error());
  if (auto known = sqlite::check_version(*connection); !known) return std::unexpected(known.error());
  return Reader(std::move(*connection));
}

}  // namespace

Result<BooksReport> verify_books(const std::filesystem::path& folder) {
  auto reader = look_into(folder);
  if (!reader) return std::unexpected(reader.error());
  return reader->verify_books();
}

Result<AuditReport> verify_audit(const std::filesystem::path& folder) {
  auto reader = look_into(folder);
  if (!reader) return std::unexpected(reader.error());
  return reader->verify_audit();
}

}  // namespace turnpike::journal
