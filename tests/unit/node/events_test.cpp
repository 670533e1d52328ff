#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "support.h"

namespace turnpike::node::testing {
namespace {

using engine::EventType;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;

using Events = std::vector<journal::StoredEvent>;

std::vector<EventType> types(const Events& events) {
  std::vector<EventType> all;
  for (const auto& event : events) all.push_back(event.event.type);
  return all;
}

std::vector<std::uint64_t> ids(const Events& events) {
  std::vector<std::uint64_t> all;
  for (const auto& event : events) all.push_back(event.id.value);
  return all;
}

struct NodeEvents : ::testing::Test {
  NodeEvents() {
    world.start();
    account = world.account("ada");
  }

  std::shared_ptr<Subscription> subscribe(std::optional<AccountId> of, std::optional<JobId> job = {},
                                          std::optional<EventId> after = {}) {
    auto subscription = world.run(
        world->subscribe(of, job ? Subscription::Subject(*job) : Subscription::Everything{}, after));
    return *subscription;
  }
  // The next `count` events, or fewer if they do not come.
  Events read(Subscription& from, std::size_t count) {
    Events all;
    for (int i = 0; i < 1000 && all.size() < count; ++i) {
      auto item = world.run(from.next(seconds(10)));
      all.insert(all.end(), item.events.begin(), item.events.end());
      if (item.events.empty() || item.lagged) break;
    }
    return all;
  }
  // What comes until so many jobs have ended.
  Events read_ends(Subscription& from, std::size_t count) {
    Events all;
    for (int i = 0; i < 1000 && count > 0; ++i) {
      auto item = world.run(from.next(seconds(10)));
      for (const auto& event : item.events) count -= is_end(event.event.type) ? 1 : 0;
      all.insert(all.end(), item.events.begin(), item.events.end());
      if (item.events.empty() || item.lagged) break;
    }
    return all;
  }
  // Everything the journal has, page by page.
  Events stored() {
    Events all;
    for (EventId from{0};;) {
      auto page = world->journal().events(from, std::nullopt, std::nullopt, std::nullopt, 1'000);
      if (!page || page->scanned_to <= from) return all;
      all.insert(all.end(), page->events.begin(), page->events.end());
      from = page->scanned_to;
    }
  }

  World world;
  AccountId account;
};

TEST_F(NodeEvents, ASubscriberIsToldOfAJobsLifeInOrder) {
  auto subscription = subscribe(account);
  const JobId id = world.submit(account).row.id;
  const Events events = read(*subscription, 3);
  EXPECT_THAT(types(events),
              ElementsAre(EventType::kJobQueued, EventType::kJobStarted, EventType::kJobCompleted));
  for (const auto& event : events) EXPECT_EQ(event.event.job, id);
  EXPECT_EQ(ids(events), ids(stored()));
}

TEST_F(NodeEvents, OtherAccountsAndOtherJobsAreNotTold) {
  const AccountId other = world.account("ben");
  auto mine = subscribe(account);
  auto all = subscribe(std::nullopt);
  const JobId theirs = world.ended(world.submit(other).row.id).row.id;
  auto one = subscribe(other, theirs);
  auto foreign = subscribe(account, theirs, EventId{0});  // the job is not this account's
  EXPECT_THAT(world.run(mine->next(milliseconds(1))).events, SizeIs(0));
  EXPECT_THAT(world.run(one->next(milliseconds(1))).events, SizeIs(0));
  EXPECT_THAT(world.run(foreign->next(milliseconds(1))).events, SizeIs(0));
  EXPECT_THAT(read(*all, 3), SizeIs(3));
}

TEST_F(NodeEvents, AResumedSubscriberMissesNothingAndHearsNothingTwice) {
  for (int i = 0; i < 5; ++i) world.ended(world.submit(account).row.id);
  const Events before = stored();
  ASSERT_GE(before.size(), 10U);
  auto resumed = subscribe(account, std::nullopt, before[3].id);
  world.ended(world.submit(account).row.id);
  const Events all = stored();
  const Events heard = read(*resumed, all.size() - 4);
  EXPECT_EQ(ids(heard), ids(Events(all.begin() + 4, all.end())));
}

TEST_F(NodeEvents, HistoryJoinsWhatIsLiveWhileJobsRun) {
  std::vector<std::future<Result<SubmitAnswer>>> answers;
  std::vector<std::shared_ptr<Subscription>> subscriptions;
  for (int i = 0; i < 200; ++i) {
    answers.push_back(world.begin(world->submit(world.request(account))));
    if (i % 20 == 10) subscriptions.push_back(subscribe(account, std::nullopt, EventId{0}));
  }
  std::vector<Events> heard(subscriptions.size());
  for (std::size_t i = 0; i < heard.size(); ++i) heard[i] = read(*subscriptions[i], 1);  // some of it early
  for (auto& answer : answers) ASSERT_TRUE(answer.get());
  ASSERT_TRUE(world.wait_all_ended());
  const Events all = stored();
  for (std::size_t i = 0; i < heard.size(); ++i) {
    const Events rest = read(*subscriptions[i], all.size() - heard[i].size());
    heard[i].insert(heard[i].end(), rest.begin(), rest.end());
    EXPECT_TRUE(ids(heard[i]) == ids(all)) << heard[i].size() << " heard of " << all.size();
  }
}

TEST_F(NodeEvents, ASubscriberThatDoesNotKeepUpIsToldSoAndCanResume) {
  const AccountId idle = world.account("eve", "free");
  auto slow = subscribe(idle);
  std::vector<std::future<Result<SubmitAnswer>>> answers;
  for (int i = 0; i < 1100; ++i) answers.push_back(world.begin(world->submit(world.request(idle))));
  for (auto& answer : answers) ASSERT_TRUE(answer.get());
  const auto item = world.run(slow->next(seconds(10)));
  EXPECT_TRUE(item.lagged);
  ASSERT_THAT(item.events, SizeIs(1000));
  auto resumed = subscribe(idle, std::nullopt, item.events.back().id);
  EXPECT_THAT(read(*resumed, 100), SizeIs(100));
}

// --- Listeners with subjects of their own choosing

const std::string kHold = R"({"do":"hold"})";

std::vector<JobId> jobs_of(const Events& events) {
  std::vector<JobId> all;
  for (const auto& event : events) all.push_back(event.event.job);
  return all;
}

TEST_F(NodeEvents, AListenerIsToldOfItsSubjectsAlone) {
  const auto listener = world->listen(account);
  const JobId before = world.ended(world.submit(account).row.id).row.id;
  const JobId held = world.submit(account, kHold).row.id;
  const JobId other = world.submit(account, kHold).row.id;
  EXPECT_THAT(world.run(listener->next(milliseconds(1))).events, SizeIs(0)) << "told of nothing yet";
  const EventId from = listener->add({held, before}, std::nullopt);
  world.stage->release();
  world.ended(held);
  world.ended(other);
  const Events heard = read_ends(*listener, 1);
  ASSERT_FALSE(heard.empty());
  EXPECT_THAT(jobs_of(heard), Each(held));
  EXPECT_GT(heard.front().id, from);
  listener->remove({held, before});
  world.ended(world.submit(account).row.id);
  EXPECT_THAT(world.run(listener->next(milliseconds(1))).events, SizeIs(0));
}

TEST_F(NodeEvents, AJobAndItsAccountTellAnEventOnce) {
  const auto listener = world->listen(account);
  const JobId failed = world.ended(world.submit(account, R"({"do":"reject"})").row.id).row.id;
  const JobId job = world.submit(account, kHold).row.id;
  listener->add({job, failed}, std::nullopt);
  listener->add({Subscription::Everything{}}, std::nullopt);
  const JobId second = world.submit(account, kHold).row.id;
  world.stage->release();
  world.ended(job);
  world.ended(second);
  const Events heard = read_ends(*listener, 2);
  const std::vector<std::uint64_t> told = ids(heard);
  EXPECT_GE(told.size(), 4U);
  EXPECT_TRUE(std::ranges::is_sorted(told)) << "one order for all subjects";
  EXPECT_EQ(std::set<std::uint64_t>(told.begin(), told.end()).size(), told.size());
  listener->remove({Subscription::Everything{}});
  world.ended(world.submit(account).row.id);
  ASSERT_TRUE(world.run(world->retry(failed, account)));
  EXPECT_THAT(jobs_of(read_ends(*listener, 1)), Each(failed))
      << "the jobs are told of still, and nothing else";
}

TEST_F(NodeEvents, AListenerResumesSeveralSubjectsInOneOrder) {
  std::vector<JobId> all;
  for (int i = 0; i < 4; ++i) all.push_back(world.ended(world.submit(account).row.id).row.id);
  const Events before = stored();
  const EventId from = before[2].id;  // the end of the first job
  const auto listener = world->listen(account);
  EXPECT_EQ(listener->add({all[1], all[3]}, from), from);
  const JobId later = world.ended(world.submit(account).row.id).row.id;
  const Events heard = read(*listener, 6);
  EXPECT_THAT(jobs_of(heard), ElementsAre(all[1], all[1], all[1], all[3], all[3], all[3]));
  EXPECT_TRUE(std::ranges::is_sorted(ids(heard)));
  listener->add({later}, std::nullopt);
  EXPECT_THAT(world.run(listener->next(milliseconds(1))).events, SizeIs(0)) << "from now on";
}

TEST_F(NodeEvents, AnInterruptEndsOneWaitThoughNothingCame) {
  const auto listener = world->listen(account);
  auto waiting = world.begin(listener->next(seconds(30)));
  listener->interrupt();
  const auto item = waiting.get();
  EXPECT_TRUE(item.events.empty() && !item.closed && !item.lagged);
  listener->interrupt();  // nobody waits: the next one ends at once
  EXPECT_FALSE(world.run(listener->next(seconds(30))).closed);
  EXPECT_FALSE(world.run(listener->next(milliseconds(1))).closed);
}

TEST_F(NodeEvents, NextEndsWhenTimeIsUpOrTheSubscriptionIsClosed) {
  auto subscription = subscribe(account);
  const auto quiet = world.run(subscription->next(milliseconds(5)));
  EXPECT_TRUE(quiet.events.empty());
  EXPECT_FALSE(quiet.closed);
  auto waiting = world.begin(subscription->next(seconds(30)));
  subscription->close();
  EXPECT_TRUE(waiting.get().closed);
}

TEST_F(NodeEvents, AStopClosesEverySubscription) {
  auto first = subscribe(account);
  auto waiting = world.begin(first->next(seconds(30)));
  world->drain_and_stop(seconds(1));
  EXPECT_TRUE(waiting.get().closed);
  EXPECT_TRUE(world.run(subscribe(account)->next(seconds(30))).closed);
}

}  // namespace
}  // namespace turnpike::node::testing
