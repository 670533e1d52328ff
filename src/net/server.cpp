#include "net/server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <charconv>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "net/connection.h"
#include "net/listen_address.h"
#include "net/server_core.h"
#include "net/text.h"

namespace turnpike::net {

namespace asio = boost::asio;
using boost::system::error_code;

void IoLoop::tick() {
  now = std::chrono::steady_clock::now();
  date = http_date(
      std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
}

void IoLoop::sweep() {
  tick();
  for (Connection* connection : connections) connection->expire(now);
}

namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::milliseconds kAcceptPause{100};  // after a failure such as "too many open files"
constexpr std::chrono::seconds kCutMax{2};              // for handlers to end once cancelled

asio::awaitable<void> sweep_loop(IoLoop& loop) {
  asio::steady_timer timer(loop.context);
  for (;;) {
    loop.sweep();
    timer.expires_after(kSweepEvery);
    const auto [ec] = co_await timer.async_wait(kAsTuple);
    if (ec) co_return;
  }
}

void admit(const std::shared_ptr<ServerCore>& core, IoLoop& loop, Channel::Socket socket, bool control) {
  error_code ec;
  const auto peer = socket.remote_endpoint(ec);
  Channel channel(std::move(socket));
  if (ec || channel.prepare()) return;  // gone already
  const std::size_t allowed = core->options.connections_max + (control ? kControlConnectionsExtra : 0);
  const bool rejected = core->open >= allowed;
  // To be told 503 over TLS would take the handshake that there is no room for.
  if (rejected && (core->rejected >= kRejectedMax || (core->tls && !control))) return;
  if (core->tls && !control) channel.use_tls(core->tls->open(channel.socket().native_handle()));
  Connection::Origin origin{
      .remote = control ? "unix" : address_text(peer.data()), .control = control, .rejected = rejected};
  auto connection = std::make_shared<Connection>(core, loop, std::move(channel), std::move(origin));
  core->connections.spawn(loop.context.get_executor(), Connection::serve(std::move(connection)));
}

asio::awaitable<void> accept_loop(std::shared_ptr<ServerCore> core, IoLoop& loop, Acceptor acceptor,
                                  bool control) {
  asio::steady_timer pause(loop.context);
  while (!core->stopping) {
    auto [ec, socket] = co_await acceptor.async_accept(kAsTuple);
    if (ec == asio::error::operation_aborted) co_return;
    if (!ec) {
      admit(core, loop, std::move(socket), control);
    } else if (ec != asio::error::connection_aborted) {
      core->report("cannot accept a connection: " + ec.message());
      pause.expires_after(kAcceptPause);
      const auto [interrupted] = co_await pause.async_wait(kAsTuple);
      if (interrupted) co_return;
    }
  }
}

class HttpServer final : public Server {
 public:
  explicit HttpServer(std::shared_ptr<ServerCore> core) : core_(std::move(core)) {}
  ~HttpServer() override { HttpServer::stop(Duration::zero()); }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  Result<void> listen(IoThreads& threads);
  std::uint16_t port() const override { return port_; }
  std::size_t connections() const override { return core_->open; }
  void stop(Duration grace) override;

 private:
  Result<void> listen_tcp();
  Result<void> listen_unix();
  void accept_on(std::size_t index, Acceptor acceptor, bool control);
  template <typename Action>
  void on_every_connection(Action action);

  std::shared_ptr<ServerCore> core_;
  std::uint16_t port_ = 0;
  bool stopped_ = false;
};

Result<void> HttpServer::listen(IoThreads& threads) {
  for (std::size_t i = 0; i < threads.size(); ++i) {
    core_->loops.push_back(std::make_unique<IoLoop>(threads.context(i)));
    core_->loops.back()->tick();
  }
  if (auto bound = listen_tcp(); !bound) return bound;
  if (auto bound = listen_unix(); !bound) return bound;
  for (const auto& loop : core_->loops) {
    core_->listeners.spawn(loop->context.get_executor(), sweep_loop(*loop));
  }
  return {};
}

void HttpServer::accept_on(std::size_t index, Acceptor acceptor, bool control) {
  IoLoop& loop = *core_->loops[index];
  core_->listeners.spawn(loop.context.get_executor(), accept_loop(core_, loop, std::move(acceptor), control));
}

Result<void> HttpServer::listen_tcp() {
  if (core_->options.listen.empty()) return {};
  auto address = parse_listen_address(core_->options.listen);
  if (!address) return std::unexpected(address.error());
  if (address->port() != 0) {
    // With SO_REUSEPORT a second server would quietly share the port: so look first without.
    const auto free = bind_tcp(core_->loops[0]->context, *address, false);
    if (!free) return std::unexpected(free.error());
  }
  for (std::size_t i = 0; i < core_->loops.size(); ++i) {
    auto acceptor = bind_tcp(core_->loops[i]->context, *address, true);
    if (!acceptor) return std::unexpected(acceptor.error());
    port_ = bound_port(*acceptor);
    address->port(port_);
    accept_on(i, std::move(*acceptor), false);
  }
  return {};
}

Result<void> HttpServer::listen_unix() {
  if (core_->options.control_socket.empty()) return {};
  auto acceptor = bind_unix(core_->loops[0]->context, core_->options.control_socket);
  if (!acceptor) return std::unexpected(acceptor.error());
  accept_on(0, std::move(*acceptor), true);
  return {};
}

template <typename Action>
void HttpServer::on_every_connection(Action action) {
  for (std::size_t i = 0; i < core_->loops.size(); ++i) {
    asio::post(core_->loops[i]->context, [core = core_, i, action] {
      for (Connection* connection : core->loops[i]->connections) action(*connection);
    });
  }
}

void HttpServer::stop(Duration grace) {
  if (std::exchange(stopped_, true)) return;
  core_->stopping = true;
  on_every_connection([](Connection& connection) { connection.begin_stop(); });
  {
    std::unique_lock lock(core_->mutex);
    core_->none_open.wait_for(lock, grace, [this] { return core_->open == 0; });
  }
  on_every_connection([](Connection& connection) { connection.cut(); });
  const bool ended = core_->connections.stop(kCutMax);
  const bool closed = core_->listeners.stop(kCutMax);
  if (!ended || !closed) core_->report("some requests did not end although they were cancelled");
  if (!core_->options.control_socket.empty()) ::unlink(core_->options.control_socket.c_str());
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(IoThreads& threads, ServerOptions options, Handler handler,
                                              BodyRules body_rules, ErrorRenderer render_error) {
  CHECK(handler && body_rules && render_error);
  auto core = std::make_shared<ServerCore>(std::move(options));
  core->handler = std::move(handler);
  core->body_rules = std::move(body_rules);
  core->render_error = std::move(render_error);
  const auto& [certificate, key] = std::tie(core->options.tls_certificate_file, core->options.tls_key_file);
  if (certificate.empty() != key.empty()) {
    return fail(ErrorCode::kConfiguration, "TLS needs both a certificate and a key: give the other one too");
  }
  if (!certificate.empty()) {
    auto tls = TlsContext::server(certificate, key);
    if (!tls) return std::unexpected(tls.error());
    core->tls = std::move(*tls);
  }
  auto server = std::make_unique<HttpServer>(std::move(core));
  if (auto listening = server->listen(threads); !listening) return std::unexpected(listening.error());
  return server;
}

}  // namespace turnpike::net
