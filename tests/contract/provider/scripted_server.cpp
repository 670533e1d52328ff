#include "contract/provider/scripted_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

namespace turnpike::provider::test {
namespace {

// Reads one request into `asked`, of which `buffered` may hold the beginning. False: the client has left.
bool read_request(int connection, std::string& buffered, Asked& asked) {
  const auto more = [&] {
    char buffer[4096];
    const ssize_t count = ::recv(connection, buffer, sizeof buffer, 0);
    if (count <= 0) return false;
    buffered.append(buffer, static_cast<std::size_t>(count));
    return true;
  };
  std::size_t end = 0;
  while ((end = buffered.find("\r\n\r\n")) == std::string::npos) {
    if (!more()) return false;
  }
  asked.head = buffered.substr(0, end + 2);
  buffered.erase(0, end + 4);
  const std::size_t path = asked.head.find(' ') + 1;
  asked.path = asked.head.substr(path, asked.head.find(' ', path) - path);
  std::size_t length = 0;
  if (const std::size_t at = asked.head.find("Content-Length: "); at != std::string::npos)
    length = std::stoul(asked.head.substr(at + 16));
  while (buffered.size() < length) {
    if (!more()) return false;
  }
  asked.body = buffered.substr(0, length);
  buffered.erase(0, length);
  return true;
}

}  // namespace

std::string http(int status, const std::string& body, const std::string& headers) {
  return fmt::format(
      "HTTP/1.1 {} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n{}", status,
      body.size(), headers, body);
}

ScriptedServer::ScriptedServer(Script script) : script_(std::move(script)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener_, 64) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw std::runtime_error("no loopback listener");
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

ScriptedServer::~ScriptedServer() {
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock{mutex_};
    for (const int connection : connections_) ::shutdown(connection, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
  for (const int connection : connections_) ::close(connection);
  ::close(listener_);
}

std::string ScriptedServer::base_url() const {
  return fmt::format("http://127.0.0.1:{}/v1", port_);
}

std::vector<Asked> ScriptedServer::asked() const {
  const std::lock_guard lock{mutex_};
  return asked_;
}

void ScriptedServer::accept_all() {
  while (true) {
    const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) return;
    const std::lock_guard lock{mutex_};
    connections_.push_back(connection);
    threads_.emplace_back([this, connection] { serve(connection); });
  }
}

void ScriptedServer::serve(int connection) {
  std::string buffered;
  Asked asked;
  while (read_request(connection, buffered, asked)) {
    {
      const std::lock_guard lock{mutex_};
      asked_.push_back(asked);
    }
    const Reply reply = script_(asked);
    if (reply.hangs) {
      if (!reply.bytes.empty()) ::send(connection, reply.bytes.data(), reply.bytes.size(), MSG_NOSIGNAL);
      ++hanging_;
      char byte = 0;
      while (::recv(connection, &byte, 1, 0) > 0) {
      }
      --hanging_;
      break;
    }
    if (reply.bytes.empty()) break;
    ::send(connection, reply.bytes.data(), reply.bytes.size(), MSG_NOSIGNAL);
    if (reply.closes) break;
  }
  ::shutdown(connection,
             SHUT_RDWR);  // closed by the destructor, so that no other may get its number meanwhile
}

}  // namespace turnpike::provider::test
