// serve: load the configuration, start the node, answer until told to stop.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_future.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <thread>
#include <utility>

#include "api/api.h"
#include "api/event_json.h"
#include "api/step_input.h"
#include "cli/commands.h"
#include "cli/control.h"
#include "cli/start.h"
#include "net/server.h"
#include "node/log.h"
#include "node/node.h"
#include "node/trace_export.h"
#include "policy/load.h"
#include "webhook/outbox.h"

namespace turnpike::cli {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;

constexpr std::chrono::seconds kServerGrace{3};  // for answers under way, once nothing runs any more

int complain(const Error& error) {
  fmt::print(stderr, "turnpike: {}\n", error.message);
  return error.code == ErrorCode::kConfiguration ? kBadConfiguration : kFailed;
}

// The signals we wait for are taken out of the way of every thread that is started from here on.
sigset_t block_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t waited;
  sigemptyset(&waited);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&waited, signal);
  pthread_sigmask(SIG_BLOCK, &waited, nullptr);
  return waited;
}

policy::PolicyPtr load(const std::string& file) {
  policy::Loaded loaded = policy::load_file(file);
  for (const auto& mistake : loaded.mistakes) fmt::print(stderr, "{}\n", policy::to_string(mistake));
  if (loaded.policy == nullptr) {
    fmt::print(stderr, "turnpike: {} has {} mistakes; nothing was started\n", file, loaded.mistakes.size());
  }
  return loaded.policy;
}

// A commit that failed: what is in memory is a guess from here on, so nothing more is answered.
[[noreturn]] void die(std::string_view why) {
  node::flush_log();
  fmt::print(stderr, "turnpike: stopping at once: {}\n", why);
  std::fflush(stderr);
  std::_Exit(kFailed);
}

node::Options node_options(const ServeOptions& options, policy::PolicyPtr policy,
                           std::set<std::string> missing) {
  node::Options made;
  made.data_dir = options.data;
  made.policy = std::move(policy);
  made.unavailable_providers = std::move(missing);
  made.on_fatal = [](std::string_view why) { die(why); };
  made.read_input = api::read_step_input;
  return made;
}

net::ServerOptions server_options(const policy::Server& config, const std::string& listen,
                                  const fs::path& data) {
  net::ServerOptions options;
  options.listen = listen;
  options.control_socket = fs::absolute(data) / "control.sock";
  if (config.tls) {
    options.tls_certificate_file = config.tls->certificate_file;
    options.tls_key_file = config.tls->key_file;
  }
  options.connections_max = config.connections_max;
  options.header_bytes_max = config.header_bytes_max;
  options.idle_timeout = config.idle_timeout;
  options.read_timeout = config.read_timeout;
  options.spool_dir = fs::absolute(data) / "spool";
  options.on_error = [](std::string_view what) {
    node::log_event(node::LogLevel::kError, "server.error", {{"what", what}});
  };
  return options;
}

// "http://127.0.0.1:8080": what was asked for, with the port that was bound.
std::string address_of(const std::string& listen, std::uint16_t port, bool tls) {
  return fmt::format("{}://{}:{}", tls ? "https" : "http", listen.substr(0, listen.rfind(':')), port);
}

// Everything that lives while the server does, in the order of its making.
struct Running {
  explicit Running(std::size_t thread_count) : threads(thread_count) {}
  net::IoThreads threads;
  std::unique_ptr<node::Node> node;
  std::unique_ptr<webhook::Outbox> outbox;
  std::shared_ptr<node::TraceExport> traces;
  std::unique_ptr<api::Api> api;
  std::unique_ptr<net::Server> server;
};

// SIGHUP: the file again. A bad one changes nothing and says why.
void reload(Running& running, const std::string& file) {
  policy::Loaded loaded = policy::load_file(file);
  for (const auto& mistake : loaded.mistakes) {
    node::log_event(node::LogLevel::kError, "policy.mistake", {{"message", policy::to_string(mistake)}});
  }
  if (loaded.policy == nullptr) {
    node::log_event(
        node::LogLevel::kError, "policy.refused",
        {{"file", file}, {"mistakes", loaded.mistakes.size()}, {"effect", "nothing was changed"}});
    return;
  }
  auto applying = running.node->apply(loaded.policy, {.by = "signal", .reason = {}});
  const auto version =
      asio::co_spawn(running.threads.context(0), std::move(applying), asio::use_future).get();
  if (version) {
    node::log_event("policy.applied", {{"file", file}, {"version", *version}, {"by", "signal"}});
  } else {
    node::log_event(node::LogLevel::kError, "policy.refused",
                    {{"file", file}, {"message", version.error().message}});
  }
}

void shut_down(Running& running, Duration drain_limit) {
  node::log_event("server.draining", {{"limit_ms", drain_limit.count() / 1000}});
  running.outbox->stop();
  running.node->drain_and_stop(drain_limit);
  running.api->services().stopped.store(true);
  running.server->stop(kServerGrace);
  running.traces->stop();
  node::log_event("server.stopped", {});
}

