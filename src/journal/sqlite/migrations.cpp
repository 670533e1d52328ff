#include "journal/sqlite/migrations.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "journal/audit_chain.h"

namespace turnpike::journal::sqlite {
namespace {

// Times are Unix microseconds, 0 for "no such time"; ids are base/ids.h values, 0 for "none"; `packed` is
// journal/pack.h.
constexpr const char* kFirst = R"sql(
-- Durable work. Indexes are partial where they can be: a row moves through few of them.
CREATE TABLE jobs(
  id       INTEGER PRIMARY KEY,  -- job id; ascending with age
  account  INTEGER NOT NULL,     -- whose
  state    INTEGER NOT NULL,     -- engine::JobState
  priority INTEGER NOT NULL,     -- the account's own; higher first
  due      INTEGER NOT NULL,     -- scheduled: when it becomes queued
  expires  INTEGER NOT NULL,     -- queued before its first start: when it expires; 0: does not
  finished INTEGER NOT NULL,     -- ended: when
  pool     TEXT NOT NULL,        -- where it waits and runs
  task     TEXT NOT NULL,        -- what is to be done
  dedupe   TEXT,                 -- the account's dedupe key; NULL: none
  head     BLOB NOT NULL,        -- packed: the rest of what changes
  body     BLOB                  -- packed: input, metadata, request id; NULL: in table bodies
) STRICT;
-- Lists, by account, status and task, newest first; what was running at a crash (state 2).
CREATE INDEX jobs_listing ON jobs(state, account, task);
-- Queues in their order.
CREATE INDEX jobs_queue ON jobs(account, pool, priority DESC) WHERE state=1;
-- What becomes due.
CREATE INDEX jobs_due ON jobs(due) WHERE state=0;
-- What may expire.
CREATE INDEX jobs_expiring ON jobs(expires) WHERE state=1 AND expires>0;
-- A dedupe key belongs to one job of an account that has not ended.
CREATE UNIQUE INDEX jobs_dedupe ON jobs(account, dedupe) WHERE dedupe IS NOT NULL AND state<3;
-- What retention removes first.
CREATE INDEX jobs_finished ON jobs(finished) WHERE state>=3;

-- Bodies too large to be rewritten with every change of their job.
CREATE TABLE bodies(
  id   INTEGER PRIMARY KEY,  -- job id
  body BLOB NOT NULL         -- packed as jobs.body
) STRICT;

-- One row for each batch, without a gap: where the journal is, what changed, and the outbox.
CREATE TABLE log(
  batch   INTEGER PRIMARY KEY,  -- number of the batch
  at      INTEGER NOT NULL,     -- its time
  last_id INTEGER NOT NULL,     -- the largest id that this or any earlier batch named
  changes BLOB NOT NULL,        -- packed: the keys of the rows that it changed
  events  BLOB                  -- packed: what users are told; NULL: nothing
) STRICT;

CREATE TABLE accounts(
  id      INTEGER PRIMARY KEY,    -- account id
  user_id TEXT NOT NULL UNIQUE,   -- the application's own id of this user
  plan    TEXT NOT NULL,          -- name of the plan that applies
  created INTEGER NOT NULL        -- when first seen
) STRICT;

-- Waiting jobs of an account in a pool. Kept, never counted; a row of zeros is removed.
CREATE TABLE queues(
  account   INTEGER NOT NULL,  -- whose
  pool      TEXT NOT NULL,     -- where they wait
  queued    INTEGER NOT NULL,  -- jobs in state 1
  scheduled INTEGER NOT NULL,  -- jobs in state 0
  PRIMARY KEY(account, pool)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys(
  id      INTEGER PRIMARY KEY,  -- key id
  hash    BLOB NOT NULL,        -- SHA-256 of the key's text, 32 bytes
  role    INTEGER NOT NULL,     -- journal::Role
  account INTEGER NOT NULL,     -- role account: whose; else 0
  name    TEXT NOT NULL,        -- what its maker calls it
  created INTEGER NOT NULL,     -- when made
  expires INTEGER NOT NULL,     -- 0: does not expire
  revoked INTEGER NOT NULL      -- 0: in force
) STRICT;

-- Who owns which content. Several rows may name the same bytes.
CREATE TABLE artifacts(
  id        INTEGER PRIMARY KEY,  -- artifact id
  sha256    TEXT NOT NULL,        -- of the content, hex; with extension the name of its file
  extension TEXT NOT NULL,        -- without dot
  mime      TEXT NOT NULL,        -- media type
  bytes     INTEGER NOT NULL,     -- size of the content
  account   INTEGER NOT NULL,     -- who may see it
  job       INTEGER NOT NULL,     -- the job that made it; 0: an upload
  created   INTEGER NOT NULL      -- when made
) STRICT;
CREATE INDEX artifacts_content ON artifacts(sha256);
CREATE INDEX artifacts_created ON artifacts(created);

-- Answers that are replayed.
CREATE TABLE idempotency(
  scope        BLOB PRIMARY KEY,  -- SHA-256 of account, method, path and Idempotency-Key
  body_hash    BLOB NOT NULL,     -- SHA-256 of the request's body
  status       INTEGER NOT NULL,  -- HTTP status of the answer
  content_type TEXT NOT NULL,     -- of the answer
  body         BLOB NOT NULL,     -- of the answer
  expires      INTEGER NOT NULL   -- when it is forgotten
) STRICT;
CREATE INDEX idempotency_expires ON idempotency(expires);

CREATE TABLE policy_versions(
  version    INTEGER PRIMARY KEY,  -- from 1; the largest is in force
  hash       TEXT NOT NULL,        -- SHA-256 of text, hex
  text       TEXT NOT NULL,        -- the YAML as applied; secrets are references in it
  applied    INTEGER NOT NULL,     -- when
  applied_by TEXT NOT NULL         -- "start", "signal", "cli"
) STRICT;

CREATE TABLE audit(
  id      INTEGER PRIMARY KEY,  -- in order of writing
  at      INTEGER NOT NULL,     -- when
  actor   TEXT NOT NULL,        -- key id, "cli", "start"
  action  TEXT NOT NULL,        -- "account.plan_changed"
  subject TEXT NOT NULL,        -- the id it is about
  detail  TEXT NOT NULL         -- JSON
) STRICT;
)sql";

// Money and limits.
constexpr const char* kSecond = R"sql(
ALTER TABLE accounts ADD COLUMN plan_version INTEGER NOT NULL DEFAULT 0;  -- the policy version whose plan applies; 0: the one in force
ALTER TABLE accounts ADD COLUMN terms BLOB NOT NULL DEFAULT x'';          -- packed: overrides, team, time zone, anchor, grants; empty: none

-- The books of one account, team or the platform for one billing period.
CREATE TABLE periods(
  scope   INTEGER NOT NULL,  -- engine::Scope
  account INTEGER NOT NULL,  -- scope account: whose; else 0
  team    TEXT NOT NULL,     -- scope team: its name; else empty
  start   INTEGER NOT NULL,  -- first moment of the period
  ends    INTEGER NOT NULL,  -- first moment after it
  current INTEGER NOT NULL,  -- 1: not known to be over
  open    INTEGER NOT NULL,  -- 1: current, or something is held in it: loaded at a start
  books   BLOB NOT NULL,     -- packed: used, held, debt, thresholds told
  PRIMARY KEY(scope, account, team, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX periods_open ON periods(open) WHERE open=1;

-- What was charged: one row for each batch that charged anything. Append-only.
CREATE TABLE ledger(
  batch   INTEGER PRIMARY KEY,  -- the batch
  at      INTEGER NOT NULL,     -- its time
  entries BLOB NOT NULL         -- packed: its entries, in order
) STRICT;

-- Up to when entries of the ledger were removed; one row, or none.
CREATE TABLE ledger_cut(
  id INTEGER PRIMARY KEY CHECK(id=1),  -- 1
  at INTEGER NOT NULL                  -- what was charged before is gone
) STRICT;

-- The ledger rolled up, so that no page counts entries.
CREATE TABLE usage(
  grain     INTEGER NOT NULL,  -- 0: by hour, 1: by day
  at        INTEGER NOT NULL,  -- first moment of the hour or day, UTC
  account   INTEGER NOT NULL,  -- whose
  plan      TEXT NOT NULL,     -- that admitted it
  task      TEXT NOT NULL,     -- what was done
  model     TEXT NOT NULL,     -- as users name it
  provider  TEXT NOT NULL,     -- who did it
  completed INTEGER NOT NULL,  -- tries that completed
  failed    INTEGER NOT NULL,  -- tries that failed or were lost, and were billed
  cost      INTEGER NOT NULL,  -- nano-USD
  tokens        INTEGER NOT NULL,  -- input and output
  input_tokens  INTEGER NOT NULL,  -- cached ones included
  cached_tokens INTEGER NOT NULL,  -- read from the provider's cache
  output_tokens INTEGER NOT NULL,  -- made
  characters    INTEGER NOT NULL,  -- spoken
  audio_ms      INTEGER NOT NULL,  -- milliseconds of audio made
  video_ms      INTEGER NOT NULL,  -- milliseconds of video made
  images        INTEGER NOT NULL,  -- made
  pixels        INTEGER NOT NULL,  -- made
  jobs          INTEGER NOT NULL,  -- completed
  calls         INTEGER NOT NULL,  -- completed
  PRIMARY KEY(grain, at, account, plan, task, model, provider)
) STRICT, WITHOUT ROWID;

ALTER TABLE policy_versions ADD COLUMN reason TEXT NOT NULL DEFAULT '';               -- as given by who applied it
ALTER TABLE policy_versions ADD COLUMN price_version INTEGER NOT NULL DEFAULT 0;      -- the version whose price table it has; 0: its own
)sql";

// The audit becomes a chain.
constexpr const char* kThird = R"sql(
ALTER TABLE audit ADD COLUMN hash BLOB NOT NULL DEFAULT x'';  -- SHA-256 over this row and the hash before it (journal/audit_chain.h)
)sql";

// Hashes what the audit holds already; from here on it is only appended to.
Result<void> chain_audit(Connection& connection) {
  constexpr const char* kWhat = "cannot chain the audit";
  std::vector<std::pair<std::uint64_t, AuditRow>> rows;
  {
    StatementScope query(
        connection.statement("SELECT id, at, actor, action, subject, detail FROM audit ORDER BY id"));
    int code = SQLITE_ROW;
    while ((code = query->step()) == SQLITE_ROW) {
      rows.emplace_back(query->id(0), AuditRow{.at = wall_from_micros(query->integer(1)),
                                               .actor = query->text(2),
                                               .action = query->text(3),
                                               .subject = query->text(4),
                                               .detail = query->text(5)});
    }
    if (code != SQLITE_DONE) return std::unexpected(connection.error(kWhat));
  }
  std::string hash;
  for (const auto& [id, row] : rows) {
    hash = audit_hash(hash, id, row);
    auto& update = connection.statement("UPDATE audit SET hash=?2 WHERE id=?1");
    update.bind_id(1, id);
    update.bind_blob(2, hash);
    if (update.run() != SQLITE_OK) return std::unexpected(connection.error(kWhat));
  }
  return connection.run(
      "CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN "
      "SELECT raise(ABORT, 'the audit is only appended to'); END;"
      "CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN "
      "SELECT raise(ABORT, 'the audit is only appended to'); END;",
      kWhat);
}

// Outgoing webhooks, and alerts.
constexpr const char* kFourth = R"sql(
CREATE TABLE webhook_endpoints(
  id          INTEGER PRIMARY KEY,  -- endpoint id
  account     INTEGER NOT NULL,     -- whose events; 0: everybody's
  url         TEXT NOT NULL,        -- where they are sent
  events      TEXT NOT NULL,        -- which, separated by spaces
  description TEXT NOT NULL,        -- what its maker says of it
  secret      TEXT NOT NULL,        -- what deliveries are signed with: needed as it is, so readable with the file
  old_secret  TEXT NOT NULL,        -- signs too until old_until; empty: none
  old_until   INTEGER NOT NULL,     -- 0: none
  disabled    TEXT NOT NULL,        -- why nothing is sent; empty: in force
  since       INTEGER NOT NULL,     -- only events after this event id
  created     INTEGER NOT NULL      -- when made
) STRICT;

CREATE TABLE webhook_deliveries(
  endpoint INTEGER NOT NULL,  -- webhook_endpoints.id
  event    INTEGER NOT NULL,  -- event id
  type     TEXT NOT NULL,     -- of the event: "job.completed"
  subject  TEXT NOT NULL,     -- of the event: "job_…"
  payload  TEXT NOT NULL,     -- JSON as it is signed and sent
  state    INTEGER NOT NULL,  -- journal::DeliveryState
  attempts INTEGER NOT NULL,  -- that were made
  status   INTEGER NOT NULL,  -- HTTP status of the last; 0: there was no answer
  error    TEXT NOT NULL,     -- of the last attempt; empty: it was taken
  created  INTEGER NOT NULL,  -- when made
  next     INTEGER NOT NULL,  -- state 0: not tried before; else 0
  ended    INTEGER NOT NULL   -- when it was taken or given up; 0: it is pending
) STRICT;
CREATE UNIQUE INDEX webhook_deliveries_event ON webhook_deliveries(endpoint, event);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries(endpoint, event) WHERE state=0;
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries(ended) WHERE state>0;

-- One row: deliveries of all events up to this one were made.
CREATE TABLE webhook_cursor(
  id    INTEGER PRIMARY KEY CHECK(id=1),
  event INTEGER NOT NULL  -- event id
) STRICT;

-- Events that operators look for, kept longer than the log.
CREATE TABLE alerts(
  event   INTEGER PRIMARY KEY,  -- event id
  at      INTEGER NOT NULL,     -- when
  type    INTEGER NOT NULL,     -- engine::EventType
  account INTEGER NOT NULL,     -- whose; 0: the platform's, or a team's
  text    TEXT NOT NULL         -- the event's data, JSON
) STRICT;
CREATE INDEX alerts_at ON alerts(at);
)sql";

// Books are folded into their tables later than their batches.
constexpr const char* kFifth = R"sql(
-- Periods as batches left them, until they are folded into table periods: one row for each batch that changed any.
CREATE TABLE period_changes(
  batch   INTEGER PRIMARY KEY,  -- the batch
  changed BLOB NOT NULL         -- packed: whole rows of periods
) STRICT;

-- One row: tables periods and usage have everything up to this batch. What came later is in ledger and
-- period_changes, and stands over these tables until it is folded.
CREATE TABLE folded(
  id    INTEGER PRIMARY KEY CHECK(id=1),  -- 1
  batch INTEGER NOT NULL                  -- the batch
) STRICT;
INSERT INTO folded SELECT 1, coalesce(max(batch), 0) FROM log;

ALTER TABLE usage ADD COLUMN batch INTEGER NOT NULL DEFAULT 0;  -- the row counts entries up to this batch, or up to folded.batch if that is later
)sql";

