// Calls that the cache answers, and calls that share one upstream.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <string>

#include "support.h"

namespace turnpike::node::testing {
namespace {

namespace asio = boost::asio;
using ::testing::HasSubstr;

constexpr const char* kPolicy = R"(
accounts: {default_plan: own}
providers:
  cloud: {kind: openai, concurrency: 8, base_url: "http://127.0.0.1:1/v1"}
models:
  chat: {task: text, version: "3", providers: [{provider: cloud, model: chat-large}]}
prices:
  cloud: {chat-large: {input_per_million: 1, output_per_million: 2}}
plans:
  own: {cache: {ttl: 1h}}
  group: {cache: {scope: shared}}
  club: {cache: {scope: shared}}
  full: {cache: {charge: full}, quotas: {calls: 2}}
  none: {}
)";

policy::PolicyPtr policy_of(const std::string& text) {
  const policy::Loaded loaded = policy::load_text(text, "cached.yaml");
  for (const policy::Mistake& mistake : loaded.mistakes) ADD_FAILURE() << policy::to_string(mistake);
  return loaded.policy;
}

// Answers each call with its number. The body says how:
//   hold       waits for release() before it says anything
//   half       waits between the first half of a stream and the second
//   fail       the first call fails, for no fault of its input
//   reject     the input is at fault
class Numbering final : public provider::Provider {
 public:
  Numbering(std::shared_ptr<Stage> stage, std::shared_ptr<std::atomic<int>> calls)
      : stage_(std::move(stage)), calls_(std::move(calls)) {}

  asio::awaitable<provider::Outcome> run(provider::Request request, provider::Progress) override {
    const int number = ++*calls_;
    stage_->note(request);
    const std::string& body = request.wire->body;
    if (body.contains("hold")) {
      if (!co_await hold()) co_return provider::Cancelled{};
    }
    provider::Failure failure;
    failure.message = "as asked";
    failure.failure = policy::FailureClass::kInvalidInput;
    if (body.contains("reject")) co_return failure;
    failure.failure = policy::FailureClass::kTransient;
    if (body.contains("fail") && number == 1) co_return failure;
    provider::Success success;
    success.usage = {{"tokens_in", 10}, {"tokens_out", 20}};
    success.output = "{\"n\":" + std::to_string(number) + "}";
    if (!request.sink) co_return success;
    success.output.clear();
    success.stream_end = "{\"usage\":1}";
    request.sink->head(200, "text/event-stream");
    auto first = request.sink->write("data: " + std::to_string(number) + "\n\n");
    (void)co_await std::move(first);
    if (body.contains("half") && !co_await hold()) co_return provider::Cancelled{};
    auto second = request.sink->write("data: end\n\n");
    (void)co_await std::move(second);
    co_return success;
  }
  asio::awaitable<Result<void>> probe(Duration) override { co_return Result<void>{}; }

 private:
  asio::awaitable<bool> hold() {
    const auto executor = co_await asio::this_coro::executor;
    auto timer = std::make_shared<asio::steady_timer>(executor, std::chrono::seconds(60));
    stage_->on_release([timer, executor] { asio::post(executor, [timer] { timer->cancel(); }); });
    if (stage_->released()) co_return true;
    co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
    const auto state = co_await asio::this_coro::cancellation_state;
    co_return state.cancelled() == asio::cancellation_type::none;
  }

  const std::shared_ptr<Stage> stage_;
  const std::shared_ptr<std::atomic<int>> calls_;
};

struct CachedCalls : ::testing::Test {
  CachedCalls() {
    world.policy = policy_of(kPolicy);
    start();
  }
  void start() {
    Options options = world.options();
    options.make_provider = [stage = world.stage, calls = calls](const policy::Provider&,
                                                                 std::vector<std::string>&) {
      return std::make_unique<Numbering>(stage, calls);
    };
    world.start(std::move(options));
  }

