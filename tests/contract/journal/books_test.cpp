// Books over many batches: whatever a journal gathers before it writes it, and however its process ends, it
// answers as the one in memory that was given the same batches.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/random.h"
#include "contract/journal/suite.h"
#include "journal/sqlite/sqlite_journal.h"
#include "support/memory_journal.h"

namespace turnpike::testing {
namespace {

using engine::EntryKind;
using engine::Scope;
using journal::Commit;
using journal::Journal;
using journal::UsageQuery;

const Wall kMidnight = std::chrono::floor<std::chrono::days>(at_second(0));

// Batches as no engine would make them: of few accounts or of many, of hours that are over and of none.
class Batches {
 public:
  Batches(std::uint64_t seed, std::uint64_t accounts) : random_(seed), accounts_(accounts) {}

  Commit next() {
    Commit commit;
    commit.batch = ++batch_;
    commit.at = kMidnight + std::chrono::minutes(batch_);
    if (random_.chance(100)) return commit;
    const auto size = random_.chance(200) ? accounts_ : 1 + random_.below(8);
    for (std::uint64_t i = 0; i < size; ++i) {
      if (random_.chance(800)) commit.mutations.emplace_back(engine::AddEntry{entry(commit.at)});
      if (random_.chance(800)) commit.mutations.emplace_back(engine::PutPeriod{period()});
    }
    return commit;
  }
  Wall now() const { return kMidnight + std::chrono::minutes(batch_); }

 private:
  engine::LedgerEntry entry(Wall now) {
    ++try_;
    auto entry =
        make_entry(try_, 1 + random_.below(accounts_), now - std::chrono::minutes(random_.below(300)));
    entry.kind = static_cast<EntryKind>(random_.below(6));
    if (entry.kind == EntryKind::kCallsLost && random_.chance(500)) entry.account = {};
    entry.model = random_.chance(500) ? "writer" : "painter";
    entry.provider = random_.chance(500) ? "openai" : "";
    entry.plan = random_.chance(900) ? "pro" : "free";
    entry.meters[policy::Meter::kTokens] = random_.between(-50, 1000);
    entry.cost = {random_.between(-50, 1000)};
    return entry;
  }
  engine::PeriodRow period() {
    const auto scope = static_cast<Scope>(random_.below(3));
    auto row = make_period(scope, scope == Scope::kAccount ? 1 + random_.below(accounts_) : 0,
                           scope == Scope::kTeam ? "team" + std::to_string(random_.below(3)) : "",
                           kMidnight - std::chrono::hours(24 * random_.below(3)));
    row.end = row.start + std::chrono::hours(24);
    row.used[policy::Meter::kTokens] = random_.between(0, 1000);
    row.current = random_.chance(500);
    row.holds = random_.below(2);
    if (random_.chance(500)) row.told.clear();
    if (random_.chance(500)) row.content.clear();
    return row;
  }

