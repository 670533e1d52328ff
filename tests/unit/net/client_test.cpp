// The client, against our own server and against servers that misbehave.
#include "net/client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <future>

#include "net/client_pool.h"
#include "unit/net/support.h"

namespace turnpike::net::test {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct ClientTest : testing::Test {
  Result<ClientResponse> ask(std::string url, std::string method = "GET", std::string body = {}) {
    return ask(ClientRequest{
        .method = std::move(method), .url = std::move(url), .headers = {}, .body = std::move(body)});
  }
  Result<ClientResponse> ask(ClientRequest request) { return call(client, threads, std::move(request)); }

  // What a server that sends `bytes` and closes makes of a GET.
  Result<ClientResponse> ask_for(std::string bytes, ClientRequest request = {}) {
    ScriptedServer server({[bytes = std::move(bytes)](int peer) {
      read_request(peer);
      send_bytes(peer, bytes);
    }});
    request.url = server.url("/");
    return ask(std::move(request));
  }
  void expect_error(const Result<ClientResponse>& answer, ErrorCode code, std::string_view cause) {
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, code) << answer.error().message;
    EXPECT_TRUE(answer.error().cause.contains(cause)) << answer.error().cause;
  }

  IoThreads threads{1};
  std::shared_ptr<Client> client = Client::create();
};

std::string base_url(const TestServer& server) {
  return "http://127.0.0.1:" + std::to_string(server.port());
}

TEST_F(ClientTest, SendsTheRequestAndReadsTheAnswer) {
  TestServer server([](Request request) -> asio::awaitable<Response> {
    co_return Response{
        .status = 201,
        .headers = {{"X-Custom-NAME", *request.header("x-mine")}},
        .body = request.method + request.target + request.body + *request.header("content-length")};
  });
  ClientRequest request{
      .method = "POST", .url = base_url(server) + "/a?b=c", .headers = {{"x-mine", "1"}}, .body = "body"};
  const auto answer = ask(std::move(request));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 201);
  EXPECT_EQ(answer->body, "POST/a?b=cbody4");
  EXPECT_TRUE(std::ranges::find(answer->headers, std::pair<std::string, std::string>("X-Custom-NAME", "1")) !=
              answer->headers.end());
}

TEST_F(ClientTest, KeepsItsConnection) {
  std::atomic<int> count = 0;
  ScriptedServer server({[&](int peer) {
    while (!read_request(peer).empty()) {
      ++count;
      send_bytes(peer, kOk);
    }
  }});
  for (int i = 0; i < 100; ++i) {
    const auto answer = ask(server.url("/"), i % 2 == 0 ? "GET" : "POST");
    ASSERT_TRUE(answer) << answer.error().message;
  }
  EXPECT_EQ(count, 100);
}

