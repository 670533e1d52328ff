#include "node/call_trail.h"

#include <utility>

namespace turnpike::node {

void CallTrail::admitted(Monotonic at) {
  const std::scoped_lock lock(mutex_);
  seen_.admitted = at;
}

std::string CallTrail::try_begins(const engine::JobRow& row, Monotonic at) {
  if (!records_) return traceparent(context_);
  TraceContext context = context_;
  context.span_id = fresh_span_id();
  const std::scoped_lock lock(mutex_);
  seen_.call = row.id;
  open_ = seen_.tries.size() < kTriesMax;
  if (open_) {
    seen_.tries.push_back({.span_id = context.span_id,
                           .provider = row.provider,
                           .model = row.model,
                           .model_version = row.model_version,
                           .upstream_model = row.upstream_model,
                           .began = at});
  }
  return traceparent(context);
}

void CallTrail::try_ends(std::string_view failure, Monotonic at) {
  const std::scoped_lock lock(mutex_);
  if (!std::exchange(open_, false)) return;
  seen_.tries.back().ended = at;
  seen_.tries.back().failure = failure;
}

CallTrail::View CallTrail::view() const {
  const std::scoped_lock lock(mutex_);
  return seen_;
}

}  // namespace turnpike::node