  static CallRequest request(AccountId account, const std::string& body = R"({"q":"a"})",
                             bool stream = false) {
    CallRequest made;
    made.account = account;
    made.task = "text";
    made.model = "chat";
    made.wire =
        std::make_shared<const provider::WireCall>(provider::WireCall{.kind = provider::Wire::kChat,
                                                                      .stream = stream,
                                                                      .model = "chat",
                                                                      .content_type = "application/json",
                                                                      .body = body});
    return made;
  }
  Result<CallAnswer> call(CallRequest made) { return world.run(world->call(std::move(made))); }
  // What it said, and what the cache did: "hit {"n":1}"; "failed MESSAGE"; "refused CODE".
  std::string said(Result<CallAnswer> answer) {
    if (!answer) return std::string("refused ") + error_code_name(answer.error().code);
    std::string text = cache_result_name(answer->cache);
    text += ' ';
    if (answer->stream) return text + read(answer->stream);
    if (answer->row.state == engine::JobState::kFailed) return text + "failed " + answer->row.error->message;
    return text + answer->reply.body;
  }
  std::string said(CallRequest made) { return said(call(std::move(made))); }

  std::string read(const std::shared_ptr<CallStream>& stream) {
    std::string text;
    for (;;) {
      const std::string bytes = world.run(stream->read());
      if (bytes.empty()) break;
      text += bytes;
    }
    const auto end = world.run(stream->end());
    if (!end) return text + "|refused";
    if (end->row.error) return text + "|failed";
    return text + "|" + end->reply.stream_end + " " + to_string(end->row.cost);
  }
  // Whatever was begun before stands where it waits now: each thread has had its turn.
  void let_all_wait() {
    for (std::size_t i = 0; i < world.threads.size(); ++i) (void)world.run(world->store({}));
  }
  std::int64_t used(AccountId account, policy::Meter meter) {
    const auto usage = world->usage(account);
    for (const auto& each : usage.meters) {
      if (each.of == meter) return each.used;
    }
    return -1;
  }

  World world;
  std::shared_ptr<std::atomic<int>> calls = std::make_shared<std::atomic<int>>(0);
};

TEST_F(CachedCalls, TheSameRequestIsAskedOnceAndCostsOnce) {
  const AccountId account = world.account("ann", "own");
  const auto first = call(request(account));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->cache, CacheResult::kMiss);
  EXPECT_GT(first->row.cost, Money{});
  const auto again = call(request(account, R"( {"q" : "a", "user":"x"} )"));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->cache, CacheResult::kHit);
  EXPECT_EQ(again->reply.body, first->reply.body);
  EXPECT_EQ(again->reply.content_type, first->reply.content_type);
  EXPECT_EQ(again->row.state, engine::JobState::kCompleted);
  EXPECT_EQ(again->row.cost, Money{});
  EXPECT_EQ(again->row.usage, first->row.usage);
  EXPECT_EQ(again->row.model_version, "3");
  EXPECT_EQ(again->serving.provider, "cloud");
  EXPECT_NE(again->row.id, first->row.id);
  EXPECT_EQ(said(request(account, R"({"q":"b"})")), R"(miss {"n":2})");
  EXPECT_EQ(*calls, 2);
}

TEST_F(CachedCalls, AnAnswerOutlivesTheServer) {
  const AccountId account = world.account("ann", "own");
  EXPECT_EQ(said(request(account)), R"(miss {"n":1})");
  world->drain_and_stop(std::chrono::seconds(5));
  world.crash();
  start();
  EXPECT_EQ(said(request(account)), R"(hit {"n":1})");
}

TEST_F(CachedCalls, AccountsShareNothingUnlessTheirPlansDo) {
  EXPECT_EQ(said(request(world.account("ann", "own"))), R"(miss {"n":1})");
  EXPECT_EQ(said(request(world.account("bob", "own"))), R"(miss {"n":2})");
  EXPECT_EQ(said(request(world.account("cat", "group"))), R"(miss {"n":3})");
  EXPECT_EQ(said(request(world.account("dan", "group"))), R"(hit {"n":3})");
  EXPECT_EQ(said(request(world.account("eve", "club"))), R"(hit {"n":3})");
  EXPECT_EQ(said(request(world.account("fay", "none"))), R"(none {"n":4})");
  EXPECT_EQ(said(request(world.account("fay", "none"))), R"(none {"n":5})");
}

