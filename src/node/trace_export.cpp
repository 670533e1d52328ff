#include "node/trace_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <iterator>
#include <utility>

#include "node/log.h"

namespace turnpike::node {
namespace asio = boost::asio;
namespace {

constexpr std::chrono::minutes kComplainEvery{1};

// As the specification of OTLP has it.
bool may_be_mended(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

TraceExport::TraceExport(InForce in_force, net::IoThreads& threads, std::shared_ptr<net::Client> client)
    : in_force_(std::move(in_force)),
      threads_(threads),
      client_(std::move(client)),
      group_([](std::string_view what) { log_event(LogLevel::kError, "traces.bug", {{"what", what}}); }) {}

TraceExport::~TraceExport() {
  stop();
}

void TraceExport::add(std::vector<Span> spans) {
  const std::scoped_lock lock(mutex_);
  if (stopping_ || waiting_.size() + spans.size() > kWaitingMax) {
    dropped_ += spans.size();
    return;
  }
  std::ranges::move(spans, std::back_inserter(waiting_));
  if (!running_) {
    running_ = true;
    group_.spawn(threads_.context(0).get_executor(), run());
  } else if (until_full_ && waiting_.size() >= kBatchMax) {
    wake();
  }
}

void TraceExport::wake() {
  if (!timer_) return;
  asio::post(timer_->get_executor(), [timer = timer_] { timer->cancel(); });
}

std::vector<Span> TraceExport::take() {
  const std::scoped_lock lock(mutex_);
  std::vector<Span> batch;
  const auto count = static_cast<std::ptrdiff_t>(std::min(waiting_.size(), kBatchMax));
  batch.reserve(static_cast<std::size_t>(count));
  std::move(waiting_.begin(), waiting_.begin() + count, std::back_inserter(batch));
  waiting_.erase(waiting_.begin(), waiting_.begin() + count);
  return batch;
}

void TraceExport::put_back(std::vector<Span> batch) {
  const std::scoped_lock lock(mutex_);
  const std::size_t room = kWaitingMax - std::min(kWaitingMax, waiting_.size());
  if (batch.size() > room) {
    dropped_ += batch.size() - room;
    batch.resize(room);
  }
  waiting_.insert(waiting_.begin(), std::move_iterator(batch.begin()), std::move_iterator(batch.end()));
}

// `until_full`: or until a batch is. Returns at once while it stops.
asio::awaitable<void> TraceExport::wait(Duration time, bool until_full) {
  auto timer = std::make_shared<asio::steady_timer>(co_await asio::this_coro::executor, time);
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_ || (until_full && waiting_.size() >= kBatchMax)) co_return;
    timer_ = timer;
    until_full_ = until_full;
  }
  co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
  const std::scoped_lock lock(mutex_);
  timer_.reset();
  until_full_ = false;
}

// Lives while there is something to send.
asio::awaitable<void> TraceExport::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  Duration again = kAgainFirst;
  for (;;) {
    co_await wait(kGatherTime, true);
    for (std::vector<Span> batch = take(); !batch.empty(); batch = take()) {
      Sent sent = Sent::kLater;
      auto sending = send(batch, in_force_());
      sent = co_await std::move(sending);
      if (sent != Sent::kLater) {
        again = kAgainFirst;
        continue;
      }
      put_back(std::move(batch));
      co_await wait(again, false);
      again = std::min<Duration>(2 * again, kAgainMax);
      const std::scoped_lock lock(mutex_);
      if (!stopping_) continue;
      dropped_ += waiting_.size();  // the collector is away, and so are we
      waiting_.clear();
    }
    const std::scoped_lock lock(mutex_);
    if (!waiting_.empty()) continue;
    running_ = false;
    idle_.notify_all();
    co_return;
  }
}

asio::awaitable<TraceExport::Sent> TraceExport::send(std::vector<Span>& batch,
                                                     std::shared_ptr<const policy::Policy> policy) {
  if (!policy->otlp) {  // switched off meanwhile
    dropped_ += batch.size();
    co_return Sent::kRefused;
  }
  net::ClientRequest request;
  request.method = "POST";
  request.url = policy->otlp->endpoint + "/v1/traces";
  request.headers.emplace_back("Content-Type", "application/json");
  for (const auto& [name, value] : policy->otlp->headers) request.headers.emplace_back(name, value.reveal());
  request.body = otlp_json(batch, policy->otlp->service_name);
  request.timeout = kSendTime;
  request.response_bytes_max = kAnswerBytesMax;
  Result<net::ClientResponse> answer = fail(ErrorCode::kUpstreamError, "the exchange broke off");
  try {
    auto sending = client_->send(std::move(request));
    answer = co_await std::move(sending);
  } catch (const std::exception& problem) {
    answer.error().cause = problem.what();
  }
  if (!answer) {
    ++failures_;
    complain(answer.error().message, batch.size());
    co_return Sent::kLater;
  }
  if (answer->status >= 200 && answer->status < 300) {
    const std::uint64_t rejected = std::min<std::uint64_t>(rejected_spans(answer->body), batch.size());
    refused_ += rejected;
    sent_ += batch.size() - rejected;
    co_return Sent::kTaken;
  }
  ++failures_;
  complain(fmt::format("the collector answered {}", answer->status), batch.size());
  if (may_be_mended(answer->status)) co_return Sent::kLater;
  refused_ += batch.size();
  co_return Sent::kRefused;
}

void TraceExport::complain(std::string_view why, std::size_t spans) {
  const Monotonic now = SystemClock{}.now().mono;
  if (complained_at_ != Monotonic{} && now - complained_at_ < kComplainEvery) return;
  complained_at_ = now;
  log_event(LogLevel::kWarn, "traces.not_sent", {{"why", why}, {"spans", spans}});
}

std::string TraceExport::metrics_text() const {
  std::size_t waiting = 0;
  {
    const std::scoped_lock lock(mutex_);
    waiting = waiting_.size();
  }
  return fmt::format(
      "# HELP turnpike_trace_spans_total Spans by what became of them: taken by the collector, refused by "
      "it, or "
      "dropped because too many waited\n"
      "# TYPE turnpike_trace_spans_total counter\n"
      "turnpike_trace_spans_total{{outcome=\"sent\"}} {}\n"
      "turnpike_trace_spans_total{{outcome=\"refused\"}} {}\n"
      "turnpike_trace_spans_total{{outcome=\"dropped\"}} {}\n"
      "# HELP turnpike_trace_export_failures_total Requests to the collector that were not answered well\n"
      "# TYPE turnpike_trace_export_failures_total counter\n"
      "turnpike_trace_export_failures_total {}\n"
      "# HELP turnpike_trace_spans_waiting Spans that wait to be sent\n"
      "# TYPE turnpike_trace_spans_waiting gauge\n"
      "turnpike_trace_spans_waiting {}\n",
      sent_.load(), refused_.load(), dropped_.load(), failures_.load(), waiting);
}

void TraceExport::stop() {
  {
    std::unique_lock lock(mutex_);
    if (std::exchange(stopping_, true)) return;
    wake();
    idle_.wait_for(lock, kStopMax, [this] { return !running_; });
  }
  group_.stop(kSendTime);
}

}  // namespace turnpike::node
