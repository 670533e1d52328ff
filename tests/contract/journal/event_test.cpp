// Events: in order, in pages, until retention drops them.
#include "contract/journal/suite.h"

namespace turnpike::testing {
namespace {

using engine::Event;
using engine::EventType;
using journal::event_id;
using journal::last_event_of;
using ::testing::IsEmpty;

class Events : public JournalContract {
 protected:
  static Event event(std::uint64_t account, std::uint64_t job, EventType type = EventType::kJobQueued) {
    return {.type = type, .at = at_second(3), .account = {account}, .job = {job}, .text = {}};
  }
  journal::Journal::EventPage read(EventId after, std::optional<AccountId> account = {},
                                   std::optional<JobId> job = {}, std::size_t limit = 100,
                                   std::optional<RunId> run = {}) {
    return *journal_->events(after, account, job, run, limit);
  }
};
TURNPIKE_EVERY_JOURNAL(Events);

TEST_P(Events, ComeBackWithEveryFieldAndTheirIds) {
  const Event full{.type = EventType::kStepFailed,
                   .at = at_second(-7),
                   .account = {0x7fff'0000'0000'0001},
                   .job = {3},
                   .attempt = 4'000'000'000,
                   .percent = 100,
                   .text = std::string("half\0way \xff", 10),
                   .webhook = {UINT64_MAX},
                   .run = {UINT64_MAX - 1}};
  commit({}, {}, {event(1, 2), full}, at_second(5));
  commit({}, {}, {event(1, 4)}, at_second(6));
  const auto page = read({});
  ASSERT_EQ(page.events.size(), 3U);
  EXPECT_EQ(page.events[0].id, event_id(1, 0));
  EXPECT_EQ(page.events[1].id, event_id(1, 1));
  EXPECT_EQ(page.events[2].id, event_id(2, 0));
  EXPECT_TRUE(same(page.events[1].event, full));
  EXPECT_FALSE(page.truncated);
  EXPECT_EQ(page.scanned_to, last_event_of(2));
}

TEST_P(Events, AreOfOneAccountOrJobIfAsked) {
  commit({}, {}, {event(1, 10), event(2, 20), event(1, 11), event(1, 10, EventType::kJobCompleted)});
  EXPECT_EQ(read({}, AccountId{1}).events.size(), 3U);
  EXPECT_EQ(read({}, std::nullopt, JobId{10}).events.size(), 2U);
  EXPECT_EQ(read({}, AccountId{2}, JobId{10}).events.size(), 0U);
}

TEST_P(Events, OfARunAreItsOwnAndThoseOfItsJobs) {
  Event started = event(1, 0, EventType::kRunStarted);
  started.run = {10};
  Event queued = event(1, 11);
  queued.run = {10};
  Event other = started;
  other.run = {5'000};
  commit({}, {}, {started, queued, event(1, 12), other});
  const auto page = read({}, std::nullopt, std::nullopt, 100, RunId{10});
  ASSERT_EQ(page.events.size(), 2U);
  EXPECT_EQ(page.events[1].event.job, JobId{11});
  EXPECT_EQ(page.scanned_to, last_event_of(1));
  EXPECT_EQ(read({}, std::nullopt, JobId{11}, 100, RunId{10}).events.size(), 1U);
  EXPECT_THAT(read({}, AccountId{2}, std::nullopt, 100, RunId{10}).events, IsEmpty());
}

TEST_P(Events, PagesMeetWithoutGapOrRepeat) {
  for (std::uint64_t batch = 0; batch < 5; ++batch) {
    commit({}, {}, {event(1, 3 * batch), event(2, 3 * batch + 1), event(1, 3 * batch + 2)});
    commit({});  // a batch without events
  }
  for (const std::size_t limit : {1U, 2U, 3U, 100U}) {
    std::vector<std::uint64_t> jobs;
    EventId after;
    while (journal::batch_of(after) < journal_->last_batch() ||
           after < last_event_of(journal_->last_batch())) {
      const auto page = read(after, AccountId{1}, std::nullopt, limit);
      for (const auto& stored : page.events) jobs.push_back(stored.event.job.value);
      ASSERT_GT(page.scanned_to, after);
      after = page.scanned_to;
    }
    EXPECT_EQ(jobs, (std::vector<std::uint64_t>{0, 2, 3, 5, 6, 8, 9, 11, 12, 14})) << "pages of " << limit;
  }
}

TEST_P(Events, NothingNewLeavesTheMarkWhereItIs) {
  EXPECT_EQ(read({}).scanned_to, EventId{});
  commit({}, {}, {event(1, 1)});
  const auto end = read({}).scanned_to;
  const auto page = read(end);
  EXPECT_THAT(page.events, IsEmpty());
  EXPECT_EQ(page.scanned_to, end);
  commit({}, {}, {event(1, 2)});
  ASSERT_EQ(read(end).events.size(), 1U);
  EXPECT_EQ(read(end).events[0].event.job, JobId{2});
}

TEST_P(Events, AMarkWithinABatchGoesOnAfterIt) {
  commit({}, {}, {event(1, 1), event(1, 2), event(1, 3)});
  const auto page = read(event_id(1, 1));
  ASSERT_EQ(page.events.size(), 1U);
  EXPECT_EQ(page.events[0].id, event_id(1, 2));
}

TEST_P(Events, SayWhenRetentionHasDroppedSome) {
  for (int i = 0; i < 4; ++i) {
    commit({}, {}, {event(1, static_cast<std::uint64_t>(i))}, at_second(i));
  }
  ASSERT_TRUE(journal_->retain({.events_before = at_second(2)}));
  const auto page = read({});
  EXPECT_TRUE(page.truncated);
  ASSERT_EQ(page.events.size(), 2U);
  EXPECT_EQ(page.events[0].id, event_id(3, 0));
  EXPECT_TRUE(read(event_id(1, 0)).truncated);
  EXPECT_FALSE(read(last_event_of(2)).truncated);
  EXPECT_FALSE(read(event_id(3, 0)).truncated);
}

}  // namespace
}  // namespace turnpike::testing