// What the operator has decided beside the configuration.
constexpr const char* kSixth = R"sql(
-- One row: providers, models and keys that are paused, statuses of versions, canaries, pins, the freeze.
CREATE TABLE overlay(
  id         INTEGER PRIMARY KEY CHECK(id=1),  -- 1
  text       TEXT NOT NULL,                    -- JSON, as policy::overlay_json writes it
  changed    INTEGER NOT NULL,                 -- when
  changed_by TEXT NOT NULL                     -- key id, "cli", "canary:ID"
) STRICT;
)sql";

// What was found in providers' lists.
constexpr const char* kSeventh = R"sql(
CREATE TABLE discoveries(
  number   INTEGER PRIMARY KEY,  -- in the order in which they were found
  provider TEXT NOT NULL,        -- whose list
  kind     INTEGER NOT NULL,     -- policy::DiscoveryKind
  entry    TEXT NOT NULL,        -- its id, as the provider names it
  name     TEXT NOT NULL,        -- for a person; may be empty
  released INTEGER NOT NULL,     -- the day that the list says, in days since 1970; 0: none
  found    INTEGER NOT NULL      -- when it was first seen
) STRICT;
CREATE UNIQUE INDEX discoveries_entry ON discoveries(provider, kind, entry);
)sql";

// Runs of workflows.
constexpr const char* kEighth = R"sql(
ALTER TABLE jobs ADD COLUMN run INTEGER NOT NULL DEFAULT 0;  -- the run whose step it is; 0: none

