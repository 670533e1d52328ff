#include "journal/sqlite/writer.h"

#include <algorithm>

#include "journal/audit_chain.h"
#include "journal/last_id.h"
#include "journal/pack.h"

namespace turnpike::journal::sqlite {

using engine::JobState;

Result<std::unique_ptr<Writer>> Writer::make(Connection connection, Checkpointer& checkpointer,
                                             const SqliteOptions& options) {
  std::unique_ptr<Writer> writer(new Writer(std::move(connection), checkpointer, options));
  if (auto loaded = writer->load_last(); !loaded) return std::unexpected(loaded.error());
  if (auto opened = writer->books_.open(writer->last_batch()); !opened)
    return std::unexpected(opened.error());
  sqlite3_wal_hook(writer->db_.raw(), &Writer::on_wal, writer.get());
  if (options.pages_max > 0) {
    const auto sql = "PRAGMA max_page_count=" + std::to_string(options.pages_max);
    if (auto set = writer->db_.run(sql.c_str(), "cannot bound the database"); !set) {
      return std::unexpected(set.error());
    }
  }
  return writer;
}

Result<void> Writer::load_last() {
  StatementScope last(db_.statement("SELECT batch, last_id FROM log ORDER BY batch DESC LIMIT 1"));
  const int code = last->step();
  if (code == SQLITE_ROW) {
    last_batch_ = last->id(0);
    last_id_ = last->id(1);
  } else if (code != SQLITE_DONE) {
    return std::unexpected(db_.error("cannot read the database"));
  }
  StatementScope audit(db_.statement("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1"));
  const int found = audit->step();
  if (found == SQLITE_ROW) {
    audit_number_ = audit->id(0);
    audit_hash_ = audit->text(1);
  } else if (found != SQLITE_DONE) {
    return std::unexpected(db_.error("cannot read the database"));
  }
  return {};
}

int Writer::on_wal(void* self, sqlite3*, const char*, int pages) {
  auto* writer = static_cast<Writer*>(self);
  const auto length = static_cast<std::uint64_t>(std::max(pages, 0));
  if (length < writer->wal_pages_) writer->restart_at_ = writer->wal_pages_restart_;
  writer->wal_pages_ = length;
  writer->checkpointer_.grown_to(length);
  return SQLITE_OK;
}

// The log begins anew with the first commit after all of it was copied and read by nobody. Between two
// commits little is left to copy; if readers are in the way, it is tried again later, and waited for in the
// end.
void Writer::bound_wal() {
  if (wal_pages_ < restart_at_) return;
  const bool must = wal_pages_ >= wal_pages_max_;
  const auto turn = checkpointer_.take_turn(must);
  if (!turn) return;
  const int mode = must ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE;
  sqlite3_wal_checkpoint_v2(db_.raw(), nullptr, mode, nullptr, nullptr);
  restart_at_ = std::min(wal_pages_ + wal_pages_copy_, std::max(wal_pages_max_, wal_pages_ + 1));
}

// --- Transactions

Result<void> Writer::refuse_after_failure() const {
  if (!failed_) return {};
  return fail(ErrorCode::kIo, "an earlier commit failed; stop and start again to see what was stored");
}

Result<void> Writer::finish(int code, const char* what) {
  if (code == SQLITE_OK) code = db_.statement("COMMIT").run();
  if (code == SQLITE_OK) return {};
  failed_ = true;
  auto error = refusal_ ? fail(ErrorCode::kInternal, refusal_).error() : db_.error(what);
  db_.exec("ROLLBACK");
  return std::unexpected(std::move(error));
}

Result<void> Writer::check(const Commit& commit) const {
  if (auto refused = refuse_after_failure(); !refused) return refused;
  if (commit.batch != last_batch() + 1) {
    return fail(ErrorCode::kInternal, "batch " + std::to_string(commit.batch) + " does not follow batch " +
                                          std::to_string(last_batch()));
  }
  if (commit.events.size() > kEventsInBatchMax) {
    return fail(ErrorCode::kInternal, "too many events in one batch");
  }
  return {};
}

Result<void> Writer::commit(const Commit& commit) {
  if (auto checked = check(commit); !checked) {
    failed_ = true;
    return checked;
  }
  bound_wal();
  int code = db_.statement("BEGIN IMMEDIATE").run();
  if (code == SQLITE_OK) code = write(commit);
  if (auto done = finish(code, "cannot commit"); !done) return done;
  last_batch_.store(commit.batch, std::memory_order_release);
  return {};
}

int Writer::write(const Commit& commit) {
  if (const int code = write_mutations(commit); code != SQLITE_OK) return code;
  for (const auto& record : commit.records) {
    if (const int code = write(record); code != SQLITE_OK) return code;
  }
  if (const int code = books_.write(commit); code != SQLITE_OK) return code;
  if (const int code = put_alerts(commit); code != SQLITE_OK) return code;
  return log(commit);
}

// Jobs that end give up their dedupe keys before others take them: merging has lost the order in which that
// happened.
int Writer::write_mutations(const Commit& commit) {
  const auto keyed_and_ended = [](const engine::Mutation& mutation) {
    const auto* job = std::get_if<engine::PutJob>(&mutation);
    return job != nullptr && !job->row.dedupe_key.empty() && ended(job->row.state);
  };
  for (const bool first : {true, false}) {
    for (const auto& mutation : commit.mutations) {
      if (keyed_and_ended(mutation) != first) continue;
      if (const int code = write(mutation); code != SQLITE_OK) return code;
    }
  }
  return SQLITE_OK;
}

int Writer::write(const engine::Mutation& mutation) {
  if (const auto* job = std::get_if<engine::PutJob>(&mutation)) return put(*job);
  if (const auto* count = std::get_if<engine::PutQueueCount>(&mutation)) return put(*count);
  if (const auto* account = std::get_if<engine::PutAccount>(&mutation)) return put(*account);
  if (const auto* drop_job = std::get_if<engine::DropJob>(&mutation)) return drop(drop_job->id);
  if (const auto* run = std::get_if<engine::PutRun>(&mutation)) return put(*run);
  return SQLITE_OK;  // PutPeriod and AddEntry: books_ writes a batch's together
}

int Writer::write(const Record& record) {
  return std::visit([this](const auto& row) { return put(row); }, record);
}

// --- Jobs

namespace {

constexpr const char* kUpdateJob =
    "UPDATE jobs SET account=?2, state=?3, priority=?4, due=?5, expires=?6, finished=?7, pool=?8, task=?9, "
    "dedupe=?10, head=?11, run=?12 WHERE id=?1";
constexpr const char* kInsertJob =
    "INSERT INTO jobs(id, account, state, priority, due, expires, finished, pool, task, dedupe, head, run, "
    "body) "
    "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) "
    "ON CONFLICT(id) DO UPDATE SET account=?2, state=?3, priority=?4, due=?5, expires=?6, finished=?7, "
    "pool=?8, "
    "task=?9, dedupe=?10, head=?11, run=?12, body=?13";

void bind_job(Statement& statement, const engine::JobRow& row, std::string_view head) {
  statement.bind_id(1, row.id.value);
  statement.bind_id(2, row.account.value);
  statement.bind(3, static_cast<std::int64_t>(row.state));
  statement.bind(4, row.priority);
  statement.bind(5, unix_micros(row.due_at));
  statement.bind(6, unix_micros(row.expires_at));
  statement.bind(7, unix_micros(row.finished_at));
  statement.bind_text(8, row.pool);
  statement.bind_text(9, row.task);
  if (row.dedupe_key.empty()) {
    statement.bind_null(10);
  } else {
    statement.bind_text(10, row.dedupe_key);
  }
  statement.bind_blob(11, head);
  statement.bind_id(12, row.run.value);
}

bool is_inline(const engine::JobBody& body) {
  return body.input.size() + body.metadata.size() + body.request_id.size() <= kInlineBody;
}

}  // namespace

int Writer::put(const engine::PutJob& put) {
  head_.clear();
  pack_head(put.row, head_);
  if (!put.body) {
    auto& update = db_.statement(kUpdateJob);
    bind_job(update, put.row, head_);
    if (const int code = update.run(); code != SQLITE_OK) return code;
    if (sqlite3_changes(db_.raw()) == 1) return SQLITE_OK;
    refusal_ = "a job that is not in the journal came without its body";
    return SQLITE_CONSTRAINT;
  }
  body_.clear();
  pack_body(*put.body, body_);
  auto& insert = db_.statement(kInsertJob);
  bind_job(insert, put.row, head_);
  if (is_inline(*put.body)) {
    insert.bind_blob(13, body_);
    return insert.run();
  }
  insert.bind_null(13);
  if (const int code = insert.run(); code != SQLITE_OK) return code;
  auto& large = db_.statement("INSERT OR REPLACE INTO bodies(id, body) VALUES(?1, ?2)");
  large.bind_id(1, put.row.id.value);
  large.bind_blob(2, body_);
  return large.run();
}

int Writer::drop(JobId id) {
  auto& job = db_.statement("DELETE FROM jobs WHERE id=?1");
  job.bind_id(1, id.value);
  if (const int code = job.run(); code != SQLITE_OK) return code;
  auto& body = db_.statement("DELETE FROM bodies WHERE id=?1");
  body.bind_id(1, id.value);
  return body.run();
}

int Writer::put(const engine::PutRun& put) {
  const engine::RunRow& row = put.row;
  head_.clear();
  pack_run(row, head_);
  auto& write =
      put.body ? db_.statement(
                     "INSERT INTO runs(id, account, state, live, finished, workflow, head) "
                     "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(id) DO UPDATE SET account=?2, state=?3, "
                     "live=?4, finished=?5, workflow=?6, head=?7")
               : db_.statement(
                     "UPDATE runs SET account=?2, state=?3, live=?4, finished=?5, workflow=?6, head=?7 "
                     "WHERE id=?1");
  write.bind_id(1, row.id.value);
  write.bind_id(2, row.account.value);
  write.bind(3, static_cast<std::int64_t>(row.state));
  write.bind(4, row.live_jobs);
  write.bind(5, unix_micros(row.finished_at));
  write.bind_text(6, row.workflow);
  write.bind_blob(7, head_);
  if (const int code = write.run(); code != SQLITE_OK) return code;
  if (!put.body) {
    if (sqlite3_changes(db_.raw()) == 1) return SQLITE_OK;
    refusal_ = "a run that is not in the journal came without its body";
    return SQLITE_CONSTRAINT;
  }
  body_.clear();
  pack_run_body(*put.body, body_);
  auto& insert = db_.statement("INSERT OR REPLACE INTO run_bodies(id, body) VALUES(?1, ?2)");
  insert.bind_id(1, row.id.value);
  insert.bind_blob(2, body_);
  return insert.run();
}

// --- The other rows

int Writer::put(const engine::PutAccount& put) {
  head_.clear();
  pack_terms(put.row, head_);
  auto& insert = db_.statement(
      "INSERT INTO accounts(id, user_id, plan, created, plan_version, terms) VALUES(?1, ?2, ?3, ?4, ?5, ?6) "
      "ON CONFLICT(id) DO UPDATE SET user_id=?2, plan=?3, created=?4, plan_version=?5, terms=?6");
  insert.bind_id(5, put.row.plan_version);
  insert.bind_blob(6, head_);
  insert.bind_id(1, put.row.id.value);
  insert.bind_text(2, put.row.user_id);
  insert.bind_text(3, put.row.plan);
  insert.bind(4, unix_micros(put.row.created_at));
  return insert.run();
}

int Writer::put(const engine::PutQueueCount& put) {
  auto& write = put.queued + put.scheduled > 0
                    ? db_.statement(
                          "INSERT INTO queues(account, pool, queued, scheduled) VALUES(?1, ?2, ?3, ?4) "
                          "ON CONFLICT(account, pool) DO UPDATE SET queued=?3, scheduled=?4")
                    : db_.statement("DELETE FROM queues WHERE account=?1 AND pool=?2");
  write.bind_id(1, put.account.value);
  write.bind_text(2, put.pool);
  if (put.queued + put.scheduled > 0) {
    write.bind_id(3, put.queued);
    write.bind_id(4, put.scheduled);
  }
  return write.run();
}

int Writer::put(const KeyRow& row) {
  auto& insert = db_.statement(
      "INSERT OR REPLACE INTO keys(id, hash, role, account, name, created, expires, revoked) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
  insert.bind_id(1, row.id.value);
  insert.bind_blob(2, row.hash);
  insert.bind(3, static_cast<std::int64_t>(row.role));
  insert.bind_id(4, row.account.value);
  insert.bind_text(5, row.name);
  insert.bind(6, unix_micros(row.created_at));
  insert.bind(7, unix_micros(row.expires_at));
  insert.bind(8, unix_micros(row.revoked_at));
  return insert.run();
}

int Writer::put(const ArtifactRow& row) {
  auto& insert = db_.statement(
      "INSERT OR REPLACE INTO artifacts(id, sha256, extension, mime, bytes, account, job, created) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
  insert.bind_id(1, row.ref.id.value);
  insert.bind_text(2, row.ref.sha256);
  insert.bind_text(3, row.ref.extension);
  insert.bind_text(4, row.ref.mime);
  insert.bind_id(5, row.ref.bytes);
  insert.bind_id(6, row.account.value);
  insert.bind_id(7, row.job.value);
  insert.bind(8, unix_micros(row.created_at));
  return insert.run();
}

int Writer::put(const IdempotencyRow& row) {
  auto& insert = db_.statement(
      "INSERT OR REPLACE INTO idempotency(scope, body_hash, status, content_type, body, expires) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6)");
  insert.bind_blob(1, row.scope);
  insert.bind_blob(2, row.body_hash);
  insert.bind(3, row.status);
  insert.bind_text(4, row.content_type);
  insert.bind_blob(5, row.body);
  insert.bind(6, unix_micros(row.expires_at));
  return insert.run();
}

int Writer::put(const OverlayRow& row) {
  auto& insert =
      db_.statement("INSERT OR REPLACE INTO overlay(id, text, changed, changed_by) VALUES(1, ?1, ?2, ?3)");
  insert.bind_text(1, row.text);
  insert.bind(2, unix_micros(row.changed_at));
  insert.bind_text(3, row.changed_by);
  return insert.run();
}

int Writer::put(const DiscoveryRow& row) {
  auto& insert = db_.statement(
      "INSERT INTO discoveries(number, provider, kind, entry, name, released, found) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(provider, kind, entry) DO NOTHING");
  const policy::Discovery& found = row.found;
  insert.bind_id(1, row.number);
  insert.bind_text(2, found.provider);
  insert.bind(3, static_cast<int>(found.kind));
  insert.bind_text(4, found.id);
  insert.bind_text(5, found.name);
  insert.bind(6, found.released ? found.released->time_since_epoch().count() : 0);
  insert.bind(7, unix_micros(found.found_at));
  return insert.run();
}

int Writer::put(const PolicyVersionRow& row) {
  auto& insert = db_.statement(
      "INSERT OR REPLACE INTO policy_versions(version, hash, text, applied, applied_by, reason, "
      "price_version) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)");
  insert.bind_text(6, row.reason);
  insert.bind_id(7, row.price_version);
  insert.bind_id(1, row.version);
  insert.bind_text(2, row.hash);
  insert.bind_text(3, row.text);
  insert.bind(4, unix_micros(row.applied_at));
  insert.bind_text(5, row.applied_by);
  return insert.run();
}

int Writer::put(const AuditRow& row) {
  ++audit_number_;
  audit_hash_ = audit_hash(audit_hash_, audit_number_, row);
  auto& insert = db_.statement(
      "INSERT INTO audit(at, actor, action, subject, detail, id, hash) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)");
  insert.bind_id(6, audit_number_);
  insert.bind_blob(7, audit_hash_);
  insert.bind(1, unix_micros(row.at));
  insert.bind_text(2, row.actor);
  insert.bind_text(3, row.action);
  insert.bind_text(4, row.subject);
  insert.bind_text(5, row.detail);
  return insert.run();
}

int Writer::log(const Commit& commit) {
  last_id_ = std::max(last_id_, last_id(commit));
  changes_.clear();
  pack_changes(commit.mutations, changes_);
  events_.clear();
  if (!commit.events.empty()) pack_events(commit.events, commit.at, events_);
  auto& insert =
      db_.statement("INSERT INTO log(batch, at, last_id, changes, events) VALUES(?1, ?2, ?3, ?4, ?5)");
  insert.bind_id(1, commit.batch);
  insert.bind(2, unix_micros(commit.at));
  insert.bind_id(3, last_id_);
  insert.bind_blob(4, changes_);
  if (commit.events.empty()) {
    insert.bind_null(5);
  } else {
    insert.bind_blob(5, events_);
  }
  return insert.run();
}

}  // namespace turnpike::journal::sqlite
