#include "net/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/query.hpp>
#include <boost/asio/this_coro.hpp>
#include <stdexcept>
#include <utility>

#include "net/client_pool.h"
#include "net/dialer.h"
#include "net/parser.h"
#include "net/read_buffer.h"
#include "net/text.h"

namespace turnpike::net {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kReadBytesMax = 64 * 1024;
constexpr int kInterimMax = 8;  // 1xx answers before the real one

struct Call {
  ClientRequest request;
  ClientAddress address;
  std::string head;
  SteadyTime until;
  ResponseParser::OnBytes on_bytes;
};

// How one use of a connection ended without an answer.
struct Broken {
  std::string cause;
  bool timed_out = false;
  bool silent = false;  // not a byte of an answer had come
  bool retryable = true;
};

Result<void> check_request(const ClientRequest& request) {
  if (!is_token(request.method)) return fail(ErrorCode::kInvalidRequest, "the method is not an HTTP method");
  for (const auto& [name, value] : request.headers) {
    if (!is_token(name) || !is_field_value(value)) {
      return fail(ErrorCode::kInvalidRequest,
                  fmt::format("the header '{}' cannot be sent", is_token(name) ? name : "?"));
    }
  }
  return {};
}

std::string render_head(const ClientRequest& request, const ClientAddress& address) {
  std::string head = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: turnpike/{}\r\n", request.method,
                                 address.target, address.host_header, TURNPIKE_VERSION);
  const bool has_body = !request.body.empty() || request.method == "POST" || request.method == "PUT" ||
                        request.method == "PATCH";
  if (has_body) head += fmt::format("Content-Length: {}\r\n", request.body.size());
  for (const auto& [name, value] : request.headers)
    head.append(name).append(": ").append(value).append("\r\n");
  head += "\r\n";
  return head;
}

// One exchange on an open connection. Reads while it writes no further than it must: an upstream that answers
// before it has read all (413) is heard once the write fails.
class Exchange {
 public:
  Exchange(Channel& channel, const Call& call) : channel_(channel), call_(call) {}

  asio::awaitable<std::expected<ClientResponse, Broken>> run();
  bool reusable() const { return reusable_; }

 private:
  asio::awaitable<Io> write();
  asio::awaitable<bool> read_message(ResponseParser& parser);
  Broken broken(std::string cause, const Deadline& deadline);

  Channel& channel_;
  const Call& call_;
  ReadBuffer input_{kReadBytesMax};
  Io last_;
  bool heard_ = false;
  bool reusable_ = false;
};

asio::awaitable<Io> Exchange::write() {
  Gather data(call_.head, call_.request.body);
  Io io = channel_.try_write(data);
  while (io.kind == IoKind::kWait) {
    io = co_await channel_.wait();
    if (io.kind == IoKind::kDone) io = channel_.try_write(data);
  }
  co_return io;
}

// False: the connection broke (last_ says how) before the message was complete.
asio::awaitable<bool> Exchange::read_message(ResponseParser& parser) {
  for (;;) {
    input_.consume(parser.feed(input_.bytes()));
    if (parser.state() == ParseState::kDone || parser.state() == ParseState::kFailed) co_return true;
    const auto room = input_.room();
    if (room.empty()) {
      last_ = Io{IoKind::kFailed, 0, asio::error::message_size};
      co_return false;
    }
    last_ = co_await channel_.read_some(room.data(), room.size());
    if (last_.kind == IoKind::kEnd) {
      parser.feed_end();
      co_return heard_;
    }
    if (last_.kind != IoKind::kDone) co_return false;
    heard_ = true;
    input_.added(last_.bytes);
  }
}

Broken Exchange::broken(std::string cause, const Deadline& deadline) {
  if (deadline.passed()) channel_.reset_on_close();  // the kernel need not go on sending for us
  return Broken{.cause = std::move(cause), .timed_out = deadline.passed(), .silent = !heard_};
}

