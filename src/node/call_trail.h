// The way of one call as its trace tells it: when it began to wait, and each try at an upstream. It gives
// each try what its upstream is told of the trace. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "base/trace_context.h"
#include "engine/rows.h"

namespace turnpike::node {

class CallTrail {
 public:
  static constexpr std::size_t kTriesMax = 32;  // what comes after them is not written down

  struct Try {
    SpanId span_id{};
    std::string provider, model, model_version, upstream_model;
    Monotonic began{}, ended{};  // ended zero: it runs
    std::string failure{};       // failure_class_name() or "cancelled"; empty: it answered
  };
  struct View {
    JobId call{};            // none: it has not begun
    Monotonic admitted{};    // zero: it was not
    std::vector<Try> tries;  // in the order in which they began
  };

  // `records`: its spans are wanted, and each try is a new span under the one of `context`; else upstreams
  // are told what the client said.
  CallTrail(const TraceContext& context, bool records) : context_(context), records_(records) {}

  void admitted(Monotonic at);
  // The header `traceparent` of the try's requests.
  std::string try_begins(const engine::JobRow& row, Monotonic at);
  void try_ends(std::string_view failure, Monotonic at);
  View view() const;

 private:
  const TraceContext context_;
  const bool records_;
  mutable std::mutex mutex_;
  View seen_;          // guarded by mutex_
  bool open_ = false;  // guarded by mutex_; the last try runs
};

}  // namespace turnpike::node
