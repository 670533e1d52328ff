#include "journal/pack.h"

#include <algorithm>
#include <memory>

#include "journal/pack_parts.h"

namespace turnpike::journal {
namespace {

using engine::HistoryEntry;
using engine::HistoryKind;

constexpr std::uint8_t kHeadFirst = 1;   // without money: what journals before holds have
constexpr std::uint8_t kHeadSecond = 2;  // without routes
constexpr std::uint8_t kHeadVersion = 3;
constexpr std::uint8_t kTermsVersion = 1;
constexpr std::uint8_t kBodyVersion = 1;
constexpr std::uint8_t kEventsVersion = 1;
constexpr std::uint8_t kEventHasWebhook = 0x80;  // in an event's type
constexpr std::uint8_t kEventHasRun = 0x40;      // likewise
static_assert(static_cast<std::uint8_t>(engine::kLastEventType) < kEventHasRun);
constexpr std::uint8_t kChangesVersion = 1;

// Bits of the head's first byte after the version: which of the optional parts follow.
constexpr std::uint8_t kHasQueuedAt = 1;
constexpr std::uint8_t kHasFirstStartedAt = 2;
constexpr std::uint8_t kHasStartedAt = 4;
constexpr std::uint8_t kHasBackoff = 8;
constexpr std::uint8_t kHasTimeout = 16;
constexpr std::uint8_t kHasError = 32;
constexpr std::uint8_t kHasWebhook = 64;

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
  if (kind > static_cast<std::uint8_t>(HistoryKind::kFellBack)) in.spoil();
  entry.kind = static_cast<HistoryKind>(kind);
  entry.at = wall_from_micros(in.difference(unix_micros(created_at)));
  entry.a = in.zigzag();
  entry.b = in.zigzag();
  entry.text = in.text();
  return entry;
}

void write(ByteWriter& out, const std::optional<Rate>& rate) {
  out.u8(rate ? 1 : 0);
  if (!rate) return;
  out.zigzag(rate->picos);
  out.zigzag(rate->per);
}
std::optional<Rate> read_rate(ByteReader& in) {
  const auto there = in.u8();
  if (there > 1) in.spoil();
  if (there == 0) return std::nullopt;
  Rate rate;
  rate.picos = in.zigzag();
  rate.per = in.zigzag();
  if (rate.picos < 0 || rate.per < 1) in.spoil();
  return rate;
}

void write(ByteWriter& out, const policy::TokenRates& rates) {
  write(out, rates.input);
  write(out, rates.cached_input);
  write(out, rates.output);
}
policy::TokenRates read_token_rates(ByteReader& in) {
  policy::TokenRates rates;
  rates.input = read_rate(in);
  rates.cached_input = read_rate(in);
  rates.output = read_rate(in);
  return rates;
}

void write(ByteWriter& out, const policy::Price& price) {
  write(out, price.tokens);
  out.varint(price.tiers.size());
  for (const auto& tier : price.tiers) {
    out.zigzag(tier.above);
    write(out, tier.tokens);
  }
  out.u8(price.batch ? 1 : 0);
  if (price.batch) write(out, *price.batch);
  for (const auto* rate :
       {&price.character, &price.audio, &price.video, &price.image, &price.pixel, &price.request})
    write(out, *rate);
}
policy::PricePtr read_price(ByteReader& in) {
  auto price = std::make_shared<policy::Price>();
  price->tokens = read_token_rates(in);
  for (auto n = in.count(4); n > 0; --n) {
    policy::Price::Tier tier;
    tier.above = in.zigzag();
    tier.tokens = read_token_rates(in);
    price->tiers.push_back(tier);
  }
  if (in.u8() != 0) price->batch = read_token_rates(in);
  for (auto* rate :
       {&price->character, &price->audio, &price->video, &price->image, &price->pixel, &price->request})
    *rate = read_rate(in);
  return price;
}

}  // namespace

