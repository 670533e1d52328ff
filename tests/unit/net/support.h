// What the net tests stand on: a server on a free port, a client that speaks raw bytes, a server that follows
// a script, and a certificate made on the spot. Every wait ends after kPatience at the latest.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "net/client.h"
#include "net/server.h"
#include "support/temp_folder.h"

namespace turnpike::net::test {

constexpr std::chrono::seconds kPatience{20};

using turnpike::support::TempFolder;

// A blocking socket that sends what it is told.
class RawClient {
 public:
  explicit RawClient(std::uint16_t port);
  explicit RawClient(const std::filesystem::path& unix_path);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool send(std::string_view bytes);
  // One whole answer (head, and body by Content-Length or chunks, decoded); empty if the server closed first.
  std::string read_answer(bool to_head = false);
  std::string read_until(std::string_view mark);
  std::string read_to_end();  // until the server closes
  void finish_sending();
  void close();
  // Closes so that the peer sees a reset.
  void reset();
  void shrink_receive_buffer();
  int descriptor() const { return descriptor_; }

 private:
  bool fill();

  int descriptor_ = -1;
  std::string input_;
};

int status_of(std::string_view answer);
std::string body_of(std::string_view answer);
std::string get(std::string_view path);
std::string post(std::string_view path, std::string_view body);

// Errors of the server under test, as on_error heard them.
class ErrorLog {
 public:
  void add(std::string_view what);
  std::vector<std::string> all() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

struct TestServer {
  explicit TestServer(Handler handler, const std::function<void(ServerOptions&)>& adjust = {},
                      BodyRules rules = {});
  std::uint16_t port() const { return server->port(); }

  TempFolder dir;
  std::shared_ptr<ErrorLog> errors = std::make_shared<ErrorLog>();
  IoThreads threads{2};
  std::unique_ptr<Server> server;
};

// "METHOD path body" back, with status 200.
boost::asio::awaitable<Response> echo(Request request);

// Accepts connections one after the other and hands each to the next step of the script, on a thread of its
// own.
// Its end cuts the connection of the step under way.
class ScriptedServer {
 public:
  using Step = std::function<void(int descriptor)>;
  explicit ScriptedServer(std::vector<Step> script);
  ~ScriptedServer();
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;
  std::string url(std::string_view path) const;

 private:
  void follow(const std::vector<Step>& script);

  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  int peer_ = -1;      // guarded by mutex_
  bool over_ = false;  // guarded by mutex_
  std::thread thread_;
};

void send_bytes(int descriptor, std::string_view bytes);
// Reads one request's head and Content-Length body.
std::string read_request(int descriptor);
void wait_for_close(int descriptor);

// Runs a coroutine on an io thread and waits for what it returns.
Result<ClientResponse> call(const std::shared_ptr<Client>& client, IoThreads& threads, ClientRequest request);

struct Certificate {
  std::filesystem::path certificate_file;
  std::filesystem::path key_file;
};
// Self-signed, for one DNS name and 127.0.0.1 if `with_address`.
Certificate make_certificate(const std::filesystem::path& folder, const std::string& dns_name,
                             bool with_address);

}  // namespace turnpike::net::test
