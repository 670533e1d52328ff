#include "net/connection.h"

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>
#include <utility>

#include "net/response_head.h"
#include "net/socket_link.h"
#include "net/stream_writer.h"

namespace turnpike::net {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kReadBytesMax = 16 * 1024;
constexpr std::chrono::seconds kLingerMax{2};
constexpr std::size_t kLingerBytesMax = 1 << 20;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace

Connection::Connection(std::shared_ptr<ServerCore> core, IoLoop& loop, Channel channel, Origin origin)
    : core_(std::move(core)),
      loop_(loop),
      place_(loop.connections.insert(loop.connections.end(), this)),
      channel_(std::move(channel)),
      origin_(std::move(origin)),
      parser_(core_->options.header_bytes_max),
      input_(std::max<std::size_t>(kReadBytesMax, core_->options.header_bytes_max)) {
  ++(origin_.rejected ? core_->rejected : core_->open);
}

Connection::~Connection() {
  loop_.connections.erase(place_);
  const std::scoped_lock lock(core_->mutex);
  if (origin_.rejected) {
    --core_->rejected;
  } else if (--core_->open == 0) {
    core_->none_open.notify_all();
  }
}

void Connection::arm(Duration time) {
  timed_out_ = false;
  deadline_ = std::chrono::steady_clock::now() + time;
}

void Connection::expire(SteadyTime now) {
  if (socket_) socket_->tick(now);
  if (deadline_ > now) return;
  disarm();
  timed_out_ = true;
  channel_.cancel();
}

void Connection::begin_stop() {
  if (stream_) stream_->close();
  if (socket_) socket_->stop();
  if (stream_ || (reading_ && !was_socket_)) channel_.cancel();
}

void Connection::cut() {
  if (stream_) stream_->break_off();
  if (socket_) socket_->break_off();
  boost::system::error_code ignored;
  channel_.socket().shutdown(Channel::Socket::shutdown_both, ignored);
  channel_.cancel();
}

asio::awaitable<void> Connection::serve(std::shared_ptr<Connection> self) {
  Connection& c = *self;
  if (c.origin_.rejected) {
    c.refuse(503, "too many connections; come back in a moment");
    co_await c.refuse_and_close();
    co_return;
  }
  c.reading_ = true;
  c.arm(c.core_->options.read_timeout);
  const Io greeted = co_await c.channel_.handshake(true);
  bool more = greeted.kind == IoKind::kDone && !c.stopping();
  while (more) more = co_await c.exchange();
}

asio::awaitable<bool> Connection::exchange() {
  const Read read = co_await read_request();
  if (read == Read::kClosed) co_return false;
  if (read == Read::kRefused) co_return co_await refuse_and_close();

  const bool keep = parser_.keep_alive() && !stopping();
  Request request = std::move(parser_.request());
  request.remote = origin_.remote;
  request.control = origin_.control;
  const bool head_only = request.method == "HEAD";
  Response response = co_await answer(std::move(request));
  const bool kept = co_await send(std::move(response), head_only, keep);
  parser_.reset();
  co_return kept && !stopping();
}

asio::awaitable<Connection::Read> Connection::read_request() {
  input_.relax();
  reading_ = true;
  timed_out_ = false;
  deadline_ = loop_.now + core_->options.idle_timeout;
  bool begun = false;
  for (;;) {
    if (const auto read = parse()) {
      reading_ = false;
      disarm();
      co_return *read;
    }
    if (!begun && parser_.begun()) {
      begun = true;
      arm(core_->options.read_timeout);  // of the whole request, from its first byte
    }
    if (stopping()) co_return read_failed();
    const auto room = input_.room();
    if (room.empty()) co_return refuse(431, "the header is too large");
    const Io io = co_await channel_.read_some(room.data(), room.size());
    if (io.kind != IoKind::kDone) co_return read_failed();
    input_.added(io.bytes);
  }
}

std::optional<Connection::Read> Connection::parse() {
  // Some clients end a body with an empty line that belongs to nothing (RFC 9112, 2.2).
  while (!parser_.begun() && !input_.empty() && (input_.bytes()[0] == '\r' || input_.bytes()[0] == '\n')) {
    input_.consume(1);
  }
  for (;;) {
    const std::size_t taken = parser_.feed(input_.bytes());
    input_.consume(taken);
    switch (parser_.state()) {
      case ParseState::kDone:
        return Read::kRequest;
      case ParseState::kFailed:
        refusal_ = parser_.refusal();
        return Read::kRefused;
      case ParseState::kHeadDone:
        if (!begin_body()) {
          refusal_ = parser_.refusal();
          return Read::kRefused;
        }
        break;
      case ParseState::kHead:
      case ParseState::kBody:
        if (taken == 0) return std::nullopt;
        break;
    }
  }
}

bool Connection::begin_body() {
  const Request& request = parser_.request();
  const BodyRule rule = core_->body_rules(request.method, request.path);
  if (!parser_.take_body(rule, core_->options.spool_dir)) return false;
  if (parser_.expects_continue() && input_.empty()) {
    Gather go_on(kContinue);
    // Nothing else is in the socket's way: 25 bytes that do not fit mean a client that does not read at all.
    if (channel_.try_write(go_on).kind != IoKind::kDone) cut();
  }
  return true;
}

Connection::Read Connection::refuse(int status, std::string message) {
  reading_ = false;
  disarm();
  refusal_ = Refusal{.status = status, .message = std::move(message), .cause = {}};
  return Read::kRefused;
}

// The wait for bytes has ended without any. Who has begun a request is told why.
Connection::Read Connection::read_failed() {
  if (parser_.begun() && timed_out_) return refuse(408, "the request did not arrive in time");
  if (parser_.begun() && stopping()) return refuse(503, "the server is stopping; send the request again");
  return Read::kClosed;
}

Response Connection::render_error(int status, std::string_view message) {
  try {
    Response response = core_->render_error(status, message);
    if (is_sendable(response)) return response;
    core_->report("the error renderer made an answer that cannot be sent");
  } catch (const std::exception& error) {
    core_->report(error.what());
  }
  return Response{
      .status = status, .headers = {}, .content_type = "text/plain", .body = std::string(message)};
}

asio::awaitable<Response> Connection::answer(Request request) {
  try {
    asio::awaitable<Response> running = core_->handler(std::move(request));
    Response response = co_await std::move(running);
    if (is_sendable(response)) co_return response;
    core_->report("a handler's answer has a header that cannot be sent");
  } catch (const boost::system::system_error& error) {
    // Cut by stop(): how the coroutine unwinds is no failure of the handler's.
    if (stopping() && error.code() == asio::error::operation_aborted) throw;
    core_->report(error.what());
  } catch (const std::exception& error) {
    core_->report(error.what());
  }
  co_return render_error(500, "an internal error; it has been logged");
}

asio::awaitable<bool> Connection::refuse_and_close() {
  if (!refusal_.cause.empty()) core_->report(refusal_.cause);
  const bool head_only = parser_.request().method == "HEAD";
  Response response = render_error(refusal_.status, refusal_.message);
  const bool keep = false;
  co_await send(std::move(response), head_only, keep);
  co_return false;
}

// Closing at once with unread bytes would reset the connection, and the client might never see the answer.
// Where the client does not take the answer, a reset is right: the kernel need not keep what nobody reads.
asio::awaitable<void> Connection::linger() {
  if (broken_) {
    channel_.reset_on_close();
    co_return;
  }
  channel_.finish_sending();
  reading_ = true;
  arm(kLingerMax);
  input_.consume(input_.bytes().size());
  for (std::size_t dropped = 0; dropped < kLingerBytesMax && (was_socket_ || !stopping());) {
    const auto room = input_.room();
    const Io io = co_await channel_.read_some(room.data(), room.size());
    if (io.kind != IoKind::kDone) co_return;
    dropped += io.bytes;
  }
}

asio::awaitable<bool> Connection::write(Gather data) {
  Io io = channel_.try_write(data);
  if (io.kind == IoKind::kDone) co_return true;
  arm(core_->options.write_timeout);
  while (io.kind == IoKind::kWait) {
    const Io ready = co_await channel_.wait();
    if (ready.kind != IoKind::kDone) break;
    io = channel_.try_write(data);
    if (io.bytes > 0) arm(core_->options.write_timeout);
  }
  disarm();
  broken_ = io.kind != IoKind::kDone;
  co_return !broken_;
}

// While a stream runs nobody reads: so look whether the client has gone. What it sends meanwhile is kept for
// later, up to the buffer's bound; from then on only a failing write tells.
void Connection::watch() {
  channel_.socket().async_wait(
      Channel::Socket::wait_read,
      [self = shared_from_this()](boost::system::error_code ec) { self->on_readable(ec); });
}

void Connection::on_readable(boost::system::error_code ec) {
  if (!stream_ || ec) return;
  const auto room = input_.room();
  if (room.empty()) return;
  const Io io = channel_.try_read(room.data(), room.size());
  switch (io.kind) {
    case IoKind::kDone:
      input_.added(io.bytes);
      return watch();
    case IoKind::kWait:
      input_.release();
      return watch();
    case IoKind::kEnd:
    case IoKind::kFailed:
      return stream_->break_off();
  }
}

}  // namespace turnpike::net