TEST_F(ClientTest, ReadsEveryFraming) {
  const auto chunked = ask_for(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n");
  ASSERT_TRUE(chunked);
  EXPECT_EQ(chunked->body, "abcde");
  const auto to_end = ask_for("HTTP/1.1 200 OK\r\n\r\nabc");
  ASSERT_TRUE(to_end);
  EXPECT_EQ(to_end->body, "abc");
  const auto old = ask_for("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc");
  ASSERT_TRUE(old);
  EXPECT_EQ(old->body, "abc");
  const auto none = ask_for("HTTP/1.1 204 No Content\r\n\r\n");
  ASSERT_TRUE(none);
  EXPECT_EQ(none->status, 204);
  const auto interim = ask_for("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + kOk);
  ASSERT_TRUE(interim);
  EXPECT_EQ(interim->body, "ok");
  const auto head = ask_for("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
                            {.method = "HEAD", .url = {}, .headers = {}, .body = {}});
  ASSERT_TRUE(head);
  EXPECT_EQ(head->body, "");
}

TEST_F(ClientTest, ReadsLargeAnswers) {
  TestServer server(
      [](Request request) -> asio::awaitable<Response> {
        co_return Response{.headers = {},
                           .body = std::string(10'000'000, 'x') + std::to_string(request.body.size())};
      },
      {}, [](std::string_view, std::string_view) { return BodyRule{.bytes_max = 20'000'000}; });
  const auto answer = ask(base_url(server), "POST", std::string(10'000'000, 'y'));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->body.size(), 10'000'008);
  EXPECT_TRUE(answer->body.ends_with("10000000"));
}

TEST_F(ClientTest, AnAnswerBeforeTheBodyIsReadIsHeard) {
  TestServer server(echo, {}, [](std::string_view, std::string_view) { return BodyRule{.bytes_max = 10}; });
  const auto answer = ask(base_url(server), "POST", std::string(300'000, 'y'));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 413);
}

TEST_F(ClientTest, GarbageIsAnError) {
  for (const auto* garbage :
       {"nonsense\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "\x15\x03\x01",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nA b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"}) {
    expect_error(ask_for(garbage), ErrorCode::kUpstreamError, "");
  }
}

TEST_F(ClientTest, AnAnswerCutShortIsAnError) {
  expect_error(ask_for(""), ErrorCode::kUpstreamError, "closed");
  expect_error(ask_for("HTTP/1.1 200 OK\r\nContent-Le"), ErrorCode::kUpstreamError, "");
  expect_error(ask_for("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), ErrorCode::kUpstreamError, "");
  expect_error(ask_for("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
               ErrorCode::kUpstreamError, "");
  expect_error(ask_for("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
               ErrorCode::kUpstreamError, "");
}

TEST_F(ClientTest, AnAnswerTooLargeIsAnErrorHoweverItComes) {
  ClientRequest small;
  small.response_bytes_max = 4;
  EXPECT_TRUE(ask_for("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", small));
  expect_error(ask_for("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", small), ErrorCode::kUpstreamError,
               "too large");
  expect_error(ask_for("HTTP/1.1 200 OK\r\n\r\nabcde", small), ErrorCode::kUpstreamError, "too large");
  expect_error(ask_for("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", small),
               ErrorCode::kUpstreamError, "too large");
  expect_error(ask_for("HTTP/1.1 200 OK\r\nA: " + std::string(200'000, 'a') + "\r\n\r\n", small),
               ErrorCode::kUpstreamError, "");
}

TEST_F(ClientTest, ASilentServerIsATimeout) {
  for (const std::string begun : {"", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"}) {
    ScriptedServer server({[&](int peer) {
      read_request(peer);
      send_bytes(peer, begun);
      wait_for_close(peer);
    }});
    ClientRequest request{.url = server.url("/"), .headers = {}, .body = {}, .timeout = milliseconds(200)};
    expect_error(ask(std::move(request)), ErrorCode::kUpstreamTimeout, "waiting");
  }
}

TEST_F(ClientTest, AServerThatDoesNotReadIsATimeout) {
  std::promise<void> given_up;
  ScriptedServer server({[wait = given_up.get_future().share()](int) { wait.wait_for(kPatience); }});
  ClientRequest request{.method = "POST",
                        .url = server.url("/"),
                        .headers = {},
                        .body = std::string(30'000'000, 'x'),
                        .timeout = milliseconds(300)};
  expect_error(ask(std::move(request)), ErrorCode::kUpstreamTimeout, "sending");
  given_up.set_value();
}

TEST_F(ClientTest, NobodyListeningIsAnErrorThatMayPass) {
  std::string url;
  {
    url = ScriptedServer({}).url("/");
  }
  const auto answer = ask(url);
  expect_error(answer, ErrorCode::kUpstreamError, "connect");
  EXPECT_TRUE(answer.error().retryable);
  expect_error(ask("http://no-such-host.invalid/"), ErrorCode::kUpstreamError, "name");
  expect_error(ask("unix:/nowhere/x.sock:/"), ErrorCode::kUpstreamError, "connect");
}

TEST_F(ClientTest, WhatCannotBeSentIsRefused) {
  ClientRequest split{.url = "http://127.0.0.1:1/", .headers = {{"a", "b\r\nc: d"}}, .body = {}};
  expect_error(ask(std::move(split)), ErrorCode::kInvalidRequest, "");
  expect_error(ask("http://127.0.0.1:1/", "GET /x HTTP/1.1\r\n"), ErrorCode::kInvalidRequest, "");
  expect_error(ask("gopher://x/"), ErrorCode::kInvalidRequest, "");
}

// A server whose first connection serves one request and then `breaks` on the second.
std::vector<ScriptedServer::Step> breaking(const std::function<void(int)>& breaks) {
  return {[breaks](int peer) {
            read_request(peer);
            send_bytes(peer, kOk);
            breaks(peer);
          },
          [](int peer) {
            read_request(peer);
            send_bytes(peer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain");
          }};
}

TEST_F(ClientTest, AKeptConnectionThatBreaksBeforeAByteIsTriedOnceMore) {
  for (const std::string method : {"GET", "POST"}) {
    ScriptedServer server(breaking([](int peer) {
      read_request(peer);
      const linger now{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }));
    ASSERT_TRUE(ask(server.url("/")));
    const auto answer = ask(server.url("/"), method, method == "POST" ? "body" : "");
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, "again");
  }
}

TEST_F(ClientTest, AKeptConnectionThatBreaksMidAnswerIsNotTriedAgain) {
  ScriptedServer server(breaking([](int peer) {
    read_request(peer);
    send_bytes(peer, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
  }));
  ASSERT_TRUE(ask(server.url("/")));
  expect_error(ask(server.url("/"), "POST"), ErrorCode::kUpstreamError, "");
}

TEST_F(ClientTest, AFreshConnectionThatBreaksIsNotTriedAgain) {
  ScriptedServer server({[](int peer) { read_request(peer); },
                         [](int peer) {
                           read_request(peer);
                           send_bytes(peer, kOk);
                         }});
  expect_error(ask(server.url("/"), "POST"), ErrorCode::kUpstreamError, "");
  EXPECT_TRUE(ask(server.url("/")));
}

TEST_F(ClientTest, BytesBehindAnAnswerAreNotTakenForTheNext) {
  ScriptedServer server({[](int peer) {
                           read_request(peer);
                           send_bytes(peer, kOk + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
                           wait_for_close(peer);
                         },
                         [](int peer) {
                           read_request(peer);
                           send_bytes(peer, kOk);
                         }});
  ASSERT_TRUE(ask(server.url("/")));
  const auto answer = ask(server.url("/"));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->body, "ok");
}

TEST_F(ClientTest, StreamsBytesAsTheyComeAndStopsWhenTold) {
  std::promise<void> first_heard;
  auto heard = first_heard.get_future().share();
  ScriptedServer server({[heard](int peer) {
                           read_request(peer);
                           send_bytes(peer,
                                      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
                           heard.wait_for(kPatience);  // what comes is passed on before there is more
                           send_bytes(peer, "3\r\ntwo\r\n0\r\n\r\n");
                         },
                         [](int peer) {
                           read_request(peer);
                           send_bytes(peer, "HTTP/1.1 200 OK\r\n\r\nendless");
                           wait_for_close(peer);  // only a client that leaves ends this
                         }});
  std::string got;
  const auto take = [&](std::string_view bytes) {
    if (got.empty()) first_heard.set_value();
    got += bytes;
    return true;
  };
  auto all = client->stream({.url = server.url("/"), .headers = {}, .body = {}}, take);
  const auto answer = asio::co_spawn(threads.context(0), std::move(all), asio::use_future).get();
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(got, "onetwo");
  EXPECT_EQ(answer->body, "");
  auto some = client->stream({.url = server.url("/"), .headers = {}, .body = {}},
                             [](std::string_view) { return false; });
  const auto stopped = asio::co_spawn(threads.context(0), std::move(some), asio::use_future).get();
  ASSERT_TRUE(stopped) << stopped.error().message;
  EXPECT_EQ(stopped->status, 200);
}

// All of a body, read piece by piece; "error: ..." where it breaks.
asio::awaitable<std::string> read_all(std::shared_ptr<Client> client, std::string url, Duration silence,
                                      std::promise<void>* first) {
  ClientRequest request{.url = std::move(url), .headers = {}, .body = {}};
  auto opened = co_await client->open(std::move(request));
  if (!opened) co_return "not opened: " + opened.error().cause;
  std::string all = std::to_string((*opened)->status()) + " ";
  for (;;) {
    auto bytes = co_await (*opened)->read(silence);
    if (!bytes) co_return all + (bytes.error().code == ErrorCode::kUpstreamTimeout ? "late" : "broken");
    if (bytes->empty()) co_return all;
    all += *bytes;
    if (first != nullptr) std::exchange(first, nullptr)->set_value();
  }
}

TEST_F(ClientTest, AnOpenAnswerIsReadAsItComesAndItsConnectionIsKept) {
  std::promise<void> first;
  auto heard = first.get_future().share();
  // One connection only: the second request must come over it.
  ScriptedServer server({[heard](int peer) {
    read_request(peer);
    send_bytes(peer, "HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    heard.wait_for(kPatience);
    send_bytes(peer, "3\r\ntwo\r\n0\r\n\r\n");
    read_request(peer);
    send_bytes(peer, "HTTP/1.1 100 Continue\r\n\r\n" + kOk);
  }});
  const auto read = [&](std::promise<void>* told) {
    auto task = read_all(client, server.url("/"), seconds(10), told);
    return asio::co_spawn(threads.context(0), std::move(task), asio::use_future).get();
  };
  EXPECT_EQ(read(&first), "201 onetwo");
  EXPECT_EQ(read(nullptr), "200 ok");
}

TEST_F(ClientTest, AnOpenAnswerThatFallsSilentOrBreaksOffIsTold) {
  ScriptedServer server({[](int peer) {
                           read_request(peer);
                           send_bytes(peer, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none");
                           wait_for_close(peer);
                         },
                         [](int peer) {
                           read_request(peer);
                           send_bytes(peer, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntwo");
                         }});
  const auto read = [&](Duration silence) {
    auto task = read_all(client, server.url("/"), silence, nullptr);
    return asio::co_spawn(threads.context(0), std::move(task), asio::use_future).get();
  };
  EXPECT_EQ(read(milliseconds(50)), "200 onelate");
  EXPECT_EQ(read(seconds(10)), "200 twobroken");
}

TEST_F(ClientTest, SpeaksOverUnixSockets) {
  TempFolder dir;
  const auto path = dir.path() / "s";
  TestServer server(echo, [&](ServerOptions& options) { options.control_socket = path; });
  for (int i = 0; i < 3; ++i) {
    const auto answer = ask("unix:" + path.string() + ":/hello?x=1");
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, "GET /hello ");
  }
}

TEST_F(ClientTest, WhoMayGoToPublicAddressesOnlyIsNotLetHome) {
  TestServer server([](Request) -> asio::awaitable<Response> {
    Response response;
    co_return response;
  });
  const std::string port = std::to_string(server.port());
  ASSERT_TRUE(ask("http://localhost:" + port + "/")) << "and its connection is kept";
  // A name, and the ways to write an address that only a resolver understands.
  for (const char* host : {"localhost", "127.0.0.1", "[::1]", "2130706433", "127.1", "0x7f.0.0.1"}) {
    ClientRequest request;
    request.url = std::string("http://") + host + ":" + port + "/";
    request.public_only = true;
    const auto answer = ask(std::move(request));
    ASSERT_FALSE(answer) << host;
    EXPECT_EQ(answer.error().code, ErrorCode::kUpstreamError) << host;
    EXPECT_TRUE(answer.error().cause.contains("not public")) << host << ": " << answer.error().cause;
  }
  ClientRequest socket;
  socket.url = "unix:/tmp/nobody.sock:/";
  socket.public_only = true;
  expect_error(ask(std::move(socket)), ErrorCode::kUpstreamError, "not public");
}

TEST_F(ClientTest, ManyExchangesAtOnceShareTheThread) {
  TestServer server(echo);
  std::vector<std::future<Result<ClientResponse>>> answers;
  for (int i = 0; i < 200; ++i) {
    auto sending =
        client->send({.method = "POST", .url = base_url(server), .headers = {}, .body = std::to_string(i)});
    answers.push_back(asio::co_spawn(threads.context(0), std::move(sending), asio::use_future));
  }
  for (int i = 0; i < 200; ++i) {
    const auto answer = answers[static_cast<std::size_t>(i)].get();
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, "POST / " + std::to_string(i));
  }
  const auto begun = std::chrono::steady_clock::now();
  while (server.server->connections() > kIdlePerHostMax) {  // the rest is not kept
    ASSERT_LT(std::chrono::steady_clock::now() - begun, kPatience);
    std::this_thread::yield();
  }
}

struct TlsTest : ClientTest {
  void use(const Certificate& certificate, ServerOptions& options) {
    options.tls_certificate_file = certificate.certificate_file;
    options.tls_key_file = certificate.key_file;
  }
  TempFolder dir;
};

TEST_F(TlsTest, AVerifiedServerIsSpokenToAndTheConnectionIsKept) {
  const auto certificate = make_certificate(dir.path(), "localhost", true);
  TestServer server(echo, [&](ServerOptions& options) { use(certificate, options); });
  client = Client::create({.ca_file = certificate.certificate_file});
  const std::string port = std::to_string(server.port());
  for (int i = 0; i < 5; ++i) {
    for (const std::string host : {"localhost", "127.0.0.1"}) {
      const auto answer = ask("https://" + host + ":" + port + "/x", "POST", std::to_string(i));
      ASSERT_TRUE(answer) << answer.error().message;
      EXPECT_EQ(answer->body, "POST /x " + std::to_string(i));
    }
  }
  EXPECT_EQ(server.server->connections(), 2);
}

TEST_F(TlsTest, LargeBodiesPassBothWays) {
  const auto certificate = make_certificate(dir.path(), "localhost", true);
  TestServer server(
      echo, [&](ServerOptions& options) { use(certificate, options); },
      [](std::string_view, std::string_view) { return BodyRule{.bytes_max = 20'000'000}; });
  client = Client::create({.ca_file = certificate.certificate_file});
  const auto answer =
      ask("https://localhost:" + std::to_string(server.port()), "POST", std::string(5'000'000, 'x'));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->body.size(), 5'000'007);
}

TEST_F(TlsTest, AStreamOverTlsNoticesThatTheClientLeft) {
  const auto certificate = make_certificate(dir.path(), "localhost", true);
  std::promise<void> closed;
  TestServer server(
      [&closed](Request) -> asio::awaitable<Response> {
        co_return Response{
            .headers = {},
            .body = StreamBody([&closed](std::shared_ptr<BodyWriter> writer) -> asio::awaitable<void> {
              auto timer =
                  std::make_shared<asio::steady_timer>(co_await asio::this_coro::executor, seconds(600));
              writer->on_close([timer] { timer->cancel(); });
              const auto written = co_await writer->write("event");
              if (written) co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
              closed.set_value();
            })};
      },
      [&](ServerOptions& options) { use(certificate, options); });
  client = Client::create({.ca_file = certificate.certificate_file});
  auto streaming =
      client->stream({.url = "https://localhost:" + std::to_string(server.port()), .headers = {}, .body = {}},
                     [](std::string_view) { return false; });
  const auto answer = asio::co_spawn(threads.context(0), std::move(streaming), asio::use_future).get();
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(closed.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST_F(TlsTest, ACertificateOfNobodyKnownIsRefused) {
  const auto certificate = make_certificate(dir.path(), "localhost", true);
  TestServer server(echo, [&](ServerOptions& options) { use(certificate, options); });
  const auto answer = ask("https://localhost:" + std::to_string(server.port()));
  expect_error(answer, ErrorCode::kUpstreamError, "certificate not verified");
  EXPECT_FALSE(answer.error().retryable);
}

TEST_F(TlsTest, ACertificateOfAnotherNameIsRefused) {
  const auto certificate = make_certificate(dir.path(), "elsewhere.test", false);
  TestServer server(echo, [&](ServerOptions& options) { use(certificate, options); });
  client = Client::create({.ca_file = certificate.certificate_file});
  for (const std::string host : {"localhost", "127.0.0.1"}) {
    expect_error(ask("https://" + host + ":" + std::to_string(server.port())), ErrorCode::kUpstreamError,
                 "certificate not verified");
  }
}

TEST_F(TlsTest, AServerWithoutTlsIsAnErrorAndViceVersa) {
  const auto certificate = make_certificate(dir.path(), "localhost", true);
  TestServer plain(echo);
  expect_error(ask("https://localhost:" + std::to_string(plain.port())), ErrorCode::kUpstreamError, "TLS");
  TestServer secure(echo, [&](ServerOptions& options) { use(certificate, options); });
  expect_error(ask("http://127.0.0.1:" + std::to_string(secure.port())), ErrorCode::kUpstreamError, "");
}

TEST_F(TlsTest, AHandshakeThatNeverEndsIsATimeoutOnBothSides) {
  ScriptedServer silent({[](int peer) { wait_for_close(peer); }});
  ClientRequest request{.url = "https" + silent.url("/").substr(4),
                        .headers = {},
                        .body = {},
                        .connect_timeout = milliseconds(200)};
  expect_error(ask(std::move(request)), ErrorCode::kUpstreamTimeout, "handshake");

  const auto certificate = make_certificate(dir.path(), "localhost", true);
  TestServer server(echo, [&](ServerOptions& options) {
    use(certificate, options);
    options.read_timeout = milliseconds(200);
  });
  RawClient mute(server.port());
  EXPECT_EQ(mute.read_to_end(), "");
}

TEST_F(TlsTest, AServerNeedsItsCertificateAndItsKey) {
  const auto one = make_certificate(dir.path(), "one", true);
  const auto two = make_certificate(dir.path(), "two", true);
  const auto start = [&](const std::filesystem::path& certificate, const std::filesystem::path& key) {
    TestServer server(echo, [&](ServerOptions& options) {
      options.tls_certificate_file = certificate;
      options.tls_key_file = key;
    });
  };
  EXPECT_NO_THROW(start(one.certificate_file, one.key_file));
  EXPECT_THROW(start(one.certificate_file, {}), std::runtime_error);
  EXPECT_THROW(start(one.certificate_file, two.key_file), std::runtime_error);
  EXPECT_THROW(start("/nowhere.pem", one.key_file), std::runtime_error);
  EXPECT_THROW(Client::create({.ca_file = "/nowhere.pem"}), std::runtime_error);
}

}  // namespace
}  // namespace turnpike::net::test