-- What retention removes first, of jobs that belong to no run: those of a run go with it.
DROP INDEX jobs_finished;
CREATE INDEX jobs_finished ON jobs(finished) WHERE state>=3 AND run=0;

-- The ids that follow a run's, engine::kRunJobsMax of them, are its jobs'.
CREATE TABLE runs(
  id       INTEGER PRIMARY KEY,  -- run id; ascending with age
  account  INTEGER NOT NULL,     -- whose
  state    INTEGER NOT NULL,     -- engine::JobState: 1 (nothing of it has started), 2, or ended: 3, 4, 5
  live     INTEGER NOT NULL,     -- its jobs that have not ended
  finished INTEGER NOT NULL,     -- ended: when
  workflow TEXT NOT NULL,        -- name of its workflow
  head     BLOB NOT NULL         -- packed: the rest of what changes
) STRICT;
-- Lists, by account, status and workflow, newest first.
CREATE INDEX runs_listing ON runs(state, account, workflow);
-- What a start goes on with.
CREATE INDEX runs_live ON runs(account) WHERE state<3 OR live>0;
-- What retention removes first.
CREATE INDEX runs_finished ON runs(finished) WHERE state>=3 AND live=0;

-- What never changes of a run.
CREATE TABLE run_bodies(
  id   INTEGER PRIMARY KEY,  -- run id
  body BLOB NOT NULL         -- packed: definition of its workflow, input, metadata, request id
) STRICT;
)sql";

