// How a connection lives on as a WebSocket.
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>
#include <utility>

#include "net/connection.h"
#include "net/socket_link.h"

namespace turnpike::net {

namespace asio = boost::asio;

namespace {

// So often at once; then the thread's other connections have their turn.
constexpr int kReadsMax = 16;

}  // namespace

asio::awaitable<void> Connection::run_socket(SocketBody body) {
  was_socket_ = true;
  const auto link = std::make_shared<SocketLink>(*this, body.message_bytes_max, core_->options.idle_timeout,
                                                 std::chrono::steady_clock::now());
  socket_ = link;
  if (stopping()) link->stop();
  read_socket();  // a client may have sent frames right behind its request
  try {
    asio::awaitable<void> running = body.run(link);
    co_await std::move(running);
    link->close(CloseCode::kNormal, {});
  } catch (const boost::system::system_error& error) {
    if (!stopping() || error.code() != asio::error::operation_aborted) core_->report(error.what());
    link->close(CloseCode::kInternal, {});
  } catch (const std::exception& error) {
    core_->report(error.what());
    link->close(CloseCode::kInternal, "an internal error; it has been logged");
  }
  socket_.reset();
  channel_.cancel();  // the watch
  const std::string last_words = link->broken() ? std::string() : link->last_words();
  link->detach();
  const Gather data(last_words);
  if (!data.empty()) co_await write(data);
}

void Connection::watch_socket() {
  channel_.socket().async_wait(
      Channel::Socket::wait_read,
      [self = shared_from_this()](boost::system::error_code ec) { self->on_socket_readable(ec); });
}

void Connection::on_socket_readable(boost::system::error_code ec) {
  if (!ec) read_socket();
}

void Connection::read_socket() {
  const auto link = socket_;
  if (!link) return;
  for (int i = 0; i < kReadsMax; ++i) {
    link->read(input_, std::chrono::steady_clock::now());
    if (!link->wants_input()) return;  // receive() comes back here
    const auto room = input_.room();
    const Io io = channel_.try_read(room.data(), room.size());
    switch (io.kind) {
      case IoKind::kDone:
        input_.added(io.bytes);
        break;
      case IoKind::kWait:
        input_.release();
        return watch_socket();
      case IoKind::kEnd:
      case IoKind::kFailed:
        return link->break_off();
    }
  }
  asio::post(loop_.context, [self = shared_from_this()] { self->read_socket(); });
}

}  // namespace turnpike::net