// The next signal; 0 where `patience` passed without one.
int next_signal(const sigset_t& waited, std::chrono::milliseconds patience) {
  const timespec timeout{.tv_sec = patience.count() / 1000, .tv_nsec = patience.count() % 1000 * 1'000'000};
  const int signal = sigtimedwait(&waited, nullptr, &timeout);
  return signal > 0 ? signal : 0;
}

// Serves until SIGTERM or SIGINT has been followed to its end; a second one ends the process at once.
void wait_for_signals(Running& running, const ServeOptions& options, const sigset_t& waited) {
  constexpr std::chrono::milliseconds kIdle{60'000};
  constexpr std::chrono::milliseconds kStopping{20};
  std::thread stopping;
  std::atomic<bool> stopped{false};
  while (!stopped.load()) {
    const int signal = next_signal(waited, stopping.joinable() ? kStopping : kIdle);
    if (signal == 0) continue;
    if (signal == SIGHUP) {
      if (!stopping.joinable()) reload(running, options.config);
    } else if (stopping.joinable()) {
      node::flush_log();
      fmt::print(stderr, "turnpike: second signal: leaving at once\n");
      std::_Exit(kFailed);
    } else {
      const Duration limit = running.node->policy()->server.drain_timeout;
      stopping = std::thread([&running, &stopped, limit] {
        shut_down(running, limit);
        stopped.store(true);
      });
    }
  }
  stopping.join();
}

void print_start(const Running& running, const ServeOptions& options, const std::string& address,
                 const std::vector<std::string>& reasons, const std::string& admin_key) {
  fmt::print("turnpike {} serves on {} (configuration {} version {}, data in {}/)\n", TURNPIKE_VERSION,
             address, options.config, running.node->policy_version(), options.data.string());
  for (const auto& line : serving_lines(*running.node->policy(), running.node->unavailable_providers())) {
    fmt::print("  {}\n", line);
  }
  for (const auto& reason : reasons) fmt::print("  not used: {}\n", reason);
  if (!admin_key.empty()) {
    fmt::print("  first admin key, shown this once: {}\n", admin_key);
  }
  std::fflush(stdout);
}

// The node, its first key, and the server before it; whatever was made is in `running` even on an error.
int start(Running& running, const ServeOptions& options, const policy::PolicyPtr& policy,
          const std::string& listen) {
  std::vector<std::string> reasons;
  auto missing = missing_providers(*policy, running.threads, reasons);
  auto node = node::Node::start(node_options(options, policy, std::move(missing)), running.threads);
  if (!node) {
    fmt::print(stderr, "turnpike: {}\n", node.error().message);
    return kFailed;
  }
  running.node = *std::move(node);
  auto outbox = webhook::Outbox::start(
      *running.node, running.threads,
      [&node = *running.node](const auto& event) { return api::webhook_payload(node, event); });
  if (!outbox) return complain(outbox.error());
  running.outbox = *std::move(outbox);
  running.traces =
      std::make_shared<node::TraceExport>([&node = *running.node] { return node.policy(); }, running.threads);
  running.api = std::make_unique<api::Api>(*running.node, *running.outbox, running.traces);
  const auto admin_key = ensure_admin_key(*running.node, running.api->services().keys, running.threads);
  if (!admin_key) return complain(admin_key.error());
  auto server =
      net::Server::start(running.threads, server_options(policy->server, listen, options.data),
                         running.api->handler(), running.api->body_rules(), api::Api::error_renderer());
  if (!server) return complain(server.error());
  running.server = *std::move(server);
  running.node->alerts()->count_connections([&server = *running.server] { return server.connections(); });
  const std::string address = address_of(listen, running.server->port(), policy->server.tls.has_value());
  std::ofstream(address_file(options.data)) << address << '\n';
  running.api->services().ready.store(true);
  print_start(running, options, address, reasons, *admin_key);
  return kOk;
}

void end(Running& running, const ServeOptions& options) {
  std::error_code ec;
  if (running.server != nullptr) {
    fs::remove(address_file(options.data), ec);
  } else if (running.node != nullptr) {
    if (running.outbox != nullptr) running.outbox->stop();
    running.node->drain_and_stop(Duration::zero());
  }
  if (running.node != nullptr) running.node->alerts()->count_connections({});
  running.server.reset();
  if (running.traces != nullptr) running.traces->stop();
  running.threads.stop();
}

}  // namespace

int serve(const ServeOptions& options) {
  const policy::PolicyPtr policy = load(options.config);
  if (policy == nullptr) return kBadConfiguration;
  const std::string listen = options.listen.empty() ? policy->server.listen : options.listen;
  if (!policy->server.allow_public && !is_loopback(listen)) {
    fmt::print(
        stderr,
        "turnpike: {} is reachable from other machines; set server.allow_public: true if that is meant\n",
        listen);
    return kBadConfiguration;
  }
  raise_file_limit();
  const sigset_t waited = block_signals();
  Running running(std::max(1U, std::thread::hardware_concurrency()));
  const int status = start(running, options, policy, listen);
  if (status == kOk) wait_for_signals(running, options, waited);
  end(running, options);
  return status;
}

}  // namespace turnpike::cli
