// A small HTTP server on loopback that answers as a test says: what an upstream may do to us, on real
// sockets.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace turnpike::provider::test {

struct Asked {
  std::string path;
  std::string head;  // request line and headers
  std::string body;
};

// What to do with a request: bytes to send as they are (empty: close without a word), and whether to hang
// after them until the client leaves or the server ends.
struct Reply {
  std::string bytes;
  bool hangs = false;
  bool closes = false;  // after the bytes
};

class ScriptedServer {
 public:
  using Script = std::function<Reply(const Asked&)>;
  explicit ScriptedServer(Script script);
  ~ScriptedServer();
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string base_url() const;
  // All requests so far.
  std::vector<Asked> asked() const;
  // Requests under way that hang.
  int hanging() const { return hanging_; }

 private:
  void accept_all();
  void serve(int connection);

  const Script script_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<int> hanging_{0};
  mutable std::mutex mutex_;  // guards what follows
  std::vector<Asked> asked_;
  std::vector<int> connections_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

std::string http(int status, const std::string& body, const std::string& headers = "");

}  // namespace turnpike::provider::test
