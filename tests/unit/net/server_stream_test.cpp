// Streamed answers, and how a server ends.
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>

#include "unit/net/support.h"

namespace turnpike::net::test {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;

Response streamed(StreamBody body) {
  return Response{.headers = {}, .content_type = "text/event-stream", .body = std::move(body)};
}

asio::awaitable<void> count_to_five(std::shared_ptr<BodyWriter> writer) {
  for (int i = 1; i <= 5; ++i) {
    const auto written = co_await writer->write(std::to_string(i));
    if (!written) co_return;
    const auto nothing = co_await writer->write("");
    if (!nothing) co_return;
  }
}

asio::awaitable<Response> counting(Request) {
  co_return streamed(count_to_five);
}

// Writes once, then sleeps until on_close wakes it; tells what it saw at the end.
struct Sleeper {
  std::promise<void> asleep;
  std::promise<std::string> ended;
};

asio::awaitable<void> sleep_until_closed(std::shared_ptr<Sleeper> sleeper,
                                         std::shared_ptr<BodyWriter> writer) {
  auto timer = std::make_shared<asio::steady_timer>(co_await asio::this_coro::executor, seconds(600));
  writer->on_close([timer] { timer->cancel(); });
  const auto written = co_await writer->write("first");
  sleeper->asleep.set_value();
  co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
  const auto refused = co_await writer->write("second");
  sleeper->ended.set_value(std::string(written ? "wrote" : "failed") +
                           (writer->closed() ? " closed" : " open") + (refused ? " wrote" : " refused"));
}

Handler sleeping(const std::shared_ptr<Sleeper>& sleeper) {
  return [sleeper](Request) -> asio::awaitable<Response> {
    co_return streamed(
        [sleeper](std::shared_ptr<BodyWriter> writer) { return sleep_until_closed(sleeper, writer); });
  };
}

TEST(ServerStream, WritesChunksAndKeepsTheConnection) {
  TestServer server(counting);
  RawClient client(server.port());
  client.send(get("/"));
  const std::string head = client.read_until("\r\n\r\n");
  EXPECT_TRUE(head.contains("Transfer-Encoding: chunked\r\n")) << head;
  EXPECT_FALSE(head.contains("Content-Length")) << head;
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "1\r\n1\r\n1\r\n2\r\n1\r\n3\r\n1\r\n4\r\n1\r\n5\r\n0\r\n\r\n");
  client.send(get("/"));
  EXPECT_EQ(body_of(client.read_answer()), "12345");
}

TEST(ServerStream, KeepsPipelinedRequestsForAfterTheStream) {
  TestServer server(counting);
  RawClient client(server.port());
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += get("/");
  client.send(requests);
  for (int i = 0; i < 50; ++i) ASSERT_EQ(body_of(client.read_answer()), "12345");
}

TEST(ServerStream, EndsByClosingForHttp10) {
  TestServer server(counting);
  RawClient client(server.port());
  client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const std::string all = client.read_to_end();
  EXPECT_FALSE(all.contains("chunked")) << all;
  EXPECT_EQ(body_of(all), "12345");
}

TEST(ServerStream, AHeadOfAStreamHasNoBody) {
  TestServer server(counting);
  RawClient client(server.port());
  client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + get("/"));
  EXPECT_EQ(status_of(client.read_answer(true)), 200);
  EXPECT_EQ(body_of(client.read_answer()), "12345");
}

TEST(ServerStream, TellsASleepingHandlerThatItsClientLeft) {
  for (const bool by_reset : {false, true}) {
    auto sleeper = std::make_shared<Sleeper>();
    auto ended = sleeper->ended.get_future();
    TestServer server(sleeping(sleeper));
    RawClient client(server.port());
    client.send(get("/"));
    client.read_until("first");
    sleeper->asleep.get_future().get();
    if (by_reset) {
      client.reset();
    } else {
      client.close();
    }
    ASSERT_EQ(ended.wait_for(kPatience), std::future_status::ready);
    EXPECT_EQ(ended.get(), "wrote closed refused");
  }
}

TEST(ServerStream, SeesTheClientLeaveBehindBytesThatItSent) {
  auto sleeper = std::make_shared<Sleeper>();
  auto ended = sleeper->ended.get_future();
  TestServer server(sleeping(sleeper));
  RawClient client(server.port());
  client.send(get("/") + get("/never"));
  client.read_until("first");
  client.send("and more");
  client.close();
  ASSERT_EQ(ended.wait_for(kPatience), std::future_status::ready);
}

TEST(ServerStream, StopEndsAStreamCleanlyAndWakesItsHandler) {
  auto sleeper = std::make_shared<Sleeper>();
  auto ended = sleeper->ended.get_future();
  TestServer server(sleeping(sleeper));
  RawClient client(server.port());
  client.send(get("/"));
  client.read_until("first\r\n");
  sleeper->asleep.get_future().get();
  server.server->stop(kPatience);
  EXPECT_EQ(server.server->connections(), 0);
  ASSERT_EQ(ended.wait_for(seconds(0)), std::future_status::ready);
  EXPECT_EQ(ended.get(), "wrote closed refused");
  EXPECT_EQ(client.read_to_end(), "0\r\n\r\n");
}

