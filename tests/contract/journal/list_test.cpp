// Lists of jobs: newest first, in pages both ways, filtered.
#include <algorithm>

#include "base/random.h"
#include "contract/journal/suite.h"

namespace turnpike::testing {
namespace {

using engine::JobState;
using engine::PutJob;
using journal::JobQuery;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Lists : public JournalContract {
 protected:
  void put(std::uint64_t id, std::uint64_t account, JobState state, const std::string& task = "speech") {
    auto row = make_job(id, account);
    row.state = state;
    row.task = task;
    mutations_.emplace_back(PutJob{row, make_body("input " + std::to_string(id))});
    rows_.push_back(row);
  }
  void store() { commit(std::exchange(mutations_, {})); }
  std::vector<std::uint64_t> list(const JobQuery& query) { return ids_of(journal_->jobs(query)->jobs); }
  // What the list is to be, by looking at every row.
  std::vector<std::uint64_t> matching(const JobQuery& query) const {
    std::vector<std::uint64_t> ids;
    for (const auto& row : rows_) {
      if ((!query.account || row.account == *query.account) && (!query.state || row.state == *query.state) &&
          (query.task.empty() || row.task == query.task)) {
        ids.push_back(row.id.value);
      }
    }
    std::ranges::sort(ids, std::greater<>());
    return ids;
  }

  std::vector<engine::Mutation> mutations_;
  std::vector<engine::JobRow> rows_;
};
TURNPIKE_EVERY_JOURNAL(Lists);

TEST_P(Lists, AreNewestFirstWithBodies) {
  put(1, 1, JobState::kQueued);
  put(2, 2, JobState::kQueued);
  put(3, 1, JobState::kCompleted);
  store();
  const auto page = journal_->jobs({.account = AccountId{1}});
  ASSERT_THAT(ids_of(page->jobs), ElementsAre(3, 1));
  EXPECT_FALSE(page->has_more);
  EXPECT_EQ(page->jobs[0].body->input, "input 3");
  EXPECT_THAT(list({.account = AccountId{9}}), IsEmpty());
}

TEST_P(Lists, PageForwardsAndBack) {
  for (std::uint64_t id = 1; id <= 7; ++id) put(id, 1, JobState::kQueued);
  store();
  JobQuery query{.account = AccountId{1}, .limit = 3};
  const auto first = journal_->jobs(query);
  EXPECT_THAT(ids_of(first->jobs), ElementsAre(7, 6, 5));
  EXPECT_TRUE(first->has_more);
  query.starting_after = {5};
  EXPECT_THAT(list(query), ElementsAre(4, 3, 2));
  query.starting_after = {2};
  const auto last = journal_->jobs(query);
  EXPECT_THAT(ids_of(last->jobs), ElementsAre(1));
  EXPECT_FALSE(last->has_more);
  // Back: the page just before, still newest first.
  query.starting_after = {};
  query.ending_before = {1};
  const auto back = journal_->jobs(query);
  EXPECT_THAT(ids_of(back->jobs), ElementsAre(4, 3, 2));
  EXPECT_TRUE(back->has_more);
  query.ending_before = {4};
  const auto front = journal_->jobs(query);
  EXPECT_THAT(ids_of(front->jobs), ElementsAre(7, 6, 5));
  EXPECT_FALSE(front->has_more);
}

TEST_P(Lists, HoldFromOneToAHundred) {
  for (std::uint64_t id = 1; id <= 120; ++id) put(id, 1, JobState::kQueued);
  store();
  EXPECT_EQ(list({.limit = 1000}).size(), 100U);
  EXPECT_EQ(list({.limit = 0}).size(), 1U);
  EXPECT_EQ(list({}).size(), 20U);
}

TEST_P(Lists, FollowAJobThroughItsStates) {
  put(1, 1, JobState::kQueued);
  store();
  auto row = rows_[0];
  for (const auto state : {JobState::kProcessing, JobState::kScheduled, JobState::kCompleted}) {
    row.state = state;
    commit({PutJob{row, nullptr}});
    EXPECT_THAT(list({.account = AccountId{1}, .state = state}), ElementsAre(1));
    EXPECT_THAT(list({.account = AccountId{1}, .state = JobState::kQueued}), IsEmpty());
    EXPECT_THAT(list({.account = AccountId{1}}), ElementsAre(1));
  }
}

TEST_P(Lists, AnyFilterWithAnyPageSizeGivesWhatMatches) {
  Random random(11);
  for (std::uint64_t id = 1; id <= 400; ++id) {
    put(id, 1 + random.below(4), static_cast<JobState>(random.below(7)),
        random.chance(700) ? "speech" : "image");
  }
  store();
  const std::optional<AccountId> any_account;
  const std::optional<JobState> any_state;
  for (const auto account : {any_account, std::optional(AccountId{2}), std::optional(AccountId{9})}) {
    for (const auto state :
         {any_state, std::optional(JobState::kQueued), std::optional(JobState::kExpired)}) {
      for (const std::string task : {"", "image", "video"}) {
        JobQuery query{.account = account, .state = state, .task = task, .limit = 1 + random.below(40)};
        const auto expected = matching(query);
        std::vector<std::uint64_t> forwards;
        bool more = true;
        while (more) {
          const auto page = *journal_->jobs(query);
          for (const auto& job : page.jobs) forwards.push_back(job.row.id.value);
          more = page.has_more;
          if (!page.jobs.empty()) query.starting_after = page.jobs.back().row.id;
        }
        EXPECT_EQ(forwards, expected);
        if (expected.empty()) continue;
        std::vector<std::uint64_t> backwards{expected.back()};
        query.starting_after = {};
        query.ending_before = {expected.back()};
        more = true;
        while (more) {
          const auto page = *journal_->jobs(query);
          const auto ids = ids_of(page.jobs);
          backwards.insert(backwards.begin(), ids.begin(), ids.end());
          more = page.has_more;
          query.ending_before = {backwards.front()};
        }
        EXPECT_EQ(backwards, expected);
      }
    }
  }
}

}  // namespace
}  // namespace turnpike::testing