// Step n brings version n to version n + 1. Released steps are never edited.
struct Step {
  const char* sql;
  Result<void> (*after)(Connection&) = nullptr;  // in the same transaction
};
constexpr std::array kSteps{Step{kFirst},   Step{kSecond}, Step{kThird, chain_audit},
                            Step{kFourth},  Step{kFifth},  Step{kSixth},
                            Step{kSeventh}, Step{kEighth}};

Result<int> version_of(Connection& connection) {
  if (auto made = connection.run("CREATE TABLE IF NOT EXISTS schema_version(\n"
                                 "  version INTEGER PRIMARY KEY  -- a step of the schema that was done\n"
                                 ") STRICT",
                                 "cannot prepare the database");
      !made) {
    return std::unexpected(made.error());
  }
  StatementScope query(connection.statement("SELECT coalesce(max(version), 0) FROM schema_version"));
  if (query->step() != SQLITE_ROW)
    return std::unexpected(connection.error("cannot read the database's version"));
  return static_cast<int>(query->integer(0));
}

Result<void> step_to(Connection& connection, int version) {
  constexpr const char* kWhat = "cannot change the database's schema";
  const Step& step = kSteps.at(static_cast<std::size_t>(version) - 1);
  auto done = connection.run((std::string("BEGIN IMMEDIATE;") + step.sql).c_str(), kWhat);
  if (done && step.after != nullptr) done = step.after(connection);
  if (done) {
    const std::string last = "INSERT INTO schema_version VALUES(" + std::to_string(version) + ");COMMIT;";
    done = connection.run(last.c_str(), kWhat);
  }
  if (!done) connection.exec("ROLLBACK");
  return done;
}

}  // namespace

