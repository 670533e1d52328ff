// Calls over the wire: between a client that reads as it likes and a try that writes as it comes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "node/call_place.h"
#include "support.h"

namespace turnpike::node::testing {
namespace {

namespace asio = boost::asio;
using engine::JobState;
using ::testing::HasSubstr;

constexpr std::size_t kPiece = 1'000;

std::shared_ptr<const provider::WireCall> wire(const std::string& script, bool stream = true) {
  return std::make_shared<const provider::WireCall>(provider::WireCall{.kind = provider::Wire::kChat,
                                                                       .stream = stream,
                                                                       .model = "m",
                                                                       .content_type = "application/json",
                                                                       .body = script});
}

// --- The place alone: reader and writer on two threads

struct Meeting {
  Meeting() : place(std::make_shared<CallPlace>(world.threads.context(0).get_executor(), wire(""), clock)) {}

  // Writes `count` pieces, until nobody reads; the number that were taken.
  static asio::awaitable<int> write(std::shared_ptr<CallPlace> place, int count, std::atomic<int>* taken) {
    place->head(200, "text/event-stream");
    for (int i = 0; i < count; ++i) {
      if (!co_await place->write(std::string(kPiece, static_cast<char>('a' + i % 26)))) break;
      ++*taken;
    }
    co_return *taken;
  }
  static asio::awaitable<std::string> read(std::shared_ptr<CallPlace> place, std::size_t bytes) {
    std::string all;
    while (all.size() < bytes) {
      std::string some = co_await place->read();
      if (some.empty()) break;
      all += some;
    }
    co_return all;
  }
  static asio::awaitable<bool> begins(std::shared_ptr<CallPlace> place) { return place->begins(); }
  static asio::awaitable<int> turns(int count) {
    const auto executor = co_await asio::this_coro::executor;
    for (int i = 0; i < count; ++i) co_await asio::post(executor, asio::use_awaitable);
    co_return count;
  }
  // A coroutine of the client's, or of the try's, whose thread is the other one.
  template <typename T>
  std::future<T> on(std::size_t thread, asio::awaitable<T> task) {
    auto promise = std::make_shared<std::promise<T>>();
    auto future = promise->get_future();
    world.tasks.spawn(world.threads.context(thread).get_executor(), fulfil(std::move(task), promise));
    return future;
  }
  template <typename T>
  static asio::awaitable<void> fulfil(asio::awaitable<T> task, std::shared_ptr<std::promise<T>> promise) {
    T value = co_await std::move(task);
    promise->set_value(std::move(value));
  }
  template <typename T>
  static T get(std::future<T>& future) {
    if (future.wait_for(std::chrono::seconds(20)) != std::future_status::ready)
      throw std::runtime_error("it did not end");
    return future.get();
  }

