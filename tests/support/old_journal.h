// What older programs wrote, for tests of what reads it.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "engine/rows.h"
#include "journal/bytes.h"
#include "journal/pack.h"

namespace turnpike::testing {

// Entries of the ledger as schema versions 2 to 4 have them: every field whole.
inline std::string pack_entries_v1(const std::vector<const engine::LedgerEntry*>& entries, Wall at) {
  std::vector<std::string_view> texts;
  const auto number_of = [&texts](std::string_view text) {
    const auto number = static_cast<std::uint64_t>(std::ranges::find(texts, text) - texts.begin());
    if (number == texts.size()) texts.push_back(text);
    return number;
  };
  std::string rows;
  journal::ByteWriter out(rows);
  for (const auto* entry : entries) {
    out.u8(static_cast<std::uint8_t>(static_cast<unsigned>(entry->kind) | (entry->call ? 0x80U : 0U)));
    out.difference(unix_micros(entry->at), unix_micros(at));
    out.fixed64(entry->account.value);
    out.fixed64(entry->job.value);
    out.fixed64(entry->try_id.value);
    out.varint(entry->attempt);
    for (const std::string* text : {&entry->team, &entry->plan, &entry->task, &entry->provider, &entry->model,
                                    &entry->model_version, &entry->content})
      out.varint(number_of(*text));
    out.varint(entry->price_version);
    std::uint64_t mask = 0;
    for (std::size_t i = 0; i < policy::kMeterCount; ++i)
      mask |= std::uint64_t{entry->meters.of[i] != 0} << i;
    out.varint(mask);
    for (const auto amount : entry->meters.of) {
      if (amount != 0) out.zigzag(amount);
    }
    out.zigzag(entry->cost.nanos);
    out.zigzag(entry->debt.nanos);
    for (const Wall period : {entry->account_period, entry->team_period, entry->platform_period})
      out.zigzag(unix_micros(period));
  }
  std::string packed;
  journal::ByteWriter head(packed);
  head.u8(1);
  head.varint(texts.size());
  for (const auto text : texts) head.text(text);
  head.varint(entries.size());
  return packed + rows;
}

// The head of a job as head versions 1 and 2 have it. What version 2 added (cost, content type, estimate,
// hold) and what version 3 added (route, step, falls back) is a zero byte each where there is none, so `row`
// has none.
inline std::string old_head(const engine::JobRow& row, int version) {
  std::string head;
  journal::pack_head(row, head);
  head.resize(head.size() - (version == 1 ? 7 : 3));
  head[0] = static_cast<char>(version);
  return head;
}

}  // namespace turnpike::testing
