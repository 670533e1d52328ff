#include "journal/pack.h"

#include <memory>

#include "journal/bytes.h"

namespace turnpike::journal {
namespace {

using engine::ArtifactRef;
using engine::HistoryEntry;
using engine::HistoryKind;

constexpr std::uint8_t kHeadVersion = 1;
constexpr std::uint8_t kBodyVersion = 1;
constexpr std::uint8_t kEventsVersion = 1;
constexpr std::uint8_t kChangesVersion = 1;

// Bits of the head's first byte after the version: which of the optional parts follow.
constexpr std::uint8_t kHasQueuedAt = 1;
constexpr std::uint8_t kHasFirstStartedAt = 2;
constexpr std::uint8_t kHasStartedAt = 4;
constexpr std::uint8_t kHasBackoff = 8;
constexpr std::uint8_t kHasTimeout = 16;
constexpr std::uint8_t kHasError = 32;

std::unexpected<Error> malformed(const char* what) {
  return fail(ErrorCode::kInternal,
              std::string("the journal holds ") + what +
                  " that cannot be read: the database is damaged, restore it from a backup");
}

void write(ByteWriter& out, const policy::Backoff& backoff) {
  out.zigzag(backoff.base.count());
  out.varint(backoff.factor_permille);
  out.zigzag(backoff.cap.count());
  out.varint(backoff.jitter_permille);
  out.varint(backoff.attempts);
}
policy::Backoff read_backoff(ByteReader& in) {
  policy::Backoff backoff;
  backoff.base = Duration{in.zigzag()};
  backoff.factor_permille = in.u32();
  backoff.cap = Duration{in.zigzag()};
  backoff.jitter_permille = in.u32();
  backoff.attempts = in.u32();
  return backoff;
}

void write(ByteWriter& out, const ArtifactRef& artifact) {
  out.fixed64(artifact.id.value);
  out.text(artifact.sha256);
  out.text(artifact.mime);
  out.varint(artifact.bytes);
  out.text(artifact.extension);
}
ArtifactRef read_artifact(ByteReader& in) {
  ArtifactRef artifact;
  artifact.id = {in.fixed64()};
  artifact.sha256 = in.text();
  artifact.mime = in.text();
  artifact.bytes = in.varint();
  artifact.extension = in.text();
  return artifact;
}

void write(ByteWriter& out, const HistoryEntry& entry, Wall created_at) {
  out.u8(static_cast<std::uint8_t>(entry.kind));
  out.difference(unix_micros(entry.at), unix_micros(created_at));
  out.zigzag(entry.a);
  out.zigzag(entry.b);
  out.text(entry.text);
}
HistoryEntry read_history(ByteReader& in, Wall created_at) {
  HistoryEntry entry;
  const auto kind = in.u8();
  if (kind > static_cast<std::uint8_t>(HistoryKind::kRetriedByUser)) in.spoil();
  entry.kind = static_cast<HistoryKind>(kind);
  entry.at = wall_from_micros(in.difference(unix_micros(created_at)));
  entry.a = in.zigzag();
  entry.b = in.zigzag();
  entry.text = in.text();
  return entry;
}

std::uint8_t parts_of(const engine::JobRow& row) {
  unsigned parts = 0;
  if (row.queued_at != kNever) parts |= kHasQueuedAt;
  if (row.first_started_at != kNever) parts |= kHasFirstStartedAt;
  if (row.started_at != kNever) parts |= kHasStartedAt;
  if (row.options.backoff) parts |= kHasBackoff;
  if (row.options.timeout) parts |= kHasTimeout;
  if (row.error) parts |= kHasError;
  return static_cast<std::uint8_t>(parts);
}

}  // namespace

void pack_head(const engine::JobRow& row, std::string& buffer) {
  ByteWriter out(buffer);
  const auto created = unix_micros(row.created_at);
  out.u8(kHeadVersion);
  out.u8(parts_of(row));
  out.text(row.plan);
  out.text(row.provider);
  out.text(row.model);
  out.text(row.model_version);
  out.text(row.upstream_model);
  out.varint(row.attempt);
  out.varint(row.max_attempts);
  out.varint(row.lost);
  out.fixed64(row.current_try.value);
  out.zigzag(created);
  if (row.queued_at != kNever) out.difference(unix_micros(row.queued_at), created);
  if (row.first_started_at != kNever) out.difference(unix_micros(row.first_started_at), created);
  if (row.started_at != kNever) out.difference(unix_micros(row.started_at), created);
  if (row.options.backoff) write(out, *row.options.backoff);
  if (row.options.timeout) out.zigzag(row.options.timeout->count());
  if (row.error) {
    out.text(row.error->code);
    out.text(row.error->message);
    out.text(row.error->provider);
  }
  out.varint(row.usage.size());
  for (const auto& [meter, amount] : row.usage) {
    out.text(meter);
    out.zigzag(amount);
  }
  out.text(row.output);
  out.varint(row.artifacts.size());
  for (const auto& artifact : row.artifacts) write(out, artifact);
  out.varint(row.history.size());
  for (const auto& entry : row.history) write(out, entry, row.created_at);
}

Result<void> unpack_head(std::string_view packed, engine::JobRow& row) {
  ByteReader in(packed);
  if (in.u8() != kHeadVersion) return malformed("a job");
  const auto parts = in.u8();
  row.plan = in.text();
  row.provider = in.text();
  row.model = in.text();
  row.model_version = in.text();
  row.upstream_model = in.text();
  row.attempt = in.u32();
  row.max_attempts = in.u32();
  row.lost = in.u32();
  row.current_try = {in.fixed64()};
  const auto created = in.zigzag();
  const auto time = [&](std::uint8_t part) {
    return (parts & part) != 0 ? wall_from_micros(in.difference(created)) : kNever;
  };
  row.created_at = wall_from_micros(created);
  row.queued_at = time(kHasQueuedAt);
  row.first_started_at = time(kHasFirstStartedAt);
  row.started_at = time(kHasStartedAt);
  if ((parts & kHasBackoff) != 0) row.options.backoff = read_backoff(in);
  if ((parts & kHasTimeout) != 0) row.options.timeout = Duration{in.zigzag()};
  if ((parts & kHasError) != 0) {
    auto& error = row.error.emplace();
    error.code = in.text();
    error.message = in.text();
    error.provider = in.text();
  }
  row.usage.resize(in.count(2));
  for (auto& [meter, amount] : row.usage) {
    meter = in.text();
    amount = in.zigzag();
  }
  row.output = in.text();
  row.artifacts.clear();
  for (auto n = in.count(12); n > 0; --n) row.artifacts.push_back(read_artifact(in));
  row.history.clear();
  for (auto n = in.count(5); n > 0; --n) row.history.push_back(read_history(in, row.created_at));
  if (!in.at_end()) return malformed("a job");
  return {};
}

void pack_body(const engine::JobBody& body, std::string& buffer) {
  buffer.reserve(buffer.size() + body.input.size() + body.metadata.size() + body.request_id.size() + 16);
  ByteWriter out(buffer);
  out.u8(kBodyVersion);
  out.text(body.input);
  out.text(body.metadata);
  out.text(body.request_id);
}

Result<engine::JobBodyPtr> unpack_body(std::string_view packed) {
  ByteReader in(packed);
  if (in.u8() != kBodyVersion) return malformed("a job's input");
  auto body = std::make_shared<engine::JobBody>();
  body->input = in.text();
  body->metadata = in.text();
  body->request_id = in.text();
  if (!in.at_end()) return malformed("a job's input");
  return body;
}

void pack_events(const std::vector<engine::Event>& events, Wall at, std::string& buffer) {
  ByteWriter out(buffer);
  out.u8(kEventsVersion);
  out.varint(events.size());
  for (const auto& event : events) {
    out.u8(static_cast<std::uint8_t>(event.type));
    out.difference(unix_micros(event.at), unix_micros(at));
    out.fixed64(event.account.value);
    out.fixed64(event.job.value);
    out.varint(event.attempt);
    out.u8(event.percent);
    out.text(event.text);
  }
}

Result<std::vector<engine::Event>> unpack_events(std::string_view packed, Wall at) {
  ByteReader in(packed);
  std::vector<engine::Event> events;
  if (in.u8() != kEventsVersion) return malformed("events");
  events.resize(in.count(21));
  for (auto& event : events) {
    const auto type = in.u8();
    if (type > static_cast<std::uint8_t>(engine::EventType::kJobExpired)) in.spoil();
    event.type = static_cast<engine::EventType>(type);
    event.at = wall_from_micros(in.difference(unix_micros(at)));
    event.account = {in.fixed64()};
    event.job = {in.fixed64()};
    event.attempt = in.u32();
    event.percent = in.u8();
    event.text = in.text();
  }
  if (!in.at_end()) return malformed("events");
  return events;
}

void pack_changes(const std::vector<engine::Mutation>& mutations, std::string& buffer) {
  ByteWriter out(buffer);
  out.u8(kChangesVersion);
  out.varint(mutations.size());
  const auto change = [&out](ChangeKind kind, std::uint64_t id) {
    out.u8(static_cast<std::uint8_t>(kind));
    out.fixed64(id);
  };
  for (const auto& mutation : mutations) {
    if (const auto* job = std::get_if<engine::PutJob>(&mutation)) {
      change(ChangeKind::kJob, job->row.id.value);
    } else if (const auto* account = std::get_if<engine::PutAccount>(&mutation)) {
      change(ChangeKind::kAccount, account->row.id.value);
    } else if (const auto* count = std::get_if<engine::PutQueueCount>(&mutation)) {
      change(ChangeKind::kQueueCount, count->account.value);
      out.text(count->pool);
    } else {
      change(ChangeKind::kJobDropped, std::get<engine::DropJob>(mutation).id.value);
    }
  }
}

Result<std::vector<Change>> unpack_changes(std::string_view packed) {
  ByteReader in(packed);
  if (in.u8() != kChangesVersion) return malformed("changes");
  std::vector<Change> changes(in.count(9));
  for (auto& change : changes) {
    const auto kind = in.u8();
    if (kind > static_cast<std::uint8_t>(ChangeKind::kJobDropped)) in.spoil();
    change.kind = static_cast<ChangeKind>(kind);
    change.id = in.fixed64();
    if (change.kind == ChangeKind::kQueueCount) change.pool = in.text();
  }
  if (!in.at_end()) return malformed("changes");
  return changes;
}

}  // namespace turnpike::journal
