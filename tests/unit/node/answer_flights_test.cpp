// Identical requests in flight share one upstream: F1 to F3.
#include "node/answer_flights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <vector>

#include "net/io_threads.h"
#include "net/task_group.h"

namespace turnpike::node::testing {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

// What a follower has seen, as text: "head(T)", the bytes, and how it ended.
asio::awaitable<void> follow(Follower follower, std::promise<std::pair<std::string, Lead>> end) {
  std::string seen;
  Lead lead;
  for (bool going = true; going;) {
    Follower::Item item = co_await follower.next(10s);
    if (auto* head = std::get_if<Follower::Head>(&item)) seen += "head(" + head->content_type + ")";
    if (auto* bytes = std::get_if<Follower::Bytes>(&item)) seen += **bytes;
    if (auto* landed = std::get_if<Follower::Landed>(&item)) {
      seen += "|landed " + landed->answer->body;
      going = false;
    }
    if (auto* failed = std::get_if<Follower::Failed>(&item)) {
      seen += "|failed " + failed->error.message;
      going = false;
    }
    if (auto* leads = std::get_if<Lead>(&item)) {
      seen += "|leads";
      lead = std::move(*leads);
      going = false;
    }
    if (std::holds_alternative<Follower::TimedOut>(item)) {
      seen += "|timed out";
      going = false;
    }
  }
  end.set_value({std::move(seen), std::move(lead)});
}

AnswerPtr answer(std::string body) {
  auto made = std::make_shared<CachedAnswer>();
  made->body = std::move(body);
  return made;
}

struct FlightsTest : ::testing::Test {
  using End = std::future<std::pair<std::string, Lead>>;

  ~FlightsTest() override {
    tasks.stop(5s);
    threads.stop();
  }
  Lead lead(const CacheKey& key = {}) {
    auto seat = flights.join(key);
    EXPECT_TRUE(std::holds_alternative<Lead>(seat));
    return std::get<Lead>(std::move(seat));
  }
  Follower follower(const CacheKey& key = {}) {
    auto seat = flights.join(key);
    EXPECT_TRUE(std::holds_alternative<Follower>(seat));
    return std::get<Follower>(std::move(seat));
  }
  End start(Follower one) {
    std::promise<std::pair<std::string, Lead>> promise;
    End end = promise.get_future();
    handle = tasks.spawn(threads.context(turn++ % threads.size()).get_executor(),
                         follow(std::move(one), std::move(promise)));
    return end;
  }
  static std::string seen(End& end) {
    if (end.wait_for(10s) != std::future_status::ready) return "it did not end";
    return end.get().first;
  }
  bool alone(const CacheKey& key = {}) { return std::holds_alternative<std::monostate>(flights.join(key)); }
  // Everything that was posted to the io threads has run.
  void settle() {
    for (std::size_t i = 0; i < threads.size(); ++i) {
      std::promise<void> done;
      asio::post(threads.context(i), [&done] { done.set_value(); });
      done.get_future().wait();
    }
  }

