// bench_upstream: an upstream whose answers take a known time, and whose streams say when each piece was
// sent. Prints the port that it listens on, and serves until its standard input ends. One thread; plain
// sockets.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <queue>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "load/http.h"

namespace turnpike::bench {
namespace {

constexpr int kBacklog = 8192;
constexpr int kEventsMax = 256;
constexpr std::size_t kReadBytes = 64UL * 1024;
constexpr std::size_t kRequestBytesMax = 1UL << 20U;
constexpr std::int64_t kIdleMicros = 1'000'000;
constexpr std::string_view kAnswer =
    R"({"id":"chatcmpl-bench","object":"chat.completion","created":1790000000,"model":"bench","choices":[{"index":0,)"
    R"("message":{"role":"assistant","content":"A canned answer of some words, as long as answers to short )"
    R"(questions are."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":16,)"
    R"("total_tokens":25,"prompt_tokens_details":{"cached_tokens":0}}})";
constexpr std::string_view kChunkStart =
    R"(data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"bench",)"
    R"("choices":[)";

struct Options {
  std::int64_t delay_us = 0;  // of an answer, and of a stream's first chunk
  std::int64_t chunks = 100;  // of a stream
  std::int64_t pace_us = 5000;
};

[[noreturn]] void fail_errno(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string in_chunk(std::string_view text) {
  return fmt::format("{:x}\r\n{}\r\n", text.size(), text);
}

class Upstream {
 public:
  explicit Upstream(Options options)
      : options_(options),
        poll_(epoll_create1(EPOLL_CLOEXEC)),
        listener_(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    if (poll_ < 0 || listener_ < 0) fail_errno("socket");
    sockaddr_in address = parse_address("127.0.0.1:0");
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), size) != 0) fail_errno("bind");
    if (listen(listener_, kBacklog) != 0) fail_errno("listen");
    if (getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) fail_errno("getsockname");
    watch(listener_);
    watch(STDIN_FILENO);
    fmt::print("{}\n", ntohs(address.sin_port));
    std::fflush(stdout);
  }
  Upstream(const Upstream&) = delete;
  Upstream& operator=(const Upstream&) = delete;
  ~Upstream() {
    for (const auto& [descriptor, link] : links_) close(descriptor);
    close(listener_);
    close(poll_);
  }

  void serve() {
    std::array<epoll_event, kEventsMax> events{};
    while (true) {
      const std::int64_t wait =
          due_.empty() ? kIdleMicros : std::max<std::int64_t>(due_.top().at - now_micros(), 0);
      const timespec limit{.tv_sec = wait / 1'000'000, .tv_nsec = (wait % 1'000'000) * 1000};
      const int count = epoll_pwait2(poll_, events.data(), kEventsMax, &limit, nullptr);
      if (count < 0 && errno != EINTR) fail_errno("epoll_pwait2");
      for (int i = 0; i < count; ++i) {
        const int descriptor = events[static_cast<std::size_t>(i)].data.fd;
        if (descriptor == STDIN_FILENO) {
          std::array<char, 256> nothing{};
          if (read(STDIN_FILENO, nothing.data(), nothing.size()) <= 0) return;
        } else if (descriptor == listener_) {
          accept_all();
        } else {
          receive(descriptor);
        }
      }
      send_due();
    }
  }

 private:
  struct Link {
    std::uint64_t number = 0;  // descriptors come again; numbers do not
    std::string in;
    std::int64_t sent = -1;  // chunks of the stream that goes out; -1: none does
  };
  struct Due {
    std::int64_t at;
    int descriptor;
    std::uint64_t number;
    bool operator<(const Due& other) const { return at > other.at; }  // the earliest first
  };

  void watch(int descriptor) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = descriptor;
    // Standard input may be a file, which epoll does not take: then it never ends.
    if (epoll_ctl(poll_, EPOLL_CTL_ADD, descriptor, &event) != 0 && descriptor != STDIN_FILENO)
      fail_errno("epoll_ctl");
  }

  void accept_all() {
    while (true) {
      const int descriptor = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor < 0) return;
      const int on = 1;
      setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      links_[descriptor] = Link{.number = ++numbers_, .in = {}};
      watch(descriptor);
    }
  }

  void drop(int descriptor) {
    close(descriptor);
    links_.erase(descriptor);
  }

  void receive(int descriptor) {
    const auto found = links_.find(descriptor);
    if (found == links_.end()) return;
    std::string& in = found->second.in;
    const std::size_t before = in.size();
    in.resize(before + kReadBytes);
    const auto got = recv(descriptor, in.data() + before, kReadBytes, 0);
    const bool again = got < 0 && (errno == EAGAIN || errno == EINTR);
    in.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if ((got <= 0 && !again) || in.size() > kRequestBytesMax) return drop(descriptor);
    begin(descriptor, found->second);
  }

  // Plans the answer of a request that is there whole.
  void begin(int descriptor, Link& link) {
    const std::size_t head = link.in.find("\r\n\r\n");
    if (head == std::string::npos) return;
    std::size_t length = 0;
    for (const char* name : {"Content-Length: ", "content-length: "}) {
      const std::size_t at = link.in.find(name);
      if (at != std::string::npos && at < head)
        std::from_chars(link.in.data() + at + std::strlen(name), link.in.data() + head, length);
    }
    if (link.in.size() < head + 4 + length) return;
    const std::string_view body = std::string_view(link.in).substr(head + 4, length);
    link.sent = body.contains("\"stream\":true") ? 0 : -1;
    link.in.erase(0, head + 4 + length);
    if (options_.delay_us == 0) return step(descriptor, link);
    due_.push({now_micros() + options_.delay_us, descriptor, link.number});
  }

  void send_due() {
    while (!due_.empty() && due_.top().at <= now_micros()) {
      const Due next = due_.top();
      due_.pop();
      const auto found = links_.find(next.descriptor);
      if (found != links_.end() && found->second.number == next.number) step(next.descriptor, found->second);
    }
  }

  void step(int descriptor, Link& link) {
    std::string out;
    if (link.sent < 0) {
      out = fmt::format("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                        kAnswer.size(), kAnswer);
    } else {
      if (link.sent == 0)
        out = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
      if (link.sent < options_.chunks) {
        ++link.sent;
        out += in_chunk(
            fmt::format("{}{{\"index\":0,\"delta\":{{\"content\":\"@{} \"}},\"finish_reason\":null}}]}}\n\n",
                        kChunkStart, now_micros()));
        due_.push({now_micros() + options_.pace_us, descriptor, link.number});
      } else {
        out += in_chunk(
            fmt::format("{}{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n", kChunkStart));
        out += in_chunk(fmt::format(
            "{}],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{},\"total_tokens\":{}}}}}\n\n",
            kChunkStart, options_.chunks, options_.chunks + 9));
        out += in_chunk("data: [DONE]\n\n") + "0\r\n\r\n";
        link.sent = -1;
      }
    }
    // What does not fit in a socket's buffer is for who does not read: that connection is given up.
    const auto sent = send(descriptor, out.data(), out.size(), MSG_NOSIGNAL);
    if (std::cmp_not_equal(sent, out.size())) drop(descriptor);
  }

  const Options options_;
  const int poll_;
  const int listener_;
  std::uint64_t numbers_ = 0;
  std::unordered_map<int, Link> links_;
  std::priority_queue<Due> due_;
};

}  // namespace
}  // namespace turnpike::bench

int main(int argc, char** argv) {
  turnpike::bench::Options options;
  CLI::App app{"An upstream whose answers take a known time"};
  app.add_option("--delay-us", options.delay_us, "Before an answer")->check(CLI::Range(0, 60'000'000));
  app.add_option("--chunks", options.chunks, "Of a stream")->check(CLI::Range(1, 1'000'000));
  app.add_option("--pace-us", options.pace_us, "Between two chunks of a stream")
      ->check(CLI::Range(1, 600'000'000));
  CLI11_PARSE(app, argc, argv);
  prctl(PR_SET_TIMERSLACK, 1UL);  // nanoseconds: its timers are part of what is measured
  try {
    turnpike::bench::Upstream upstream(options);
    upstream.serve();
    return 0;
  } catch (const std::exception& trouble) {
    fmt::print(stderr, "bench_upstream: {}\n", trouble.what());
    return 1;
  }
}
