#include "load/http.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace turnpike::bench {
namespace {

constexpr std::size_t kReadBytes = 64UL * 1024;
constexpr std::size_t kHeadBytesMax = 64UL * 1024;
constexpr std::size_t kBodyBytesMax = 64UL * 1024 * 1024;
constexpr int kReadyMax = 256;

[[noreturn]] void fail_errno(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::size_t parse_number(std::string_view text, int base) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end == text.data() || value > kBodyBytesMax) {
    throw std::runtime_error(fmt::format("no length of an answer: {}", text.substr(0, 40)));
  }
  return value;
}

// The value of a header in a head whose names are lower case already.
std::string_view header(std::string_view head, std::string_view name) {
  const auto at = head.find(fmt::format("\r\n{}:", name));
  if (at == std::string_view::npos) return {};
  auto value = head.substr(at + name.size() + 3);
  value = value.substr(0, value.find("\r\n"));
  while (value.starts_with(' ')) value.remove_prefix(1);
  return value;
}

}  // namespace

std::int64_t now_micros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

sockaddr_in parse_address(const std::string& text) {
  const auto colon = text.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (colon == std::string::npos ||
      inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    throw std::runtime_error(fmt::format("not an IPv4 address and port: {}", text));
  }
  address.sin_port =
      htons(static_cast<std::uint16_t>(parse_number(std::string_view(text).substr(colon + 1), 10)));
  return address;
}

std::string make_request(std::string_view method, std::string_view target, const std::string& host,
                         const std::string& key, const std::map<std::string, std::string>& headers,
                         std::string_view body) {
  std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", method, target, host);
  if (!key.empty()) request += fmt::format("Authorization: Bearer {}\r\n", key);
  for (const auto& [name, value] : headers) request += fmt::format("{}: {}\r\n", name, value);
  if (!body.empty())
    request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  return request + "\r\n" + std::string(body);
}

Connection::Connection(const sockaddr_in& address)
    : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (descriptor_ < 0) fail_errno("socket");
  const int on = 1;
  setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    close(descriptor_);
    throw std::system_error(error, std::generic_category(), "connect");
  }
}

Connection::~Connection() {
  if (descriptor_ >= 0) close(descriptor_);
}

Connection::Connection(Connection&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      buffer_(std::move(other.buffer_)),
      body_at_(other.body_at_),
      body_bytes_(other.body_bytes_),
      chunked_(other.chunked_),
      status_(other.status_) {}

// A request is far smaller than a socket's buffer, so this does not block in practice; where it does, it is
// the server that does not read.
void Connection::send(std::string_view request) {
  while (!request.empty()) {
    const auto sent = ::send(descriptor_, request.data(), request.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      fail_errno("send");
    }
    request.remove_prefix(static_cast<std::size_t>(sent));
  }
}

bool Connection::read_more() {
  const auto before = buffer_.size();
  buffer_.resize(before + kReadBytes);
  const auto got = recv(descriptor_, buffer_.data() + before, kReadBytes, MSG_DONTWAIT);
  const int error = errno;
  buffer_.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  if (got > 0) return true;
  if (got == 0) throw std::runtime_error("the server closed a connection");
  if (error == EAGAIN || error == EINTR) return false;
  throw std::system_error(error, std::generic_category(), "recv");
}

bool Connection::parse_head() {
  const auto end = buffer_.find("\r\n\r\n");
  if (end == std::string::npos) {
    if (buffer_.size() > kHeadBytesMax) throw std::runtime_error("the head of an answer has no end");
    return false;
  }
  const std::string head = lower(std::string_view(buffer_).substr(0, end));
  if (!head.starts_with("http/1.1 ") || head.size() < 12)
    throw std::runtime_error("not an answer of HTTP/1.1");
  status_ = static_cast<int>(parse_number(std::string_view(head).substr(9, 3), 10));
  chunked_ = header(head, "transfer-encoding").contains("chunked");
  const auto length = header(head, "content-length");
  body_bytes_ = length.empty() ? 0 : parse_number(length, 10);
  body_at_ = end + 4;
  return true;
}

std::optional<Answer> Connection::receive() {
  while (body_at_ == 0 || buffer_.size() < body_at_ + body_bytes_) {
    if (body_at_ == 0 && parse_head()) {
      if (chunked_) throw std::runtime_error("an answer in chunks where a whole one was expected");
      continue;
    }
    if (!read_more()) return std::nullopt;
  }
  Answer answer{status_, buffer_.substr(body_at_, body_bytes_)};
  buffer_.erase(0, body_at_ + body_bytes_);
  body_at_ = 0;
  return answer;
}

std::string Connection::receive_stream(bool may_end) {
  while (read_more()) {
  }
  if (body_at_ == 0) {
    if (!parse_head()) return {};
    if (status_ != 200)
      throw std::runtime_error(fmt::format("a stream was answered with {}: {}", status_, buffer_));
    buffer_.erase(0, body_at_);
  }
  return chunked_ ? dechunk(may_end) : std::exchange(buffer_, {});
}

// What is left in the buffer is a chunk that has not arrived whole.
std::string Connection::dechunk(bool may_end) {
  std::string body;
  while (true) {
    const auto line = buffer_.find("\r\n");
    if (line == std::string::npos) return body;
    const auto bytes = parse_number(std::string_view(buffer_).substr(0, line), 16);
    if (buffer_.size() < line + 2 + bytes + 2) return body;
    if (bytes == 0) {
      if (may_end) return body;
      throw std::runtime_error("the server ended a stream");
    }
    body += buffer_.substr(line + 2, bytes);
    buffer_.erase(0, line + 2 + bytes + 2);
  }
}

Poll::Poll() : descriptor_(epoll_create1(EPOLL_CLOEXEC)) {
  if (descriptor_ < 0) fail_errno("epoll_create1");
}

Poll::~Poll() {
  close(descriptor_);
}

void Poll::add(int descriptor, std::uint32_t token) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = token;
  if (epoll_ctl(descriptor_, EPOLL_CTL_ADD, descriptor, &event) != 0) fail_errno("epoll_ctl");
}

const std::vector<std::uint32_t>& Poll::wait(std::int64_t micros) {
  std::array<epoll_event, kReadyMax> events{};
  const std::int64_t bounded = std::max<std::int64_t>(micros, 0);
  const timespec limit{.tv_sec = bounded / 1'000'000, .tv_nsec = (bounded % 1'000'000) * 1000};
  const int count = epoll_pwait2(descriptor_, events.data(), kReadyMax, &limit, nullptr);
  if (count < 0 && errno != EINTR) fail_errno("epoll_pwait2");
  ready_.clear();
  for (int i = 0; i < count; ++i) ready_.push_back(events[static_cast<std::size_t>(i)].data.u32);
  return ready_;
}

Answer ask(const sockaddr_in& address, const std::string& request, std::int64_t micros) {
  Connection connection(address);
  connection.send(request);
  const std::int64_t deadline = now_micros() + micros;
  Poll poll;
  poll.add(connection.descriptor(), 0);
  while (true) {
    if (auto answer = connection.receive()) return *std::move(answer);
    const std::int64_t left = deadline - now_micros();
    if (left <= 0) throw std::runtime_error("no answer in time");
    poll.wait(left);
  }
}

}  // namespace turnpike::bench
