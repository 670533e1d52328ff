// Readers beside the writer: each sees one batch, whole.
#include <atomic>
#include <thread>

#include "contract/journal/suite.h"

namespace turnpike::testing {
namespace {

using engine::PutJob;

class Concurrency : public JournalContract {};
TURNPIKE_EVERY_JOURNAL(Concurrency);

// Every batch gives all jobs the same priority, its own number; a reader that saw two would have seen a torn
// batch, and one that saw another number than `at` would have been told a wrong batch.
TEST_P(Concurrency, AReadSeesOneBatchAndSaysWhich) {
  constexpr std::uint64_t kJobs = 20;
  constexpr int kBatches = 150;
  const auto all_with = [](std::int32_t priority, bool first) {
    std::vector<engine::Mutation> mutations;
    for (std::uint64_t id = 1; id <= kJobs; ++id) {
      auto row = make_job(id);
      row.priority = priority;
      mutations.emplace_back(PutJob{row, first ? make_body() : nullptr});
    }
    return mutations;
  };
  commit(all_with(1, true));
  std::atomic<bool> stop = false;
  std::atomic<int> torn = 0;
  std::atomic<int> reads = 0;
  const auto read_all = [&] {
    do {
      const auto heads = journal_->queue_heads({1}, "local", std::nullopt, kJobs);
      const bool whole = heads && heads->jobs.size() == kJobs;
      if (!whole) ++torn;
      for (const auto& job : whole ? heads->jobs : std::vector<journal::StoredJob>()) {
        if (job.row.priority != static_cast<std::int32_t>(heads->at) || job.at != heads->at) ++torn;
      }
      const auto page = journal_->jobs({.account = AccountId{1}});
      if (!page || page->jobs.size() != kJobs) ++torn;
      ++reads;
    } while (!stop);
  };
  std::vector<std::thread> readers;
  for (int i = 0; i < 6; ++i) readers.emplace_back(read_all);  // more than there are connections
  for (int batch = 2; batch <= kBatches; ++batch) {
    const auto done = try_commit(all_with(batch, false));
    if (!done) ADD_FAILURE() << done.error().message;
  }
  stop = true;
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(torn, 0);
  EXPECT_GE(reads, 6);
}

// In every batch each account's books go up with the ledger: at whatever moment they are counted, they agree.
TEST_P(Concurrency, BooksAgreeWhileTheyAreWritten) {
  constexpr std::uint64_t kAccounts = 150;  // so many that what was gathered goes into the tables in slices
  constexpr std::uint64_t kBatches = 60;
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  // Readers count anew when there is more: one that only counts could keep the writer from its lock.
  std::atomic<std::uint64_t> committed = 0;
  const auto count = [&] {
    std::int64_t before = 0;
    do {
      const std::uint64_t seen = committed;
      const auto report = journal_->verify_books();
      if (!report || !report->mistakes.empty() || report->rollups != 2 * report->periods) ++wrong;
      const auto usage =
          journal_->usage({.from = wall_from_seconds(0), .to = at_second(1'000'000), .account = {}});
      const std::int64_t cost = usage && !usage->rows.empty() ? usage->rows[0].cost.nanos : 0;
      if (!usage || cost < before || cost % static_cast<std::int64_t>(kAccounts) != 0) ++wrong;
      before = cost;
      if (!stop) committed.wait(seen);
    } while (!stop);
  };
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) readers.emplace_back(count);
  for (std::uint64_t batch = 1; batch <= kBatches; ++batch) {
    std::vector<engine::Mutation> mutations;
    for (std::uint64_t account = 1; account <= kAccounts; ++account) {
      engine::LedgerEntry entry;
      entry.at = at_second(5);
      entry.account = {account};
      entry.try_id = {batch * kAccounts + account};
      entry.cost = {1};
      entry.account_period = at_second(0);
      entry.platform_period = kNever;
      mutations.emplace_back(engine::AddEntry{entry});
      engine::PeriodRow row;
      row.account = {account};
      row.start = at_second(0);
      row.end = at_second(100);
      row.cost_used = {static_cast<std::int64_t>(batch)};
      mutations.emplace_back(engine::PutPeriod{row});
    }
    const auto done = try_commit(std::move(mutations));
    if (!done) ADD_FAILURE() << done.error().message;
    committed = batch;
    committed.notify_all();
  }
  stop = true;
  committed = kBatches + 1;
  committed.notify_all();
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(Concurrency, WhatIsCommittedIsReadAtOnce) {
  commit({PutJob{make_job(1), make_body()}});
  for (int batch = 2; batch <= 50; ++batch) {
    auto row = make_job(1);
    row.priority = batch;
    commit({PutJob{row, nullptr}});
    const auto read = *journal_->job({1}, false);
    ASSERT_EQ(read->row.priority, batch);
    ASSERT_EQ(read->at, static_cast<journal::Batch>(batch));
  }
}

}  // namespace
}  // namespace turnpike::testing
