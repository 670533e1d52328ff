// Heads of queues, of what is scheduled and of what expires: in order, and refilled after a watermark.
#include <algorithm>

#include "base/random.h"
#include "contract/journal/suite.h"

namespace turnpike::testing {
namespace {

using engine::JobState;
using engine::PutJob;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Heads : public JournalContract {
 protected:
  using After = std::optional<std::pair<std::int32_t, JobId>>;

  static engine::Mutation queued(std::uint64_t id, std::int32_t priority, const std::string& pool = "local",
                                 std::uint64_t account = 1) {
    auto row = make_job(id, account);
    row.priority = priority;
    row.pool = pool;
    return PutJob{row, make_body()};
  }
  static engine::Mutation scheduled(std::uint64_t id, Wall due) {
    auto row = make_job(id);
    row.state = JobState::kScheduled;
    row.due_at = due;
    return PutJob{row, make_body()};
  }
  static engine::Mutation expiring(std::uint64_t id, Wall expires) {
    auto row = make_job(id);
    row.expires_at = expires;
    return PutJob{row, make_body()};
  }
  std::vector<std::uint64_t> heads(After after, std::size_t limit) {
    return ids_of(journal_->queue_heads({1}, "local", after, limit)->jobs);
  }
};
TURNPIKE_EVERY_JOURNAL(Heads);

TEST_P(Heads, GoByPriorityThenAge) {
  commit(
      {queued(1, 0), queued(2, 5), queued(3, -5), queued(4, 5), queued(5, INT32_MAX), queued(6, INT32_MIN)});
  EXPECT_THAT(heads(std::nullopt, 10), ElementsAre(5, 2, 4, 1, 3, 6));
}

TEST_P(Heads, AreOfOneAccountAndPool) {
  commit({queued(1, 0), queued(2, 0, "other"), queued(3, 0, "local", 2), queued(4, 0, "loca"),
          queued(5, 0, "locall")});
  EXPECT_THAT(heads(std::nullopt, 10), ElementsAre(1));
}

TEST_P(Heads, RefillBeginsAfterTheWatermark) {
  commit({queued(1, 0), queued(2, 5), queued(3, -5), queued(4, 5), queued(5, 0)});
  EXPECT_THAT(heads(std::nullopt, 2), ElementsAre(2, 4));
  EXPECT_THAT(heads(std::pair(5, JobId{4}), 2), ElementsAre(1, 5));
  EXPECT_THAT(heads(std::pair(0, JobId{5}), 2), ElementsAre(3));
  EXPECT_THAT(heads(std::pair(-5, JobId{3}), 2), IsEmpty());
  // The watermark need not be there any more.
  EXPECT_THAT(heads(std::pair(3, JobId{9}), 10), ElementsAre(1, 5, 3));
}

TEST_P(Heads, OnlyQueuedJobsAreThere) {
  commit({queued(1, 0), queued(2, 0), scheduled(3, at_second(5))});
  auto started = make_job(1);
  started.state = JobState::kProcessing;
  commit({PutJob{started, nullptr}});
  EXPECT_THAT(heads(std::nullopt, 10), ElementsAre(2));
  started.state = JobState::kQueued;
  started.priority = 1;
  commit({PutJob{started, nullptr}});
  EXPECT_THAT(heads(std::nullopt, 10), ElementsAre(1, 2));
}

TEST_P(Heads, BringSmallBodiesAndTheBatchTheyWereReadAt) {
  const auto exactly = make_body(std::string(journal::kInlineBody, 'x'), "", "");
  const auto over = make_body(std::string(journal::kInlineBody, 'x'), "", "1");
  commit({PutJob{make_job(1), exactly}, PutJob{make_job(2), over}});
  commit({});
  const auto found = journal_->queue_heads({1}, "local", std::nullopt, 10);
  ASSERT_THAT(ids_of(found->jobs), ElementsAre(1, 2));
  ASSERT_TRUE(found->jobs[0].body);
  EXPECT_TRUE(same(*found->jobs[0].body, *exactly));
  EXPECT_EQ(found->jobs[1].body, nullptr);
  EXPECT_EQ(found->at, 2U);
  EXPECT_EQ(found->jobs[0].at, 2U);
}

TEST_P(Heads, PagesOfAnySizeGiveTheWholeQueueOnce) {
  Random random(7);
  std::vector<engine::Mutation> mutations;
  std::vector<std::pair<std::int32_t, std::uint64_t>> expected;  // (-priority, id)
  for (std::uint64_t id = 1; id <= 300; ++id) {
    const auto priority = static_cast<std::int32_t>(random.between(-2, 2));
    mutations.push_back(queued(id, priority));
    expected.emplace_back(-priority, id);
  }
  commit(mutations);
  std::ranges::sort(expected);
  for (const std::size_t limit : {1U, 7U, 300U}) {
    std::vector<std::pair<std::int32_t, std::uint64_t>> read;
    After after;
    while (true) {
      const auto page = *journal_->queue_heads({1}, "local", after, limit);
      if (page.jobs.empty()) break;
      for (const auto& job : page.jobs) read.emplace_back(-job.row.priority, job.row.id.value);
      after = {page.jobs.back().row.priority, page.jobs.back().row.id};
    }
    EXPECT_EQ(read, expected) << "pages of " << limit;
  }
}

TEST_P(Heads, ScheduledJobsComeInOrderOfTheirTimeThenAge) {
  commit({scheduled(1, at_second(9)), scheduled(2, at_second(5)), scheduled(3, at_second(5)),
          scheduled(4, at_second(7)), queued(5, 0)});
  const auto heads_after = [&](std::pair<Wall, JobId> after, std::size_t limit) {
    return ids_of(journal_->scheduled_heads(after, limit)->jobs);
  };
  EXPECT_THAT(heads_after({}, 10), ElementsAre(2, 3, 4, 1));
  EXPECT_THAT(heads_after({at_second(5), {2}}, 2), ElementsAre(3, 4));
  EXPECT_THAT(heads_after({at_second(9), {1}}, 2), IsEmpty());
  const auto found = journal_->scheduled_heads({}, 1);
  EXPECT_EQ(found->at, 1U);
  EXPECT_EQ(found->jobs[0].body, nullptr);
}

TEST_P(Heads, ExpiringJobsAreThoseQueuedWithATime) {
  commit({expiring(1, at_second(9)), expiring(2, kNever), expiring(3, at_second(5)),
          expiring(4, at_second(5)), scheduled(5, at_second(1))});
  auto started = make_job(1);
  started.expires_at = at_second(9);
  started.state = JobState::kProcessing;
  commit({PutJob{started, nullptr}});
  EXPECT_THAT(ids_of(journal_->expiring_heads({}, 10)->jobs), ElementsAre(3, 4));
  EXPECT_THAT(ids_of(journal_->expiring_heads({at_second(5), {3}}, 10)->jobs), ElementsAre(4));
  EXPECT_EQ(journal_->expiring_heads({}, 10)->at, 2U);
}

}  // namespace
}  // namespace turnpike::testing