void write_hold(ByteWriter& out, const engine::Hold& hold, std::int64_t created) {
  out.u8(static_cast<std::uint8_t>((hold.price ? 1 : 0) | (hold.may_bill ? 2 : 0) |
                                   (hold.team.empty() ? 0 : 4)));
  write_amounts(out, hold.amounts);
  out.zigzag(hold.cost.nanos);
  out.text(hold.content);
  out.difference(unix_micros(hold.account_period), created);
  out.difference(unix_micros(hold.platform_period), created);
  if (!hold.team.empty()) {
    out.text(hold.team);
    out.difference(unix_micros(hold.team_period), created);
  }
  out.varint(hold.price_version);
  if (hold.price) write(out, *hold.price);
}
engine::Hold read_hold(ByteReader& in, std::int64_t created) {
  engine::Hold hold;
  const auto parts = in.u8();
  if (parts > 7) in.spoil();
  hold.may_bill = (parts & 2) != 0;
  hold.amounts = read_amounts(in);
  hold.cost = {in.zigzag()};
  hold.content = in.text();
  hold.account_period = wall_from_micros(in.difference(created));
  hold.platform_period = wall_from_micros(in.difference(created));
  if ((parts & 4) != 0) {
    hold.team = in.text();
    hold.team_period = wall_from_micros(in.difference(created));
  }
  hold.price_version = in.varint();
  if ((parts & 1) != 0) hold.price = read_price(in);
  return hold;
}

namespace {

std::uint8_t parts_of(const engine::JobRow& row) {
  unsigned parts = 0;
  if (row.queued_at != kNever) parts |= kHasQueuedAt;
  if (row.first_started_at != kNever) parts |= kHasFirstStartedAt;
  if (row.started_at != kNever) parts |= kHasStartedAt;
  if (row.options.backoff) parts |= kHasBackoff;
  if (row.options.timeout) parts |= kHasTimeout;
  if (row.error) parts |= kHasError;
  if (row.options.webhook) parts |= kHasWebhook;
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
  if (row.options.webhook) out.fixed64(row.options.webhook.value);
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
  for (const auto& artifact : row.artifacts) write_artifact(out, artifact);
  out.varint(row.history.size());
  for (const auto& entry : row.history) write(out, entry, row.created_at);
  out.zigzag(row.cost.nanos);
  out.text(row.content_type);
  write_amounts(out, row.estimate);
  out.u8(row.hold ? 1 : 0);
  if (row.hold) write_hold(out, *row.hold, created);
  out.varint(row.route.size());
  for (const engine::RouteStep& step : row.route) {
    out.text(step.provider);
    out.text(step.pool);
    out.text(step.upstream_model);
  }
  out.varint(row.step);
  out.u8(row.falls_back ? 1 : 0);
}

Result<void> unpack_head(std::string_view packed, engine::JobRow& row) {
  ByteReader in(packed);
  const auto version = in.u8();
  if (version < kHeadFirst || version > kHeadVersion) return malformed("a job");
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
  if ((parts & kHasWebhook) != 0) row.options.webhook = {in.fixed64()};
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
  for (auto n = in.count(kArtifactBytesMin); n > 0; --n) row.artifacts.push_back(read_artifact(in));
  row.history.clear();
  for (auto n = in.count(5); n > 0; --n) row.history.push_back(read_history(in, row.created_at));
  if (version != kHeadFirst) {
    row.cost = {in.zigzag()};
    row.content_type = in.text();
    row.estimate = read_amounts(in);
    if (in.u8() != 0) row.hold = read_hold(in, created);
  }
  row.route.clear();
  if (version > kHeadSecond) {
    row.route.resize(in.count(3));
    for (engine::RouteStep& step : row.route) {
      step.provider = in.text();
      step.pool = in.text();
      step.upstream_model = in.text();
    }
    row.step = in.u32();
    row.falls_back = in.u8() != 0;
    if (row.step > row.route.size()) in.spoil();
  }
  if (!in.at_end()) return malformed("a job");
  return {};
}

void pack_terms(const engine::AccountRow& row, std::string& buffer) {
  ByteWriter out(buffer);
  out.u8(kTermsVersion);
  out.text(row.overrides);
  out.text(row.team);
  out.text(row.time_zone);
  out.zigzag(unix_micros(row.anchor_at));
  out.varint(row.grants.size());
  for (const auto& grant : row.grants) {
    out.fixed64(grant.id.value);
    out.u8(grant.meter ? static_cast<std::uint8_t>(policy::index_of(*grant.meter) + 1) : 0);
    out.text(grant.content);
    out.zigzag(grant.amount);
    out.zigzag(grant.spent);
    out.zigzag(unix_micros(grant.granted_at));
    out.zigzag(unix_micros(grant.expires_at));
    out.text(grant.reason);
  }
}

Result<void> unpack_terms(std::string_view packed, engine::AccountRow& row) {
  if (packed.empty()) return {};  // an account from before there were any
  ByteReader in(packed);
  if (in.u8() != kTermsVersion) return malformed("an account");
  row.overrides = in.text();
  row.team = in.text();
  row.time_zone = in.text();
  row.anchor_at = wall_from_micros(in.zigzag());
  row.grants.resize(in.count(15));
  for (auto& grant : row.grants) {
    grant.id = {in.fixed64()};
    const auto meter = in.u8();
    if (meter > policy::kMeterCount) in.spoil();
    if (meter > 0) grant.meter = static_cast<policy::Meter>(meter - 1);
    grant.content = in.text();
    grant.amount = in.zigzag();
    grant.spent = in.zigzag();
    grant.granted_at = wall_from_micros(in.zigzag());
    grant.expires_at = wall_from_micros(in.zigzag());
    grant.reason = in.text();
  }
  if (!in.at_end()) return malformed("an account");
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
    unsigned first = static_cast<unsigned>(event.type);
    if (event.webhook) first |= kEventHasWebhook;
    if (event.run) first |= kEventHasRun;
    out.u8(static_cast<std::uint8_t>(first));
    out.difference(unix_micros(event.at), unix_micros(at));
    out.fixed64(event.account.value);
    out.fixed64(event.job.value);
    out.varint(event.attempt);
    out.u8(event.percent);
    out.text(event.text);
    if (event.webhook) out.fixed64(event.webhook.value);
    if (event.run) out.fixed64(event.run.value);
  }
}