TEST(ServerStream, ASlowReaderSlowsItsOwnStreamAndIsCut) {
  std::promise<std::string> ended;
  auto result = ended.get_future();
  TestServer server(
      [&ended](Request request) -> asio::awaitable<Response> {
        if (request.path != "/flood") co_return Response{.headers = {}, .body = "quick"};
        co_return streamed([&ended](std::shared_ptr<BodyWriter> writer) -> asio::awaitable<void> {
          for (int i = 0; i < 100'000; ++i) {
            std::string bytes(10'000, 'x');
            const auto written = co_await writer->write(std::move(bytes));
            if (written) continue;
            ended.set_value(writer->closed() ? "closed" : "open");
            co_return;
          }
          ended.set_value("never slowed down");
        });
      },
      [](ServerOptions& options) { options.write_timeout = milliseconds(300); });
  RawClient slow(server.port());
  slow.shrink_receive_buffer();
  slow.send(get("/flood"));
  slow.read_until("xxx");
  RawClient quick(server.port());
  quick.send(get("/"));
  EXPECT_EQ(body_of(quick.read_answer()), "quick");
  ASSERT_EQ(result.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(result.get(), "closed");
}

TEST(ServerStream, AHandlerThatThrowsMidwayLeavesTheStreamVisiblyUnfinished) {
  TestServer server([](Request) -> asio::awaitable<Response> {
    co_return streamed([](std::shared_ptr<BodyWriter> writer) -> asio::awaitable<void> {
      const auto written = co_await writer->write("part");
      throw std::runtime_error(written ? "midway" : "at once");
    });
  });
  RawClient client(server.port());
  client.send(get("/"));
  EXPECT_TRUE(client.read_to_end().ends_with("4\r\npart\r\n"));
  server.server->stop(kPatience);
  EXPECT_EQ(server.errors->all(), std::vector<std::string>{"midway"});
}

TEST(ServerStream, AWriterThatOutlivesItsStreamIsClosed) {
  std::promise<std::shared_ptr<BodyWriter>> kept;
  TestServer server([&kept](Request) -> asio::awaitable<Response> {
    co_return streamed([&kept](std::shared_ptr<BodyWriter> writer) -> asio::awaitable<void> {
      kept.set_value(writer);
      co_return;
    });
  });
  RawClient client(server.port());
  client.send(get("/"));
  EXPECT_EQ(body_of(client.read_answer()), "");
  EXPECT_TRUE(kept.get_future().get()->closed());
}

TEST(ServerStop, LetsAnAnswerUnderWayFinishAndRefusesWhatComesAfter) {
  std::promise<void> begun;
  std::promise<std::shared_ptr<asio::steady_timer>> gate;
  TestServer server([&](Request) -> asio::awaitable<Response> {
    auto timer = std::make_shared<asio::steady_timer>(co_await asio::this_coro::executor, seconds(600));
    gate.set_value(timer);
    begun.set_value();
    co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
    co_return Response{.headers = {}, .body = "finished"};
  });
  RawClient idle(server.port());
  RawClient reading(server.port());
  reading.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
  RawClient client(server.port());
  client.send(get("/") + get("/second"));
  begun.get_future().get();
  const std::uint16_t port = server.port();
  auto stopped = std::async(std::launch::async, [&] { server.server->stop(kPatience); });
  EXPECT_EQ(idle.read_to_end(), "");
  const std::string refused = reading.read_to_end();
  EXPECT_TRUE(refused.empty() || status_of(refused) == 503) << refused;
  EXPECT_EQ(stopped.wait_for(milliseconds(50)), std::future_status::timeout);
  const auto timer = gate.get_future().get();
  asio::post(timer->get_executor(), [timer] { timer->cancel(); });
  const std::string all = client.read_to_end();
  EXPECT_EQ(body_of(all), "finished") << "the second request is not begun";
  EXPECT_TRUE(all.contains("200 OK")) << all;
  stopped.get();
  EXPECT_EQ(server.server->connections(), 0);
  RawClient late(port);
  EXPECT_EQ(late.descriptor(), -1) << "nobody listens any more";
}

TEST(ServerStop, CutsWhatOutlastsTheGrace) {
  std::promise<void> begun;
  std::atomic<bool> cancelled = false;
  TestServer server([&](Request) -> asio::awaitable<Response> {
    asio::steady_timer timer(co_await asio::this_coro::executor, seconds(600));
    begun.set_value();
    const auto [ec] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    cancelled = ec == asio::error::operation_aborted;
    co_return Response{};
  });
  RawClient client(server.port());
  client.send(get("/"));
  begun.get_future().get();
  server.server->stop(milliseconds(10));
  EXPECT_TRUE(cancelled);
  EXPECT_EQ(server.server->connections(), 0);
  EXPECT_EQ(client.read_to_end(), "");
  EXPECT_TRUE(server.errors->all().empty());
}

TEST(ServerStop, EndsWhileClientsKeepAsking) {
  auto server = std::make_unique<TestServer>(echo);
  const std::uint16_t port = server->port();
  std::atomic<int> answered = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([port, &answered] {
      RawClient client(port);
      while (client.send(post("/", "x")) && !client.read_answer().empty()) ++answered;
    });
  }
  while (answered < 1000) std::this_thread::yield();
  server->server->stop(kPatience);
  for (auto& client : clients) client.join();
  EXPECT_EQ(server->server->connections(), 0);
  server.reset();
}

}  // namespace
}  // namespace turnpike::net::test