TEST_F(CachedCalls, AStreamIsReplayedAsItCame) {
  const AccountId account = world.account("ann", "own");
  EXPECT_THAT(said(request(account, "{}", true)),
              ::testing::StartsWith("miss data: 1\n\ndata: end\n\n|{\"usage\":1} 0.0000"));
  auto again = call(request(account, "{}", true));
  ASSERT_TRUE(again && again->stream);
  EXPECT_EQ(again->reply.content_type, "text/event-stream");
  EXPECT_EQ(world.run(again->stream->read()), "data: 1\n\n");
  EXPECT_EQ(world.run(again->stream->read()), "data: end\n\n");
  EXPECT_EQ(read(again->stream), "|{\"usage\":1} 0");
  // A whole answer of the same request is another one.
  EXPECT_EQ(said(request(account, "{}", false)), R"(miss {"n":2})");
}

TEST_F(CachedCalls, CacheControlIsHonoured) {
  const AccountId account = world.account("ann", "own");
  CallRequest asked = request(account);
  asked.cache.no_store = true;
  EXPECT_EQ(said(asked), R"(bypass {"n":1})");
  EXPECT_EQ(said(request(account)), R"(miss {"n":2})");  // nothing was kept
  EXPECT_EQ(said(asked), R"(bypass {"n":3})");           // and nothing is given
  EXPECT_EQ(said(request(account)), R"(hit {"n":2})");
  asked.cache = {.no_cache = true, .no_store = false, .max_age = {}};
  EXPECT_EQ(said(asked), R"(bypass {"n":4})");
  EXPECT_EQ(said(request(account)), R"(hit {"n":4})");  // it was kept
  asked.cache = {.no_cache = false, .no_store = false, .max_age = Duration{0}};
  EXPECT_EQ(said(asked), R"(miss {"n":5})");
}

TEST_F(CachedCalls, FailuresAreNotKept) {
  const AccountId account = world.account("ann", "own");
  EXPECT_EQ(said(request(account, R"({"do":"fail"})")), "miss failed as asked");
  EXPECT_EQ(said(request(account, R"({"do":"fail"})")), R"(miss {"n":2})");
  EXPECT_EQ(said(request(account, R"({"do":"fail"})")), R"(hit {"n":2})");
}

TEST_F(CachedCalls, RequestsInFlightShareOneUpstream) {
  const AccountId account = world.account("ann", "group");
  const std::string body = R"({"do":"hold"})";
  auto leader = world.begin(world->call(request(account, body)));
  ASSERT_TRUE(world.stage->wait_begun(1));
  auto one = world.begin(world->call(request(world.account("bob", "club"), body)));
  auto two = world.begin(world->call(request(account, body)));
  let_all_wait();
  EXPECT_THAT(world->metrics_text(), HasSubstr("turnpike_cache_flights 1"));
  world.stage->release();
  EXPECT_EQ(said(leader.get()), R"(miss {"n":1})");
  EXPECT_EQ(said(one.get()), R"(shared {"n":1})");
  EXPECT_EQ(said(two.get()), R"(shared {"n":1})");
  EXPECT_EQ(*calls, 1);
}

TEST_F(CachedCalls, AFollowerGetsAStreamFromItsBeginningThoughItsLeaderLeaves) {
  const AccountId account = world.account("ann", "group");
  const std::string body = R"({"do":"half"})";
  auto leader = call(request(account, body, true));
  ASSERT_TRUE(leader && leader->stream);
  EXPECT_EQ(world.run(leader->stream->read()), "data: 1\n\n");
  auto follower = call(request(world.account("bob", "club"), body, true));
  ASSERT_TRUE(follower && follower->stream);
  EXPECT_EQ(follower->cache, CacheResult::kShared);
  EXPECT_EQ(world.run(follower->stream->read()), "data: 1\n\n");
  leader->stream.reset();  // it leaves
  world.stage->release();
  EXPECT_EQ(read(follower->stream), "data: end\n\n|{\"usage\":1} 0");
  EXPECT_EQ(said(request(account, body, true)), "hit data: 1\n\ndata: end\n\n|{\"usage\":1} 0");
  EXPECT_EQ(*calls, 1);
}

TEST_F(CachedCalls, AStreamThatNobodyReadsToItsEndIsNotKept) {
  const AccountId account = world.account("ann", "own");
  const std::string body = R"({"do":"half"})";
  auto leader = call(request(account, body, true));
  ASSERT_TRUE(leader && leader->stream);
  leader->stream->leave();
  world.stage->release();
  ASSERT_TRUE(world.wait_all_ended());
  while (!world->metrics_text().contains("turnpike_cache_flights 0")) std::this_thread::yield();
  EXPECT_THAT(said(request(account, body, true)), HasSubstr("miss data: 2\n\n"));
}