int schema_version_max() {
  return static_cast<int>(kSteps.size());
}

Result<void> check_version(Connection& connection) {
  int version = 0;
  {
    StatementScope query(connection.statement("SELECT coalesce(max(version), 0) FROM schema_version"));
    if (query->step() != SQLITE_ROW)
      return std::unexpected(connection.error("cannot read the database's version"));
    version = static_cast<int>(query->integer(0));
  }
  if (version == schema_version_max()) return {};
  return fail(ErrorCode::kConfiguration,
              "the database has schema version " + std::to_string(version) + ", this program reads " +
                  std::to_string(schema_version_max()) +
                  (version < schema_version_max() ? ": start the server once, which brings it up to date"
                                                  : ": use the newer turnpike that wrote it"));
}

Result<void> migrate(Connection& connection) {
  return migrate_to(connection, schema_version_max());
}

Result<void> migrate_to(Connection& connection, int to) {
  const auto version = version_of(connection);
  if (!version) return std::unexpected(version.error());
  if (*version > schema_version_max()) {
    return fail(ErrorCode::kConfiguration,
                "the database has schema version " + std::to_string(*version) + ", this program knows " +
                    std::to_string(schema_version_max()) + ": start the newer turnpike that wrote it");
  }
  for (int next = *version + 1; next <= to; ++next) {
    if (auto done = step_to(connection, next); !done) return done;
  }
  return {};
}

}  // namespace turnpike::journal::sqlite
