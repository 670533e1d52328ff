// The part of the reader that reads runs of workflows.
#include <algorithm>

#include "journal/pack.h"
#include "journal/sqlite/reader.h"
#include "journal/sqlite/snapshot.h"

namespace turnpike::journal::sqlite {
namespace {

#define TURNPIKE_RUN_COLUMNS "SELECT id, account, state, live, finished, workflow, head FROM runs "

constexpr const char* kRun = TURNPIKE_RUN_COLUMNS "WHERE id=?1";
constexpr const char* kLive =
    TURNPIKE_RUN_COLUMNS "INDEXED BY runs_live WHERE (state<3 OR live>0) AND account>=0";
constexpr ListStatements kRunList{
    .all_newest = "SELECT id FROM runs WHERE id>?1 AND id<?2 ORDER BY id DESC LIMIT ?3",
    .all_oldest = "SELECT id FROM runs WHERE id>?1 AND id<?2 ORDER BY id LIMIT ?3",
    .group_newest =
        "SELECT id FROM runs INDEXED BY runs_listing WHERE state=?4 AND account=?5 AND workflow=?6 "
        "AND id>?1 AND id<?2 ORDER BY id DESC LIMIT ?3",
    .group_oldest =
        "SELECT id FROM runs INDEXED BY runs_listing WHERE state=?4 AND account=?5 AND workflow=?6 "
        "AND id>?1 AND id<?2 ORDER BY id LIMIT ?3",
    .next_name =
        "SELECT account, workflow FROM runs INDEXED BY runs_listing WHERE state=?1 AND account=?2 AND "
        "workflow>?3 ORDER BY workflow LIMIT 1",
    .next_account =
        "SELECT account, workflow FROM runs INDEXED BY runs_listing WHERE state=?1 AND account>?2 "
        "ORDER BY account, workflow LIMIT 1"};

}  // namespace

engine::RunRow Reader::stored_run(Statement& row) {
  engine::RunRow run;
  run.id = {row.id(0)};
  run.account = {row.id(1)};
  const auto state = row.integer(2);
  if (state < 0 || state > static_cast<std::int64_t>(engine::JobState::kExpired)) {
    throw Failed{damaged(to_string(run.id) + " has an unknown state")};
  }
  run.state = static_cast<engine::JobState>(state);
  run.live_jobs = static_cast<std::uint32_t>(row.integer(3));
  run.finished_at = wall_from_micros(row.integer(4));
  run.workflow = row.text(5);
  if (auto unpacked = unpack_run(row.bytes(6), run); !unpacked) {
    unpacked.error().cause = to_string(run.id);
    throw Failed{unpacked.error()};
  }
  return run;
}

std::vector<engine::RunRow> Reader::live_runs() {
  auto& query = db_.statement(kLive);
  const StatementScope scope(query);
  std::vector<engine::RunRow> runs;
  while (next(query)) runs.push_back(stored_run(query));
  std::ranges::sort(runs, {}, &engine::RunRow::id);
  return runs;
}

std::optional<StoredRun> Reader::find(RunId id, bool with_body, Batch at) {
  StoredRun run;
  run.at = at;
  {
    auto& statement = db_.statement(kRun);
    const StatementScope scope(statement);
    statement.bind_id(1, id.value);
    if (!next(statement)) return std::nullopt;
    run.row = stored_run(statement);
  }
  if (!with_body) return run;
  auto& statement = db_.statement("SELECT body FROM run_bodies WHERE id=?1");
  const StatementScope scope(statement);
  statement.bind_id(1, id.value);
  if (!next(statement)) throw Failed{damaged(to_string(id) + " has lost its input")};
  auto body = unpack_run_body(statement.bytes(0));
  if (!body) {
    body.error().cause = to_string(id);
    throw Failed{body.error()};
  }
  run.body = std::move(*body);
  return run;
}

Result<std::optional<StoredRun>> Reader::run(RunId id, bool with_body) {
  return in_snapshot([&] { return find(id, with_body, snapshot_batch()); });
}

Result<RunPage> Reader::runs(const RunQuery& query) {
  return in_snapshot([&] {
    const ListQuery list{.account = query.account,
                         .state = query.state,
                         .name = query.workflow,
                         .above = query.ending_before.value,
                         .below = query.starting_after.value,
                         .count = std::clamp<std::size_t>(query.limit, 1, kPageMax) + 1};
    const auto at = snapshot_batch();
    auto ids = list_ids(kRunList, list);
    RunPage page;
    page.has_more = ids.size() == list.count;
    if (page.has_more) ids.pop_back();
    std::ranges::sort(ids, std::greater<>());
    for (const auto id : ids) page.runs.push_back(*find(RunId{id}, true, at));
    return page;
  });
}

}  // namespace turnpike::journal::sqlite
