// WebSockets on a real server: the handshake, both ways, signs of life, and every way to end.
#include "net/websocket.h"

#include <gtest/gtest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>
#include <map>
#include <utility>

#include "unit/net/support.h"
#include "unit/net/websocket_support.h"

namespace turnpike::net::test {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;

using Run = std::function<asio::awaitable<void>(std::shared_ptr<WebSocket> socket)>;

// Waits until something has changed, or ten minutes have passed.
asio::awaitable<void> changed(std::shared_ptr<WebSocket> socket) {
  auto timer = std::make_shared<asio::steady_timer>(co_await asio::this_coro::executor, seconds(600));
  socket->on_change([timer] { timer->expires_at(asio::steady_timer::time_point::min()); });
  co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
  socket->on_change({});
}

asio::awaitable<void> echo_texts(std::shared_ptr<WebSocket> socket) {
  while (!socket->closed()) {
    auto text = socket->receive();
    if (!text) {
      co_await changed(socket);
      continue;
    }
    if (*text == "throw") throw std::runtime_error("on purpose");
    if (*text == "later") {
      socket->close(CloseCode::kTryAgainLater, "in a moment");
      break;
    }
    std::vector<std::string> texts{*std::move(text)};
    const auto sent = co_await socket->send(std::move(texts));
    if (!sent) break;
  }
}

Handler sockets(Run run, std::size_t message_bytes_max = 1000) {
  return [run = std::move(run), message_bytes_max](Request request) -> asio::awaitable<Response> {
    SocketBody body{.run = run, .message_bytes_max = message_bytes_max};
    auto accepted = accept_websocket(request, std::move(body));
    if (accepted) co_return *std::move(accepted);
    co_return Response{.status = 426, .headers = upgrade_headers(), .body = accepted.error().param};
  };
}

const std::map<std::string, std::string> kHandshake = {{"Upgrade", "websocket"},
                                                       {"Connection", "keep-alive, Upgrade"},
                                                       {"Sec-WebSocket-Version", "13"},
                                                       {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};

std::string handshake(const std::map<std::string, std::string>& headers = kHandshake) {
  std::string text = "GET /ws HTTP/1.1\r\nHost: test\r\n";
  for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n";
  return text + "\r\n";
}

struct Client : RawClient {
  explicit Client(std::uint16_t port, std::string_view behind = {}) : RawClient(port) {
    send(handshake() + std::string(behind));
    head = read_until("\r\n\r\n");
  }
  std::string head;
};

std::string text_frame(std::string_view text) {
  std::string frame(1, '\x81');
  frame.push_back(static_cast<char>(text.size()));
  return frame.append(text);
}

std::string close_frame(int code, std::string_view reason) {
  std::string frame(1, '\x88');
  frame.push_back(static_cast<char>(2 + reason.size()));
  frame.push_back(static_cast<char>(code >> 8));
  frame.push_back(static_cast<char>(code));
  return frame.append(reason);
}

TEST(WebSocket, AnswersTheHandshakeAndEchoes) {
  TestServer server(sockets(echo_texts));
  Client client(server.port());
  EXPECT_TRUE(client.head.starts_with("HTTP/1.1 101 Switching Protocols\r\n")) << client.head;
  EXPECT_TRUE(client.head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")) << client.head;
  EXPECT_TRUE(client.head.contains("Connection: Upgrade\r\n")) << client.head;
  EXPECT_FALSE(client.head.contains("Content-")) << client.head;
  for (const std::string text : {"one", "two", ""}) {
    client.send(masked(0x81, text));
    EXPECT_EQ(client.read_until(text_frame(text)), text_frame(text));
  }
}

TEST(WebSocket, FramesRightBehindTheRequestAreRead) {
  TestServer server(sockets(echo_texts));
  Client client(server.port(), masked(0x81, "early") + masked(0x81, "birds"));
  EXPECT_EQ(client.read_until("birds"), text_frame("early") + text_frame("birds"));
}

TEST(WebSocket, ARequestThatIsNoHandshakeIsToldWhichHeader) {
  TestServer server(sockets(echo_texts));
  const auto refused_for = [&](const std::string& name, const std::string& value) {
    auto headers = kHandshake;
    headers[name] = value;
    if (value.empty()) headers.erase(name);
    RawClient client(server.port());
    client.send(handshake(headers));
    const std::string answer = client.read_answer();
    EXPECT_EQ(status_of(answer), 426) << answer;
    EXPECT_TRUE(answer.contains("Sec-WebSocket-Version: 13\r\n")) << answer;
    return body_of(answer);
  };
  for (const std::string name : {"Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key"})
    EXPECT_EQ(refused_for(name, ""), name);
  EXPECT_EQ(refused_for("Upgrade", "h2c"), "Upgrade");
  EXPECT_EQ(refused_for("Connection", "close"), "Connection");
  EXPECT_EQ(refused_for("Sec-WebSocket-Version", "8"), "Sec-WebSocket-Version");
  EXPECT_EQ(refused_for("Sec-WebSocket-Key", "short"), "Sec-WebSocket-Key");
  RawClient client(server.port());
  client.send(post("/ws", "x"));
  EXPECT_EQ(status_of(client.read_answer()), 426);
}

TEST(WebSocket, PingsAreAnsweredWhileNothingElseHappens) {
  TestServer server(sockets(echo_texts));
  Client client(server.port());
  client.send(masked(0x89, "are you there?"));
  const std::string pong =
      "\x8a\x0e"
      "are you there?";
  EXPECT_EQ(client.read_until(pong), pong);
}

TEST(WebSocket, APeersCloseIsReturnedAndTheConnectionEnds) {
  TestServer server(sockets(echo_texts));
  Client client(server.port());
  client.send(masked(0x88, std::string("\x0f\xa0", 2) + "done"));
  EXPECT_EQ(client.read_to_end(), close_frame(4000, ""));
}

TEST(WebSocket, TheHandlersCloseIsTold) {
  TestServer server(sockets(echo_texts));
  Client client(server.port());
  client.send(masked(0x81, "later"));
  const std::string told = close_frame(1013, "in a moment");
  EXPECT_EQ(client.read_until("in a moment"), told);
  client.send(masked(0x88, std::string("\x03\xf5", 2)));
  EXPECT_EQ(client.read_to_end(), "");
}

TEST(WebSocket, AHandlerThatThrowsIsReportedAndTheSocketClosed) {
  TestServer server(sockets(echo_texts));
  Client client(server.port());
  client.send(masked(0x81, "throw"));
  const std::string reason = "an internal error; it has been logged";
  EXPECT_EQ(client.read_to_end(), close_frame(1011, reason));
  ASSERT_EQ(server.errors->all().size(), 1U);
  EXPECT_EQ(server.errors->all()[0], "on purpose");
}

TEST(WebSocket, EachBreachOfTheRulesHasItsCode) {
  TestServer server(sockets(echo_texts));
  const auto closed_with = [&](const std::string& bytes) {
    Client client(server.port());
    client.send(bytes);
    const std::string all = client.read_to_end();
    EXPECT_GE(all.size(), 4U);
    return static_cast<unsigned char>(all[2]) << 8 | static_cast<unsigned char>(all[3]);
  };
  EXPECT_EQ(closed_with(std::string("\x81\x02hi", 4)), 1002);
  EXPECT_EQ(closed_with(masked(0x82, "binary")), 1003);
  EXPECT_EQ(closed_with(masked(0x81, "\xff")), 1007);
  EXPECT_EQ(closed_with(masked(0x81, std::string(1001, 'x'))), 1009);
}

TEST(WebSocket, ASilentPeerIsAskedAndThenClosed) {
  TestServer server(sockets(echo_texts),
                    [](ServerOptions& options) { options.idle_timeout = milliseconds(600); });
  Client client(server.port());
  const std::string ping("\x89\0", 2);
  EXPECT_EQ(client.read_until(ping), ping);
  client.send(masked(0x8a, ""));  // a sign of life: it is asked again, not closed
  EXPECT_EQ(client.read_until(ping), ping);
  const std::string rest = client.read_to_end();
  EXPECT_TRUE(rest.starts_with(close_frame(1008, "no sign of life: answer pings"))) << rest;
}

TEST(WebSocket, MoreTextsThanTheHandlerTakesStayInTheKernel) {
  const auto run = [](std::shared_ptr<WebSocket> socket) -> asio::awaitable<void> {
    std::size_t bytes = 0;
    for (int taken = 0; taken < 2000 && !socket->closed();) {
      if (auto text = socket->receive()) {
        bytes += text->size();
        ++taken;
      } else {
        co_await changed(socket);
      }
    }
    std::vector<std::string> texts{std::to_string(bytes)};
    (void)co_await socket->send(std::move(texts));
  };
  TestServer server(sockets(run));
  Client client(server.port());
  std::string all;
  for (int i = 0; i < 2000; ++i) all += masked(0x81, std::string(500, 'x'));
  client.send(all);
  EXPECT_EQ(client.read_until("1000000"), text_frame("1000000"));
}

TEST(WebSocket, APeerThatPingsAndDoesNotReadIsClosed) {
  // The handler sends more than fits, so that pongs wait behind it.
  auto closed = std::make_shared<std::promise<void>>();
  auto future = closed->get_future();
  const auto run = [closed](std::shared_ptr<WebSocket> socket) -> asio::awaitable<void> {
    socket->on_change([closed, &socket = *socket, told = false]() mutable {
      if (socket.closed() && !std::exchange(told, true)) closed->set_value();
    });
    std::vector<std::string> texts(2000, std::string(10'000, 'x'));
    (void)co_await socket->send(std::move(texts));
  };
  TestServer server(sockets(run));
  Client client(server.port());
  client.read_until("x");  // it is sending, and soon waits for room
  std::string pings;
  for (int i = 0; i < 20; ++i) pings += masked(0x89, std::string(125, 'p'));
  client.send(pings);
  ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
  const std::string all = client.read_to_end();
  EXPECT_TRUE(all.ends_with(close_frame(1008, "many pings, and their pongs are not read")));
}

TEST(WebSocket, AReaderThatNeverReadsIsCutAfterTheWriteTimeout) {
  auto ended = std::make_shared<std::promise<bool>>();
  auto future = ended->get_future();
  const auto run = [ended](std::shared_ptr<WebSocket> socket) -> asio::awaitable<void> {
    std::vector<std::string> texts(2000, std::string(10'000, 'x'));
    const auto sent = co_await socket->send(std::move(texts));
    ended->set_value(sent.has_value());
  };
  TestServer server(sockets(run), [](ServerOptions& options) { options.write_timeout = milliseconds(300); });
  const Client client(server.port());
  ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
  EXPECT_FALSE(future.get());
}

TEST(WebSocket, AStopIsToldToEverySocket) {
  TestServer server(sockets(echo_texts));
  Client client(server.port());
  client.send(masked(0x81, "here"));
  client.read_until("here");
  auto stopping = std::async(std::launch::async, [&] { server.server->stop(seconds(5)); });
  const std::string told = close_frame(1001, "the server is stopping");
  EXPECT_EQ(client.read_until("stopping"), told);
  client.send(masked(0x88, std::string("\x03\xe9", 2)));
  EXPECT_EQ(client.read_to_end(), "");
  client.close();
  EXPECT_EQ(stopping.wait_for(kPatience), std::future_status::ready);
}

TEST(WebSocket, APeerThatVanishesEndsTheHandler) {
  for (const bool by_reset : {false, true}) {
    auto ended = std::make_shared<std::promise<bool>>();
    auto future = ended->get_future();
    const auto run = [ended](std::shared_ptr<WebSocket> socket) -> asio::awaitable<void> {
      while (!socket->closed()) co_await changed(socket);
      ended->set_value(true);
    };
    TestServer server(sockets(run));
    Client client(server.port());
    if (by_reset) {
      client.reset();
    } else {
      client.close();
    }
    EXPECT_EQ(future.wait_for(kPatience), std::future_status::ready);
  }
}

}  // namespace
}  // namespace turnpike::net::test
