// bench_streams: opens streams of chat completions and measures how late each piece comes; the upstream
// (bench_upstream) has written into each when it was sent. Prints one JSON object on one line. The key is
// read from BENCH_KEY.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "load/http.h"
#include "load/submit.h"

namespace turnpike::bench {
namespace {

constexpr std::string_view kBody =
    R"({"model":"bench","stream":true,"max_tokens":4096,"messages":[{"role":"user","content":"A short question?"}]})";
constexpr std::string_view kEnd = "data: [DONE]";
constexpr std::size_t kOpeningMax = 64;  // streams that have begun to open and have not heard anything yet
constexpr std::int64_t kPatienceMicros = 60'000'000;

struct StreamOptions {
  std::string address = "127.0.0.1:8080";
  std::string key;
  std::vector<std::string> headers;  // "name: value"
  std::size_t streams = 16;
  std::int64_t spread_us = 0;  // between the openings of two streams
  bool hold = false;
};

struct Stream {
  Connection connection;
  std::string tail{};  // of what came: a stamp may be split
  bool begun = false;
  bool ended = false;
};

class Streams {
 public:
  explicit Streams(const StreamOptions& options)
      : options_(options), address_(parse_address(options.address)) {
    std::map<std::string, std::string> headers;
    for (const auto& header : options.headers) {
      const auto colon = header.find(": ");
      if (colon == std::string::npos) throw std::runtime_error(fmt::format("no header: {}", header));
      headers[header.substr(0, colon)] = header.substr(colon + 2);
    }
    request_ = make_request("POST", "/v1/chat/completions", options.address, options.key, headers, kBody);
    streams_.reserve(options.streams);
  }

  // Until all have begun, and to their ends unless they are held.
  void run() {
    std::int64_t heard = now_micros();
    while (begun_ < options_.streams || (!options_.hold && ended_ < options_.streams)) {
      std::int64_t wait = 1'000'000;
      while (streams_.size() < options_.streams && streams_.size() - begun_ < kOpeningMax) {
        const std::int64_t early = opened_at_ + options_.spread_us - now_micros();
        if (early > 0) {
          wait = early;
          break;
        }
        open();
      }
      for (const std::uint32_t index : poll_.wait(wait)) {
        take(streams_[index]);
        heard = now_micros();
      }
      if (now_micros() - heard > kPatienceMicros)
        throw std::runtime_error(fmt::format("no stream has said anything for long; {} have begun", begun_));
    }
  }

  std::vector<std::int64_t> take_delays() { return std::move(delays_); }

 private:
  void open() {
    opened_at_ = now_micros();
    streams_.push_back(Stream{.connection = Connection(address_)});
    poll_.add(streams_.back().connection.descriptor(), static_cast<std::uint32_t>(streams_.size() - 1));
    streams_.back().connection.send(request_);
  }

  void take(Stream& stream) {
    if (stream.ended) return;
    const std::string came = stream.connection.receive_stream(true);
    const std::int64_t now = now_micros();
    if (came.empty()) return;
    if (!stream.begun) {
      stream.begun = true;
      ++begun_;
    }
    stream.tail += came;
    read_stamps(stream.tail, now);
    if (stream.tail.contains(kEnd)) {
      stream.ended = true;
      ++ended_;
    }
  }

  // "@1234567 ": when it was sent. What has been read is cut off.
  void read_stamps(std::string& text, std::int64_t now) {
    std::size_t read = 0;
    while (true) {
      const std::size_t at = text.find('@', read);
      if (at == std::string::npos) break;
      const std::size_t end = text.find(' ', at);
      if (end == std::string::npos) break;
      std::int64_t sent = 0;
      const auto parsed = std::from_chars(text.data() + at + 1, text.data() + end, sent);
      if (parsed.ec != std::errc{} || sent > now)
        throw std::runtime_error("a piece does not say when it was sent");
      delays_.push_back(now - sent);
      read = end;
    }
    text.erase(0, read);
  }

  const StreamOptions& options_;
  const sockaddr_in address_;
  std::string request_;
  Poll poll_;
  std::vector<Stream> streams_;
  std::int64_t opened_at_ = 0;
  std::size_t begun_ = 0;
  std::size_t ended_ = 0;
  std::vector<std::int64_t> delays_;
};

}  // namespace
}  // namespace turnpike::bench

int main(int argc, char** argv) {
  turnpike::bench::StreamOptions options;
  CLI::App app{"Opens streams and measures how late each piece comes"};
  app.add_option("--address", options.address, "IPv4 address and port")->capture_default_str();
  app.add_option("--header", options.headers, "Of each request, `name: value`");
  app.add_option("--streams", options.streams, "Open at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 50'000));
  app.add_option("--spread-us", options.spread_us, "Between the openings of two streams")
      ->check(CLI::Range(0, 1'000'000));
  app.add_flag("--hold", options.hold,
               "Once all have begun, says so, and keeps them until standard input ends");
  CLI11_PARSE(app, argc, argv);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread
  if (const char* key = std::getenv("BENCH_KEY")) options.key = key;
  try {
    turnpike::bench::Streams streams(options);
    streams.run();
    const auto delays = turnpike::bench::quantiles(streams.take_delays());
    fmt::print(R"({{"streams":{},"chunks":{},"p50_us":{},"p99_us":{},"max_us":{}}})"
               "\n",
               options.streams, delays.samples, delays.p50, delays.p99, delays.max);
    std::fflush(stdout);
    while (options.hold && std::getchar() != EOF) {
    }
    return 0;
  } catch (const std::exception& trouble) {
    fmt::print(stderr, "bench_streams: {}\n", trouble.what());
    return 1;
  }
}
