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
  if (!request.keep_alive) head += "Connection: close\r\n";
  for (const auto& [name, value] : request.headers)
    head.append(name).append(": ").append(value).append("\r\n");
  head += "\r\n";
  return head;
}

Error error_of(const Call& call, Broken broken) {
  return broken.timed_out ? upstream_timeout(call.address, std::move(broken.cause)).error()
                          : upstream_error(call.address, std::move(broken.cause), broken.retryable).error();
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
  void cut();

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

// Hands the connection to whom it concerns that we left it, unless it was the upstream that did.
void Exchange::cut() {
  const bool theirs = last_.kind == IoKind::kEnd ||
                      (last_.kind == IoKind::kFailed && last_.error != asio::error::operation_aborted &&
                       last_.error != asio::error::message_size);
  if (!call_.request.on_cut || theirs) return;
  channel_.finish_sending();
  if (const int socket = channel_.release(); socket >= 0) call_.request.on_cut(socket);
}

Broken Exchange::broken(std::string cause, const Deadline& deadline) {
  cut();
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
    reusable_ =
        call_.request.keep_alive && written.kind == IoKind::kDone && parser.keep_alive() && input_.empty();
    co_return response;
  }
  co_return std::unexpected(broken("too many interim answers", deadline));
}

// An answer that is read as it comes. Owns its connection, which goes back to the pool at the answer's end.
class Reading final : public ClientStream {
 public:
  Reading(std::shared_ptr<const Call> call, std::unique_ptr<Channel> channel, ClientPool& pool,
          std::string key, const asio::any_io_executor& executor)
      : call_(std::move(call)),
        channel_(std::move(channel)),
        pool_(pool),
        key_(std::move(key)),
        deadline_(executor) {}

  // Sends the request and reads the head.
  asio::awaitable<std::expected<void, Broken>> begin(SteadyTime until);

  int status() const override { return parser_->status(); }
  const Headers& headers() const override { return parser_->headers(); }
  asio::awaitable<Result<std::string>> read(Duration silence) override;

 private:
  asio::awaitable<Io> write();
  void feed();
  void new_parser();
  asio::awaitable<bool> receive();
  Broken broken(std::string cause);
  void finish();

  const std::shared_ptr<const Call> call_;
  std::unique_ptr<Channel> channel_;  // null: given back, or broken
  ClientPool& pool_;
  const std::string key_;
  Deadline deadline_;
  ReadBuffer input_{kReadBytesMax};
  std::unique_ptr<ResponseParser> parser_;
  std::string ready_;  // of the body, parsed and not yet read
  Io last_;
  bool heard_ = false;
  bool written_ = false;
};

void Reading::new_parser() {
  const auto on_bytes = [this](std::string_view bytes) {
    ready_.append(bytes);
    return true;
  };
  parser_ = std::make_unique<ResponseParser>(call_->request.method == "HEAD",
                                             call_->request.response_bytes_max, on_bytes);
}

void Reading::feed() {
  // A parser takes the head first, and the body with the next call.
  for (std::size_t taken = 1; taken > 0 && !input_.empty();) {
    taken = parser_->feed(input_.bytes());
    input_.consume(taken);
  }
}

// False: the connection broke; last_ says how.
asio::awaitable<bool> Reading::receive() {
  const auto room = input_.room();
  if (room.empty()) {
    last_ = Io{IoKind::kFailed, 0, asio::error::message_size};
    co_return false;
  }
  last_ = co_await channel_->read_some(room.data(), room.size());
  if (last_.kind == IoKind::kEnd) {
    parser_->feed_end();
    co_return heard_;
  }
  if (last_.kind != IoKind::kDone) co_return false;
  heard_ = true;
  input_.added(last_.bytes);
  feed();
  co_return true;
}

Broken Reading::broken(std::string cause) {
  const bool late = deadline_.passed();
  if (late) channel_->reset_on_close();
  deadline_.disarm();
  channel_.reset();
  return Broken{.cause = std::move(cause), .timed_out = late, .silent = !heard_};
}

asio::awaitable<Io> Reading::write() {
  Gather data(call_->head, call_->request.body);
  Io io = channel_->try_write(data);
  while (io.kind == IoKind::kWait) {
    io = co_await channel_->wait();
    if (io.kind == IoKind::kDone) io = channel_->try_write(data);
  }
  co_return io;
}

asio::awaitable<std::expected<void, Broken>> Reading::begin(SteadyTime until) {
  deadline_.arm(until, *channel_);
  const Io written = co_await write();
  written_ = written.kind == IoKind::kDone;
  if (deadline_.passed()) co_return std::unexpected(broken("sending the request"));
  for (int interim = 0; interim <= kInterimMax; ++interim) {
    new_parser();
    feed();
    while (parser_->state() == ParseState::kHead) {
      const bool going = co_await receive();
      if (deadline_.passed()) co_return std::unexpected(broken("waiting for the answer"));
      if (!going) co_return std::unexpected(broken(channel_->failure(last_)));
    }
    if (parser_->state() == ParseState::kFailed) {
      Broken garbage = broken(parser_->fault());
      garbage.retryable = !parser_->too_large();
      co_return std::unexpected(std::move(garbage));
    }
    if (parser_->status() / 100 == 1 && parser_->status() != 101) continue;
    if (parser_->state() == ParseState::kDone) finish();
    co_return std::expected<void, Broken>{};
  }
  co_return std::unexpected(broken("too many interim answers"));
}

