#include "journal/sqlite/reader.h"

#include <algorithm>

#include "journal/audit_chain.h"
#include "journal/pack.h"
#include "journal/sqlite/snapshot.h"

namespace turnpike::journal::sqlite {

// The last batch of this snapshot.
Batch Reader::snapshot_batch() {
  auto& statement = db_.statement("SELECT max(batch) FROM log");
  const StatementScope scope(statement);
  return next(statement) ? statement.id(0) : 0;
}

// --- Recovery

Result<Recovered> Reader::recover() {
  return in_snapshot([&] {
    Recovered recovered;
    {
      auto& last = db_.statement("SELECT batch, last_id, at FROM log ORDER BY batch DESC LIMIT 1");
      const StatementScope scope(last);
      if (next(last)) {
        recovered.last_batch = last.id(0);
        recovered.last_id = last.id(1);
        recovered.last_at = wall_from_micros(last.integer(2));
      }
    }
    recovered.accounts = accounts();
    recovered.queues = queues();
    recovered.processing = processing(recovered.last_batch);
    recovered.runs = live_runs();
    recovered.keys = keys();
    recovered.periods = open_periods();
    recovered.grandfathered = policies(
        "SELECT version, hash, text, applied, applied_by, reason, price_version FROM policy_versions "
        "WHERE version IN (SELECT DISTINCT plan_version FROM accounts WHERE plan_version>0) ORDER BY "
        "version");
    if (auto versions = policies("SELECT version, hash, text, applied, applied_by, reason, price_version "
                                 "FROM policy_versions ORDER BY version DESC LIMIT 1");
        !versions.empty()) {
      recovered.policy = std::move(versions.front());
    }
    {
      auto& query = db_.statement("SELECT text, changed, changed_by FROM overlay");
      const StatementScope scope(query);
      if (next(query)) {
        recovered.overlay = {.text = query.text(0),
                             .changed_at = wall_from_micros(query.integer(1)),
                             .changed_by = query.text(2)};
      }
    }
    recovered.discoveries = discoveries();
    return recovered;
  });
}

std::vector<DiscoveryRow> Reader::discoveries() {
  auto& query = db_.statement(
      "SELECT number, provider, kind, entry, name, released, found FROM discoveries ORDER BY number");
  const StatementScope scope(query);
  std::vector<DiscoveryRow> rows;
  while (next(query)) {
    DiscoveryRow& row = rows.emplace_back();
    row.number = query.id(0);
    row.found.provider = query.text(1);
    row.found.kind = static_cast<policy::DiscoveryKind>(query.integer(2));
    row.found.id = query.text(3);
    row.found.name = query.text(4);
    if (const auto days = query.integer(5); days != 0)
      row.found.released = std::chrono::sys_days(std::chrono::days(days));
    row.found.found_at = wall_from_micros(query.integer(6));
  }
  return rows;
}

std::vector<engine::AccountRow> Reader::accounts() {
  auto& query =
      db_.statement("SELECT id, user_id, plan, created, plan_version, terms FROM accounts ORDER BY id");
  const StatementScope scope(query);
  std::vector<engine::AccountRow> rows;
  while (next(query)) {
    engine::AccountRow& row = rows.emplace_back();
    row.id = {query.id(0)};
    row.user_id = query.text(1);
    row.plan = query.text(2);
    row.created_at = wall_from_micros(query.integer(3));
    row.plan_version = query.id(4);
    if (auto terms = unpack_terms(query.bytes(5), row); !terms) throw Failed{std::move(terms.error())};
  }
  return rows;
}

std::vector<engine::PutQueueCount> Reader::queues() {
  auto& query = db_.statement("SELECT account, pool, queued, scheduled FROM queues ORDER BY account, pool");
  const StatementScope scope(query);
  std::vector<engine::PutQueueCount> rows;
  while (next(query)) {
    rows.push_back(
        {.account = {query.id(0)}, .pool = query.text(1), .queued = query.id(2), .scheduled = query.id(3)});
  }
  return rows;
}

std::vector<KeyRow> Reader::keys() {
  auto& query =
      db_.statement("SELECT id, hash, role, account, name, created, expires, revoked FROM keys ORDER BY id");
  const StatementScope scope(query);
  std::vector<KeyRow> rows;
  while (next(query)) {
    const auto role = query.integer(2);
    if (role < 0 || role > static_cast<std::int64_t>(Role::kWorker)) {
      throw Failed{damaged("a key has an unknown role")};
    }
    rows.push_back({.id = {query.id(0)},
                    .hash = query.text(1),
                    .role = static_cast<Role>(role),
                    .account = {query.id(3)},
                    .name = query.text(4),
                    .created_at = wall_from_micros(query.integer(5)),
                    .expires_at = wall_from_micros(query.integer(6)),
                    .revoked_at = wall_from_micros(query.integer(7))});
  }
  return rows;
}

// --- Events

Result<Journal::EventPage> Reader::events(EventId after, std::optional<AccountId> account,
                                          std::optional<JobId> job, std::optional<RunId> run,
                                          std::size_t limit) {
  return in_snapshot([&] {
    Journal::EventPage page;
    page.scanned_to = after;
    {
      auto& first = db_.statement("SELECT min(batch) FROM log");
      const StatementScope scope(first);
      const Batch dropped = next(first) && first.id(0) > 0 ? first.id(0) - 1 : 0;
      page.truncated = dropped > 0 && after < last_event_of(dropped);
    }
    auto& query = db_.statement("SELECT batch, at, events FROM log WHERE batch>=?1 ORDER BY batch LIMIT ?2");
    const StatementScope scope(query);
    query.bind_id(1, batch_of(after));
    query.bind(2, static_cast<std::int64_t>(kEventBatchesScanMax));
    while (next(query)) {
      const Batch batch = query.id(0);
      if (!query.is_null(2)) {
        auto unpacked = unpack_events(query.bytes(2), wall_from_micros(query.integer(1)));
        if (!unpacked) throw Failed{unpacked.error()};
        for (std::size_t i = 0; i < unpacked->size(); ++i) {
          auto& event = (*unpacked)[i];
          const auto id = event_id(batch, i);
          if (id <= after || (account && event.account != *account) || (job && event.job != *job) ||
              (run && event.run != *run)) {
            continue;
          }
          if (page.events.size() == limit) return page;
          page.events.push_back({id, std::move(event)});
          page.scanned_to = id;
        }
      }
      page.scanned_to = std::max(after, last_event_of(batch));
    }
    return page;
  });
}

// --- The other rows

Result<std::optional<IdempotencyRow>> Reader::idempotency(std::string_view scope_key, Wall now) {
  return in_snapshot([&]() -> std::optional<IdempotencyRow> {
    auto& query = db_.statement(
        "SELECT scope, body_hash, status, content_type, body, expires FROM idempotency "
        "WHERE scope=?1 AND expires>?2");
    const StatementScope scope(query);
    query.bind_blob(1, scope_key);
    query.bind(2, unix_micros(now));
    if (!next(query)) return std::nullopt;
    return IdempotencyRow{.scope = query.text(0),
                          .body_hash = query.text(1),
                          .status = static_cast<int>(query.integer(2)),
                          .content_type = query.text(3),
                          .body = query.text(4),
                          .expires_at = wall_from_micros(query.integer(5))};
  });
}

std::vector<ArtifactRow> Reader::artifacts(Statement& query) {
  std::vector<ArtifactRow> rows;
  while (next(query)) {
    rows.push_back({.ref = {.id = {query.id(0)},
                            .sha256 = query.text(1),
                            .mime = query.text(2),
                            .bytes = query.id(3),
                            .extension = query.text(4)},
                    .account = {query.id(5)},
                    .job = {query.id(6)},
                    .created_at = wall_from_micros(query.integer(7))});
  }
  return rows;
}

Result<std::optional<ArtifactRow>> Reader::artifact(ArtifactId id) {
  return in_snapshot([&]() -> std::optional<ArtifactRow> {
    auto& query = db_.statement(
        "SELECT id, sha256, mime, bytes, extension, account, job, created FROM artifacts WHERE id=?1");
    const StatementScope scope(query);
    query.bind_id(1, id.value);
    auto rows = artifacts(query);
    if (rows.empty()) return std::nullopt;
    return std::move(rows.front());
  });
}

Result<std::vector<ArtifactRow>> Reader::artifacts_by_sha256(std::string_view sha256) {
  return in_snapshot([&] {
    auto& query = db_.statement(
        "SELECT id, sha256, mime, bytes, extension, account, job, created FROM artifacts "
        "WHERE sha256=?1 ORDER BY id");
    const StatementScope scope(query);
    query.bind_text(1, sha256);
    return artifacts(query);
  });
}

std::vector<PolicyVersionRow> Reader::policies(const char* sql, std::optional<std::uint64_t> version) {
  auto& query = db_.statement(sql);
  const StatementScope scope(query);
  if (version) query.bind_id(1, *version);
  std::vector<PolicyVersionRow> rows;
  while (next(query)) {
    rows.push_back({.version = query.id(0),
                    .hash = query.text(1),
                    .text = query.text(2),
                    .applied_at = wall_from_micros(query.integer(3)),
                    .applied_by = query.text(4),
                    .reason = query.text(5),
                    .price_version = query.id(6)});
  }
  return rows;
}

Result<std::vector<PolicyVersionRow>> Reader::policy_versions() {
  return in_snapshot([&] {
    return policies(
        "SELECT version, hash, text, applied, applied_by, reason, price_version FROM policy_versions "
        "ORDER BY version");
  });
}

Result<std::optional<PolicyVersionRow>> Reader::policy_version(std::uint64_t version) {
  return in_snapshot([&]() -> std::optional<PolicyVersionRow> {
    auto rows = policies(
        "SELECT version, hash, text, applied, applied_by, reason, price_version FROM policy_versions "
        "WHERE version=?1",
        version);
    if (rows.empty()) return std::nullopt;
    return std::move(rows.front());
  });
}

StoredAudit Reader::audit_row(const Statement& query) {
  return {.number = query.id(0),
          .row = {.at = wall_from_micros(query.integer(1)),
                  .actor = query.text(2),
                  .action = query.text(3),
                  .subject = query.text(4),
                  .detail = query.text(5)},
          .hash = query.text(6)};
}

Result<std::vector<StoredAudit>> Reader::audit(std::uint64_t before, std::size_t limit) {
  return in_snapshot([&] {
    auto& query = db_.statement(
        "SELECT id, at, actor, action, subject, detail, hash FROM audit WHERE id<?1 ORDER BY id DESC LIMIT "
        "?2");
    const StatementScope scope(query);
    query.bind(
        1, before == 0 ? INT64_MAX : static_cast<std::int64_t>(std::min<std::uint64_t>(before, INT64_MAX)));
    query.bind(2, static_cast<std::int64_t>(std::min<std::size_t>(limit, INT32_MAX)));
    std::vector<StoredAudit> rows;
    while (next(query)) rows.push_back(audit_row(query));
    return rows;
  });
}

Result<AuditReport> Reader::verify_audit() {
  return in_snapshot([&] {
    auto& query = db_.statement("SELECT id, at, actor, action, subject, detail, hash FROM audit ORDER BY id");
    const StatementScope scope(query);
    AuditCheck check;
    while (next(query)) check.add(audit_row(query));
    return check.finish();
  });
}

}  // namespace turnpike::journal::sqlite
