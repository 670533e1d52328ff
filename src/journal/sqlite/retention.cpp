// The part of the writer that removes what is old.
#include <utility>
#include <vector>

#include "journal/sqlite/writer.h"

namespace turnpike::journal::sqlite {
namespace {

constexpr const char* kEndedJobs =
    "SELECT id FROM jobs INDEXED BY jobs_finished WHERE state>=3 AND run=0 AND finished<?1 "
    "ORDER BY finished, id LIMIT ?2";
constexpr const char* kEndedRuns =
    "SELECT id FROM runs INDEXED BY runs_finished WHERE state>=3 AND live=0 AND finished<?1 "
    "ORDER BY finished, id LIMIT ?2";
constexpr const char* kJobsOfRun =
    "SELECT id FROM jobs WHERE id>?1 AND id<=?1+?3 AND run=?1 AND state>=3 ORDER BY id LIMIT ?2";
// Not one of which a job is left.
constexpr const char* kRemoveRun =
    "DELETE FROM runs WHERE id=?1 AND NOT EXISTS(SELECT 1 FROM jobs WHERE id>?1 AND id<=?1+?2 AND run=?1)";
constexpr const char* kOldArtifacts =
    "SELECT id FROM artifacts INDEXED BY artifacts_created WHERE created<?1 AND NOT "
    "EXISTS(SELECT 1 FROM jobs WHERE jobs.id=artifacts.job) "
    "ORDER BY created LIMIT ?2";
constexpr const char* kOldAnswers =
    "SELECT rowid FROM idempotency INDEXED BY idempotency_expires WHERE expires<=?1 "
    "ORDER BY expires LIMIT ?2";
// The clock may have jumped: the log is cut at the first batch that is young enough. The last batch stays,
// for it says where the journal is.
constexpr const char* kFirstBatches =
    "SELECT batch, at FROM log WHERE batch<(SELECT max(batch) FROM log) AND ?1 IS NOT NULL ORDER BY batch "
    "LIMIT ?2";

constexpr const char* kOldEntries = "SELECT batch FROM ledger WHERE at<?1 ORDER BY batch LIMIT ?2";

constexpr const char* kOldDeliveries =
    "SELECT rowid FROM webhook_deliveries INDEXED BY webhook_deliveries_ended WHERE state>0 AND ended<?1 "
    "ORDER BY ended LIMIT ?2";
constexpr const char* kOldAlerts =
    "SELECT event FROM alerts INDEXED BY alerts_at WHERE at<?1 ORDER BY at LIMIT ?2";

// What one pass may still remove, and what it found.
struct Pass {
  Connection& db;
  std::size_t left;
  Journal::Removed removed;
  int code = SQLITE_OK;

  // Ids that `select` gives for `before`, at most as many as are left; notes whether there are more.
  std::vector<std::int64_t> candidates(const char* select, Wall before, int time_column = -1) {
    std::vector<std::int64_t> ids;
    if (code != SQLITE_OK) return ids;
    StatementScope query(db.statement(select));
    query->bind(1, unix_micros(before));
    query->bind(2, static_cast<std::int64_t>(left) + 1);
    while ((code = query->step()) == SQLITE_ROW) {
      if (time_column >= 0 && query->integer(time_column) >= unix_micros(before)) break;
      if (ids.size() == left) {
        removed.more = true;
        break;
      }
      ids.push_back(query->integer(0));
    }
    if (code == SQLITE_DONE || code == SQLITE_ROW) code = SQLITE_OK;
    left -= ids.size();
    removed.rows += ids.size();
    return ids;
  }

  void remove(const char* sql, std::int64_t id) {
    if (code != SQLITE_OK) return;
    auto& statement = db.statement(sql);
    statement.bind(1, id);
    code = statement.run();
  }

  void remove_job(std::int64_t id) {
    remove("DELETE FROM jobs WHERE id=?1", id);
    remove("DELETE FROM bodies WHERE id=?1", id);
  }

