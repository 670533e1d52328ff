#include "load/submit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "load/http.h"

namespace turnpike::bench {
namespace {

constexpr std::int64_t kLateMicros = 1000;
constexpr std::int64_t kMetricsPauseMicros = 10'000;
constexpr std::int64_t kAskMicros = 10'000'000;
constexpr std::string_view kWatched = "bench-watched";
constexpr std::string_view kJobPrefix = "\"job_";
constexpr std::size_t kJobIdBytes = 4 + 13;

std::string job_body(std::uint32_t input_bytes) {
  // {"prompt":"..."} is the input; its quotes and name take 13 bytes.
  const std::string prompt(std::max<std::uint32_t>(input_bytes, 14) - 13, 'x');
  return fmt::format(R"({{"task":"text","input":{{"prompt":"{}"}}}})", prompt);
}

// The first job id that stands in quotes; empty if none does.
std::string_view find_job_id(std::string_view text) {
  const auto at = text.find(kJobPrefix);
  if (at == std::string_view::npos || text.size() < at + 1 + kJobIdBytes) return {};
  return text.substr(at + 1, kJobIdBytes);
}

// Pairs each watched request with its job.started, whichever is heard of first.
class Watch {
 public:
  explicit Watch(Connection connection) : connection_(std::move(connection)) {}

  int descriptor() const { return connection_.descriptor(); }
  bool opened() const { return opened_; }
  std::size_t unpaired() const { return sent_.size(); }
  std::vector<std::int64_t> take_samples() { return std::exchange(samples_, {}); }

  void on_sent(std::string_view job, std::int64_t at) {
    if (const auto found = started_.find(std::string(job)); found != started_.end()) {
      samples_.push_back(found->second - at);
      started_.erase(found);
    } else {
      sent_.emplace(job, at);
    }
  }

  void on_readable() {
    text_ += connection_.receive_stream();
    opened_ = true;
    const std::int64_t at = now_micros();
    std::size_t from = 0;
    for (auto end = text_.find("\n\n"); end != std::string::npos; end = text_.find("\n\n", from)) {
      on_event(std::string_view(text_).substr(from, end - from), at);
      from = end + 2;
    }
    text_.erase(0, from);
  }

 private:
  void on_event(std::string_view event, std::int64_t at) {
    if (!event.contains("\"job.started\"")) return;
    const std::string job(find_job_id(event));
    if (job.empty()) throw std::runtime_error(fmt::format("an event without a job: {}", event));
    if (const auto found = sent_.find(job); found != sent_.end()) {
      samples_.push_back(at - found->second);
      sent_.erase(found);
    } else {
      started_.emplace(job, at);
    }
  }

  Connection connection_;
  bool opened_ = false;
  std::string text_;
  std::unordered_map<std::string, std::int64_t> sent_, started_;
  std::vector<std::int64_t> samples_;
};

class Run {
 public:
  explicit Run(const Options& options)
      : options_(options), address_(parse_address(options.address)), slots_(options.in_flight) {
    const std::string body = job_body(options.input_bytes);
    for (std::uint32_t i = 0; i < options.accounts; ++i)
      requests_.push_back(submit_of(fmt::format("bench-{}", i), body));
    watched_request_ = submit_of(std::string(kWatched), body);
    metrics_request_ =
        make_request("GET", "/metrics", options.address, options.key, {{"Connection", "close"}}, {});
    connections_.reserve(options.in_flight);
    for (std::uint32_t i = 0; i < options.in_flight; ++i) {
      connections_.emplace_back(address_);
      poll_.add(connections_.back().descriptor(), i);
    }
    if (options.watch_every > 0) open_watch();
  }

