// What only a journal on a disk can be asked: to be there again.
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "contract/journal/suite.h"
#include "journal/sqlite/sqlite_journal.h"
#include "support/memory_journal.h"

namespace turnpike::testing {
namespace {

using engine::JobState;
using engine::PutAccount;
using engine::PutJob;
using engine::PutQueueCount;
using journal::Commit;
using journal::open_sqlite;
using journal::SqliteOptions;
using ::testing::HasSubstr;

class Sqlite : public ::testing::Test {
 protected:
  std::filesystem::path data() const { return folder_.path() / "data"; }
  // What a machine that lost its power would find: the files as they are while the journal is open.
  std::filesystem::path copy_while_open() const {
    const auto to = folder_.path() / "copy";
    std::filesystem::remove_all(to);
    std::filesystem::create_directory(to);
    for (const char* name : {"journal.db", "journal.db-wal"}) {
      if (std::filesystem::exists(data() / name)) std::filesystem::copy_file(data() / name, to / name);
    }
    return to;
  }
  static Result<void> commit(journal::Journal& journal, std::vector<engine::Mutation> mutations) {
    Commit commit;
    commit.batch = journal.last_batch() + 1;
    commit.at = at_second(static_cast<std::int64_t>(commit.batch));
    commit.mutations = std::move(mutations);
    return journal.commit(commit);
  }
  static Result<void> put_job(journal::Journal& journal, std::uint64_t id, std::size_t bytes) {
    return commit(journal, {PutJob{make_job(id), make_body(std::string(bytes, 'x'))}});
  }

  support::TempFolder folder_;
};

TEST_F(Sqlite, HasRunsAndTheirJobsAgainAfterACrash) {
  auto journal = *open_sqlite(data());
  auto job = make_job(101);
  job.run = {100};
  ASSERT_TRUE(
      commit(*journal, {engine::PutRun{make_full_run(100), make_run_body()}, PutJob{job, make_body()}}));
  auto row = make_full_run(100);
  row.live_jobs = 1;
  ASSERT_TRUE(commit(*journal, {engine::PutRun{row, nullptr}}));
  auto found = *open_sqlite(copy_while_open());
  const auto recovered = *found->recover();
  ASSERT_EQ(recovered.runs.size(), 1U);
  EXPECT_TRUE(same(recovered.runs[0], row));
  EXPECT_EQ(recovered.last_id, 100 + engine::kRunJobsMax);
  EXPECT_TRUE(same(*found->run({100}, true)->value().body, *make_run_body()));
  const auto jobs = *found->run_jobs({100});
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_TRUE(same(jobs[0].row, job));
}

TEST_F(Sqlite, IsThereAgainAfterAClose) {
  {
    auto journal = *open_sqlite(data());
    ASSERT_TRUE(put_job(*journal, 7, 5000));
  }
  auto journal = *open_sqlite(data());
  EXPECT_EQ(journal->last_batch(), 1U);
  EXPECT_TRUE(same((*journal->job({7}, true))->row, make_job(7)));
  EXPECT_EQ(journal->recover()->last_id, 7U);
  EXPECT_TRUE(put_job(*journal, 8, 10));
}

TEST_F(Sqlite, TheAuditsChainGoesOnAfterAClose) {
  for (int round = 1; round <= 2; ++round) {
    auto journal = *open_sqlite(data());
    Commit commit;
    commit.batch = journal->last_batch() + 1;
    commit.at = at_second(round);
    commit.records.emplace_back(journal::AuditRow{at_second(round), "cli", "key.created", "key_1", "{}"});
    ASSERT_TRUE(journal->commit(commit));
  }
  const auto report = journal::verify_audit(data());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->rows, 2U);
  EXPECT_EQ(report->mistake, "");
}

TEST_F(Sqlite, EveryCommitSurvivesAnAbruptEnd) {
  auto journal = *open_sqlite(data());
  for (std::uint64_t id = 1; id <= 20; ++id) {
    ASSERT_TRUE(commit(
        *journal,
        {PutJob{make_job(id), make_body(std::string(id * 400, 'x'))}, PutQueueCount{{1}, "local", id, 0},
         PutAccount{{{100 + id}, "user" + std::to_string(id), "tier1", at_second(0)}}}));
    auto found = *open_sqlite(copy_while_open());
    const auto recovered = found->recover();
    ASSERT_TRUE(recovered);
    EXPECT_EQ(recovered->last_batch, id);
    EXPECT_EQ(recovered->last_at, at_second(static_cast<std::int64_t>(id)));
    EXPECT_EQ(recovered->accounts.size(), id);
    ASSERT_EQ(recovered->queues.size(), 1U);
    EXPECT_EQ(recovered->queues[0].queued, id);
    EXPECT_EQ((*found->job({id}, true))->body->input.size(), id * 400);
  }
}

TEST_F(Sqlite, ASecondServerIsRefusedAndToldOfTheFirst) {
  auto journal = open_sqlite(data());
  ASSERT_TRUE(journal);
  const auto second = open_sqlite(data());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConfiguration);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(::getpid())));
  journal->reset();
  EXPECT_TRUE(open_sqlite(data()));
}