TEST_F(CachedCalls, AFollowerThatLeavesDisturbsNobody) {
  const AccountId account = world.account("ann", "own");
  const std::string body = R"({"do":"half"})";
  auto leader = call(request(account, body, true));
  auto follower = call(request(account, body, true));
  ASSERT_TRUE(leader && leader->stream && follower && follower->stream);
  EXPECT_EQ(world.run(follower->stream->read()), "data: 1\n\n");
  auto waiting = world.begin(follower->stream->read());
  follower->stream->leave();
  EXPECT_EQ(waiting.get(), "");
  follower->stream.reset();
  world.stage->release();
  EXPECT_THAT(read(leader->stream), HasSubstr("data: end\n\n|{\"usage\":1}"));
}

TEST_F(CachedCalls, WhenALeaderFailsOneOfItsFollowersAsks) {
  const AccountId account = world.account("ann", "own");
  const std::string body = R"({"do":"hold, then fail"})";
  auto leader = world.begin(world->call(request(account, body)));
  ASSERT_TRUE(world.stage->wait_begun(1));
  auto one = world.begin(world->call(request(account, body)));
  auto two = world.begin(world->call(request(account, body)));
  let_all_wait();
  world.stage->release();
  EXPECT_EQ(said(leader.get()), "miss failed as asked");
  EXPECT_THAT((std::vector{said(one.get()), said(two.get())}),
              ::testing::UnorderedElementsAre(R"(miss {"n":2})", R"(shared {"n":2})"));
  EXPECT_EQ(*calls, 2);  // the one that failed, and one for both
}

TEST_F(CachedCalls, WhatIsWrongWithTheInputIsToldToAll) {
  const AccountId account = world.account("ann", "own");
  const std::string body = R"({"do":"hold, then reject"})";
  auto leader = world.begin(world->call(request(account, body)));
  ASSERT_TRUE(world.stage->wait_begun(1));
  auto follower = world.begin(world->call(request(account, body)));
  let_all_wait();
  world.stage->release();
  EXPECT_EQ(said(leader.get()), "miss failed as asked");
  EXPECT_EQ(said(follower.get()), "refused invalid_request");
  EXPECT_EQ(*calls, 1);
}

TEST_F(CachedCalls, AHitCountsAsThePlanSays) {
  const AccountId free = world.account("ann", "own");
  EXPECT_EQ(said(request(free)), R"(miss {"n":1})");
  const auto before = used(free, policy::Meter::kTokens);
  EXPECT_EQ(said(request(free)), R"(hit {"n":1})");
  EXPECT_EQ(used(free, policy::Meter::kTokens), before);
  EXPECT_EQ(used(free, policy::Meter::kCalls), 1);

  const AccountId full = world.account("bob", "full");
  EXPECT_EQ(said(request(full)), R"(miss {"n":2})");
  EXPECT_EQ(used(full, policy::Meter::kCalls), 1);
  const Money cost = world->usage(full).cost_used;
  EXPECT_EQ(said(request(full)), R"(hit {"n":2})");
  EXPECT_EQ(used(full, policy::Meter::kCalls), 2);
  EXPECT_EQ(used(full, policy::Meter::kTokens), 60);
  EXPECT_EQ(world->usage(full).cost_used, cost);
  EXPECT_EQ(said(request(full)), "refused quota_exceeded");
}

TEST_F(CachedCalls, TheHitRateOfEachPlanIsAMetric) {
  const AccountId account = world.account("ann", "own");
  for (int i = 0; i < 3; ++i) (void)call(request(account));
  CallRequest fresh = request(account);
  fresh.cache.no_cache = true;
  (void)call(fresh);
  const std::string text = world->metrics_text();
  EXPECT_THAT(text, HasSubstr("turnpike_cache_requests_total{plan=\"own\",result=\"hit\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("turnpike_cache_requests_total{plan=\"own\",result=\"miss\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("turnpike_cache_requests_total{plan=\"own\",result=\"bypass\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("turnpike_cache_entries{where=\"memory\"} 1\n"));
}

}  // namespace
}  // namespace turnpike::node::testing