void Reading::finish() {
  deadline_.disarm();
  if (channel_ != nullptr && call_->request.keep_alive && written_ && parser_->keep_alive() &&
      input_.empty()) {
    pool_.give_back(key_, std::move(channel_));
  }
  channel_.reset();
}

asio::awaitable<Result<std::string>> Reading::read(Duration silence) {
  if (ready_.empty() && channel_ != nullptr) {
    deadline_.arm(std::min(call_->until, std::chrono::steady_clock::now() + silence), *channel_);
  }
  while (ready_.empty() && channel_ != nullptr && parser_->state() == ParseState::kBody) {
    const bool going = co_await receive();
    if (deadline_.passed()) {
      Broken late = broken("waiting for more of the answer");
      co_return std::unexpected(error_of(*call_, std::move(late)));
    }
    if (!going) {
      Broken cut = broken(channel_->failure(last_));
      co_return std::unexpected(error_of(*call_, std::move(cut)));
    }
  }
  deadline_.disarm();
  if (!ready_.empty()) co_return std::exchange(ready_, std::string());
  if (channel_ == nullptr && parser_->state() != ParseState::kDone) {
    co_return upstream_error(call_->address, "the connection is broken", true);
  }
  if (parser_->state() == ParseState::kFailed) {
    Broken garbage = broken(parser_->fault());
    garbage.retryable = !parser_->too_large();
    co_return std::unexpected(error_of(*call_, std::move(garbage)));
  }
  finish();
  co_return std::string();
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
  asio::awaitable<Result<std::unique_ptr<ClientStream>>> open(ClientRequest request,
                                                              Duration head_timeout) override;

 private:
  // Clients trust different roots: they do not share connections.
  static std::string next_name() {
    static std::atomic<std::uint64_t> count = 0;
    return fmt::format("{} ", ++count);
  }
  asio::awaitable<Result<ClientResponse>> perform(ClientRequest request, ResponseParser::OnBytes on_bytes);
  static Result<std::shared_ptr<const Call>> make_call(ClientRequest request,
                                                       ResponseParser::OnBytes on_bytes);
  std::string key_of(const Call& call) const;
  asio::awaitable<Result<ClientResponse>> perform(std::shared_ptr<const Call> call, ClientPool& pool);

  const TlsContext tls_;
  const std::string name_;
};

Result<std::shared_ptr<const Call>> HttpClient::make_call(ClientRequest request,
                                                          ResponseParser::OnBytes on_bytes) {
  const SteadyTime until = std::chrono::steady_clock::now() + request.timeout;
  auto address = parse_client_url(request.url);
  if (!address) return std::unexpected(address.error());
  if (auto checked = check_request(request); !checked) return std::unexpected(checked.error());
  auto call = std::make_shared<Call>(Call{.request = std::move(request),
                                          .address = std::move(*address),
                                          .head = {},
                                          .until = until,
                                          .on_bytes = std::move(on_bytes)});
  call->head = render_head(call->request, call->address);
  return call;
}

// What was let through to any address is not lent to who may go to public ones only.
std::string HttpClient::key_of(const Call& call) const {
  return (call.request.public_only ? "public " : "") + name_ + call.address.name();
}

asio::awaitable<Result<ClientResponse>> HttpClient::perform(ClientRequest request,
                                                            ResponseParser::OnBytes on_bytes) {
  auto call = make_call(std::move(request), std::move(on_bytes));
  if (!call) co_return std::unexpected(call.error());
  const auto executor = co_await asio::this_coro::executor;
  auto& pool = asio::use_service<ClientPool>(asio::query(executor, asio::execution::context));
  co_return co_await perform(std::move(*call), pool);
}

asio::awaitable<Result<std::unique_ptr<ClientStream>>> HttpClient::open(ClientRequest request,
                                                                        Duration head_timeout) {
  auto made = make_call(std::move(request), nullptr);
  if (!made) co_return std::unexpected(made.error());
  const std::shared_ptr<const Call> call = std::move(*made);
  const auto executor = co_await asio::this_coro::executor;
  auto& pool = asio::use_service<ClientPool>(asio::query(executor, asio::execution::context));
  const std::string key = key_of(*call);
  const SteadyTime now = std::chrono::steady_clock::now();
  const SteadyTime head_until =
      head_timeout > Duration::zero() ? std::min(call->until, now + head_timeout) : call->until;
  if (auto kept = call->request.keep_alive ? pool.take(key) : nullptr) {
    auto stream = std::make_unique<Reading>(call, std::move(kept), pool, key, executor);
    const auto begun = co_await stream->begin(head_until);
    if (begun) co_return std::move(stream);
    if (begun.error().timed_out || !begun.error().silent) {
      co_return std::unexpected(error_of(*call, begun.error()));
    }
  }
  const SteadyTime connect_until =
      std::min(head_until, std::chrono::steady_clock::now() + call->request.connect_timeout);
  auto fresh = co_await dial(call->address, tls_, connect_until, call->request.public_only);
  if (!fresh) co_return std::unexpected(fresh.error());
  auto stream = std::make_unique<Reading>(call, std::move(*fresh), pool, key, executor);
  const auto begun = co_await stream->begin(head_until);
  if (!begun) co_return std::unexpected(error_of(*call, begun.error()));
  co_return std::move(stream);
}

asio::awaitable<Result<ClientResponse>> HttpClient::perform(std::shared_ptr<const Call> call,
                                                            ClientPool& pool) {
  const std::string key = key_of(*call);
  if (auto kept = call->request.keep_alive ? pool.take(key) : nullptr) {
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