TEST_F(Sqlite, ItsFolderIsForItsOwnerAlone) {
  auto journal = open_sqlite(data());
  struct stat status{};
  ASSERT_EQ(::stat(data().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
}

TEST_F(Sqlite, AFullDiskFailsTheCommitAndLosesNothingBefore) {
  SqliteOptions options;
  options.pages_max = 200;
  auto journal = *open_sqlite(data(), options);
  std::uint64_t stored = 0;
  Result<void> done;
  while ((done = put_job(*journal, stored + 1, 50'000))) ASSERT_LT(++stored, 100U);
  EXPECT_EQ(done.error().code, ErrorCode::kIo);
  EXPECT_THAT(done.error().message, HasSubstr(data().string()));
  EXPECT_THAT(done.error().message, HasSubstr("full"));
  EXPECT_GT(stored, 2U);
  // No retry on a maybe, not even of something small.
  const auto next = commit(*journal, {});
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().code, ErrorCode::kIo);
  journal.reset();
  auto again = *open_sqlite(data());
  EXPECT_EQ(again->last_batch(), stored);
  EXPECT_TRUE(again->job({stored}, true)->has_value());
  EXPECT_FALSE(again->job({stored + 1}, true)->has_value());
}

TEST_F(Sqlite, AFileThatIsNoDatabaseIsRefused) {
  std::filesystem::create_directory(data());
  FILE* file = std::fopen((data() / "journal.db").c_str(), "w");
  ASSERT_NE(file, nullptr);
  std::fputs(std::string(8192, 'x').c_str(), file);
  std::fclose(file);
  const auto journal = open_sqlite(data());
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().code, ErrorCode::kIo);
  EXPECT_THAT(journal.error().message, HasSubstr("damaged"));
}

TEST_F(Sqlite, TheLogBesideTheDatabaseStaysBounded) {
  SqliteOptions options;
  options.wal_copy_bytes = 64 << 10;
  options.wal_restart_bytes = 256 << 10;
  options.wal_bytes_max = 512 << 10;
  auto journal = *open_sqlite(data(), options);
  std::uintmax_t longest = 0;
  for (std::uint64_t id = 1; id <= 300; ++id) {
    ASSERT_TRUE(put_job(*journal, id, 40'000));  // 12 MB in all
    longest = std::max(longest, std::filesystem::file_size(data() / "journal.db-wal"));
  }
  EXPECT_LE(longest, (512U << 10) + (100U << 10));  // and what one commit adds
}

TEST(MemoryJournalTest, FailsWhenToldAndRecovers) {
  MemoryJournal journal;
  const auto put = [&](std::uint64_t id) {
    Commit commit;
    commit.batch = journal.last_batch() + 1;
    commit.mutations.emplace_back(PutJob{make_job(id), make_body()});
    return journal.commit(commit);
  };
  ASSERT_TRUE(put(1));
  journal.fail_next_commit();
  EXPECT_EQ(put(2).error().code, ErrorCode::kIo);
  EXPECT_FALSE(put(2));
  EXPECT_EQ(journal.recover()->last_batch, 1U);
  EXPECT_EQ(journal.job_rows().size(), 1U);
  journal.fail_next_commit(MemoryJournal::Failing::kAllStored);
  EXPECT_FALSE(put(2));
  EXPECT_EQ(journal.recover()->last_batch, 2U);
  EXPECT_TRUE(put(3));
  EXPECT_EQ(journal.job_count(), 3U);
}

}  // namespace
}  // namespace turnpike::testing
