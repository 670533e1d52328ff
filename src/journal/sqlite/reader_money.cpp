// Reads of periods, ledger and rollups.
#include <fmt/format.h>

#include <algorithm>

#include "journal/pack.h"
#include "journal/recount.h"
#include "journal/sqlite/reader.h"
#include "journal/sqlite/snapshot.h"
#include "journal/sqlite/unfolded.h"

namespace turnpike::journal::sqlite {
namespace {

constexpr std::size_t kRowsMax = 10'000;

// Columns of table usage from `first` on: completed, failed, cost, then the meters in their order.
UsageSum read_sum(const Statement& row, int first) {
  UsageSum sum;
  sum.completed = row.integer(first);
  sum.failed = row.integer(first + 1);
  sum.cost = {row.integer(first + 2)};
  for (std::size_t i = 0; i < policy::kMeterCount; ++i)
    sum.meters.of[i] = row.integer(first + 3 + static_cast<int>(i));
  return sum;
}

}  // namespace

std::vector<engine::PeriodRow> Reader::periods(Statement& query) {
  std::vector<engine::PeriodRow> rows;
  while (next(query)) {
    engine::PeriodRow& row = rows.emplace_back();
    const auto scope = query.integer(0);
    if (scope < 0 || scope > static_cast<std::int64_t>(engine::Scope::kPlatform))
      throw Failed{damaged("a period has an unknown scope")};
    row.scope = static_cast<engine::Scope>(scope);
    row.account = {query.id(1)};
    row.team = query.text(2);
    row.start = wall_from_micros(query.integer(3));
    row.end = wall_from_micros(query.integer(4));
    row.current = query.integer(5) != 0;
    if (auto books = unpack_period(query.bytes(6), row); !books) throw Failed{std::move(books.error())};
  }
  return rows;
}

// What the tables lack is laid over what was read of them.
std::vector<engine::PeriodRow> Reader::with_changes(std::vector<engine::PeriodRow> stored,
                                                    std::optional<AccountId> account) {
  auto rows = take(changed_periods(db_, take(folded_to(db_)), account));
  for (auto& row : stored) {
    auto key = key_of(row);
    rows.try_emplace(std::move(key), std::move(row));
  }
  std::vector<engine::PeriodRow> all;
  all.reserve(rows.size());
  for (auto& [key, row] : rows) all.push_back(std::move(row));
  return all;
}

std::vector<engine::PeriodRow> Reader::open_periods() {
  auto& query = db_.statement(
      "SELECT scope, account, team, start, ends, current, books FROM periods "
      "INDEXED BY periods_open WHERE open=1 ORDER BY scope, account, team, start");
  const StatementScope scope(query);
  auto rows = with_changes(periods(query), std::nullopt);
  std::erase_if(rows, [](const auto& row) { return !row.current && row.holds == 0; });
  return rows;
}

Result<std::vector<engine::PeriodRow>> Reader::periods(AccountId account, std::size_t limit) {
  return in_snapshot([&] {
    limit = std::min(limit, kRowsMax);
    auto& query = db_.statement(
        "SELECT scope, account, team, start, ends, current, books FROM periods "
        "WHERE scope=0 AND account=?1 AND team='' ORDER BY start DESC LIMIT ?2");
    const StatementScope scope(query);
    query.bind_id(1, account.value);
    query.bind(2, static_cast<std::int64_t>(limit));
    auto rows = with_changes(periods(query), account);
    std::ranges::reverse(rows);
    if (rows.size() > limit) rows.resize(limit);
    return rows;
  });
}

// The sums of `question` that the table lacks, grouped as it asks.
UsageSums Reader::uncounted(const UsageQuery& question) {
  const auto wanted = [&question](const UsageKey& key) {
    return key.grain == question.grain && key.at >= question.from && key.at < question.to &&
           (!question.account || !*question.account || key.account == *question.account);
  };
  UsageSums groups;
  for (auto& [key, sum] : take(uncounted_sums(db_, take(folded_to(db_)), wanted))) {
    UsageKey group{
        .grain = key.grain, .at = kNever, .account = {}, .plan = {}, .task = {}, .model = {}, .provider = {}};
    if (question.by_time) group.at = key.at;
    if (question.by_account) group.account = key.account;
    if (question.by_plan) group.plan = key.plan;
    if (question.by_task) group.task = key.task;
    if (question.by_model) group.model = key.model;
    if (question.by_provider) group.provider = key.provider;
    add(groups[std::move(group)], sum);
  }
  return groups;
}

// Grouping is by constants where a key is not told apart, so that one statement serves all questions.
Result<UsageReport> Reader::usage(const UsageQuery& question) {
  return in_snapshot([&] {
    // The first groups of both, added up, are the first of all: both are in the order of UsageKey.
    UsageSums groups = uncounted(question);
    auto& query = db_.statement(
        "SELECT iif(?5, at, 0) AS t, iif(?6, account, 0) AS a, iif(?7, plan, '') AS p, iif(?8, task, '') AS "
        "k, "
        "iif(?9, model, '') AS m, iif(?10, provider, '') AS v, sum(completed), sum(failed), sum(cost), "
        "sum(tokens), "
        "sum(input_tokens), sum(cached_tokens), sum(output_tokens), sum(characters), sum(audio_ms), "
        "sum(video_ms), "
        "sum(images), sum(pixels), sum(jobs), sum(calls) FROM usage WHERE grain=?1 AND at>=?2 AND at<?3 "
        "AND (?4=0 OR account=?4) GROUP BY t, a, p, k, m, v ORDER BY t, a, p, k, m, v LIMIT ?11");
    const StatementScope scope(query);
    const std::size_t limit = std::clamp<std::size_t>(question.limit, 1, kRowsMax);
    query.bind(1, static_cast<std::int64_t>(question.grain));
    query.bind(2, unix_micros(question.from));
    query.bind(3, unix_micros(question.to));
    query.bind_id(4, question.account.value_or(AccountId{}).value);
    int index = 5;
    for (const bool apart : {question.by_time, question.by_account, question.by_plan, question.by_task,
                             question.by_model, question.by_provider})
      query.bind(index++, apart ? 1 : 0);
    query.bind(index, static_cast<std::int64_t>(limit) + 1);
    while (next(query)) {
      add(groups[UsageKey{.grain = question.grain,
                          .at = wall_from_micros(query.integer(0)),
                          .account = {query.id(1)},
                          .plan = query.text(2),
                          .task = query.text(3),
                          .model = query.text(4),
                          .provider = query.text(5)}],
          read_sum(query, 6));
    }
    UsageReport report;
    report.truncated = groups.size() > limit;
    for (const auto& [key, sum] : groups) {
      if (report.rows.size() == limit) break;
      report.rows.push_back(
          {.at = key.at,
           .account = key.account,
           .plan = key.plan,
           .task = key.task,
           .model = key.model,
           .provider = key.provider,
           .meters = sum.meters,
           .cost = sum.cost,
           .completed = static_cast<std::uint64_t>(std::max<std::int64_t>(0, sum.completed)),
           .failed = static_cast<std::uint64_t>(std::max<std::int64_t>(0, sum.failed))});
    }
    return report;
  });
}

Result<Journal::LedgerPage> Reader::ledger(std::pair<Batch, std::uint32_t> after,
                                           std::optional<AccountId> account, std::size_t limit) {
  return in_snapshot([&] {
    auto& query =
        db_.statement("SELECT batch, at, entries FROM ledger WHERE batch>=?1 ORDER BY batch LIMIT ?2");
    const StatementScope scope(query);
    query.bind_id(1, after.first);
    query.bind(2, static_cast<std::int64_t>(kEventBatchesScanMax));
    Journal::LedgerPage page;
    page.last = after;
    std::size_t scanned = 0;
    while (next(query)) {
      ++scanned;
      const Batch batch = query.id(0);
      auto entries = unpack_entries(query.bytes(2), wall_from_micros(query.integer(1)));
      if (!entries) throw Failed{std::move(entries.error())};
      for (std::uint32_t i = 0; i < entries->size(); ++i) {
        if (std::pair(batch, i + 1) <= after) continue;
        if (page.entries.size() == limit) {
          page.more = true;
          return page;
        }
        page.last = {batch, i + 1};
        auto& entry = (*entries)[i];
        if (!account || entry.account == *account) page.entries.push_back(std::move(entry));
      }
    }
    page.more = scanned == kEventBatchesScanMax;
    return page;
  });
}

Result<BooksReport> Reader::verify_books() {
  return in_snapshot([&] {
    Recount recount;
    Wall first_kept = kNever;
    {
      auto& query = db_.statement("SELECT at, entries FROM ledger ORDER BY batch");
      const StatementScope scope(query);
      while (next(query)) {
        const Wall at = wall_from_micros(query.integer(0));
        auto entries = unpack_entries(query.bytes(1), at);
        if (!entries) throw Failed{std::move(entries.error())};
        for (const auto& entry : *entries) recount.add(entry);
      }
    }
    {
      // What the ledger was cut to, if it was.
      auto& query = db_.statement("SELECT coalesce(max(at), 0) FROM ledger_cut");
      const StatementScope scope(query);
      if (next(query)) first_kept = wall_from_micros(query.integer(0));
    }
    {
      auto& query = db_.statement("SELECT id, account, state, head FROM jobs WHERE state IN (0, 1, 2)");
      const StatementScope scope(query);
      while (next(query)) {
        engine::JobRow row;
        row.id = {query.id(0)};
        row.account = {query.id(1)};
        if (auto head = unpack_head(query.bytes(3), row); !head) throw Failed{std::move(head.error())};
        recount.add(row);
      }
    }
    for (const auto& run : live_runs()) recount.add(run);
    {
      auto& query = db_.statement("SELECT scope, account, team, start, ends, current, books FROM periods");
      const StatementScope scope(query);
      for (const auto& row : with_changes(periods(query), std::nullopt)) recount.compare(row);
    }
    {
      auto uncounted = take(uncounted_sums(db_, take(folded_to(db_)), [](const UsageKey&) { return true; }));
      auto& query = db_.statement(
          "SELECT grain, at, account, plan, task, model, provider, completed, failed, cost, tokens, "
          "input_tokens, "
          "cached_tokens, output_tokens, characters, audio_ms, video_ms, images, pixels, jobs, calls FROM "
          "usage");
      const StatementScope scope(query);
      while (next(query)) {
        const UsageKey key{
            .grain = query.integer(0) == 0 ? UsageQuery::Grain::kHour : UsageQuery::Grain::kDay,
            .at = wall_from_micros(query.integer(1)),
            .account = {query.id(2)},
            .plan = query.text(3),
            .task = query.text(4),
            .model = query.text(5),
            .provider = query.text(6)};
        UsageSum sum = read_sum(query, 7);
        if (const auto late = uncounted.extract(key)) add(sum, late.mapped());
        recount.compare(key, sum);
      }
      for (const auto& [key, sum] : uncounted) recount.compare(key, sum);
    }
    return recount.finish(first_kept);
  });
}

}  // namespace turnpike::journal::sqlite