  Random random_;
  const std::uint64_t accounts_;
  journal::Batch batch_ = 0;
  std::uint64_t try_ = 0;
};

void expect_same_usage(Journal& a, Journal& b, const UsageQuery& query) {
  const auto of_a = a.usage(query);
  const auto of_b = b.usage(query);
  ASSERT_TRUE(of_a) << of_a.error().message << of_a.error().cause;
  ASSERT_TRUE(of_b);
  EXPECT_EQ(of_a->truncated, of_b->truncated);
  EXPECT_TRUE(same(of_a->rows, of_b->rows)) << of_a->rows.size() << " rows and " << of_b->rows.size();
}

void expect_same_books(Journal& a, Journal& b) {
  UsageQuery all{.from = kMidnight - std::chrono::hours(48),
                 .to = kMidnight + std::chrono::hours(48),
                 .account = {},
                 .by_account = true,
                 .by_plan = true,
                 .by_task = true,
                 .by_model = true,
                 .by_provider = true,
                 .limit = 10'000};
  for (const auto grain : {UsageQuery::Grain::kHour, UsageQuery::Grain::kDay}) {
    all.grain = grain;
    expect_same_usage(a, b, all);
    expect_same_usage(a, b, {.grain = grain, .from = all.from, .to = all.to, .account = AccountId{2}});
    // A page that ends among its rows, of a part of the time.
    expect_same_usage(a, b,
                      {.grain = grain,
                       .from = kMidnight - std::chrono::hours(1),
                       .to = kMidnight + std::chrono::hours(1),
                       .account = {},
                       .by_time = false,
                       .by_model = true,
                       .by_provider = true,
                       .limit = 3});
  }
  for (const std::uint64_t account : {1, 2, 3}) {
    for (const std::size_t limit : {1, 2, 10})
      EXPECT_TRUE(same(*a.periods(AccountId{account}, limit), *b.periods(AccountId{account}, limit)));
  }
  const auto recovered = a.recover();
  ASSERT_TRUE(recovered) << recovered.error().message;
  EXPECT_TRUE(same(recovered->periods, b.recover()->periods));
  EXPECT_TRUE(same(a.ledger({}, {}, 1'000'000)->entries, b.ledger({}, {}, 1'000'000)->entries));
}

void expect_same_report(const Result<journal::BooksReport>& a, const Result<journal::BooksReport>& b) {
  ASSERT_TRUE(a) << a.error().message << a.error().cause;
  ASSERT_TRUE(b);
  EXPECT_EQ(a->entries, b->entries);
  EXPECT_EQ(a->periods, b->periods);
  EXPECT_EQ(a->rollups, b->rollups);
  EXPECT_EQ(a->mistakes, b->mistakes);
}

class ManyBatches : public JournalContract {
 protected:
  void both(const Commit& commit) {
    const auto done = journal_->commit(commit);
    ASSERT_TRUE(done) << done.error().message << done.error().cause;
    ASSERT_TRUE(model_.commit(commit));
  }
  MemoryJournal model_;
};
TURNPIKE_EVERY_JOURNAL(ManyBatches);

TEST_P(ManyBatches, AnswerTheSameAfterEach) {
  Batches batches(1, 3);
  for (int i = 0; i < 150; ++i) {
    both(batches.next());
    expect_same_books(*journal_, model_);
    expect_same_report(journal_->verify_books(), model_.verify_books());
  }
}

// So many rows that one commit does not write what was gathered.
TEST_P(ManyBatches, AnswerTheSameForManyAccounts) {
  Batches batches(2, 900);
  for (int i = 0; i < 120; ++i) {
    both(batches.next());
    if (i % 3 == 0) expect_same_books(*journal_, model_);
    if (i % 10 == 0) expect_same_report(journal_->verify_books(), model_.verify_books());
  }
}

TEST_P(ManyBatches, AreCutByRetentionAtAnyTime) {
  Batches batches(3, 40);
  Random random(4);
  for (int i = 0; i < 150; ++i) {
    both(batches.next());
    if (!random.chance(200)) continue;
    Journal::Retention retention;
    retention.ledger_before = batches.now() - std::chrono::minutes(random.below(40));
    retention.rows_max = 1 + random.below(20);
    const auto removed = journal_->retain(retention);
    const auto of_model = model_.retain(retention);
    ASSERT_TRUE(removed && of_model);
    EXPECT_EQ(removed->rows, of_model->rows);
    EXPECT_EQ(removed->more, of_model->more);
    expect_same_books(*journal_, model_);
    expect_same_report(journal_->verify_books(), model_.verify_books());
  }
}

// --- On a disk

class SqliteBooks : public ::testing::Test {
 protected:
  std::filesystem::path data() const { return folder_.path() / "data"; }
  // What a process that was killed leaves: the files as they are while the journal is open.
  std::filesystem::path copy_while_open() const {
    const auto to = folder_.path() / "copy";
    std::filesystem::remove_all(to);
    std::filesystem::create_directory(to);
    for (const char* name : {"journal.db", "journal.db-wal"}) {
      if (std::filesystem::exists(data() / name)) std::filesystem::copy_file(data() / name, to / name);
    }
    return to;
  }
  void expect_same_after_abrupt_ends(std::uint64_t accounts, int batches_count, int each);

  support::TempFolder folder_;
};

// Looked at beside the server, after a kill, and after a kill of the one that recovered from it.
void SqliteBooks::expect_same_after_abrupt_ends(std::uint64_t accounts, int batches_count, int each) {
  Batches batches(accounts, accounts);
  MemoryJournal model;
  auto server = *journal::open_sqlite(data());
  for (int i = 0; i < batches_count; ++i) {
    const auto commit = batches.next();
    ASSERT_TRUE(server->commit(commit));
    ASSERT_TRUE(model.commit(commit));
    if (i % each != 0) continue;
    expect_same_report(journal::verify_books(data()), model.verify_books());
    const auto copy = copy_while_open();
    expect_same_report(journal::verify_books(copy), model.verify_books());
    for (int ends = 0; ends < 2; ++ends) {
      auto found = journal::open_sqlite(copy);
      ASSERT_TRUE(found) << found.error().message << found.error().cause;
      EXPECT_EQ((*found)->last_batch(), model.last_batch());
      expect_same_books(**found, model);
      expect_same_report((*found)->verify_books(), model.verify_books());
    }
    if (i % (5 * each) != 0) continue;
    // The server itself is started again, with whatever it had gathered.
    server.reset();
    server = *journal::open_sqlite(data());
    expect_same_books(*server, model);
  }
}

TEST_F(SqliteBooks, SurviveAnAbruptEndAfterEachBatch) {
  expect_same_after_abrupt_ends(3, 70, 1);
}

TEST_F(SqliteBooks, SurviveAnAbruptEndAmongTheSlicesOfAFold) {
  expect_same_after_abrupt_ends(600, 80, 4);
}

}  // namespace
}  // namespace turnpike::testing
