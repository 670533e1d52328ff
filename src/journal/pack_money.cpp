// The packed forms of periods and of the ledger's entries.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "journal/pack.h"
#include "journal/pack_parts.h"

namespace turnpike::journal {
namespace {

constexpr std::uint8_t kPeriodVersion = 1;
constexpr std::uint8_t kPeriodsVersion = 1;
constexpr std::uint8_t kEntriesFirst = 1;  // every field whole: what journals before version 5 have
constexpr std::uint8_t kEntriesVersion = 2;

void write(ByteWriter& out, const engine::PeriodRow& row) {
  for (const auto* amounts : {&row.used, &row.held, &row.calls_held, &row.debt}) write_amounts(out, *amounts);
  for (const Money money : {row.cost_used, row.cost_held, row.cost_calls_held, row.cost_debt})
    out.zigzag(money.nanos);
  out.varint(row.holds);
  out.varint(row.content.size());
  for (const auto& content : row.content) {
    out.text(content.type);
    out.zigzag(content.used);
    out.zigzag(content.held);
    out.zigzag(content.calls_held);
  }
  out.varint(row.told.size());
  for (const auto& [number, permille] : row.told) {
    out.u8(number);
    out.varint(permille);
  }
}
void read(ByteReader& in, engine::PeriodRow& row) {
  for (auto* amounts : {&row.used, &row.held, &row.calls_held, &row.debt}) *amounts = read_amounts(in);
  for (auto* money : {&row.cost_used, &row.cost_held, &row.cost_calls_held, &row.cost_debt})
    *money = {in.zigzag()};
  row.holds = in.varint();
  row.content.resize(in.count(4));
  for (auto& content : row.content) {
    content.type = in.text();
    content.used = in.zigzag();
    content.held = in.zigzag();
    content.calls_held = in.zigzag();
  }
  row.told.resize(in.count(2));
  for (auto& [number, permille] : row.told) {
    number = in.u8();
    permille = in.u32();
  }
}

}  // namespace

void pack_period(const engine::PeriodRow& row, std::string& buffer) {
  ByteWriter out(buffer);
  out.u8(kPeriodVersion);
  write(out, row);
}

Result<void> unpack_period(std::string_view packed, engine::PeriodRow& row) {
  ByteReader in(packed);
  if (in.u8() != kPeriodVersion) return malformed("a period");
  read(in, row);
  if (!in.at_end()) return malformed("a period");
  return {};
}

// Many rows of a batch are of the same period: times are differences from the row before.
void pack_periods(const std::vector<const engine::PeriodRow*>& rows, std::string& buffer) {
  ByteWriter out(buffer);
  out.u8(kPeriodsVersion);
  out.varint(rows.size());
  std::int64_t start = 0;
  for (const auto* row : rows) {
    out.u8(static_cast<std::uint8_t>(static_cast<unsigned>(row->scope) | (row->current ? 0x80U : 0U)));
    out.varint(row->account.value);
    out.text(row->team);
    out.difference(unix_micros(row->start), start);
    start = unix_micros(row->start);
    out.difference(unix_micros(row->end), start);
    write(out, *row);
  }
}

Result<std::vector<engine::PeriodRow>> unpack_periods(std::string_view packed) {
  ByteReader in(packed);
  if (in.u8() != kPeriodsVersion) return malformed("changed periods");
  std::vector<engine::PeriodRow> rows(in.count(16));
  std::int64_t start = 0;
  for (auto& row : rows) {
    const auto scope = in.u8();
    if ((scope & 0x7f) > static_cast<std::uint8_t>(engine::Scope::kPlatform)) in.spoil();
    row.scope = static_cast<engine::Scope>(scope & 0x7f);
    row.current = (scope & 0x80) != 0;
    row.account = {in.varint()};
    row.team = in.text();
    start = in.difference(start);
    row.start = wall_from_micros(start);
    row.end = wall_from_micros(in.difference(start));
    read(in, row);
  }
  if (!in.at_end()) return malformed("changed periods");
  return rows;
}

// --- Entries

namespace {

// The texts of an entry, in the order of their bits.
constexpr std::size_t kTexts = 7;
template <typename Entry>
auto texts_of(Entry& entry) {
  return std::array{&entry.team,  &entry.plan,          &entry.task,   &entry.provider,
                    &entry.model, &entry.model_version, &entry.content};
}
template <typename Entry>
auto periods_of(Entry& entry) {
  return std::array{&entry.account_period, &entry.team_period, &entry.platform_period};
}

void read_whole(ByteReader& in, const std::vector<std::string>& texts, engine::LedgerEntry& entry) {
  entry.account = {in.fixed64()};
  entry.job = {in.fixed64()};
  entry.try_id = {in.fixed64()};
  entry.attempt = in.u32();
  for (std::string* text : texts_of(entry)) {
    const auto number = in.varint();
    if (number >= texts.size()) {
      in.spoil();
    } else {
      *text = texts[number];
    }
  }
  entry.price_version = in.varint();
  entry.meters = read_amounts(in);
  entry.cost = {in.zigzag()};
  entry.debt = {in.zigzag()};
  for (Wall* period : periods_of(entry)) *period = wall_from_micros(in.zigzag());
}

// An id's distance from another one: both are mostly of the same seconds.
void write_id(ByteWriter& out, std::uint64_t id, std::uint64_t from) {
  out.difference(static_cast<std::int64_t>(id), static_cast<std::int64_t>(from));
}
std::uint64_t read_id(ByteReader& in, std::uint64_t from) {
  return static_cast<std::uint64_t>(in.difference(static_cast<std::int64_t>(from)));
}

}  // namespace

// An entry is mostly like the one before it: what differs is said, numbers as differences. Each text stands
// once, in front, and entries name it by its number.
void pack_entries(const std::vector<const engine::LedgerEntry*>& entries, Wall at, std::string& buffer) {
  std::vector<std::string_view> texts;
  const auto number_of = [&texts](std::string_view text) {
    const auto number = static_cast<std::uint64_t>(std::ranges::find(texts, text) - texts.begin());
    if (number == texts.size()) texts.push_back(text);
    return number;
  };
  std::string rows;
  rows.reserve(entries.size() * 64);
  ByteWriter out(rows);
  const engine::LedgerEntry none{};
  const engine::LedgerEntry* before = &none;
  for (const auto* entry : entries) {
    out.u8(static_cast<std::uint8_t>(static_cast<unsigned>(entry->kind) | (entry->call ? 0x80U : 0U)));
    out.difference(unix_micros(entry->at), before == &none ? unix_micros(at) : unix_micros(before->at));
    const auto texts_here = texts_of(*entry);
    const auto texts_before = texts_of(*before);
    unsigned differ = 0;
    for (std::size_t i = 0; i < kTexts; ++i) differ |= unsigned{*texts_here[i] != *texts_before[i]} << i;
    out.u8(static_cast<std::uint8_t>(differ));
    for (std::size_t i = 0; i < kTexts; ++i) {
      if ((differ >> i & 1U) != 0) out.varint(number_of(*texts_here[i]));
    }
    write_id(out, entry->account.value, before->account.value);
    write_id(out, entry->job.value, before->job.value);
    write_id(out, entry->try_id.value, entry->job.value);
    out.varint(entry->attempt);
    out.difference(static_cast<std::int64_t>(entry->price_version),
                   static_cast<std::int64_t>(before->price_version));
    write_amounts(out, entry->meters);
    out.zigzag(entry->cost.nanos);
    out.zigzag(entry->debt.nanos);
    const auto periods_here = periods_of(*entry);
    const auto periods_before = periods_of(*before);
    for (std::size_t i = 0; i < periods_here.size(); ++i)
      out.difference(unix_micros(*periods_here[i]), unix_micros(*periods_before[i]));
    before = entry;
  }
  ByteWriter head(buffer);
  head.u8(kEntriesVersion);
  head.varint(texts.size());
  for (const auto text : texts) head.text(text);
  head.varint(entries.size());
  buffer += rows;
}

namespace {

void read_difference(ByteReader& in, const std::vector<std::string>& texts, const engine::LedgerEntry& before,
                     engine::LedgerEntry& entry) {
  const auto differ = in.u8();
  if (differ >> kTexts != 0) in.spoil();
  const auto texts_here = texts_of(entry);
  const auto texts_before = texts_of(before);
  for (std::size_t i = 0; i < kTexts; ++i) {
    if ((differ >> i & 1U) == 0) {
      *texts_here[i] = *texts_before[i];
      continue;
    }
    const auto number = in.varint();
    if (number >= texts.size()) {
      in.spoil();
    } else {
      *texts_here[i] = texts[number];
    }
  }
  entry.account = {read_id(in, before.account.value)};
  entry.job = {read_id(in, before.job.value)};
  entry.try_id = {read_id(in, entry.job.value)};
  entry.attempt = in.u32();
  entry.price_version = read_id(in, before.price_version);
  entry.meters = read_amounts(in);
  entry.cost = {in.zigzag()};
  entry.debt = {in.zigzag()};
  const auto periods_here = periods_of(entry);
  const auto periods_before = periods_of(before);
  for (std::size_t i = 0; i < periods_here.size(); ++i)
    *periods_here[i] = wall_from_micros(in.difference(unix_micros(*periods_before[i])));
}

}  // namespace

Result<std::vector<engine::LedgerEntry>> unpack_entries(std::string_view packed, Wall at) {
  constexpr std::size_t kBytesMin = 14;  // of the shorter form
  ByteReader in(packed);
  const auto version = in.u8();
  if (version != kEntriesFirst && version != kEntriesVersion) return malformed("the ledger");
  std::vector<std::string> texts(in.count(1));
  for (auto& text : texts) text = in.text();
  std::vector<engine::LedgerEntry> entries(in.count(kBytesMin));
  const engine::LedgerEntry none{};
  const engine::LedgerEntry* before = &none;
  for (auto& entry : entries) {
    const auto kind = in.u8();
    entry.call = (kind & 0x80) != 0;
    if ((kind & 0x7f) > static_cast<std::uint8_t>(engine::EntryKind::kCallsLost)) in.spoil();
    entry.kind = static_cast<engine::EntryKind>(kind & 0x7f);
    const Wall from = version == kEntriesFirst || before == &none ? at : before->at;
    entry.at = wall_from_micros(in.difference(unix_micros(from)));
    if (version == kEntriesFirst) {
      read_whole(in, texts, entry);
    } else {
      read_difference(in, texts, *before, entry);
    }
    before = &entry;
  }
  if (!in.at_end()) return malformed("the ledger");
  return entries;
}

}  // namespace turnpike::journal