asio::awaitable<std::expected<ClientResponse, Broken>> Exchange::run() {
  const auto executor = co_await asio::this_coro::executor;
  Deadline deadline(executor);
  deadline.arm(call_.until, channel_);
  const Io written = co_await write();
  if (deadline.passed()) co_return std::unexpected(broken("sending the request", deadline));
  ClientResponse response;
  for (int interim = 0; interim <= kInterimMax; ++interim) {
    const auto on_bytes = [this, &response](std::string_view bytes) {
      if (call_.on_bytes) return call_.on_bytes(bytes);
      response.body.append(bytes);
      return true;
    };
    ResponseParser parser(call_.request.method == "HEAD", call_.request.response_bytes_max, on_bytes);
    const bool complete = co_await read_message(parser);
    if (deadline.passed()) co_return std::unexpected(broken("waiting for the answer", deadline));
    if (!complete) co_return std::unexpected(broken(channel_.failure(last_), deadline));
    if (parser.state() == ParseState::kFailed) {
      Broken garbage = broken(parser.fault(), deadline);
      garbage.retryable = !parser.too_large();
      co_return std::unexpected(std::move(garbage));
    }
    if (parser.status() / 100 == 1 && parser.status() != 101) continue;
    response.status = parser.status();
    response.headers = std::move(parser.headers());
    reusable_ = written.kind == IoKind::kDone && parser.keep_alive() && input_.empty();
    co_return response;
  }
  co_return std::unexpected(broken("too many interim answers", deadline));
}

class HttpClient final : public Client {
 public:
  explicit HttpClient(TlsContext tls) : tls_(std::move(tls)), name_(next_name()) {}

  asio::awaitable<Result<ClientResponse>> send(ClientRequest request) override {
    return perform(std::move(request), nullptr);
  }
  asio::awaitable<Result<ClientResponse>> stream(
      ClientRequest request, std::function<bool(std::string_view bytes)> on_bytes) override {
    return perform(std::move(request), std::move(on_bytes));
  }

 private:
  // Clients trust different roots: they do not share connections.
  static std::string next_name() {
    static std::atomic<std::uint64_t> count = 0;
    return fmt::format("{} ", ++count);
  }
  asio::awaitable<Result<ClientResponse>> perform(ClientRequest request, ResponseParser::OnBytes on_bytes);
  asio::awaitable<Result<ClientResponse>> perform(std::shared_ptr<const Call> call, ClientPool& pool);
  static Error error_of(const Call& call, Broken broken);

  const TlsContext tls_;
  const std::string name_;
};

Error HttpClient::error_of(const Call& call, Broken broken) {
  return broken.timed_out ? upstream_timeout(call.address, std::move(broken.cause)).error()
                          : upstream_error(call.address, std::move(broken.cause), broken.retryable).error();
}

asio::awaitable<Result<ClientResponse>> HttpClient::perform(ClientRequest request,
                                                            ResponseParser::OnBytes on_bytes) {
  const SteadyTime until = std::chrono::steady_clock::now() + request.timeout;
  auto address = parse_client_url(request.url);
  if (!address) co_return std::unexpected(address.error());
  if (auto checked = check_request(request); !checked) co_return std::unexpected(checked.error());
  auto call = std::make_shared<Call>(Call{.request = std::move(request),
                                          .address = std::move(*address),
                                          .head = {},
                                          .until = until,
                                          .on_bytes = std::move(on_bytes)});
  call->head = render_head(call->request, call->address);
  const auto executor = co_await asio::this_coro::executor;
  auto& pool = asio::use_service<ClientPool>(asio::query(executor, asio::execution::context));
  co_return co_await perform(std::move(call), pool);
}

asio::awaitable<Result<ClientResponse>> HttpClient::perform(std::shared_ptr<const Call> call,
                                                            ClientPool& pool) {
  // What was let through to any address is not lent to who may go to public ones only.
  const std::string key = (call->request.public_only ? "public " : "") + name_ + call->address.name();
  if (auto kept = pool.take(key)) {
    Exchange exchange(*kept, *call);
    auto response = co_await exchange.run();
    if (response && exchange.reusable()) pool.give_back(key, std::move(kept));
    if (response) co_return std::move(*response);
    // The upstream may have closed the connection just as the request went out: that one use is tried again.
    if (response.error().timed_out || !response.error().silent) {
      co_return std::unexpected(error_of(*call, std::move(response.error())));
    }
  }
  const SteadyTime connect_until =
      std::min(call->until, std::chrono::steady_clock::now() + call->request.connect_timeout);
  auto fresh = co_await dial(call->address, tls_, connect_until, call->request.public_only);
  if (!fresh) co_return std::unexpected(fresh.error());
  Exchange exchange(**fresh, *call);
  auto response = co_await exchange.run();
  if (response && exchange.reusable()) pool.give_back(key, std::move(*fresh));
  if (!response) co_return std::unexpected(error_of(*call, std::move(response.error())));
  co_return std::move(*response);
}

}  // namespace

std::shared_ptr<Client> Client::create(ClientOptions options) {
  auto tls = TlsContext::client(options.ca_file);
  if (!tls) throw std::runtime_error(tls.error().message);
  return std::make_shared<HttpClient>(std::move(*tls));
}

}  // namespace turnpike::net
