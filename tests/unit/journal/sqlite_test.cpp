// Migrations, and the promise that no read walks a table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <cstdlib>

#include <algorithm>
#include <filesystem>
#include <string>

#include "journal/pack.h"
#include "journal/sqlite/checkpointer.h"
#include "journal/sqlite/migrations.h"
#include "journal/sqlite/reader.h"
#include "journal/sqlite/writer.h"
#include "journal/usage_sums.h"
#include "support/journal_samples.h"
#include "support/old_journal.h"
#include "support/temp_folder.h"

namespace turnpike::journal::sqlite {
namespace {

class SqliteFolder : public ::testing::Test {
 protected:
  Connection open() const { return std::move(*Connection::open(folder_.path() / "journal.db", true, 256)); }

  support::TempFolder folder_;
};

class Migrations : public SqliteFolder {};

std::int64_t number(Connection& db, const char* sql) {
  StatementScope query(db.statement(sql));
  EXPECT_EQ(query->step(), SQLITE_ROW);
  return query->integer(0);
}

TEST_F(Migrations, BringANewDatabaseToTheNewestVersion) {
  auto db = open();
  ASSERT_TRUE(migrate(db));
  EXPECT_EQ(number(db, "SELECT max(version) FROM schema_version"), schema_version_max());
  EXPECT_EQ(number(db, "SELECT count(*) FROM jobs"), 0);
}

TEST_F(Migrations, KeepWhatAJournalOfVersion1Holds) {
  const std::string head = testing::old_head(testing::make_job(7), 1);
  {
    auto db = open();
    ASSERT_TRUE(migrate_to(db, 1));
    ASSERT_EQ(db.exec("INSERT INTO accounts VALUES(1, 'ann', 'tier1', 5);"
                      "INSERT INTO policy_versions VALUES(1, 'hash', 'text', 6, 'start');"
                      "INSERT INTO log VALUES(1, 7, 7, x'0100', NULL);"),
              SQLITE_OK);
    auto& insert = db.statement(
        "INSERT INTO jobs VALUES(7, 1, 1, 0, 0, 0, 0, 'local', 'speech', NULL, ?1, x'01000000')");
    insert.bind_blob(1, head);
    ASSERT_EQ(insert.run(), SQLITE_OK);
  }
  auto db = open();
  ASSERT_TRUE(migrate(db));
  Reader reader(std::move(db));
  const auto recovered = reader.recover();
  ASSERT_TRUE(recovered) << recovered.error().message;
  EXPECT_EQ(recovered->accounts.at(0).user_id, "ann");
  EXPECT_TRUE(recovered->accounts.at(0).overrides.empty());
  EXPECT_TRUE(recovered->periods.empty());
  EXPECT_EQ(recovered->policy->price_version, 0U);
  const auto job = reader.job(JobId{7}, true);
  ASSERT_TRUE(job && *job);
  EXPECT_FALSE((*job)->row.hold);
  const auto books = reader.verify_books();
  ASSERT_TRUE(books);
  EXPECT_TRUE(books->mistakes.empty());
}

TEST_F(Migrations, ChainTheAuditThatIsThere) {
  {
    auto db = open();
    ASSERT_TRUE(migrate_to(db, 2));
    ASSERT_EQ(
        db.exec("INSERT INTO audit(at, actor, action, subject, detail) "
                "VALUES(1, 'cli', 'key.created', 'key_1', '{}'), (2, 'cli', 'key.revoked', 'key_1', '{}')"),
        SQLITE_OK);
  }
  auto db = open();
  ASSERT_TRUE(migrate(db));
  EXPECT_NE(db.exec("UPDATE audit SET actor='else'"), SQLITE_OK);
  EXPECT_NE(db.exec("DELETE FROM audit"), SQLITE_OK);
  const auto report = Reader(std::move(db)).verify_audit();
  ASSERT_TRUE(report);
  EXPECT_EQ(report->rows, 2U);
  EXPECT_EQ(report->mistake, "");
}

TEST_F(Migrations, ThatChainTheAuditShowWhatIsTamperedWithLater) {
  auto db = open();
  ASSERT_TRUE(migrate_to(db, 2));
  ASSERT_EQ(db.exec("INSERT INTO audit(at, actor, action, subject, detail) "
                    "VALUES(1, 'a', 'b', 'c', '{}'), (2, 'a', 'b', 'c', '{}'), (3, 'a', 'b', 'c', '{}')"),
            SQLITE_OK);
  ASSERT_TRUE(migrate(db));
  ASSERT_EQ(db.exec("DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_removed;"
                    "UPDATE audit SET detail='{\"x\":1}' WHERE id=2"),
            SQLITE_OK);
  Reader reader(open());
  EXPECT_THAT(reader.verify_audit()->mistake, ::testing::StartsWith("row 2 is not what was written"));
  ASSERT_EQ(db.exec("DELETE FROM audit WHERE id=2"), SQLITE_OK);
  EXPECT_EQ(reader.verify_audit()->mistake, "row 2 is missing");
}

// Books of version 4 stood in their tables after every batch, and entries were packed whole.
TEST_F(Migrations, GoOnWithTheBooksOfVersion4) {
  const auto entry = testing::make_entry(10, 1, testing::at_second(5));
  auto period = testing::make_period(engine::Scope::kAccount, 1, "", testing::at_second(0));
  {
    auto db = open();
    ASSERT_TRUE(migrate_to(db, 4));
    auto& ledger = db.statement("INSERT INTO ledger VALUES(3, ?1, ?2)");
    const auto packed = testing::pack_entries_v1({&entry}, testing::at_second(6));
    ledger.bind(1, unix_micros(testing::at_second(6)));
    ledger.bind_blob(2, packed);
    ASSERT_EQ(ledger.run(), SQLITE_OK);
    auto& books = db.statement("INSERT INTO periods VALUES(0, 1, '', ?1, ?2, 1, 1, ?3)");
    std::string row;
    pack_period(period, row);
    books.bind(1, unix_micros(period.start));
    books.bind(2, unix_micros(period.end));
    books.bind_blob(3, row);
    ASSERT_EQ(books.run(), SQLITE_OK);
    for (const auto grain : {UsageQuery::Grain::kHour, UsageQuery::Grain::kDay}) {
      auto& usage = db.statement(
          "INSERT INTO usage VALUES(?1, ?2, 1, 'pro', 'text', 'writer', 'openai', 1, 0, 1000, 100, 0, 0, 0, "
          "0, 0, 0, 0, 0, 1, 0)");
      usage.bind(1, static_cast<std::int64_t>(grain));
      usage.bind(2, unix_micros(usage_bucket(grain, entry.at)));
      ASSERT_EQ(usage.run(), SQLITE_OK);
    }
    ASSERT_EQ(db.exec("INSERT INTO log VALUES(3, 7, 7, x'0100', NULL)"), SQLITE_OK);
  }
  auto db = open();
  ASSERT_EQ(db.exec("PRAGMA journal_mode=WAL"), SQLITE_OK);
  ASSERT_TRUE(migrate(db));
  EXPECT_EQ(number(db, "SELECT batch FROM folded"), 3);
  Checkpointer checkpointer(open(), {});
  const auto writer = *Writer::make(std::move(db), checkpointer, {});
  Reader reader(open());
  const UsageQuery query{.from = wall_from_seconds(0), .to = testing::at_second(1'000'000), .account = {}};
  for (Batch batch = 4; batch <= 60; ++batch) {
    Commit commit{.batch = batch, .at = testing::at_second(7), .mutations = {}, .records = {}, .events = {}};
    commit.mutations.emplace_back(engine::AddEntry{testing::make_entry(batch * 10, 1, entry.at)});
    period.holds = batch;
    commit.mutations.emplace_back(engine::PutPeriod{period});
    ASSERT_TRUE(writer->commit(commit));
    const auto usage = reader.usage(query);
    ASSERT_TRUE(usage);
    ASSERT_EQ(usage->rows.size(), 1U);
    EXPECT_EQ(usage->rows[0].cost.nanos, static_cast<std::int64_t>(1000 * (batch - 2)));
    EXPECT_EQ(reader.recover()->periods.at(0).holds, batch);
  }
  EXPECT_EQ(reader.verify_books()->entries, 58U);
}

// Jobs of version 7 belong to no run, and are found by retention as they were.
TEST_F(Migrations, GoOnWithTheJobsOfVersion7) {
  {
    auto db = open();
    ASSERT_TRUE(migrate_to(db, 7));
    auto& insert = db.statement(
        "INSERT INTO jobs VALUES(7, 1, 3, 0, 0, 0, 5, 'local', 'speech', NULL, ?1, x'01000000')");
    std::string head;
    pack_head(testing::make_job(7), head);
    insert.bind_blob(1, head);
    ASSERT_EQ(insert.run(), SQLITE_OK);
    ASSERT_EQ(db.exec("INSERT INTO log VALUES(1, 7, 7, x'0100', NULL)"), SQLITE_OK);
  }
  auto db = open();
  ASSERT_EQ(db.exec("PRAGMA journal_mode=WAL"), SQLITE_OK);
  ASSERT_TRUE(migrate(db));
  Checkpointer checkpointer(open(), {});
  const auto writer = *Writer::make(std::move(db), checkpointer, {});
  Reader reader(open());
  EXPECT_TRUE(reader.recover()->runs.empty());
  const auto job = *reader.job(JobId{7}, false);
  ASSERT_TRUE(job);
  EXPECT_FALSE(job->row.run);
  EXPECT_EQ(writer->retain({.jobs_before = testing::at_second(0)})->rows, 1U);
  EXPECT_FALSE(reader.job(JobId{7}, false)->has_value());
}

TEST_F(Migrations, AreDoneOnce) {
  {
    auto db = open();
    ASSERT_TRUE(migrate(db));
    ASSERT_EQ(db.exec("INSERT INTO accounts(id, user_id, plan, created) VALUES(1, 'ann', 'tier1', 0)"),
              SQLITE_OK);
  }
  auto db = open();
  ASSERT_TRUE(migrate(db));
  EXPECT_EQ(number(db, "SELECT count(*) FROM accounts"), 1);
  EXPECT_EQ(number(db, "SELECT count(*) FROM schema_version"), schema_version_max());
}

TEST_F(Migrations, RefuseADatabaseOfANewerProgram) {
  auto db = open();
  ASSERT_TRUE(migrate(db));
  ASSERT_EQ(db.exec("INSERT INTO schema_version VALUES(999)"), SQLITE_OK);
  const auto done = migrate(db);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(done.error().message.find("999"), std::string::npos);
}

TEST_F(Migrations, ThatFailLeaveTheDatabaseAsItWas) {
  auto db = open();
  ASSERT_EQ(db.exec("CREATE TABLE audit(other INTEGER)"), SQLITE_OK);  // in the way of the last table
  ASSERT_FALSE(migrate(db));
  EXPECT_EQ(number(db, "SELECT count(*) FROM sqlite_schema WHERE name='jobs'"), 0);
  EXPECT_EQ(number(db, "SELECT count(*) FROM schema_version"), 0);
}

// --- Books are folded into their tables in slices

class Folds : public SqliteFolder {
 protected:
  // Commits batches that each change the books of `accounts` others; after each, `look`.
  template <typename Look>
  void commit_batches(Batch count, std::uint64_t accounts, Look look) {
    auto connection = open();
    ASSERT_EQ(connection.exec("PRAGMA journal_mode=WAL"), SQLITE_OK);
    ASSERT_TRUE(migrate(connection));
    Checkpointer checkpointer(open(), {});
    const auto writer = *Writer::make(std::move(connection), checkpointer, {});
    auto beside = open();
    std::uint64_t id = 0;
    for (Batch batch = 1; batch <= count; ++batch) {
      Commit commit{
          .batch = batch, .at = testing::at_second(0), .mutations = {}, .records = {}, .events = {}};
      for (std::uint64_t i = 0; i < accounts; ++i) {
        ++id;
        commit.mutations.emplace_back(engine::AddEntry{testing::make_entry(id, id, testing::at_second(0))});
        commit.mutations.emplace_back(
            engine::PutPeriod{testing::make_period(engine::Scope::kAccount, id, "", testing::at_second(0))});
      }
      ASSERT_TRUE(writer->commit(commit));
      look(beside, batch);
    }
  }
};

TEST_F(Folds, FollowTheBatchesWithinABound) {
  commit_batches(200, 2, [](Connection& db, Batch batch) {
    EXPECT_LT(number(db, "SELECT count(*) FROM period_changes"),
              static_cast<std::int64_t>(2 * BooksWriter::kGatherBatches));
    EXPECT_GT(
        number(db, "SELECT batch FROM folded") + static_cast<std::int64_t>(2 * BooksWriter::kGatherBatches),
        static_cast<std::int64_t>(batch));
  });
}

TEST_F(Folds, SpreadTheirWorkOverCommits) {
  constexpr std::uint64_t kAccounts = 100;  // three rows each
  std::int64_t before = 0;
  std::int64_t most = 0;
  commit_batches(100, kAccounts, [&](Connection& db, Batch) {
    const auto rows = number(db, "SELECT (SELECT count(*) FROM periods) + (SELECT count(*) FROM usage)");
    most = std::max(most, rows - before);
    before = rows;
  });
  EXPECT_EQ(most, 3 * kAccounts) << "as many in a commit as one adds";
}

TEST_F(Folds, AreSmallWhereLittleIsGathered) {
  commit_batches(static_cast<Batch>(BooksWriter::kGatherBatches), 1, [](Connection& db, Batch batch) {
    const bool folded = batch == BooksWriter::kGatherBatches;
    EXPECT_EQ(number(db, "SELECT count(*) FROM periods"), folded ? static_cast<std::int64_t>(batch) : 0);
    EXPECT_EQ(number(db, "SELECT count(*) FROM period_changes"),
              folded ? 0 : static_cast<std::int64_t>(batch));
  });
}

TEST_F(Folds, AreMissedWhereADatabaseDoesNotSayHowFarTheyWent) {
  auto db = open();
  ASSERT_TRUE(migrate(db));
  ASSERT_EQ(db.exec("DELETE FROM folded"), SQLITE_OK);
  Checkpointer checkpointer(open(), {});
  const auto writer = Writer::make(std::move(db), checkpointer, {});
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().code, ErrorCode::kInternal);
}

// --- Reads take time in proportion to what they give, not to what is stored

class Reads : public SqliteFolder {
 protected:
  // 500 jobs in every state, of five accounts.
  void store(Connection connection) {
    Checkpointer checkpointer(open(), {});
    const auto writer = std::move(*Writer::make(std::move(connection), checkpointer, {}));
    Commit commit;
    commit.batch = 1;
    for (std::uint64_t id = 1; id <= 500; ++id) {
      auto row = testing::make_job(id, 1 + id % 5);
      row.state = static_cast<engine::JobState>(id % 7);
      row.due_at = row.expires_at = testing::at_second(static_cast<std::int64_t>(id / 10));
      row.dedupe_key = "key" + std::to_string(id);
      row.task = id % 2 == 0 ? "speech" : "image";
      commit.mutations.emplace_back(engine::PutJob{row, testing::make_body()});
      commit.records.emplace_back(ArtifactRow{{{id}, std::to_string(id), "m", 1, "e"}, {1}, {id}, kNever});
      commit.records.emplace_back(
          IdempotencyRow{std::to_string(id), "h", 200, "t", "b", testing::at_second(9)});
    }
    for (std::uint64_t id = 1; id <= 500; ++id) {
      auto row = testing::make_run(id * 10'000, 1 + id % 5);
      row.state = static_cast<engine::JobState>(id < 5 ? 2 : 3 + id % 3);
      row.workflow = id % 2 == 0 ? "story" : "crew";
      commit.mutations.emplace_back(engine::PutRun{row, testing::make_run_body()});
      auto job = testing::make_job(row.id.value + 1, 6);
      job.run = row.id;
      job.state = engine::JobState::kCompleted;
      commit.mutations.emplace_back(engine::PutJob{job, testing::make_body()});
    }
    ASSERT_TRUE(writer->commit(commit));
  }
  static void read_everything(Reader& reader) {
    const std::pair<Wall, JobId> after{testing::at_second(3), {31}};
    EXPECT_EQ(reader.recover()->processing.size(), 72U);
    EXPECT_TRUE(reader.job({7}, true)->has_value());
    EXPECT_TRUE(reader.job_by_dedupe_key({3}, "key7")->first.has_value());
    EXPECT_EQ(reader.queue_heads({2}, "local", std::nullopt, 3)->jobs.size(), 3U);
    EXPECT_EQ(reader.queue_heads({2}, "local", std::pair(0, JobId{1}), 3)->jobs.size(), 3U);
    EXPECT_EQ(reader.scheduled_heads(after, 3)->jobs.size(), 3U);
    EXPECT_EQ(reader.expiring_heads(after, 3)->jobs.size(), 3U);
    EXPECT_TRUE(reader.idempotency("7", testing::at_second(1))->has_value());
    EXPECT_TRUE(reader.artifact({7})->has_value());
    EXPECT_EQ(reader.artifacts_by_sha256("7")->size(), 1U);
    EXPECT_TRUE(reader.events({}, {}, {}, {}, 10).has_value());
    EXPECT_EQ(reader.recover()->runs.size(), 4U);
    EXPECT_EQ(reader.run_jobs({10'000})->size(), 1U);
    EXPECT_TRUE(reader.run({10'000}, true)->has_value());
    for (const bool back : {false, true}) {
      RunQuery runs{.ending_before = {back ? 1'000'000U : 0U}, .limit = 3};
      EXPECT_EQ(reader.runs(runs)->runs.size(), 3U);
      runs.state = engine::JobState::kCompleted;
      EXPECT_EQ(reader.runs(runs)->runs.size(), 3U);
      runs.workflow = "crew";
      EXPECT_EQ(reader.runs(runs)->runs.size(), 3U);
      runs.account = AccountId{3};
      EXPECT_EQ(reader.runs(runs)->runs.size(), 3U);
    }
    for (const bool back : {false, true}) {
      JobQuery query{.ending_before = {back ? 100U : 0U}, .limit = 3};
      EXPECT_EQ(reader.jobs(query)->jobs.size(), 3U);
      query.state = engine::JobState::kQueued;
      EXPECT_EQ(reader.jobs(query)->jobs.size(), 3U);
      query.task = "image";
      EXPECT_EQ(reader.jobs(query)->jobs.size(), 3U);
      query.account = AccountId{3};
      EXPECT_EQ(reader.jobs(query)->jobs.size(), 3U);
    }
  }
};

TEST_F(Reads, NeitherScanNorSort) {
  auto connection = open();
  ASSERT_EQ(connection.exec("PRAGMA journal_mode=WAL"), SQLITE_OK);
  ASSERT_TRUE(migrate(connection));
  store(std::move(connection));
  auto for_reader = open();
  auto* raw = for_reader.raw();
  Reader reader(std::move(for_reader));
  read_everything(reader);
  int statements = 0;
  for (auto* s = sqlite3_next_stmt(raw, nullptr); s != nullptr; s = sqlite3_next_stmt(raw, s)) {
    ++statements;
    EXPECT_EQ(sqlite3_stmt_status(s, SQLITE_STMTSTATUS_FULLSCAN_STEP, 0), 0) << sqlite3_sql(s);
    EXPECT_EQ(sqlite3_stmt_status(s, SQLITE_STMTSTATUS_SORT, 0), 0) << sqlite3_sql(s);
    EXPECT_EQ(sqlite3_stmt_status(s, SQLITE_STMTSTATUS_AUTOINDEX, 0), 0) << sqlite3_sql(s);
    // One page of a list reads some hundreds of rows' keys at most; all 500 rows would take thousands of
    // steps.
    const auto runs = std::max(1, sqlite3_stmt_status(s, SQLITE_STMTSTATUS_RUN, 0));
    if (std::string(sqlite3_sql(s)).find("state=2") != std::string::npos)
      continue;  // reads what is running, all
    EXPECT_LT(sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 0) / runs, 200) << sqlite3_sql(s);
  }
  EXPECT_GT(statements, 20);
}

}  // namespace
}  // namespace turnpike::journal::sqlite
