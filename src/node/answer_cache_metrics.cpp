#include "node/answer_cache_metrics.h"

#include <prometheus/text_serializer.h>

namespace turnpike::node {

using prometheus::BuildCounter;
using prometheus::BuildGauge;

CacheMetrics::CacheMetrics()
    : requests_(
          BuildCounter()
              .Name("turnpike_cache_requests_total")
              .Help("Requests of plans that have a cache, by plan and result: hit, shared (followed one "
                    "in flight), miss, bypass")
              .Register(*registry_)),
      bytes_(BuildGauge()
                 .Name("turnpike_cache_bytes")
                 .Help("Bytes of answers that are kept, on disk and in memory")
                 .Register(*registry_)),
      entries_(BuildGauge()
                   .Name("turnpike_cache_entries")
                   .Help("Answers that are kept, on disk and in memory")
                   .Register(*registry_)),
      flights_(BuildGauge()
                   .Name("turnpike_cache_flights")
                   .Help("Requests in flight that others may follow")
                   .Register(*registry_)
                   .Add({})),
      evicted_(BuildCounter()
                   .Name("turnpike_cache_evicted_total")
                   .Help("Answers that went for want of room")
                   .Register(*registry_)
                   .Add({})),
      failed_(BuildCounter()
                  .Name("turnpike_cache_failures_total")
                  .Help("Reads and writes that the disk or the cache's database refused")
                  .Register(*registry_)
                  .Add({})) {}

void CacheMetrics::asked(std::string_view plan, CacheResult result) {
  if (result == CacheResult::kNone) return;
  const std::scoped_lock lock(mutex_);
  auto known = by_plan_.find(plan);
  if (known == by_plan_.end()) known = by_plan_.emplace(std::string(plan), Counters{}).first;
  prometheus::Counter*& counter = known->second[static_cast<std::size_t>(result)];
  if (counter == nullptr)
    counter = &requests_.Add({{"plan", known->first}, {"result", cache_result_name(result)}});
  counter->Increment();
}

std::string CacheMetrics::text(const AnswerCache::Totals& totals) {
  const std::scoped_lock lock(mutex_);
  bytes_.Add({{"where", "disk"}}).Set(static_cast<double>(totals.stored.bytes));
  bytes_.Add({{"where", "memory"}}).Set(static_cast<double>(totals.hot_bytes));
  entries_.Add({{"where", "disk"}}).Set(static_cast<double>(totals.stored.entries));
  entries_.Add({{"where", "memory"}}).Set(static_cast<double>(totals.hot_entries));
  flights_.Set(static_cast<double>(totals.flights));
  evicted_.Increment(static_cast<double>(totals.stored.evicted) - evicted_.Value());
  failed_.Increment(static_cast<double>(totals.stored.failed) - failed_.Value());
  return prometheus::TextSerializer{}.Serialize(registry_->Collect());
}

}  // namespace turnpike::node
