// What a client that breaks the rules sees: each bound, from both sides.
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "unit/net/support.h"

namespace turnpike::net::test {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

// Sends and reads to the end: the server must answer `status` through the renderer, and close.
void expect_refused(std::uint16_t port, std::string_view request, int status) {
  RawClient client(port);
  client.send(request);
  const std::string all = client.read_to_end();
  EXPECT_EQ(status_of(all), status) << request.substr(0, 200) << "\n---\n" << all;
  EXPECT_TRUE(all.contains("x-rendered: yes")) << all;
  EXPECT_TRUE(all.contains("Connection: close")) << all;
  EXPECT_EQ(all.find("x-rendered: yes"), all.rfind("x-rendered: yes")) << "a second answer: " << all;
}

TEST(ServerBounds, BadSyntaxIs400) {
  TestServer server(echo);
  for (const std::string_view bad :
       {"nonsense\r\n\r\n", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost x\r\n\r\n", "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\x01\r\n\r\n"}) {
    expect_refused(server.port(), bad, 400);
  }
  using namespace std::string_view_literals;
  expect_refused(server.port(), "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n"sv, 400);
}

TEST(ServerBounds, BadTargetsAre400) {
  TestServer server(echo);
  for (const auto* target : {"/%00", "/a/../b", "/%2e%2e/x", "/%zz", "/%ff", "*", "/?q=%80"}) {
    expect_refused(server.port(), get(target), 400);
  }
}

TEST(ServerBounds, MessagesThatTwoPartiesCouldReadDifferentlyAreRefused) {
  TestServer server(echo);
  const auto with = [](std::string_view headers, std::string_view body) {
    return "POST / HTTP/1.1\r\nHost: x\r\n" + std::string(headers) + "\r\n" + std::string(body);
  };
  expect_refused(server.port(), with("Content-Length: 1\r\nContent-Length: 1\r\n", "a"), 400);
  expect_refused(server.port(), with("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"), 400);
  expect_refused(server.port(), with("Content-Length: 1, 1\r\n", "a"), 400);
  expect_refused(server.port(), with("Content-Length: +1\r\n", "a"), 400);
  expect_refused(server.port(), with("Content-Length: -1\r\n", "a"), 400);
  expect_refused(server.port(), with("Content-Length: 99999999999999999999999\r\n", "a"), 400);
  expect_refused(server.port(), with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                 400);
  expect_refused(server.port(), with("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", "0\r\n\r\n"),
                 400);
  expect_refused(server.port(),
                 with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400);
  expect_refused(server.port(), with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501);
  expect_refused(server.port(), with("Transfer-Encoding: identity\r\n", ""), 501);
  expect_refused(server.port(), with("Transfer-Encoding: chunked\r\n", "xyz\r\n"), 400);
  expect_refused(server.port(), with("Transfer-Encoding: chunked\r\n", "5\r\nhelloXX\r\n"), 400);
  expect_refused(server.port(), with("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"), 400);
  expect_refused(server.port(), "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
  expect_refused(server.port(), "GET / HTTP/1.1\r\n\r\n", 400);
  expect_refused(server.port(), "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400);
}

TEST(ServerBounds, AnUnknownExpectationIs417) {
  TestServer server(echo);
  expect_refused(server.port(), "GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 417);
}

TEST(ServerBounds, AHeaderTooLargeIs431) {
  TestServer server(echo, [](ServerOptions& options) { options.header_bytes_max = 2048; });
  const auto with_header = [](std::size_t size) {
    const std::string start = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
    return start + std::string(size - start.size() - 4, 'a') + "\r\n\r\n";
  };
  RawClient client(server.port());
  client.send(with_header(2048));
  EXPECT_EQ(status_of(client.read_answer()), 200);
  expect_refused(server.port(), with_header(2049), 431);
  expect_refused(server.port(), with_header(100'000), 431);
  expect_refused(server.port(), "GET /" + std::string(100'000, 'a'), 431);  // no end in sight
  std::string many = "GET / HTTP/1.1\r\nHost: x\r\n";
  for (int i = 0; i < 200; ++i) many += "a:\r\n";
  expect_refused(server.port(), many + "\r\n", 431);
}

TEST(ServerBounds, ABodyTooLargeIs413BeforeItIsRead) {
  std::atomic<int> handled = 0;
  TestServer server(
      [&handled](Request) -> asio::awaitable<Response> {
        ++handled;
        co_return Response{};
      },
      {},
      [](std::string_view, std::string_view path) {
        return BodyRule{.bytes_max = path == "/big" ? 1000U : 10U};
      });
  RawClient client(server.port());
  client.send(post("/big", std::string(1000, 'a')) + post("/", std::string(10, 'a')));
  EXPECT_EQ(status_of(client.read_answer()), 200);
  EXPECT_EQ(status_of(client.read_answer()), 200);
  expect_refused(server.port(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n", 413);
  expect_refused(server.port(),
                 "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n", 413);
  expect_refused(server.port(), post("/", std::string(500'000, 'a')),
                 413);  // the answer survives what is unread
  EXPECT_EQ(handled, 2);
}

TEST(ServerBounds, AChunkedBodyTooLargeIs413WhileItIsRead) {
  TestServer server(echo, {}, [](std::string_view, std::string_view) { return BodyRule{.bytes_max = 10}; });
  const std::string start = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  RawClient client(server.port());
  client.send(start + "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n");
  EXPECT_EQ(body_of(client.read_answer()), "POST / helloworld");
  expect_refused(server.port(), start + "5\r\nhello\r\n6\r\nworld!\r\n", 413);
}

TEST(ServerBounds, ASpooledBodyThatIsTooLargeLeavesNoFile) {
  TestServer server(
      echo, {}, [](std::string_view, std::string_view) { return BodyRule{.bytes_max = 10, .spool = true}; });
  expect_refused(
      server.port(),
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\nworld!\r\n", 413);
  {
    RawClient leaves(server.port());
    leaves.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
  }
  server.server->stop(kPatience);
  EXPECT_EQ(server.dir.files(), 0);
}

TEST(ServerBounds, ASpoolThatCannotBeWrittenIs500AndLogged) {
  TestServer server(
      echo, [](ServerOptions& options) { options.spool_dir = "/nowhere/at/all"; },
      [](std::string_view, std::string_view) { return BodyRule{.spool = true}; });
  expect_refused(server.port(), post("/", "abc"), 500);
  ASSERT_EQ(server.errors->all().size(), 1);
  EXPECT_TRUE(server.errors->all()[0].contains("/nowhere/at/all"));
}

TEST(ServerBounds, ASlowSenderIsCutHoweverBusyItLooks) {
  TestServer server(echo, [](ServerOptions& options) { options.read_timeout = milliseconds(300); });
  expect_refused(server.port(), "GET / HT", 408);
  expect_refused(server.port(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", 408);
  RawClient dribbling(server.port());
  dribbling.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n");
  const auto begun = std::chrono::steady_clock::now();
  while (dribbling.send("a: b\r\n") && std::chrono::steady_clock::now() - begun < kPatience) {
    const timespec pause{.tv_sec = 0, .tv_nsec = 20'000'000};
    ::nanosleep(&pause, nullptr);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begun, kPatience);
}

TEST(ServerBounds, AnIdleConnectionIsClosedWithoutAWord) {
  TestServer server(echo, [](ServerOptions& options) { options.idle_timeout = milliseconds(300); });
  RawClient silent(server.port());
  EXPECT_EQ(silent.read_to_end(), "");
  RawClient once(server.port());
  once.send(get("/"));
  EXPECT_EQ(status_of(once.read_answer()), 200);
  EXPECT_EQ(once.read_to_end(), "");
}

TEST(ServerBounds, ASlowHandlerIsNotTakenForAnIdleClient) {
  TestServer server(
      [](Request) -> asio::awaitable<Response> {
        asio::steady_timer timer(co_await asio::this_coro::executor, milliseconds(900));
        co_await timer.async_wait(asio::use_awaitable);
        co_return Response{};
      },
      [](ServerOptions& options) {
        options.idle_timeout = options.read_timeout = options.write_timeout = milliseconds(100);
      });
  RawClient client(server.port());
  client.send(get("/"));
  EXPECT_EQ(status_of(client.read_answer()), 200);
}

TEST(ServerBounds, ASlowReaderIsCut) {
  TestServer server(
      [](Request) -> asio::awaitable<Response> {
        co_return Response{.headers = {}, .body = std::string(50'000'000, 'x')};
      },
      [](ServerOptions& options) { options.write_timeout = milliseconds(300); });
  RawClient client(server.port());
  client.shrink_receive_buffer();
  client.send(get("/"));
  const auto begun = std::chrono::steady_clock::now();
  while (server.server->connections() > 0 || std::chrono::steady_clock::now() - begun < milliseconds(100)) {
    ASSERT_LT(std::chrono::steady_clock::now() - begun, kPatience);
    std::this_thread::yield();
  }
  EXPECT_LT(client.read_to_end().size(), 2'000'000) << "what waited in the kernel is dropped";
}

TEST(ServerBounds, ConnectionsOverTheBoundAreTold503) {
  TestServer server(echo, [](ServerOptions& options) { options.connections_max = 2; });
  auto first = std::make_unique<RawClient>(server.port());
  RawClient second(server.port());
  for (auto* client : {first.get(), &second}) {
    client->send(get("/"));
    EXPECT_EQ(status_of(client->read_answer()), 200);
  }
  expect_refused(server.port(), get("/"), 503);
  first.reset();
  const auto begun = std::chrono::steady_clock::now();
  while (server.server->connections() > 1) {
    ASSERT_LT(std::chrono::steady_clock::now() - begun, kPatience);
    std::this_thread::yield();
  }
  RawClient third(server.port());
  third.send(get("/"));
  EXPECT_EQ(status_of(third.read_answer()), 200);
}

TEST(ServerBounds, TheOperatorGetsInWhenThePublicSideIsFull) {
  TempFolder dir;
  const auto path = dir.path() / "control";
  TestServer server(echo, [&](ServerOptions& options) {
    options.connections_max = 1;
    options.control_socket = path;
  });
  RawClient holder(server.port());
  holder.send(get("/"));
  EXPECT_EQ(status_of(holder.read_answer()), 200);
  RawClient control(path);
  control.send(get("/x"));
  EXPECT_EQ(body_of(control.read_answer()), "GET /x ");
}

TEST(ServerBounds, EmptyLinesBeforeARequestAreSkipped) {
  TestServer server(echo);
  RawClient client(server.port());
  client.send("\r\n" + get("/a") + "\r\n" + get("/b"));
  EXPECT_EQ(body_of(client.read_answer()), "GET /a ");
  EXPECT_EQ(body_of(client.read_answer()), "GET /b ");
}

}  // namespace
}  // namespace turnpike::net::test
