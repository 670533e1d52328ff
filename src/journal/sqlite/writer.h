// The one writer: turns a group commit into rows, in one transaction. Used by one thread at a time.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "journal/journal.h"
#include "journal/sqlite/books_writer.h"
#include "journal/sqlite/checkpointer.h"
#include "journal/sqlite/database.h"

namespace turnpike::journal::sqlite {

class Writer {
 public:
  // `connection` has the schema.
  static Result<std::unique_ptr<Writer>> make(Connection connection, Checkpointer& checkpointer,
                                              const SqliteOptions& options);

  Result<void> commit(const Commit& commit);
  Result<Journal::Removed> retain(const Journal::Retention& retention);
  Batch last_batch() const { return last_batch_.load(std::memory_order_acquire); }

 private:
  Writer(Connection connection, Checkpointer& checkpointer, const SqliteOptions& options)
      : db_(std::move(connection)),
        books_(db_),
        checkpointer_(checkpointer),
        wal_pages_restart_(options.wal_restart_bytes / kPageBytes),
        wal_pages_max_(options.wal_bytes_max / kPageBytes),
        wal_pages_copy_(options.wal_copy_bytes / kPageBytes),
        restart_at_(wal_pages_restart_) {}

  Result<void> load_last();
  Result<void> refuse_after_failure() const;
  // Ends a transaction whose statements gave `code`: commits, or rolls back and refuses everything from now
  // on.
  Result<void> finish(int code, const char* what);
  Result<void> check(const Commit& commit) const;
  void bound_wal();

  // Each gives SQLITE_OK or the error of the first statement that failed.
  int write(const Commit& commit);
  int write_mutations(const Commit& commit);
  int write(const engine::Mutation& mutation);
  int write(const Record& record);
  int put(const engine::PutJob& put);
  int put(const engine::PutAccount& put);
  int put(const engine::PutQueueCount& put);
  int put(const engine::PutRun& put);
  int drop(JobId id);
  int put(const KeyRow& row);
  int put(const ArtifactRow& row);
  int put(const IdempotencyRow& row);
  int put(const PolicyVersionRow& row);
  int put(const OverlayRow& row);
  int put(const DiscoveryRow& row);
  int put(const AuditRow& row);
  int put(const WebhookEndpointRow& row);
  int put(const WebhookDeliveryRow& row);
  int put(const WebhookCursorRow& row);
  int put_alerts(const Commit& commit);
  int log(const Commit& commit);
  static int on_wal(void* self, sqlite3* db, const char* name, int pages);

  Connection db_;
  BooksWriter books_;  // writes with db_
  Checkpointer& checkpointer_;
  const std::uint64_t wal_pages_restart_, wal_pages_max_, wal_pages_copy_;
  std::atomic<Batch> last_batch_{0};
  std::uint64_t last_id_ = 0;
  std::uint64_t audit_number_ = 0;  // of the last row of the audit, and its hash
  std::string audit_hash_;
  std::uint64_t wal_pages_ = 0;  // length of the write-ahead log
  std::uint64_t restart_at_;     // the length at which to try next that it begins anew
  bool failed_ = false;
  const char* refusal_ = nullptr;               // why write() gave SQLITE_CONSTRAINT by itself
  std::string head_, body_, changes_, events_;  // reused buffers
};

}  // namespace turnpike::journal::sqlite
