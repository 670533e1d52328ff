// What the cache did, in Prometheus' text format: requests by plan and by what became of them, and what is
// kept. The hit rate is (hit + shared) / (hit + shared + miss).
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "node/answer_cache.h"
#include "node/answer_cache_control.h"

namespace turnpike::node {

// Thread-safe.
class CacheMetrics {
 public:
  CacheMetrics();

  void asked(std::string_view plan, CacheResult result);
  std::string text(const AnswerCache::Totals& totals);

 private:
  using Counters = std::array<prometheus::Counter*, kCacheResultCount>;

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Gauge>& bytes_;
  prometheus::Family<prometheus::Gauge>& entries_;
  prometheus::Gauge& flights_;
  prometheus::Counter& evicted_;
  prometheus::Counter& failed_;

  std::mutex mutex_;
  // Guarded by mutex_:
  std::map<std::string, Counters, std::less<>> by_plan_;  // as many as there are plans in the configuration
};

}  // namespace turnpike::node
