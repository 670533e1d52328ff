// The packed forms in which the journal keeps what it never looks up: the heads of a job and a run, their
// bodies, the events, the entries, the changed periods and the changed keys of a batch. Each begins with a
// version byte; what is read is checked against its bounds, so that a damaged row is an Error and never a
// crash.
//
// Integers are LEB128 varints (signed ones zigzagged), times differences in microseconds, ids 8 bytes little
// endian where nothing else is said, texts a length and their bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/rows.h"

namespace turnpike::journal {

// Everything of a JobRow that has no column of its own. Columns: id, account, state, pool, priority, due_at,
// expires_at, dedupe_key, task, finished_at, run. Packing appends to `out`.
void pack_head(const engine::JobRow& row, std::string& out);
// Fills those fields of `row`; on error some may have been filled.
Result<void> unpack_head(std::string_view packed, engine::JobRow& row);

// What an account has beside its columns id, user_id, plan, created and plan_version.
void pack_terms(const engine::AccountRow& row, std::string& out);
Result<void> unpack_terms(std::string_view packed, engine::AccountRow& row);

// Everything of a PeriodRow that has no column of its own. Columns: scope, account, team, start, end,
// current.
void pack_period(const engine::PeriodRow& row, std::string& out);
Result<void> unpack_period(std::string_view packed, engine::PeriodRow& row);

// Whole rows of periods, their columns included, for a batch that changed them. Of each: scope | 0x80 if
// current, account, team, start (difference from the row before), end (from its start), then as pack_period.
void pack_periods(const std::vector<const engine::PeriodRow*>& rows, std::string& out);
Result<std::vector<engine::PeriodRow>> unpack_periods(std::string_view packed);

// The ledger's entries of a batch; `at` is the time of the batch. The texts they name stand in front, each
// once. Of each entry: kind | 0x80 for a call, time, a bit for each of its seven texts that differs from that
// of the entry before, the numbers of these, account, job, try (difference from job), attempt, price version,
// meters, cost, debt, starts of the three periods; times, account, job, price version and periods are
// differences from the entry before, the first time from `at`. Version 1, which is still read, has every
// field whole.
void pack_entries(const std::vector<const engine::LedgerEntry*>& entries, Wall at, std::string& out);
Result<std::vector<engine::LedgerEntry>> unpack_entries(std::string_view packed, Wall at);

void pack_body(const engine::JobBody& body, std::string& out);
Result<engine::JobBodyPtr> unpack_body(std::string_view packed);

// Everything of a RunRow that has no column of its own. Columns: id, account, state, live_jobs, workflow,
// finished_at.
void pack_run(const engine::RunRow& row, std::string& out);
// Fills those fields of `row`; on error some may have been filled.
Result<void> unpack_run(std::string_view packed, engine::RunRow& row);
void pack_run_body(const engine::RunBody& body, std::string& out);
Result<engine::RunBodyPtr> unpack_run_body(std::string_view packed);

// `at`: the time of the batch, from which the events' times are counted.
void pack_events(const std::vector<engine::Event>& events, Wall at, std::string& out);
Result<std::vector<engine::Event>> unpack_events(std::string_view packed, Wall at);

// What a batch changed, for who follows the log instead of reloading the tables.
enum class ChangeKind : std::uint8_t {
  kAccount = 0,
  kJob = 1,
  kQueueCount = 2,
  kJobDropped = 3,
  kPeriod = 4,
  kRun = 5
};
struct Change {
  ChangeKind kind{};
  std::uint64_t id = 0;  // of the account, the job or the run
  std::string pool;      // kQueueCount; kPeriod: the team, empty for accounts and the platform
  friend bool operator==(const Change&, const Change&) = default;
};
void pack_changes(const std::vector<engine::Mutation>& mutations, std::string& out);
Result<std::vector<Change>> unpack_changes(std::string_view packed);

}  // namespace turnpike::journal