  // The jobs of a run that has ended, and then the run; as many rows as are left.
  void remove_run(std::int64_t id) {
    if (code != SQLITE_OK) return;
    std::vector<std::int64_t> jobs;
    {
      StatementScope query(db.statement(kJobsOfRun));
      query->bind(1, id);
      query->bind(2, static_cast<std::int64_t>(left));
      query->bind(3, engine::kRunJobsMax);
      while ((code = query->step()) == SQLITE_ROW) jobs.push_back(query->integer(0));
    }
    if (code == SQLITE_DONE) code = SQLITE_OK;
    for (const auto job : jobs) remove_job(job);
    left -= jobs.size();
    removed.rows += jobs.size();
    if (code != SQLITE_OK || left == 0) {
      removed.more = true;
      return;
    }
    auto& run = db.statement(kRemoveRun);
    run.bind(1, id);
    run.bind(2, engine::kRunJobsMax);
    code = run.run();
    if (code != SQLITE_OK || sqlite3_changes(db.raw()) == 0) return;
    remove("DELETE FROM run_bodies WHERE id=?1", id);
    --left;
    ++removed.rows;
  }

  void remove_runs(Wall before) {
    if (code != SQLITE_OK) return;
    std::vector<std::int64_t> runs;
    {
      StatementScope query(db.statement(kEndedRuns));
      query->bind(1, unix_micros(before));
      query->bind(2, static_cast<std::int64_t>(left) + 1);
      while ((code = query->step()) == SQLITE_ROW) runs.push_back(query->integer(0));
    }
    if (code == SQLITE_DONE) code = SQLITE_OK;
    for (const auto run : runs) {
      if (left == 0) {
        removed.more = true;
        return;
      }
      remove_run(run);
    }
  }

  void remove_artifact(std::int64_t id) {
    if (code != SQLITE_OK) return;
    std::pair<std::string, std::string> file;
    {
      StatementScope erase(db.statement("DELETE FROM artifacts WHERE id=?1 RETURNING sha256, extension"));
      erase->bind(1, id);
      while ((code = erase->step()) == SQLITE_ROW) file = {erase->text(0), erase->text(1)};
    }
    if (code != SQLITE_DONE) return;
    StatementScope others(db.statement("SELECT 1 FROM artifacts WHERE sha256=?1 LIMIT 1"));
    others->bind_text(1, file.first);
    code = others->step();
    if (code == SQLITE_DONE) removed.files.push_back(std::move(file));
    if (code == SQLITE_DONE || code == SQLITE_ROW) code = SQLITE_OK;
  }
};

}  // namespace

Result<Journal::Removed> Writer::retain(const Journal::Retention& retention) {
  if (auto refused = refuse_after_failure(); !refused) return std::unexpected(refused.error());
  Pass pass{.db = db_, .left = retention.rows_max, .removed = {}};
  pass.code = db_.statement("BEGIN IMMEDIATE").run();
  for (const auto id : pass.candidates(kEndedJobs, retention.jobs_before)) pass.remove_job(id);
  pass.remove_runs(retention.jobs_before);
  for (const auto id : pass.candidates(kOldArtifacts, retention.artifacts_before)) pass.remove_artifact(id);
  for (const auto id : pass.candidates(kOldAnswers, retention.now)) {
    pass.remove("DELETE FROM idempotency WHERE rowid=?1", id);
  }
  for (const auto batch : pass.candidates(kFirstBatches, retention.events_before, 1)) {
    pass.remove("DELETE FROM log WHERE batch=?1", batch);
  }
  for (const auto row : pass.candidates(kOldDeliveries, retention.deliveries_before)) {
    pass.remove("DELETE FROM webhook_deliveries WHERE rowid=?1", row);
  }
  for (const auto event : pass.candidates(kOldAlerts, retention.ledger_before)) {
    pass.remove("DELETE FROM alerts WHERE event=?1", event);
  }
  const auto charged = pass.candidates(kOldEntries, retention.ledger_before);
  // Entries count in the rollups before they go.
  if (pass.code == SQLITE_OK && !charged.empty()) pass.code = books_.fold_all(last_batch());
  for (const auto batch : charged) pass.remove("DELETE FROM ledger WHERE batch=?1", batch);
  if (!charged.empty()) {
    pass.remove("INSERT INTO ledger_cut VALUES(1, ?1) ON CONFLICT(id) DO UPDATE SET at=max(at, ?1)",
                unix_micros(retention.ledger_before));
    pass.remove("DELETE FROM usage WHERE grain=0 AND at<?1", unix_micros(retention.ledger_before));
    pass.remove("DELETE FROM periods WHERE open=0 AND ends<?1", unix_micros(retention.ledger_before));
  }
  if (auto done = finish(pass.code, "cannot remove old rows"); !done) return std::unexpected(done.error());
  return std::move(pass.removed);
}

}  // namespace turnpike::journal::sqlite