  net::IoThreads threads{2};
  net::TaskGroup tasks{[](std::string_view what) { ADD_FAILURE() << what; }};
  net::TaskGroup::Handle handle;
  std::size_t turn = 0;
  Flights flights{100};
};

TEST_F(FlightsTest, FollowersGetAllOfAStreamFromItsBeginning) {
  Lead leader = lead();
  EXPECT_FALSE(leader.followed());
  End early = start(follower());
  EXPECT_TRUE(leader.followed());
  leader.head("text/event-stream");
  leader.write("one ");
  leader.write("two ");
  End late = start(follower());
  settle();
  leader.write("three");
  leader.land(answer("whole"));
  EXPECT_FALSE(leader);
  EXPECT_EQ(seen(early), "head(text/event-stream)one two three|landed whole");
  EXPECT_EQ(seen(late), "head(text/event-stream)one two three|landed whole");
  EXPECT_EQ(flights.size(), 0U);
  EXPECT_TRUE(lead());  // the next asks anew
}

TEST_F(FlightsTest, OtherRequestsFlyApart) {
  CacheKey other;
  other.bytes[0] = 1;
  Lead one = lead();
  Lead two = lead(other);
  EXPECT_EQ(flights.size(), 2U);
  End end = start(follower(other));
  two.land(answer("two"));
  EXPECT_EQ(seen(end), "|landed two");
}

TEST_F(FlightsTest, AFailureThatAllWouldMeetIsTold) {
  Lead leader = lead();
  std::vector<End> ends;
  for (int i = 0; i < 3; ++i) ends.push_back(start(follower()));
  leader.fail(fail(ErrorCode::kInvalidRequest, "no such voice").error());
  for (End& end : ends) EXPECT_EQ(seen(end), "|failed no such voice");
  EXPECT_EQ(flights.size(), 0U);
}

TEST_F(FlightsTest, WhoGivesUpBeforeTheFirstByteIsFollowedByOne) {
  Lead leader = lead();
  End first = start(follower());
  settle();
  End second = start(follower());
  settle();
  EXPECT_TRUE(leader.give_up());
  ASSERT_EQ(first.wait_for(10s), std::future_status::ready);
  auto [what, next] = first.get();
  EXPECT_EQ(what, "|leads");
  ASSERT_TRUE(next);
  EXPECT_EQ(second.wait_for(0s), std::future_status::timeout);
  End third = start(follower());  // the flight is the same
  next.land(answer("whole"));
  EXPECT_EQ(seen(second), "|landed whole");
  EXPECT_EQ(seen(third), "|landed whole");
}

TEST_F(FlightsTest, ALeadThatIsDroppedGivesUp) {
  End only;
  {
    const Lead leader = lead();
    only = start(follower());
  }
  ASSERT_EQ(only.wait_for(10s), std::future_status::ready);
  auto [what, next] = only.get();
  EXPECT_EQ(what, "|leads");
  EXPECT_FALSE(next.give_up());  // nobody is left
  EXPECT_EQ(flights.size(), 0U);
}

TEST_F(FlightsTest, ALeadThatMovesIsOne) {
  Lead leader = lead();
  Lead moved = std::move(leader);
  EXPECT_EQ(flights.size(), 1U);
  moved = Lead();  // what it led is given up
  EXPECT_EQ(flights.size(), 0U);
}

TEST_F(FlightsTest, WhoIsChosenAndHasLeftHandsOn) {
  Lead leader = lead();
  auto chosen = std::make_unique<Follower>(follower());  // never looks
  End other = start(follower());
  settle();
  EXPECT_TRUE(leader.give_up());
  EXPECT_EQ(other.wait_for(0s), std::future_status::timeout);
  chosen.reset();
  ASSERT_EQ(other.wait_for(10s), std::future_status::ready);
  EXPECT_EQ(other.get().first, "|leads");
}

TEST_F(FlightsTest, AfterTheFirstByteNobodyLeadsOn) {
  Lead leader = lead();
  End end = start(follower());
  leader.head("text/event-stream");
  leader.write("one");
  EXPECT_FALSE(leader.give_up());
  EXPECT_THAT(seen(end),
              ::testing::StartsWith("head(text/event-stream)one|failed the answer that was shared"));
  EXPECT_EQ(flights.size(), 0U);
}

TEST_F(FlightsTest, ALeadersClientThatLeavesKillsNobody) {
  // The leader's call asks whether to read on: as long as somebody follows, it does.
  Lead leader = lead();
  {
    const Follower gone = follower();
    EXPECT_TRUE(leader.followed());
  }
  EXPECT_FALSE(leader.followed());
  End end = start(follower());
  EXPECT_TRUE(leader.followed());
  leader.head("a/b");
  leader.write("x");
  leader.land(answer("x"));
  EXPECT_EQ(seen(end), "head(a/b)x|landed x");
}

TEST_F(FlightsTest, PastTheBoundNobodyJoinsAndThoseWhoKeepUpGoOn) {
  Lead leader = lead();
  End end = start(follower());
  leader.head("a/b");
  std::string all;
  for (int i = 0; i < 30; ++i) {
    const std::string bytes(20, static_cast<char>('a' + i % 26));
    leader.write(bytes);
    all += bytes;
    settle();  // it has taken them
  }
  EXPECT_EQ(flights.size(), 0U);
  Lead another = lead();  // who comes now asks anew
  leader.land(answer("end"));
  EXPECT_EQ(flights.size(), 1U);  // and is not disturbed by the end of the first
  EXPECT_EQ(seen(end), "head(a/b)" + all + "|landed end");
}

TEST_F(FlightsTest, WhoFallsBehindTheBoundIsCutOffAndTheOthersGoOn) {
  Lead leader = lead();
  Follower slow = follower();  // takes nothing
  End quick = start(follower());
  leader.head("a/b");
  for (int i = 0; i < 10; ++i) {
    leader.write(std::string(20, 'x'));
    settle();
  }
  EXPECT_TRUE(leader.followed());
  End end = start(std::move(slow));
  EXPECT_EQ(seen(end), "|failed the stream was read too slowly to go on");
  leader.land(answer("end"));
  EXPECT_EQ(seen(quick), "head(a/b)" + std::string(200, 'x') + "|landed end");
}

TEST_F(FlightsTest, FollowersAreBounded) {
  Lead leader = lead();
  std::vector<Follower> many;
  for (std::size_t i = 0; i < Flights::kFollowersMax; ++i) many.push_back(follower());
  EXPECT_TRUE(alone());
  many.pop_back();
  EXPECT_FALSE(alone());
}

TEST_F(FlightsTest, FlightsAreBounded) {
  std::vector<Lead> many;
  for (std::size_t i = 0; i < Flights::kFlightsMax; ++i) {
    CacheKey key;
    key.bytes[0] = static_cast<unsigned char>(i);
    key.bytes[1] = static_cast<unsigned char>(i >> 8);
    many.push_back(lead(key));
  }
  CacheKey one_more;
  one_more.bytes[2] = 1;
  EXPECT_TRUE(alone(one_more));
  many.pop_back();
  EXPECT_FALSE(alone(one_more));
}

asio::awaitable<void> wait_once(Follower follower, Duration timeout, std::promise<bool> timed_out) {
  const Follower::Item item = co_await follower.next(timeout);
  timed_out.set_value(std::holds_alternative<Follower::TimedOut>(item));
}

asio::awaitable<void> wait_shared(std::shared_ptr<Follower> follower, std::promise<bool> timed_out) {
  const Follower::Item item = co_await follower->next(10s);
  timed_out.set_value(std::holds_alternative<Follower::TimedOut>(item));
}

TEST_F(FlightsTest, AFollowerWaitsNoLongerThanItSays) {
  const Lead leader = lead();
  std::promise<bool> promise;
  auto timed_out = promise.get_future();
  tasks.spawn(threads.context(0).get_executor(), wait_once(follower(), 1ms, std::move(promise)));
  EXPECT_TRUE(timed_out.get());
}

TEST_F(FlightsTest, AFollowerIsInterruptedWhileItWaitsAndBefore) {
  const Lead leader = lead();
  for (const bool before : {false, true}) {
    auto shared = std::make_shared<Follower>(follower());
    if (before) shared->interrupt();
    std::promise<bool> promise;
    auto timed_out = promise.get_future();
    tasks.spawn(threads.context(0).get_executor(), wait_shared(shared, std::move(promise)));
    if (!before) {
      settle();
      shared->interrupt();
    }
    EXPECT_TRUE(timed_out.get());
  }
}

TEST_F(FlightsTest, AFollowerThatIsCancelledLeaves) {
  const Lead leader = lead();
  End end = start(follower());
  settle();
  handle.cancel();
  EXPECT_EQ(seen(end), "|timed out");
  settle();
  EXPECT_FALSE(leader.followed());
}

// Leaders that land, fail, give up or fall silent while followers come and go on two threads: whoever follows
// is told an end, each once.
TEST_F(FlightsTest, EveryoneIsToldAnEndWhateverHappens) {
  int landed = 0;
  for (int round = 0; round < 200; ++round) {
    Lead leader = lead();
    std::vector<End> ends;
    for (int i = 0; i < 4; ++i) ends.push_back(start(follower()));
    switch (round % 4) {
      case 0:
        leader.land(answer("a"));
        break;
      case 1:
        leader.head("a/b");
        leader.write("x");
        leader.land(answer("a"));
        break;
      case 2:
        leader.give_up();
        break;
      default:
        leader.fail(fail(ErrorCode::kUpstreamError, "no").error());
        break;
    }
    // Each that leads in turn gives up by being dropped here.
    for (std::size_t told = 0; told < ends.size();) {
      for (End& end : ends) {
        if (!end.valid() || end.wait_for(0s) != std::future_status::ready) continue;
        const auto what = end.get().first;
        landed += what.contains("landed") ? 1 : 0;
        ++told;
      }
    }
    ASSERT_EQ(flights.size(), 0U) << "round " << round;
  }
  EXPECT_EQ(landed, 400);
}

}  // namespace
}  // namespace turnpike::node::testing
