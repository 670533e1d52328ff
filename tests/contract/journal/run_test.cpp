// Runs of workflows: their rows, their jobs, lists, what a start needs, and how they go.
#include <algorithm>

#include "base/random.h"
#include "contract/journal/suite.h"

namespace turnpike::testing {
namespace {

using engine::JobState;
using engine::PutJob;
using engine::PutRun;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::uint64_t> run_ids(const std::vector<journal::StoredRun>& runs) {
  std::vector<std::uint64_t> ids;
  ids.reserve(runs.size());
  for (const auto& run : runs) ids.push_back(run.row.id.value);
  return ids;
}

class Runs : public JournalContract {
 protected:
  static constexpr std::uint64_t kApart = 10'000;  // ids of runs of a test

  static engine::Mutation run(std::uint64_t id, JobState state, std::uint32_t live = 0,
                              Wall finished = kNever) {
    auto row = make_run(id);
    row.state = state;
    row.live_jobs = live;
    row.finished_at = finished;
    return PutRun{row, make_run_body()};
  }
  static engine::Mutation job_of_run(std::uint64_t of, std::uint32_t place, JobState state,
                                     Wall finished = kNever) {
    auto row = make_job(engine::job_of({of}, place).value);
    row.run = {of};
    row.state = state;
    row.finished_at = finished;
    return PutJob{row, make_body(std::string(place % 2 == 0 ? 10'000 : 10, 'x'))};
  }
  bool there(std::uint64_t id) { return journal_->run({id}, true)->has_value(); }
  std::size_t jobs_there(std::uint64_t id) { return journal_->run_jobs({id})->size(); }
};
TURNPIKE_EVERY_JOURNAL(Runs);

TEST_P(Runs, ComeBackWithEveryField) {
  for (const auto& row : {make_run(kApart), make_full_run(2 * kApart)}) {
    const auto body = make_run_body(std::string(1'000'000, 'x'));
    commit({PutRun{row, body}});
    const auto stored = *journal_->run(row.id, true);
    ASSERT_TRUE(stored);
    EXPECT_TRUE(same(stored->row, row));
    EXPECT_TRUE(same(*stored->body, *body));
    EXPECT_EQ(stored->at, journal_->last_batch());
    EXPECT_EQ(journal_->run(row.id, false)->value().body, nullptr);
  }
  EXPECT_FALSE(journal_->run({1}, true)->has_value());
}

TEST_P(Runs, KeepTheirBodyThroughChanges) {
  commit({PutRun{make_run(kApart), make_run_body("first")}});
  auto row = make_full_run(kApart);
  commit({PutRun{row, nullptr}});
  const auto stored = *journal_->run(row.id, true);
  EXPECT_TRUE(same(stored->row, row));
  EXPECT_EQ(stored->body->input, "first");
}

TEST_P(Runs, AreRefusedWithoutABodyWhereTheyAreNew) {
  const auto done = try_commit({PutRun{make_run(kApart), nullptr}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kInternal);
}

TEST_P(Runs, SetTheIdsOfTheirJobsAside) {
  commit({PutRun{make_run(kApart), make_run_body()}});
  EXPECT_EQ(journal_->recover()->last_id, engine::job_of({kApart}, engine::kRunJobsMax - 1).value);
  auto row = make_run(kApart);
  row.artifacts = {{{9 * kApart}, "a", "m", 1, "e"}};
  commit({PutRun{row, nullptr}});
  EXPECT_EQ(journal_->recover()->last_id, 9 * kApart);
}

TEST_P(Runs, GiveTheirJobsInOrder) {
  constexpr std::uint32_t kLast = engine::kRunJobsMax - 1;
  commit({run(kApart, JobState::kProcessing, 2), job_of_run(kApart, kLast, JobState::kQueued),
          job_of_run(kApart, 0, JobState::kCompleted), job_of_run(kApart, 1, JobState::kProcessing),
          PutJob{make_job(kApart - 1), make_body()},
          PutJob{make_job(kApart + engine::kRunJobsMax + 1), make_body()}});
  const auto jobs = *journal_->run_jobs({kApart});
  EXPECT_THAT(ids_of(jobs), ElementsAre(kApart + 1, kApart + 2, kApart + engine::kRunJobsMax));
  EXPECT_EQ(jobs[0].row.run, RunId{kApart});
  EXPECT_EQ(jobs[0].body, nullptr);
  // An id that is no run's has none, whatever jobs follow it.
  EXPECT_THAT(*journal_->run_jobs({kApart - 2}), IsEmpty());
  EXPECT_EQ(journal_->job({kApart - 1}, false)->value().row.run, RunId{});
}

TEST_P(Runs, JobsOfOneAreListedInPages) {
  std::vector<engine::Mutation> rows{run(kApart, JobState::kProcessing, 5)};
  for (std::uint32_t place = 0; place < 7; ++place)
    rows.push_back(job_of_run(kApart, place, place < 2 ? JobState::kCompleted : JobState::kQueued));
  rows.emplace_back(PutJob{make_job(kApart + 5'000), make_body()});
  commit(rows);
  journal::JobQuery query{.account = AccountId{1}, .run = {kApart}, .limit = 3};
  auto page = *journal_->jobs(query);
  EXPECT_THAT(ids_of(page.jobs), ElementsAre(kApart + 7, kApart + 6, kApart + 5));
  EXPECT_TRUE(page.has_more);
  EXPECT_NE(page.jobs[0].body, nullptr);
  query.starting_after = {kApart + 3};
  page = *journal_->jobs(query);
  EXPECT_THAT(ids_of(page.jobs), ElementsAre(kApart + 2, kApart + 1));
  EXPECT_FALSE(page.has_more);
  query.starting_after = {};
  query.ending_before = {kApart + 2};
  EXPECT_THAT(ids_of(journal_->jobs(query)->jobs), ElementsAre(kApart + 5, kApart + 4, kApart + 3));
  query.ending_before = {};
  query.state = JobState::kCompleted;
  EXPECT_THAT(ids_of(journal_->jobs(query)->jobs), ElementsAre(kApart + 2, kApart + 1));
  query.task = "image";
  EXPECT_THAT(journal_->jobs(query)->jobs, IsEmpty());
  query.task.clear();
  query.account = AccountId{2};
  EXPECT_THAT(journal_->jobs(query)->jobs, IsEmpty());
}

TEST_P(Runs, AreRecoveredWhileTheyOrTheirJobsLive) {
  commit({run(1 * kApart, JobState::kQueued, 1), run(2 * kApart, JobState::kProcessing, 0),
          run(3 * kApart, JobState::kCompleted), run(4 * kApart, JobState::kCancelled, 2),
          run(5 * kApart, JobState::kFailed, 0)});
  const auto ids = [this] {
    std::vector<std::uint64_t> all;
    for (const auto& row : journal_->recover()->runs) all.push_back(row.id.value);
    return all;
  };
  EXPECT_THAT(ids(), ElementsAre(1 * kApart, 2 * kApart, 4 * kApart));
  auto row = make_run(4 * kApart);
  row.state = JobState::kCancelled;
  commit({PutRun{row, nullptr}});
  EXPECT_THAT(ids(), ElementsAre(1 * kApart, 2 * kApart));
}

TEST_P(Runs, AnyListGivesWhatMatchesInPagesBothWays) {
  Random random(5);
  std::vector<engine::RunRow> rows;
  std::vector<engine::Mutation> puts;
  for (std::uint64_t i = 1; i <= 150; ++i) {
    auto row = make_run(i * kApart, 1 + random.below(3));
    row.state = static_cast<JobState>(1 + random.below(5));
    row.workflow = random.chance(500) ? "story" : "crew";
    rows.push_back(row);
    puts.emplace_back(PutRun{row, make_run_body()});
  }
  commit(puts);
  for (const auto account : {std::optional<AccountId>(), std::optional(AccountId{2})}) {
    for (const auto state : {std::optional<JobState>(), std::optional(JobState::kFailed)}) {
      for (const std::string workflow : {"", "crew", "none"}) {
        std::vector<std::uint64_t> expected;
        for (const auto& row : rows) {
          if ((!account || row.account == *account) && (!state || row.state == *state) &&
              (workflow.empty() || row.workflow == workflow))
            expected.push_back(row.id.value);
        }
        std::ranges::reverse(expected);
        journal::RunQuery query{.account = account, .state = state, .workflow = workflow, .limit = 7};
        std::vector<std::uint64_t> forwards;
        for (bool more = true; more;) {
          const auto page = *journal_->runs(query);
          for (const auto& each : page.runs) {
            forwards.push_back(each.row.id.value);
            EXPECT_NE(each.body, nullptr);
          }
          more = page.has_more;
          if (more) query.starting_after = page.runs.back().row.id;
        }
        EXPECT_EQ(forwards, expected);
        if (expected.empty()) continue;
        query.starting_after = {};
        std::vector<std::uint64_t> backwards{expected.back()};
        for (bool more = true; more;) {
          query.ending_before = {backwards.front()};
          const auto page = *journal_->runs(query);
          const auto ids = run_ids(page.runs);
          backwards.insert(backwards.begin(), ids.begin(), ids.end());
          more = page.has_more;
        }
        EXPECT_EQ(backwards, expected);
      }
    }
  }
}

// --- Retention

TEST_P(Runs, JobsOfOneThatLivesAreKept) {
  commit({run(1 * kApart, JobState::kProcessing, 1),
          job_of_run(1 * kApart, 0, JobState::kCompleted, at_second(1)),
          job_of_run(1 * kApart, 1, JobState::kQueued),
          // One that was cancelled long ago, and something of it has not stopped yet.
          run(2 * kApart, JobState::kCancelled, 1, at_second(1)),
          job_of_run(2 * kApart, 0, JobState::kCompleted, at_second(1)),
          job_of_run(2 * kApart, 1, JobState::kProcessing),
          // One that ended not long ago, though its first job did.
          run(3 * kApart, JobState::kCompleted, 0, at_second(100)),
          job_of_run(3 * kApart, 0, JobState::kCompleted, at_second(1))},
         {journal::ArtifactRow{{{5}, "a", "m", 1, "e"}, {1}, {3 * kApart + 1}, at_second(1)}});
  const auto removed = *journal_->retain({.jobs_before = at_second(100), .artifacts_before = at_second(100)});
  EXPECT_EQ(removed.rows, 0U);
  EXPECT_FALSE(removed.more);
  EXPECT_EQ(jobs_there(1 * kApart), 2U);
  EXPECT_EQ(jobs_there(2 * kApart), 2U);
  EXPECT_EQ(jobs_there(3 * kApart), 1U);
  EXPECT_TRUE(there(1 * kApart) && there(2 * kApart) && there(3 * kApart));
}

TEST_P(Runs, GoAfterTheirJobsInBoundedSteps) {
  std::vector<engine::Mutation> rows;
  for (std::uint64_t i = 1; i <= 2; ++i) {
    rows.push_back(run(i * kApart, JobState::kFailed, 0, at_second(static_cast<int>(i))));
    for (std::uint32_t place = 0; place < 5; ++place) {
      // Of one that was told to go on when it had failed, a job may have ended after it is said to have.
      rows.push_back(job_of_run(i * kApart, place, JobState::kCompleted, at_second(place < 4 ? 0 : 1'000)));
    }
  }
  rows.emplace_back(PutJob{make_job(7), make_body()});
  commit(rows);
  const journal::Journal::Retention all{.jobs_before = at_second(100), .rows_max = 4};
  auto removed = *journal_->retain(all);
  EXPECT_EQ(removed.rows, 4U);
  EXPECT_TRUE(removed.more);
  EXPECT_TRUE(there(1 * kApart));
  EXPECT_EQ(jobs_there(1 * kApart), 1U);
  EXPECT_EQ(jobs_there(2 * kApart), 5U);
  removed = *journal_->retain(all);
  EXPECT_EQ(removed.rows, 4U);
  EXPECT_TRUE(removed.more);
  EXPECT_FALSE(there(1 * kApart));
  EXPECT_EQ(jobs_there(2 * kApart), 3U);
  removed = *journal_->retain(all);
  EXPECT_EQ(removed.rows, 4U);
  EXPECT_FALSE(there(2 * kApart));
  removed = *journal_->retain(all);
  EXPECT_EQ(removed.rows, 0U);
  EXPECT_FALSE(removed.more);
  EXPECT_TRUE(journal_->job({7}, true)->has_value());
}

TEST_P(Runs, LeaveTheBooksAsTheyAre) {
  auto held = make_job(kApart + 1);
  held.run = {kApart};
  commit({run(kApart, JobState::kProcessing, 1), PutJob{held, make_body()}});
  EXPECT_THAT(journal_->verify_books()->mistakes, IsEmpty());
}

}  // namespace
}  // namespace turnpike::testing
