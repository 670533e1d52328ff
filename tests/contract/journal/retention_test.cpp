// Retention: what is old goes, in bounded steps, and only files that nobody names any more.
#include "contract/journal/suite.h"

namespace turnpike::testing {
namespace {

using engine::JobState;
using engine::PutJob;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class Retention : public JournalContract {
 protected:
  static engine::Mutation ended(std::uint64_t id, Wall finished, JobState state = JobState::kCompleted) {
    auto row = make_job(id);
    row.state = state;
    row.finished_at = finished;
    return PutJob{row, make_body(std::string(id % 2 == 0 ? 10'000 : 10, 'x'))};
  }
  static journal::Record artifact(std::uint64_t id, const std::string& sha256, Wall created,
                                  std::uint64_t job = 0) {
    return journal::ArtifactRow{{{id}, sha256, "image/png", 1, "png"}, {1}, {job}, created};
  }
  bool there(std::uint64_t id) { return journal_->job({id}, true)->has_value(); }
};
TURNPIKE_EVERY_JOURNAL(Retention);

TEST_P(Retention, RemovesJobsThatEndedBefore) {
  auto waiting = make_job(5);
  waiting.finished_at = at_second(1);  // of an earlier end, before a retry
  commit({ended(1, at_second(1)), ended(2, at_second(2), JobState::kExpired), ended(3, at_second(10)),
          PutJob{make_job(4), make_body()}, PutJob{waiting, make_body()}});
  const auto removed = journal_->retain({.jobs_before = at_second(10)});
  ASSERT_TRUE(removed);
  EXPECT_EQ(removed->rows, 2U);
  EXPECT_FALSE(removed->more);
  EXPECT_FALSE(there(1) || there(2));
  EXPECT_TRUE(there(3) && there(4) && there(5));
}

TEST_P(Retention, DoesBoundedWorkAndSaysIfThereIsMore) {
  std::vector<engine::Mutation> mutations;
  for (std::uint64_t id = 1; id <= 10; ++id) mutations.push_back(ended(id, at_second(static_cast<int>(id))));
  commit(mutations, {artifact(20, "a", at_second(1)), artifact(21, "b", at_second(1))});
  const journal::Journal::Retention all{.jobs_before = at_second(100),
                                        .artifacts_before = at_second(100),
                                        .events_before = kNever,
                                        .now = kNever,
                                        .rows_max = 5};
  auto removed = *journal_->retain(all);
  EXPECT_EQ(removed.rows, 5U);
  EXPECT_TRUE(removed.more);
  EXPECT_FALSE(there(5));  // the oldest go first
  EXPECT_TRUE(there(6));
  removed = *journal_->retain(all);
  EXPECT_EQ(removed.rows, 5U);
  EXPECT_TRUE(removed.more);
  EXPECT_THAT(removed.files, IsEmpty());
  removed = *journal_->retain(all);
  EXPECT_EQ(removed.rows, 2U);
  EXPECT_FALSE(removed.more);
  EXPECT_EQ(removed.files.size(), 2U);
  removed = *journal_->retain(all);
  EXPECT_EQ(removed.rows, 0U);
  EXPECT_FALSE(removed.more);
}

TEST_P(Retention, GivesBackFilesThatNoRowNamesAnyMore) {
  commit({}, {artifact(1, "shared", at_second(1)), artifact(2, "shared", at_second(50)),
              artifact(3, "alone", at_second(1)), artifact(4, "twice", at_second(1)),
              artifact(5, "twice", at_second(2))});
  const auto removed = *journal_->retain({.artifacts_before = at_second(10)});
  EXPECT_EQ(removed.rows, 4U);
  EXPECT_THAT(removed.files, UnorderedElementsAre(std::pair<std::string, std::string>("alone", "png"),
                                                  std::pair<std::string, std::string>("twice", "png")));
  EXPECT_FALSE(journal_->artifact({1})->has_value());
  EXPECT_TRUE(journal_->artifact({2})->has_value());
}

TEST_P(Retention, KeepsAnArtifactAsLongAsItsJob) {
  commit({ended(1, at_second(20))}, {artifact(9, "a", at_second(1), 1)});
  EXPECT_EQ(journal_->retain({.jobs_before = at_second(20), .artifacts_before = at_second(20)})->rows, 0U);
  const auto removed = *journal_->retain({.jobs_before = at_second(21), .artifacts_before = at_second(21)});
  EXPECT_EQ(removed.rows, 2U);
  EXPECT_EQ(removed.files.size(), 1U);
}

TEST_P(Retention, ForgetsAnswersThatExpired) {
  const auto answer = [](const char* scope, Wall expires) {
    return journal::IdempotencyRow{scope, "hash", 202, "text/plain", "body", expires};
  };
  commit({}, {answer("old", at_second(10)), answer("new", at_second(11))});
  EXPECT_EQ(journal_->retain({.now = at_second(10)})->rows, 1U);
  EXPECT_FALSE(journal_->idempotency("old", at_second(1))->has_value());
  EXPECT_TRUE(journal_->idempotency("new", at_second(1))->has_value());
}

TEST_P(Retention, TheLastBatchAlwaysStays) {
  commit({}, {}, {}, at_second(1));
  commit({PutJob{make_job(7), make_body()}}, {}, {}, at_second(2));
  const auto removed = journal_->retain({.events_before = at_second(100)});
  EXPECT_EQ(removed->rows, 1U);
  EXPECT_FALSE(removed->more);
  const auto recovered = journal_->recover();
  EXPECT_EQ(recovered->last_batch, 2U);
  EXPECT_EQ(recovered->last_id, 7U);
  commit({});
  EXPECT_EQ(journal_->last_batch(), 3U);
}

TEST_P(Retention, IsNoBatch) {
  commit({ended(1, at_second(1))});
  ASSERT_TRUE(journal_->retain({.jobs_before = at_second(9)}));
  EXPECT_EQ(journal_->last_batch(), 1U);
}

}  // namespace
}  // namespace turnpike::testing
