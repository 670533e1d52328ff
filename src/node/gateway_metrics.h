// What calls over OpenAI's wire took and used, named by OpenTelemetry's conventions for generative AI
// (opentelemetry.io, "Semantic conventions for generative AI metrics", 1.36) as Prometheus spells them.
#pragma once

#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "engine/rows.h"
#include "node/node.h"

namespace turnpike::node {

// gen_ai.operation.name, as the conventions spell it where they know the operation; kNone: "task".
const char* operation_name(provider::Wire wire);

class GatewayMetrics {
 public:
  static constexpr std::size_t kSeriesMax =
      1'000;  // of operation, provider and models; more are not told apart

  GatewayMetrics();

  // A call has ended, and is answered. `wire`: null for a call by task.
  void ended(const engine::JobRow& row, const provider::WireCall* wire, const CallTimes& times,
             Monotonic now);
  // Thread-safe, as all is.
  std::string text();

 private:
  struct Series {
    prometheus::Histogram* duration = nullptr;
    prometheus::Histogram* first_byte = nullptr;
    prometheus::Histogram* input = nullptr;
    prometheus::Histogram* output = nullptr;
  };
  const Series& series(const engine::JobRow& row, const char* operation);

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  prometheus::Family<prometheus::Histogram>& duration_;
  prometheus::Family<prometheus::Histogram>& first_byte_;
  prometheus::Family<prometheus::Histogram>& tokens_;
  prometheus::Histogram& overhead_;
  std::mutex mutex_;
  // Guarded by mutex_:
  std::unordered_map<std::string, Series> series_;
  std::string key_;  // its memory is kept
};

}  // namespace turnpike::node