  Result run() {
    if (options_.warm_up_jobs > 0) {
      const double before = completed();
      submit(options_.warm_up_jobs);
      await_completed(before + static_cast<double>(options_.warm_up_jobs));
      if (watch_) await_watch();
    }
    const double before = completed();
    Result result;
    answers_.clear();
    late_ = 0;
    if (watch_) watch_->take_samples();
    const std::int64_t started = now_micros();
    submit(options_.jobs);
    result.submit_seconds = static_cast<double>(now_micros() - started) / 1e6;
    if (!options_.completed_metric.empty()) {
      await_completed(before + static_cast<double>(options_.jobs));
      result.complete_seconds = static_cast<double>(now_micros() - started) / 1e6;
    }
    if (watch_) {
      await_watch();
      result.pickups = quantiles(watch_->take_samples());
    }
    result.answers = quantiles(std::move(answers_));
    result.late = late_;
    return result;
  }

 private:
  struct Slot {
    std::int64_t sent_at = 0;  // 0: nothing under way
    bool watched = false;
  };

  std::string submit_of(const std::string& account, const std::string& body) const {
    return make_request("POST", "/api/jobs", options_.address, options_.key, {{"Turnpike-Account", account}},
                        body);
  }

  // The account exists once it has submitted; only then has it events to watch.
  void open_watch() {
    const Answer answer = ask(address_, watched_request_, kAskMicros);
    if (answer.status != 202) throw std::runtime_error(fmt::format("{}: {}", answer.status, answer.body));
    Connection connection(address_);
    connection.send(
        make_request("GET", "/api/events", options_.address, options_.key,
                     {{"Turnpike-Account", std::string(kWatched)}, {"Accept", "text/event-stream"}}, {}));
    watch_.emplace(std::move(connection));
    poll_.add(watch_->descriptor(), options_.in_flight);
    const std::int64_t deadline = now_micros() + options_.patience_seconds * 1'000'000;
    while (!watch_->opened()) {
      if (now_micros() > deadline) throw std::runtime_error("GET /api/events was not answered");
      if (!poll_.wait(kMetricsPauseMicros).empty()) watch_->on_readable();
    }
  }

  double completed() const {
    if (options_.completed_metric.empty()) return 0;
    const Answer answer = ask(address_, metrics_request_, kAskMicros);
    if (answer.status != 200) throw std::runtime_error(fmt::format("GET /metrics: {}", answer.status));
    return metric_value(answer.body, options_.completed_metric);
  }

  void await_completed(double goal) {
    if (options_.completed_metric.empty()) return;
    double last = -1;
    std::int64_t deadline = 0;
    while (true) {
      const double value = completed();
      if (value >= goal) return;
      if (value > last) deadline = now_micros() + options_.patience_seconds * 1'000'000;
      if (now_micros() > deadline)
        throw std::runtime_error(fmt::format("stuck at {} of {} completed jobs", value, goal));
      last = value;
      pass(kMetricsPauseMicros);
    }
  }

  void await_watch() {
    const std::int64_t deadline = now_micros() + options_.patience_seconds * 1'000'000;
    while (watch_->unpaired() > 0) {
      if (now_micros() > deadline)
        throw std::runtime_error(fmt::format("{} jobs never started", watch_->unpaired()));
      pass(kMetricsPauseMicros);
    }
  }

  // Lets time go by while nothing is under way but the watched events.
  void pass(std::int64_t micros) {
    const std::int64_t until = now_micros() + micros;
    for (std::int64_t left = micros; left > 0; left = until - now_micros()) {
      if (!poll_.wait(left).empty()) {
        if (!watch_) throw std::runtime_error("an answer that nobody asked for");
        watch_->on_readable();
      }
    }
  }

