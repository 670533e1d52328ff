// The part of the reader that knows webhooks and alerts.
#include <algorithm>
#include <sstream>

#include "journal/sqlite/reader.h"
#include "journal/sqlite/snapshot.h"

namespace turnpike::journal::sqlite {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

// endpoint, event, type, subject, state, attempts, status, error, created, next, ended
WebhookDeliveryRow delivery_of(const Statement& row) {
  return {.endpoint = {row.id(0)},
          .event = {row.id(1)},
          .type = row.text(2),
          .subject = row.text(3),
          .payload = {},
          .state = static_cast<DeliveryState>(row.integer(4)),
          .attempts = static_cast<std::uint32_t>(row.integer(5)),
          .status = static_cast<int>(row.integer(6)),
          .error = row.text(7),
          .created_at = wall_from_micros(row.integer(8)),
          .next_at = wall_from_micros(row.integer(9)),
          .ended_at = wall_from_micros(row.integer(10))};
}

std::int64_t at_most(std::uint64_t value) {
  return static_cast<std::int64_t>(std::min<std::uint64_t>(value, INT64_MAX));
}

}  // namespace

Result<Webhooks> Reader::webhooks() {
  return in_snapshot([&] {
    Webhooks out;
    {
      auto& query = db_.statement(
          "SELECT id, account, url, events, description, secret, old_secret, old_until, disabled, since, "
          "created "
          "FROM webhook_endpoints ORDER BY id");
      const StatementScope scope(query);
      while (next(query)) {
        out.endpoints.push_back({.id = {query.id(0)},
                                 .account = {query.id(1)},
                                 .url = query.text(2),
                                 .events = words_of(query.text(3)),
                                 .description = query.text(4),
                                 .secret = query.text(5),
                                 .old_secret = query.text(6),
                                 .old_until = wall_from_micros(query.integer(7)),
                                 .disabled = query.text(8),
                                 .since = {query.id(9)},
                                 .created_at = wall_from_micros(query.integer(10))});
      }
    }
    {
      auto& query = db_.statement("SELECT event FROM webhook_cursor");
      const StatementScope scope(query);
      if (next(query)) out.cursor = {query.id(0)};
    }
    auto& query = db_.statement(
        "SELECT endpoint, count(*) FROM webhook_deliveries INDEXED BY webhook_deliveries_pending WHERE "
        "state=0 "
        "GROUP BY endpoint");
    const StatementScope scope(query);
    while (next(query)) out.pending.emplace_back(WebhookId{query.id(0)}, query.id(1));
    return out;
  });
}

Result<std::vector<WebhookDeliveryRow>> Reader::deliveries(const DeliveryQuery& query) {
  return in_snapshot([&] {
    // The index of what is pending is taken where that is asked for.
    const char* sql =
        query.before
            ? "SELECT endpoint, event, type, subject, state, attempts, status, error, created, next, "
              "ended FROM webhook_deliveries WHERE endpoint=?1 AND event<?2 AND (?3<0 OR state=?3) "
              "ORDER BY event DESC LIMIT ?4"
        : query.state == DeliveryState::kPending
            ? "SELECT endpoint, event, type, subject, state, attempts, status, error, created, next, ended "
              "FROM "
              "webhook_deliveries INDEXED BY webhook_deliveries_pending WHERE endpoint=?1 AND event>?2 AND "
              "state=0 AND ?3=0 ORDER BY event LIMIT ?4"
            : "SELECT endpoint, event, type, subject, state, attempts, status, error, created, next, ended "
              "FROM "
              "webhook_deliveries WHERE endpoint=?1 AND event>?2 AND (?3<0 OR state=?3) ORDER BY event LIMIT "
              "?4";
    auto& statement = db_.statement(sql);
    const StatementScope scope(statement);
    statement.bind_id(1, query.endpoint.value);
    statement.bind(2, at_most(query.before ? query.before.value : query.after.value));
    statement.bind(3, query.state ? static_cast<std::int64_t>(*query.state) : -1);
    statement.bind(4, at_most(query.limit));
    std::vector<WebhookDeliveryRow> rows;
    while (next(statement)) rows.push_back(delivery_of(statement));
    return rows;
  });
}

Result<std::optional<WebhookDeliveryRow>> Reader::delivery(WebhookId endpoint, EventId event) {
  return in_snapshot([&] {
    auto& query = db_.statement(
        "SELECT endpoint, event, type, subject, state, attempts, status, error, created, next, ended, "
        "payload "
        "FROM webhook_deliveries WHERE endpoint=?1 AND event=?2");
    const StatementScope scope(query);
    query.bind_id(1, endpoint.value);
    query.bind(2, at_most(event.value));
    std::optional<WebhookDeliveryRow> found;
    if (next(query)) {
      found = delivery_of(query);
      found->payload = query.text(11);
    }
    return found;
  });
}

Result<std::vector<StoredEvent>> Reader::alerts(EventId before, std::size_t limit) {
  return in_snapshot([&] {
    auto& query = db_.statement(
        "SELECT event, at, type, account, text FROM alerts WHERE event<?1 ORDER BY event DESC LIMIT ?2");
    const StatementScope scope(query);
    query.bind(1, before ? at_most(before.value) : INT64_MAX);
    query.bind(2, at_most(limit));
    std::vector<StoredEvent> rows;
    while (next(query)) {
      StoredEvent& row = rows.emplace_back();
      row.id = {query.id(0)};
      row.event.at = wall_from_micros(query.integer(1));
      row.event.type = static_cast<engine::EventType>(query.integer(2));
      row.event.account = {query.id(3)};
      row.event.text = query.text(4);
    }
    return rows;
  });
}

}  // namespace turnpike::journal::sqlite
