// The exporter between requests that never wait and a collector that may do anything.
#include "node/trace_export.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

namespace turnpike::node::testing {
namespace {

namespace asio = boost::asio;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr std::chrono::seconds kPatience{20};

// Answers as it is told, and writes down what it was sent.
class Collector final : public net::Client {
 public:
  // nullopt: it never answers.
  explicit Collector(std::vector<std::optional<int>> statuses) : statuses_(std::move(statuses)) {}

  asio::awaitable<Result<net::ClientResponse>> send(net::ClientRequest request) override {
    const auto status = note(std::move(request));
    if (!status) {
      asio::steady_timer never(co_await asio::this_coro::executor, std::chrono::hours(1));
      co_await never.async_wait(asio::as_tuple(asio::use_awaitable));
    }
    if (!status || *status == 0) co_return fail(ErrorCode::kUpstreamError, "nobody is there");
    co_return net::ClientResponse{.status = *status, .headers = {}, .body = "{}"};
  }
  asio::awaitable<Result<net::ClientResponse>> stream(net::ClientRequest,
                                                      std::function<bool(std::string_view)>) override {
    co_return fail(ErrorCode::kInternal, "not asked for");
  }
  asio::awaitable<Result<std::unique_ptr<net::ClientStream>>> open(net::ClientRequest, Duration) override {
    co_return fail(ErrorCode::kInternal, "not asked for");
  }

  // Waits for so many requests.
  std::vector<net::ClientRequest> asked(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return asked_.size() >= count; });
    return asked_;
  }

 private:
  std::optional<int> note(net::ClientRequest request) {
    const std::scoped_lock lock(mutex_);
    const std::size_t turn = std::min(asked_.size(), statuses_.size() - 1);
    asked_.push_back(std::move(request));
    changed_.notify_all();
    return statuses_[turn];
  }

  const std::vector<std::optional<int>> statuses_;  // the last one stands for all that follow
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<net::ClientRequest> asked_;  // guarded by mutex_
};

policy::PolicyPtr policy_with(bool traced) {
  auto policy = std::make_shared<policy::Policy>();
  if (traced) {
    policy->otlp = policy::Otlp{.endpoint = "http://collector:4318",
                                .headers = {{"Authorization", policy::Secret("Bearer secret")}},
                                .sample_permille = 1000,
                                .service_name = "gateway"};
  }
  return policy;
}

std::vector<Span> spans(std::size_t count) {
  return std::vector<Span>(count,
                           Span{.trace_id = fresh_trace_id(), .span_id = fresh_span_id(), .name = "a"});
}

struct Exporting {
  explicit Exporting(std::vector<std::optional<int>> statuses, bool traced = true)
      : collector(std::make_shared<Collector>(std::move(statuses))),
        traces([policy = policy_with(traced)] { return policy; }, threads, collector) {}
  ~Exporting() { traces.stop(); }

  std::string metrics() const { return traces.metrics_text(); }
  static std::string counted(const char* outcome, std::size_t spans) {
    return fmt::format("turnpike_trace_spans_total{{outcome=\"{}\"}} {}\n", outcome, spans);
  }

  net::IoThreads threads{1};
  std::shared_ptr<Collector> collector;
  TraceExport traces;
};

TEST(TraceExport, WhatWaitsIsSentInOneRequestWithTheHeadersOfTheConfiguration) {
  Exporting world({200});
  world.traces.add(spans(1));
  world.traces.add(spans(2));
  world.traces.stop();
  const auto asked = world.collector->asked(1);
  ASSERT_THAT(asked, SizeIs(1));
  EXPECT_EQ(asked[0].method, "POST");
  EXPECT_EQ(asked[0].url, "http://collector:4318/v1/traces");
  EXPECT_EQ(*net::find_header(asked[0].headers, "content-type"), "application/json");
  EXPECT_EQ(*net::find_header(asked[0].headers, "authorization"), "Bearer secret");
  EXPECT_THAT(asked[0].body, AllOf(HasSubstr("\"gateway\""), HasSubstr("\"spans\":[{")));
  EXPECT_THAT(world.metrics(),
              AllOf(HasSubstr(Exporting::counted("sent", 3)), HasSubstr(Exporting::counted("dropped", 0))));
}

TEST(TraceExport, AFullBatchDoesNotWaitForTheOthers) {
  Exporting world({200});
  const auto begun = std::chrono::steady_clock::now();
  world.traces.add(spans(1));
  world.traces.add(spans(TraceExport::kBatchMax));
  EXPECT_THAT(world.collector->asked(2), SizeIs(2));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, kPatience);
}

TEST(TraceExport, WhatWaitsForACollectorThatIsAwayIsBoundedAndCounted) {
  Exporting world({std::nullopt});
  world.traces.add(spans(TraceExport::kBatchMax));
  ASSERT_THAT(world.collector->asked(1), SizeIs(1));  // and it hangs there
  world.traces.add(spans(TraceExport::kWaitingMax));
  world.traces.add(spans(1));
  world.traces.add(spans(3));
  EXPECT_THAT(world.metrics(), AllOf(HasSubstr(Exporting::counted("dropped", 4)),
                                     HasSubstr("turnpike_trace_spans_waiting 16384\n")));
  const auto begun = std::chrono::steady_clock::now();
  world.traces.stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, kPatience);
  EXPECT_THAT(world.metrics(), HasSubstr(Exporting::counted(
                                   "dropped", 4 + TraceExport::kBatchMax + TraceExport::kWaitingMax)));
}

TEST(TraceExport, WhatALaterAttemptMayMendIsSentAgain) {
  Exporting world({0, 503, 200});
  world.traces.add(spans(TraceExport::kBatchMax));
  const auto asked = world.collector->asked(3);
  ASSERT_THAT(asked, SizeIs(3));
  EXPECT_EQ(asked[0].body, asked[2].body);
  world.traces.stop();
  EXPECT_THAT(world.metrics(), AllOf(HasSubstr(Exporting::counted("sent", TraceExport::kBatchMax)),
                                     HasSubstr("turnpike_trace_export_failures_total 2\n")));
}

TEST(TraceExport, WhatACollectorRefusesIsNotSentAgain) {
  Exporting world({400});
  world.traces.add(spans(2));
  world.traces.stop();
  EXPECT_THAT(world.collector->asked(1), SizeIs(1));
  EXPECT_THAT(world.metrics(), HasSubstr(Exporting::counted("refused", 2)));
}

TEST(TraceExport, ANewPolicyWithoutACollectorEndsIt) {
  Exporting world({200}, false);
  world.traces.add(spans(2));
  world.traces.stop();
  world.traces.add(spans(5));
  EXPECT_THAT(world.metrics(), HasSubstr(Exporting::counted("dropped", 7)));
  EXPECT_THAT(world.collector->asked(0), SizeIs(0));
}

}  // namespace
}  // namespace turnpike::node::testing
