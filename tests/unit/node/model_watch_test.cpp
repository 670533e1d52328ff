// When lists are read, what comes of it, and what survives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "node/model_watch.h"
#include "support.h"

namespace turnpike::node::testing {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Lists by their URL; what is not there cannot be reached.
class Lists final : public net::Client {
 public:
  void put(const std::string& url, std::string body, int status = 200) {
    const std::scoped_lock lock(mutex_);
    answers_[url] = {status, std::move(body)};
  }
  std::vector<net::ClientRequest> asked() const {
    const std::scoped_lock lock(mutex_);
    return asked_;
  }

  boost::asio::awaitable<Result<net::ClientResponse>> send(net::ClientRequest request) override {
    const std::scoped_lock lock(mutex_);
    asked_.push_back(request);
    const auto found = answers_.find(request.url);
    if (found == answers_.end()) co_return fail(ErrorCode::kUpstreamError, "nobody is there");
    co_return net::ClientResponse{.status = found->second.first, .headers = {}, .body = found->second.second};
  }
  boost::asio::awaitable<Result<net::ClientResponse>> stream(net::ClientRequest,
                                                             std::function<bool(std::string_view)>) override {
    co_return fail(ErrorCode::kUpstreamError, "lists are not streamed");
  }
  boost::asio::awaitable<Result<std::unique_ptr<net::ClientStream>>> open(net::ClientRequest,
                                                                          Duration) override {
    co_return fail(ErrorCode::kUpstreamError, "lists are not streamed");
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::pair<int, std::string>> answers_;
  std::vector<net::ClientRequest> asked_;
};

constexpr const char* kUrl = "http://lists.example.com/v1/models";

policy::PolicyPtr watched(const std::string& more = {}) {
  const policy::Loaded loaded = policy::load_text(R"(
accounts: {default_plan: basic}
providers:
  cloud: {kind: openai, base_url: "http://lists.example.com/v1", watch: {every: 10m}}
models:
  writer:
    task: text
    version: 2.0.0
    providers: [{provider: cloud, model: big-2.0.0}]
    discover: [{provider: cloud, match: "big-{version}"}]
plans: {basic: {}})" + more + "\n",
                                                  "watched.yaml");
  for (const policy::Mistake& mistake : loaded.mistakes) ADD_FAILURE() << policy::to_string(mistake);
  return loaded.policy;
}

struct NodeWatch : ::testing::Test {
  NodeWatch() {
    world.policy = watched();
    list({"big-2.0.0", "whisper"});
  }
  void list(const std::vector<std::string>& ids) {
    std::string body = R"({"data":[)";
    for (const std::string& id : ids)
      body += (body.ends_with('[') ? "" : ",") + (R"({"id":")" + id) + R"("})";
    lists->put(kUrl, body + "]}");
  }
  void start() {
    Options options = world.options();
    options.list_client = lists;
    world.start(std::move(options));
  }
  void look() { ASSERT_TRUE(world.run(world->look(""))); }
  // The look with which a start begins is over.
  bool wait_looked() {
    for (int i = 0; i < 1000; ++i) {
      if (world->watches().at(0).looks > 0) return true;
      (void)world.run(world->read([](journal::Journal&) {}));  // let others run
    }
    return false;
  }
  std::vector<std::string> events(engine::EventType type) {
    std::vector<std::string> texts;
    const auto page = world->journal().events({}, std::nullopt, std::nullopt, std::nullopt, 1'000);
    for (const auto& stored : page->events) {
      if (stored.event.type == type) texts.push_back(stored.event.text);
    }
    return texts;
  }
  std::vector<std::string> versions() { return world->policy()->models.at("writer").version_names(); }

  std::shared_ptr<Lists> lists = std::make_shared<Lists>();
  World world;
};

TEST_F(NodeWatch, WhatIsNewBecomesAVersionThatWaits) {
  start();
  look();
  EXPECT_THAT(versions(), ElementsAre("2.0.0"));
  EXPECT_THAT(events(engine::EventType::kModelDiscovered), IsEmpty()) << "what a first look finds is no news";
  list({"big-3.0.0", "big-2.0.0", "whisper", "whisper-2"});
  look();
  look();
  EXPECT_THAT(versions(), ElementsAre("3.0.0", "2.0.0"));
  EXPECT_EQ(world->policy()->models.at("writer").versions[0].status, policy::VersionStatus::kDiscovered);
  EXPECT_THAT(events(engine::EventType::kModelDiscovered),
              ElementsAre(HasSubstr(R"("version":"3.0.0")"), HasSubstr(R"("id":"whisper-2")")));
  EXPECT_EQ(world->discoveries().size(), 4U) << "the list itself, whisper, and the two new ones";
  EXPECT_EQ(world->policy_version(), 1U) << "the configuration is what it was";
}

TEST_F(NodeWatch, AVersionThatTheFirstLookFindsIsNews) {
  list({"big-2.1.0", "whisper"});
  start();
  look();
  EXPECT_THAT(events(engine::EventType::kModelDiscovered), ElementsAre(HasSubstr(R"("id":"big-2.1.0")")));
}

TEST_F(NodeWatch, ARestartRemembersAndRepeatsNothing) {
  list({"big-3.0.0", "whisper"});
  start();
  look();
  world.crash();
  start();
  EXPECT_THAT(versions(), ElementsAre("3.0.0", "2.0.0")) << "before any look";
  look();
  EXPECT_EQ(events(engine::EventType::kModelDiscovered).size(), 1U);
  EXPECT_EQ(world->discoveries().size(), 3U);
}

TEST_F(NodeWatch, AnotherConfigurationKeepsWhatWasFound) {
  list({"big-3.0.0"});
  start();
  look();
  const auto version = world.run(world->apply(watched("\n# changed"), {.by = "cli", .reason = "why not"}));
  EXPECT_EQ(*version, 2U);
  EXPECT_THAT(versions(), ElementsAre("3.0.0", "2.0.0"));
  EXPECT_THAT(events(engine::EventType::kPolicyChanged),
              ElementsAre(HasSubstr(R"("version":2,"previous":1)")));
  EXPECT_EQ(*world.run(world->apply(watched("\n# changed"), {.by = "cli", .reason = {}})), 2U);
  EXPECT_EQ(events(engine::EventType::kPolicyChanged).size(), 1U);
}

TEST_F(NodeWatch, AListThatFailsIsCountedAndChangesNothing) {
  start();
  ASSERT_TRUE(wait_looked());  // else the look of the start may find the list that fails
  lists->put(kUrl, "no", 401);
  look();
  WatchState state = world->watches().at(0);
  EXPECT_EQ(state.error, "it answered with status 401");
  EXPECT_EQ(state.failed, 1U);
  EXPECT_EQ(state.entries, 2U) << "of the last list that was read";
  EXPECT_THAT(world->metrics_text(), HasSubstr("turnpike_model_watch_failing{provider=\"cloud\"} 1\n"));
  list({"big-2.0.0"});
  look();
  state = world->watches().at(0);
  EXPECT_EQ(state.error, "");
  EXPECT_GE(state.looks, 3U);
}

TEST_F(NodeWatch, AStartLooksByItself) {
  start();
  EXPECT_TRUE(wait_looked());
  EXPECT_EQ(lists->asked().at(0).url, kUrl);
  EXPECT_EQ(lists->asked().at(0).response_bytes_max, 4ULL << 20);
}

// --- When

struct When : ::testing::Test {
  ModelWatch watch_over(policy::PolicyPtr policy) {
    return ModelWatch(ModelWatchParts{.readers = readers,
                                      .clock = clock,
                                      .client = std::make_shared<Lists>(),
                                      .policy = [policy] { return policy; },
                                      .overlay = [this] { return overlay; },
                                      .unavailable = unavailable,
                                      .store = {}});
  }
  static Monotonic at(Duration since) { return Monotonic{hours(1) + since}; }

  Readers readers{1, 1};
  SystemClock clock;
  std::set<std::string> unavailable;
  policy::OverlayPtr overlay = std::make_shared<const policy::Overlay>();
};

TEST_F(When, AListIsDueAtOnceAndThenEveryTime) {
  ModelWatch watch = watch_over(watched());
  EXPECT_EQ(watch.until(at(seconds(0))), Duration{0});
  EXPECT_THAT(watch.due(at(seconds(0))), ElementsAre("cloud"));
  EXPECT_THAT(watch.due(at(seconds(1))), IsEmpty());
  EXPECT_EQ(watch.until(at(seconds(1))), ModelWatch::kLookAgainMax)
      << "another configuration may want one sooner";
  EXPECT_EQ(watch.until(at(minutes(10) - seconds(3))), seconds(3));
  EXPECT_THAT(watch.due(at(minutes(10) - seconds(3))), IsEmpty());
  EXPECT_THAT(watch.due(at(minutes(10))), ElementsAre("cloud"));
  EXPECT_THAT(watch.due(at(minutes(10))), IsEmpty());
}

TEST_F(When, WhatIsPausedOrMissingIsNotAsked) {
  policy::Overlay paused;
  paused.paused_providers.insert("cloud");
  overlay = std::make_shared<const policy::Overlay>(paused);
  ModelWatch watch = watch_over(watched());
  EXPECT_THAT(watch.due(at(seconds(0))), IsEmpty());
  EXPECT_GT(watch.until(at(seconds(0))), Duration{0});
  overlay = std::make_shared<const policy::Overlay>();
  unavailable.insert("cloud");
  EXPECT_THAT(watch.due(at(minutes(10))), IsEmpty());
  unavailable.clear();
  EXPECT_THAT(watch.due(at(minutes(20))), ElementsAre("cloud"));
}

TEST_F(When, NothingIsWatchedWhereNothingIsAsked) {
  ModelWatch watch = watch_over(sample_policy());
  EXPECT_THAT(watch.due(at(seconds(0))), IsEmpty());
  EXPECT_EQ(watch.until(at(seconds(0))), ModelWatch::kLookAgainMax);
  EXPECT_EQ(watch.metrics_text(), "");
}

}  // namespace
}  // namespace turnpike::node::testing