Result<std::vector<engine::Event>> unpack_events(std::string_view packed, Wall at) {
  ByteReader in(packed);
  std::vector<engine::Event> events;
  if (in.u8() != kEventsVersion) return malformed("events");
  events.resize(in.count(21));
  for (auto& event : events) {
    const auto first = in.u8();
    const auto type = static_cast<std::uint8_t>(first & ~(kEventHasWebhook | kEventHasRun));
    if (type > static_cast<std::uint8_t>(engine::kLastEventType)) in.spoil();
    event.type = static_cast<engine::EventType>(type);
    event.at = wall_from_micros(in.difference(unix_micros(at)));
    event.account = {in.fixed64()};
    event.job = {in.fixed64()};
    event.attempt = in.u32();
    event.percent = in.u8();
    event.text = in.text();
    if ((first & kEventHasWebhook) != 0) event.webhook = {in.fixed64()};
    if ((first & kEventHasRun) != 0) event.run = {in.fixed64()};
  }
  if (!in.at_end()) return malformed("events");
  return events;
}

void pack_changes(const std::vector<engine::Mutation>& mutations, std::string& buffer) {
  ByteWriter out(buffer);
  out.u8(kChangesVersion);
  // Entries of the ledger are found by their batch.
  const auto entries = std::ranges::count_if(
      mutations, [](const auto& mutation) { return std::holds_alternative<engine::AddEntry>(mutation); });
  out.varint(mutations.size() - static_cast<std::size_t>(entries));
  const auto change = [&out](ChangeKind kind, std::uint64_t id) {
    out.u8(static_cast<std::uint8_t>(kind));
    out.fixed64(id);
  };
  for (const auto& mutation : mutations) {
    if (std::holds_alternative<engine::AddEntry>(mutation)) continue;
    if (const auto* job = std::get_if<engine::PutJob>(&mutation)) {
      change(ChangeKind::kJob, job->row.id.value);
    } else if (const auto* account = std::get_if<engine::PutAccount>(&mutation)) {
      change(ChangeKind::kAccount, account->row.id.value);
    } else if (const auto* count = std::get_if<engine::PutQueueCount>(&mutation)) {
      change(ChangeKind::kQueueCount, count->account.value);
      out.text(count->pool);
    } else if (const auto* period = std::get_if<engine::PutPeriod>(&mutation)) {
      change(ChangeKind::kPeriod, period->row.account.value);
      out.text(period->row.team);
    } else if (const auto* run = std::get_if<engine::PutRun>(&mutation)) {
      change(ChangeKind::kRun, run->row.id.value);
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
    if (kind > static_cast<std::uint8_t>(ChangeKind::kRun)) in.spoil();
    change.kind = static_cast<ChangeKind>(kind);
    change.id = in.fixed64();
    if (change.kind == ChangeKind::kQueueCount || change.kind == ChangeKind::kPeriod) change.pool = in.text();
  }
  if (!in.at_end()) return malformed("changes");
  return changes;
}

}  // namespace turnpike::journal
