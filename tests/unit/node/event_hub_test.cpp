// Who of several subscribers is told of an event of a job that is a step of a run.
#include "node/event_hub.h"

#include <gmock/gmock.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <chrono>

#include "journal/sqlite/sqlite_journal.h"
#include "support/temp_folder.h"

namespace turnpike::node {
namespace {

using engine::Event;
using engine::EventType;
using journal::StoredEvent;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Subjects = std::vector<Subscription::Subject>;

constexpr AccountId kAccount{1};
constexpr RunId kRun{100};
constexpr JobId kStep{101};
constexpr JobId kOther{7};

class EventHubTest : public ::testing::Test {
 protected:
  EventHubTest()
      : journal_(*journal::open_sqlite(folder_.path() / "data")),
        readers_(1, 10),
        hub_(std::make_shared<EventHub>(0, *journal_, readers_)) {}
  ~EventHubTest() override { readers_.stop(); }

  static Event event(EventType type, JobId job, RunId run) {
    return {
        .type = type, .at = kNever, .account = kAccount, .job = job, .text = {}, .webhook = {}, .run = run};
  }
  // An event of a step's job, of its run, of a job that is none, and of another run.
  void happen() {
    const std::vector<Event> events{
        event(EventType::kJobQueued, kStep, kRun), event(EventType::kStepQueued, {}, kRun),
        event(EventType::kJobQueued, kOther, {}), event(EventType::kRunStarted, {}, RunId{5'000})};
    const auto batch = journal_->last_batch() + 1;
    ASSERT_TRUE(
        journal_->commit({.batch = batch, .at = kNever, .mutations = {}, .records = {}, .events = events}));
    Deliveries deliveries;
    hub_->publish(batch, events, deliveries);
    deliveries.flush(true);
  }
  // Places within its batch of the events that come at once.
  std::vector<std::uint64_t> told(Subscription& subscription) {
    std::vector<std::uint64_t> places;
    for (bool more = true; more;) {
      auto item = boost::asio::co_spawn(context_, subscription.next(std::chrono::milliseconds(1)),
                                        boost::asio::use_future);
      context_.restart();
      context_.run();
      const auto events = item.get().events;
      for (const StoredEvent& each : events)
        places.push_back(each.id.value - journal::event_id(journal::batch_of(each.id), 0).value);
      more = !events.empty();
    }
    return places;
  }

  support::TempFolder folder_;
  boost::asio::io_context context_;
  std::unique_ptr<journal::Journal> journal_;
  Readers readers_;
  std::shared_ptr<EventHub> hub_;
};

TEST_F(EventHubTest, ARunIsToldWithTheJobsOfItsSteps) {
  const auto run = hub_->subscribe(kAccount, kRun, std::nullopt);
  const auto step = hub_->subscribe(kAccount, kStep, std::nullopt);
  const auto everything = hub_->subscribe(std::nullopt, Subscription::Everything{}, std::nullopt);
  const auto foreign = hub_->subscribe(AccountId{2}, kRun, std::nullopt);
  happen();
  EXPECT_THAT(told(*run), ElementsAre(0, 1));
  EXPECT_THAT(told(*step), ElementsAre(0));
  EXPECT_THAT(told(*everything), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(told(*foreign), IsEmpty());
}

TEST_F(EventHubTest, WhoFollowsARunAndItsJobIsToldOnce) {
  const auto both = hub_->listen(kAccount);
  both->add({kRun, kStep, kOther}, std::nullopt);
  happen();
  EXPECT_THAT(told(*both), ElementsAre(0, 1, 2));
  both->remove({kRun});
  happen();
  EXPECT_THAT(told(*both), ElementsAre(0, 2));
  both->remove({kStep, kOther});
  happen();
  EXPECT_THAT(told(*both), IsEmpty());
}

TEST_F(EventHubTest, HistoryOfARunJoinsWhatIsLive) {
  happen();
  const auto alone = hub_->subscribe(kAccount, kRun, EventId{0});
  const auto two = hub_->listen(kAccount);
  two->add({kRun, kOther}, EventId{0});
  happen();
  EXPECT_THAT(told(*alone), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(told(*two), ElementsAre(0, 1, 2, 0, 1, 2));
}

TEST_F(EventHubTest, TheHubsEndReachesWhoFollowsARun) {
  const auto run = hub_->subscribe(kAccount, kRun, std::nullopt);
  hub_->close_all();
  auto item = boost::asio::co_spawn(context_, run->next(std::chrono::seconds(30)), boost::asio::use_future);
  context_.run();
  EXPECT_TRUE(item.get().closed);
}

}  // namespace
}  // namespace turnpike::node