  void submit(std::uint64_t jobs) {
    sent_ = answered_ = 0;
    answers_.reserve(jobs);
    const std::int64_t started = now_micros();
    std::vector<std::uint32_t> idle;
    for (std::uint32_t i = options_.in_flight; i > 0; --i) idle.push_back(i - 1);
    std::int64_t progress_at = started;
    while (answered_ < jobs) {
      std::int64_t wait = 1'000'000;
      while (sent_ < jobs && !idle.empty()) {
        const std::int64_t due = due_at(started);
        const std::int64_t now = now_micros();
        if (due > now) {
          wait = due - now;
          break;
        }
        if (options_.per_second > 0 && now - due > kLateMicros) ++late_;
        send(idle.back());
        idle.pop_back();
      }
      const auto& ready = poll_.wait(wait);
      for (const std::uint32_t token : ready) {
        if (token == options_.in_flight) {
          watch_->on_readable();
        } else if (receive(token)) {
          idle.push_back(token);
          progress_at = now_micros();
        }
      }
      if (now_micros() - progress_at > options_.patience_seconds * 1'000'000) {
        throw std::runtime_error(fmt::format("stuck at {} of {} answers", answered_, jobs));
      }
    }
  }

  std::int64_t due_at(std::int64_t started) const {
    if (options_.per_second <= 0) return started;
    return started + std::llround(static_cast<double>(sent_) * 1e6 / options_.per_second);
  }

  void send(std::uint32_t index) {
    Slot& slot = slots_[index];
    slot.watched = watch_ && sent_ % options_.watch_every == 0;
    slot.sent_at = now_micros();
    connections_[index].send(slot.watched ? watched_request_ : requests_[sent_ % requests_.size()]);
    ++sent_;
  }

  // True once the answer is whole.
  bool receive(std::uint32_t index) {
    const auto answer = connections_[index].receive();
    if (!answer) return false;
    Slot& slot = slots_[index];
    if (slot.sent_at == 0) throw std::runtime_error("an answer that nobody asked for");
    const auto job = find_job_id(answer->body);
    if (answer->status != 202 || job.empty()) {
      throw std::runtime_error(
          fmt::format("expected 202 and a job, got {}: {}", answer->status, answer->body));
    }
    answers_.push_back(now_micros() - slot.sent_at);
    if (slot.watched) watch_->on_sent(job, slot.sent_at);
    slot.sent_at = 0;
    ++answered_;
    return true;
  }

  const Options& options_;
  sockaddr_in address_;
  std::vector<std::string> requests_;  // one for each account
  std::string watched_request_, metrics_request_;
  std::vector<Connection> connections_;
  std::vector<Slot> slots_;  // by connection
  Poll poll_;
  std::optional<Watch> watch_;
  std::uint64_t sent_ = 0, answered_ = 0, late_ = 0;
  std::vector<std::int64_t> answers_;
};

}  // namespace

Quantiles quantiles(std::vector<std::int64_t> samples) {
  if (samples.empty()) return {};
  std::ranges::sort(samples);
  const auto rank = [&](std::size_t percent) { return samples[(samples.size() * percent + 99) / 100 - 1]; };
  return {.samples = samples.size(), .p50 = rank(50), .p99 = rank(99), .max = samples.back()};
}

double metric_value(const std::string& text, const std::string& metric) {
  const auto brace = metric.find('{');
  const std::string name = metric.substr(0, brace);
  const std::string labels =
      brace == std::string::npos ? "" : metric.substr(brace + 1, metric.rfind('}') - brace - 1);
  double sum = 0;
  for (std::size_t from = 0; from < text.size();) {
    const auto end = std::min(text.find('\n', from), text.size());
    const std::string_view line = std::string_view(text).substr(from, end - from);
    from = end + 1;
    if (!line.starts_with(name)) continue;
    const auto rest = line.substr(name.size());
    if (!rest.starts_with('{') && !rest.starts_with(' ')) continue;
    if (!rest.contains(labels)) continue;
    const auto value = rest.substr(rest.rfind('}') == std::string_view::npos ? 0 : rest.rfind('}') + 1);
    sum += std::strtod(std::string(value).c_str(), nullptr);
  }
  return sum;
}

Result measure(const Options& options) {
  return Run(options).run();
}

}  // namespace turnpike::bench
