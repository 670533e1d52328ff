// As little HTTP client as a load generator needs, so that it takes the processor from nobody: plain sockets,
// one request under way on each kept-alive connection. Trouble is an exception: a measurement that met any is
// void.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace turnpike::bench {

// Microseconds on the monotonic clock.
std::int64_t now_micros();

// "127.0.0.1:8080".
sockaddr_in parse_address(const std::string& text);

// A whole request, ready to be sent any number of times.
std::string make_request(std::string_view method, std::string_view target, const std::string& host,
                         const std::string& key, const std::map<std::string, std::string>& headers,
                         std::string_view body);

struct Answer {
  int status = 0;
  std::string body;
};

// Not thread-safe.
class Connection {
 public:
  explicit Connection(const sockaddr_in& address);
  ~Connection();
  Connection(Connection&& other) noexcept;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  Connection& operator=(Connection&&) = delete;

  int descriptor() const { return descriptor_; }
  void send(std::string_view request);
  // Takes what has arrived, without waiting; the answer once it is whole.
  std::optional<Answer> receive();
  // Takes what has arrived of an answer that has no end, and gives the bytes of its body. The first call that
  // knows the status throws unless it is 200; an end throws unless it `may_end`.
  std::string receive_stream(bool may_end = false);

 private:
  bool read_more();  // false when nothing is there
  bool parse_head();
  std::string dechunk(bool may_end);

  int descriptor_ = -1;
  std::string buffer_;
  std::size_t body_at_ = 0;  // 0: the head has not been read whole
  std::size_t body_bytes_ = 0;
  bool chunked_ = false;
  int status_ = 0;
};

// Waits until one of the descriptors can be read.
class Poll {
 public:
  Poll();
  ~Poll();
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;

  void add(int descriptor, std::uint32_t token);
  // The tokens of those that can be read; none when `micros` have passed.
  const std::vector<std::uint32_t>& wait(std::int64_t micros);

 private:
  int descriptor_ = -1;
  std::vector<std::uint32_t> ready_;
};

// One request on a connection of its own; waits for the answer, at most `micros`.
Answer ask(const sockaddr_in& address, const std::string& request, std::int64_t micros);

}  // namespace turnpike::bench
