// The part of the writer that keeps webhooks and alerts.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "journal/alerts.h"
#include "journal/sqlite/writer.h"

namespace turnpike::journal::sqlite {

int Writer::put(const WebhookEndpointRow& row) {
  if (row.change == WebhookEndpointRow::Change::kRemoved) {
    for (const char* sql :
         {"DELETE FROM webhook_deliveries WHERE endpoint=?1", "DELETE FROM webhook_endpoints WHERE id=?1"}) {
      auto& remove = db_.statement(sql);
      remove.bind_id(1, row.id.value);
      if (const int code = remove.run(); code != SQLITE_OK) return code;
    }
    return SQLITE_OK;
  }
  const std::string events = fmt::format("{}", fmt::join(row.events, " "));
  auto& insert = db_.statement(
      row.change == WebhookEndpointRow::Change::kNew
          ? "INSERT INTO webhook_endpoints(id, account, url, events, description, secret, old_secret, "
            "old_until, "
            "disabled, since, created) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
          : "UPDATE webhook_endpoints SET account=?2, url=?3, events=?4, description=?5, secret=?6, "
            "old_secret=?7, old_until=?8, disabled=?9, since=?10, created=?11 WHERE id=?1");
  insert.bind_id(1, row.id.value);
  insert.bind_id(2, row.account.value);
  insert.bind_text(3, row.url);
  insert.bind_text(4, events);
  insert.bind_text(5, row.description);
  insert.bind_text(6, row.secret);
  insert.bind_text(7, row.old_secret);
  insert.bind(8, unix_micros(row.old_until));
  insert.bind_text(9, row.disabled);
  insert.bind_id(10, row.since.value);
  insert.bind(11, unix_micros(row.created_at));
  return insert.run();
}

int Writer::put(const WebhookDeliveryRow& row) {
  // Of an endpoint that was removed meanwhile nothing is kept.
  auto& insert = db_.statement(
      "INSERT INTO webhook_deliveries(endpoint, event, type, subject, payload, state, attempts, status, "
      "error, "
      "created, next, ended) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 "
      "WHERE EXISTS(SELECT 1 FROM webhook_endpoints WHERE id=?1) ON CONFLICT(endpoint, event) DO UPDATE SET "
      "payload=CASE WHEN ?5='' THEN payload ELSE ?5 END, state=?6, attempts=?7, status=?8, error=?9, "
      "next=?11, "
      "ended=?12");
  insert.bind_id(1, row.endpoint.value);
  insert.bind_id(2, row.event.value);
  insert.bind_text(3, row.type);
  insert.bind_text(4, row.subject);
  insert.bind_text(5, row.payload);
  insert.bind(6, static_cast<std::int64_t>(row.state));
  insert.bind(7, row.attempts);
  insert.bind(8, row.status);
  insert.bind_text(9, row.error);
  insert.bind(10, unix_micros(row.created_at));
  insert.bind(11, unix_micros(row.next_at));
  insert.bind(12, unix_micros(row.ended_at));
  return insert.run();
}

int Writer::put(const WebhookCursorRow& row) {
  auto& insert = db_.statement(
      "INSERT INTO webhook_cursor VALUES(1, ?1) ON CONFLICT(id) DO UPDATE SET event=max(event, ?1)");
  insert.bind_id(1, row.event.value);
  return insert.run();
}

int Writer::put_alerts(const Commit& commit) {
  for (std::size_t i = 0; i < commit.events.size(); ++i) {
    const engine::Event& event = commit.events[i];
    if (!is_alert(event.type)) continue;
    auto& insert =
        db_.statement("INSERT INTO alerts(event, at, type, account, text) VALUES(?1, ?2, ?3, ?4, ?5)");
    insert.bind_id(1, event_id(commit.batch, i).value);
    insert.bind(2, unix_micros(event.at));
    insert.bind(3, static_cast<std::int64_t>(event.type));
    insert.bind_id(4, event.account.value);
    insert.bind_text(5, event.text);
    if (const int code = insert.run(); code != SQLITE_OK) return code;
  }
  return SQLITE_OK;
}

}  // namespace turnpike::journal::sqlite