  World world;
  SystemClock clock;
  std::shared_ptr<CallPlace> place;
  std::atomic<int> taken = 0;
};

TEST(CallPlace, NothingIsLostBetweenTwoThreadsNorOnOne) {
  for (const std::size_t writer : {std::size_t{0}, std::size_t{1}}) {
    Meeting meeting;
    auto read = meeting.on(0, Meeting::read(meeting.place, 2'000 * kPiece));
    auto written = meeting.on(writer, Meeting::write(meeting.place, 2'000, &meeting.taken));
    EXPECT_EQ(Meeting::get(written), 2'000);
    const std::string all = Meeting::get(read);
    ASSERT_EQ(all.size(), 2'000 * kPiece);
    for (std::size_t i = 0; i < 2'000; ++i) ASSERT_EQ(all[i * kPiece], static_cast<char>('a' + i % 26));
  }
}

TEST(CallPlace, AClientThatDoesNotReadStopsItsOwnTryInBoundedMemory) {
  Meeting meeting;
  auto written = meeting.on(1, Meeting::write(meeting.place, 2'000, &meeting.taken));
  auto begun = meeting.on(0, Meeting::begins(meeting.place));
  EXPECT_TRUE(Meeting::get(begun));
  auto read = meeting.on(0, Meeting::read(meeting.place, CallPlace::kBytesMax));
  const std::size_t got = Meeting::get(read).size();
  EXPECT_GE(got, CallPlace::kBytesMax);
  // What is read makes room for as much again, and no more: what waits is at most kBytesMax and one write.
  auto turns = meeting.on(1, Meeting::turns(100));
  Meeting::get(turns);
  EXPECT_LE(static_cast<std::size_t>(meeting.taken) * kPiece, got + CallPlace::kBytesMax + kPiece);
  meeting.place->leave();
  EXPECT_LT(Meeting::get(written), 2'000) << "who leaves lets the try go on";
}

TEST(CallPlace, ATryThatIsStoppedDoesNotWaitForItsClient) {
  Meeting meeting;
  auto written = meeting.on(1, Meeting::write(meeting.place, 2'000, &meeting.taken));
  auto begun = meeting.on(0, Meeting::begins(meeting.place));
  EXPECT_TRUE(Meeting::get(begun));
  meeting.place->interrupt();
  EXPECT_LT(Meeting::get(written), 2'000);
}

TEST(CallPlace, TheEndComesAfterAllThatWasWritten) {
  Meeting meeting;
  auto written = meeting.on(1, Meeting::write(meeting.place, 3, &meeting.taken));
  Meeting::get(written);
  engine::AnswerCall answer;
  answer.row.state = JobState::kCompleted;
  Deliveries deliveries;
  meeting.place->end(std::move(answer), deliveries);
  deliveries.flush(true);
  auto read = meeting.on(0, Meeting::read(meeting.place, 100 * kPiece));
  EXPECT_EQ(Meeting::get(read).size(), 3 * kPiece);
  EXPECT_TRUE(meeting.place->take_answer());
}

TEST(CallPlace, WhoWaitsIsSentAwayWhenTheNodeStops) {
  Meeting meeting;
  auto begun = meeting.on(0, Meeting::begins(meeting.place));
  Deliveries deliveries;
  meeting.place->close(deliveries);
  deliveries.flush(false);
  EXPECT_FALSE(Meeting::get(begun));
  EXPECT_FALSE(meeting.place->take_answer());
}

// --- The whole node

// Does what the body of the call says, letter by letter: w writes a piece, f and F fail (transiently, for the
// input), u notes whether anybody reads, and at the end it succeeds.
class Scripted final : public provider::Provider {
 public:
  explicit Scripted(std::shared_ptr<std::atomic<int>> unread) : unread_(std::move(unread)) {}

  asio::awaitable<provider::Outcome> run(provider::Request request, provider::Progress) override {
    if (!request.wire->stream) co_return success(R"({"reply":true})");
    bool headed = false;
    for (const char act : request.wire->body) {
      if (act == 'f') co_return failure(policy::FailureClass::kTransient);
      if (act == 'F') co_return failure(policy::FailureClass::kInvalidInput);
      if (!std::exchange(headed, true)) request.sink->head(200, "text/event-stream");
      std::string bytes(CallPlace::kBytesMax, act);
      if (!co_await request.sink->write(std::move(bytes))) ++*unread_;
    }
    co_return success({});
  }
  asio::awaitable<Result<void>> probe(Duration) override { co_return Result<void>{}; }

 private:
  static provider::Outcome success(std::string output) {
    provider::Success made;
    made.output = std::move(output);
    made.stream_end = "the end";
    made.usage = {{"tokens_in", 3}, {"tokens_out", 4}};
    return made;
  }
  static provider::Outcome failure(policy::FailureClass kind) {
    provider::Failure failed;
    failed.failure = kind;
    failed.message = "as asked";
    failed.param = "messages";
    return failed;
  }
  const std::shared_ptr<std::atomic<int>> unread_;
};

struct Gateway {
  Gateway() {
    Options options = world.options();
    options.make_provider = [unread = unread](const policy::Provider&, std::vector<std::string>&) {
      return std::make_unique<Scripted>(unread);
    };
    world.start(std::move(options));
    account = world.account("u");
  }
  Result<CallAnswer> call(const std::string& script, bool stream = true) {
    CallRequest request{.account = account,
                        .task = "noop",
                        .model = {},
                        .content_type = {},
                        .ask = {},
                        .body = nullptr,
                        .wire = wire(script, stream)};
    return world.run(world.node->call(std::move(request)));
  }
  static asio::awaitable<std::string> read_all(std::shared_ptr<CallStream> stream) {
    std::string all;
    for (;;) {
      std::string some = co_await stream->read();
      if (some.empty()) break;
      all += some;
    }
    co_return all;
  }
  std::int64_t used(const std::string& meter) {
    for (const auto& each : world.node->usage(account).meters) {
      if (each.meter == meter) return each.used;
    }
    return 0;
  }

  std::shared_ptr<std::atomic<int>> unread = std::make_shared<std::atomic<int>>(0);
  World world;
  AccountId account;
};

TEST(WireCalls, AReplyComesBesideItsRow) {
  Gateway gateway;
  const auto answer = gateway.call("", false);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->stream, nullptr);
  EXPECT_EQ(answer->row.state, JobState::kCompleted);
  EXPECT_EQ(answer->reply.body, R"({"reply":true})");
  EXPECT_TRUE(answer->row.output.empty());
  EXPECT_FALSE(answer->serving.provider.empty());
}

TEST(WireCalls, AStreamIsReadToItsChargedEnd) {
  Gateway gateway;
  const auto answer = gateway.call("abc");
  ASSERT_TRUE(answer) << answer.error().message;
  ASSERT_NE(answer->stream, nullptr);
  EXPECT_EQ(answer->reply.content_type, "text/event-stream");
  EXPECT_FALSE(answer->serving.provider.empty());
  EXPECT_EQ(gateway.world.run(Gateway::read_all(answer->stream)).size(), 3 * CallPlace::kBytesMax);
  const auto ended = gateway.world.run(answer->stream->end());
  ASSERT_TRUE(ended) << ended.error().message;
  EXPECT_EQ(ended->row.state, JobState::kCompleted);
  EXPECT_EQ(ended->reply.stream_end, "the end");
  EXPECT_EQ(gateway.used("tokens"), 7);
  EXPECT_EQ(*gateway.unread, 0);
  EXPECT_THAT(gateway.world.node->metrics_text(),
              HasSubstr("gen_ai_server_time_to_first_token_seconds_count"));
}

TEST(WireCalls, AClientThatLeavesPaysWhatWasUsed) {
  Gateway gateway;
  auto answer = gateway.call("abcd");
  ASSERT_TRUE(answer) << answer.error().message;
  answer->stream.reset();
  ASSERT_TRUE(gateway.world.wait_all_ended());
  EXPECT_GE(*gateway.unread, 1) << "the try was told";
  EXPECT_EQ(gateway.used("tokens"), 7);
  EXPECT_EQ(gateway.used("calls"), 1);
}

TEST(WireCalls, AFailureBeforeTheFirstByteIsAnAnswer) {
  Gateway gateway;
  const auto answer = gateway.call("F");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->stream, nullptr);
  EXPECT_EQ(answer->row.state, JobState::kFailed);
  EXPECT_EQ(answer->reply.param, "messages");
}

TEST(WireCalls, AFailureAfterItEndsTheStream) {
  Gateway gateway;
  const auto answer = gateway.call("af");
  ASSERT_TRUE(answer) << answer.error().message;
  ASSERT_NE(answer->stream, nullptr);
  EXPECT_EQ(gateway.world.run(Gateway::read_all(answer->stream)).size(), CallPlace::kBytesMax);
  const auto ended = gateway.world.run(answer->stream->end());
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->row.state, JobState::kFailed);
  EXPECT_EQ(ended->row.error->message, "as asked");
}

}  // namespace
}  // namespace turnpike::node::testing
