// What a well-behaved client sees.
#include "net/server.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fstream>
#include <future>
#include <sstream>

#include "unit/net/support.h"

namespace turnpike::net::test {
namespace {

namespace asio = boost::asio;

TEST(Server, AnswersWithWhatTheHandlerMade) {
  TestServer server([](Request request) -> asio::awaitable<Response> {
    co_return Response{.status = 202,
                       .headers = {{"x-request-id", std::string(*request.query_value("id"))}},
                       .content_type = "text/plain",
                       .body = request.method + request.target + *request.header("HOST") + request.body};
  });
  RawClient client(server.port());
  client.send(post("/a%20b?id=7", "hello"));
  const std::string answer = client.read_answer();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 202 Accepted\r\nDate: ")) << answer;
  EXPECT_TRUE(answer.contains("\r\nContent-Type: text/plain\r\n")) << answer;
  EXPECT_TRUE(answer.contains("\r\nx-request-id: 7\r\n")) << answer;
  EXPECT_FALSE(answer.contains("Connection:")) << answer;
  EXPECT_EQ(body_of(answer), "POST/a%20b?id=7testhello");
}

TEST(Server, TellsTheHandlerWhoIsThere) {
  TestServer server([](Request request) -> asio::awaitable<Response> {
    co_return Response{.headers = {}, .body = request.remote + (request.control ? " control" : " public")};
  });
  RawClient client(server.port());
  client.send(get("/"));
  const std::string body = body_of(client.read_answer());
  EXPECT_TRUE(body.starts_with("127.0.0.1:")) << body;
  EXPECT_TRUE(body.ends_with(" public")) << body;
}

TEST(Server, KeepsAConnectionForTenThousandRequests) {
  TestServer server(echo);
  RawClient client(server.port());
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_TRUE(client.send(post("/n", std::to_string(i))));
    ASSERT_EQ(body_of(client.read_answer()), "POST /n " + std::to_string(i));
  }
  EXPECT_EQ(server.server->connections(), 1);
}

TEST(Server, AnswersPipelinedRequestsInOrder) {
  TestServer server(echo);
  RawClient client(server.port());
  std::string requests;
  constexpr int kCount = 500;
  for (int i = 0; i < kCount; ++i) requests += post("/n", std::to_string(i));
  ASSERT_TRUE(client.send(requests));
  for (int i = 0; i < kCount; ++i) ASSERT_EQ(body_of(client.read_answer()), "POST /n " + std::to_string(i));
}

TEST(Server, ReadsARequestThatComesByteByByte) {
  TestServer server(echo);
  RawClient client(server.port());
  for (const char c : post("/slow", "body")) ASSERT_TRUE(client.send(std::string_view(&c, 1)));
  EXPECT_EQ(body_of(client.read_answer()), "POST /slow body");
}

TEST(Server, ReadsChunkedBodiesAndDropsTrailers) {
  TestServer server([](Request request) -> asio::awaitable<Response> {
    co_return Response{.headers = {}, .body = request.body + (request.header("x-late") ? " trailer" : "")};
  });
  RawClient client(server.port());
  client.send(
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Late: 1\r\n\r\n" +
      get("/next"));
  EXPECT_EQ(body_of(client.read_answer()), "hello world");
  EXPECT_EQ(status_of(client.read_answer()), 200);
}

TEST(Server, SaysContinueToWhoWaitsForIt) {
  TestServer server(echo);
  RawClient client(server.port());
  client.send("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ab");
  EXPECT_EQ(body_of(client.read_answer()), "POST /x ab");
}

TEST(Server, AnswersHeadWithoutABody) {
  TestServer server(echo);
  RawClient client(server.port());
  client.send("HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\n" + get("/next"));
  const std::string head = client.read_answer(true);
  EXPECT_TRUE(head.contains("Content-Length: 10\r\n")) << head;
  EXPECT_EQ(body_of(client.read_answer()), "GET /next ");
}

TEST(Server, WritesNoBodyForStatusesWithoutOne) {
  TestServer server([](Request) -> asio::awaitable<Response> {
    co_return Response{.status = 204, .headers = {}, .body = std::string("not to be sent")};
  });
  RawClient client(server.port());
  client.send(get("/") + get("/"));
  for (int i = 0; i < 2; ++i) {
    const std::string answer = client.read_answer();
    EXPECT_EQ(status_of(answer), 204);
    EXPECT_FALSE(answer.contains("Content-Length")) << answer;
  }
}

TEST(Server, ClosesWhenAskedTo) {
  TestServer server(echo);
  RawClient client(server.port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string all = client.read_to_end();
  EXPECT_EQ(status_of(all), 200);
  EXPECT_TRUE(all.contains("\r\nConnection: close\r\n")) << all;
}

TEST(Server, Http10ClosesUnlessItAsksToBeKept) {
  TestServer server(echo);
  RawClient client(server.port());
  client.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(client.read_answer().contains("\r\nConnection: keep-alive\r\n"));
  client.send("GET /b HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(client.read_to_end().ends_with("GET /b "));
}

TEST(Server, AnswersAClientThatHasFinishedSending) {
  TestServer server(echo);
  RawClient client(server.port());
  client.send(post("/x", "y"));
  client.finish_sending();
  EXPECT_TRUE(client.read_to_end().ends_with("POST /x y"));
}

TEST(Server, SpoolsBodiesToPrivateFilesAndRemovesThem) {
  std::promise<std::string> seen;
  const std::string body(3'000'000, 'z');
  TestServer server(
      [&seen](Request request) -> asio::awaitable<Response> {
        struct stat info{};
        ::stat(request.body_file.c_str(), &info);
        std::ifstream file(request.body_file, std::ios::binary);
        std::stringstream content;
        content << file.rdbuf();
        seen.set_value(content.str());
        co_return Response{.status = (info.st_mode & 0777) == 0600 && request.body.empty() ? 200 : 500,
                           .headers = {},
                           .body = std::to_string(request.body_bytes)};
      },
      {}, [](std::string_view, std::string_view) { return BodyRule{.bytes_max = 4'000'000, .spool = true}; });
  RawClient client(server.port());
  client.send(post("/upload", body));
  const std::string answer = client.read_answer();
  EXPECT_EQ(status_of(answer), 200);
  EXPECT_EQ(body_of(answer), "3000000");
  EXPECT_EQ(seen.get_future().get(), body);
  client.close();
  server.server->stop(kPatience);
  EXPECT_EQ(server.dir.files(), 0);
}

TEST(Server, LeavesASpooledFileThatTheHandlerTook) {
  std::filesystem::path kept;
  TestServer server(
      [&kept](Request request) -> asio::awaitable<Response> {
        kept = request.body_file.parent_path() / "kept";
        std::filesystem::rename(request.body_file, kept);
        co_return Response{};
      },
      {}, [](std::string_view, std::string_view) { return BodyRule{.spool = true}; });
  RawClient client(server.port());
  client.send(post("/upload", "abc"));
  EXPECT_EQ(status_of(client.read_answer()), 200);
  server.server->stop(kPatience);
  EXPECT_EQ(std::filesystem::file_size(kept), 3);
}

TEST(Server, SendsFilesWhole) {
  std::string content;
  for (int i = 0; i < 300'000; ++i) content += static_cast<char>('a' + i % 23);
  TempFolder dir;
  std::ofstream(dir.path() / "f") << content;
  TestServer server([path = dir.path()](Request request) -> asio::awaitable<Response> {
    co_return Response{
        .headers = {}, .content_type = "audio/wav", .body = FileBody{path / request.path.substr(1)}};
  });
  RawClient client(server.port());
  client.send(get("/f") + "HEAD /f HTTP/1.1\r\nHost: x\r\n\r\n" + get("/absent") + get("/f"));
  EXPECT_EQ(body_of(client.read_answer()), content);
  EXPECT_TRUE(client.read_answer(true).contains("Content-Length: 300000\r\n"));
  EXPECT_EQ(status_of(client.read_answer()), 404);
  EXPECT_EQ(body_of(client.read_answer()), content);
}

TEST(Server, AHandlerThatThrowsIsA500AndLogged) {
  TestServer server([](Request request) -> asio::awaitable<Response> {
    if (request.path == "/bug") throw std::runtime_error("the bug");
    co_return Response{};
  });
  RawClient client(server.port());
  client.send(get("/bug") + get("/fine"));
  const std::string answer = client.read_answer();
  EXPECT_EQ(status_of(answer), 500);
  EXPECT_TRUE(answer.contains("x-rendered: yes")) << answer;
  EXPECT_EQ(status_of(client.read_answer()), 200);
  EXPECT_EQ(server.errors->all(), std::vector<std::string>{"the bug"});
}

TEST(Server, AHeaderThatWouldBreakOutOfItsLineIsNotSent) {
  TestServer server([](Request request) -> asio::awaitable<Response> {
    co_return Response{.headers = {{"x-echo", std::string(*request.query_value("v"))}},
                       .body = std::string()};
  });
  RawClient client(server.port());
  client.send(get("/?v=a%0d%0aset-cookie:%20x"));
  const std::string answer = client.read_answer();
  EXPECT_EQ(status_of(answer), 500);
  EXPECT_FALSE(answer.contains("set-cookie"));
}

TEST(Server, AHandlerMaySleepWhileOthersAreServed) {
  TestServer server([](Request request) -> asio::awaitable<Response> {
    if (request.path == "/slow") {
      asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(50));
      co_await timer.async_wait(asio::use_awaitable);
    }
    co_return Response{.headers = {}, .body = request.path};
  });
  RawClient slow(server.port());
  slow.send(get("/slow") + get("/after"));
  for (int i = 0; i < 20; ++i) {
    RawClient quick(server.port());
    quick.send(get("/quick"));
    EXPECT_EQ(body_of(quick.read_answer()), "/quick");
  }
  EXPECT_EQ(body_of(slow.read_answer()), "/slow");
  EXPECT_EQ(body_of(slow.read_answer()), "/after");
}

TEST(Server, SpeaksOnTheControlSocketToItsOwnerAlone) {
  TempFolder dir;
  const auto path = dir.path() / "control";
  const auto handler = [](Request request) -> asio::awaitable<Response> {
    co_return Response{.headers = {}, .body = request.remote + (request.control ? " control" : " public")};
  };
  const auto use_socket = [&](ServerOptions& options) {
    options.control_socket = path;
    options.listen.clear();
  };
  std::ofstream(path).close();  // no socket: not ours to remove
  EXPECT_THROW(TestServer(handler, use_socket), std::runtime_error);
  std::filesystem::remove(path);
  {
    TestServer server(handler, use_socket);
    struct stat info{};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600);
    RawClient client(path);
    client.send(get("/"));
    EXPECT_EQ(body_of(client.read_answer()), "unix control");
    EXPECT_THROW(TestServer(handler, use_socket), std::runtime_error) << "somebody listens there";
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Server, ReplacesAStaleControlSocket) {
  TempFolder dir;
  const auto path = dir.path() / "control";
  {
    asio::io_context context;
    const asio::local::stream_protocol::acceptor stale(context,
                                                       asio::local::stream_protocol::endpoint(path.string()));
  }
  ASSERT_TRUE(std::filesystem::exists(path));
  TestServer server(echo, [&](ServerOptions& options) { options.control_socket = path; });
  RawClient client(path);
  client.send(get("/x"));
  EXPECT_EQ(body_of(client.read_answer()), "GET /x ");
}

TEST(Server, SaysSoWhenItsAddressIsTaken) {
  TestServer server(echo);
  IoThreads threads(1);
  ServerOptions options;
  options.listen = "127.0.0.1:" + std::to_string(server.port());
  const auto second = Server::start(
      threads, options, echo, [](std::string_view, std::string_view) { return BodyRule{}; },
      [](int, std::string_view) { return Response{}; });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConfiguration);
  EXPECT_TRUE(second.error().message.contains(options.listen)) << second.error().message;
}

TEST(Server, RefusesAnAddressThatIsNone) {
  for (const auto* bad : {"127.0.0.1", "127.0.0.1:", ":x", "127.0.0.1:99999", "no such host:80"}) {
    EXPECT_THROW(TestServer(echo, [&](ServerOptions& options) { options.listen = bad; }), std::runtime_error)
        << bad;
  }
}

}  // namespace
}  // namespace turnpike::net::test
