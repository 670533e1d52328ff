// The node's own metrics, in Prometheus' text format. What is told for each job costs no look-up of labels;
// what only a scrape needs is computed by the scrape.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "node/alerts.h"
#include "node/open_batch.h"
#include "node/refusals.h"

namespace turnpike::node {

// The counters of one family, by the values of its labels. These are names of the configuration, never of an
// account; but a configuration may change any number of times, so that beyond kSeriesMax what is new is
// counted together, every label being "(other)". Thread-safe.
class CounterSet {
 public:
  static constexpr std::size_t kSeriesMax = 2'000;

  CounterSet(prometheus::Registry& registry, const char* name, const char* help,
             std::vector<std::string> labels);
  // `values`: in the order of the labels.
  void add(std::initializer_list<std::string_view> values, double amount = 1);

 private:
  prometheus::Counter& make(std::initializer_list<std::string_view> values);

  const std::vector<std::string> labels_;
  prometheus::Family<prometheus::Counter>& family_;
  std::mutex mutex_;
  boost::unordered_flat_map<std::string, prometheus::Counter*> series_;  // guarded by mutex_; by values
  std::string key_;                                                      // guarded by mutex_
  prometheus::Counter* other_ = nullptr;                                 // guarded by mutex_
};

class Metrics {
 public:
  // What ends and is charged is told to `alerts`, which lives longer.
  explicit Metrics(Alerts& alerts);

  // By the committer:
  void committed(const OpenBatch& batch, Duration took);
  void picked_up(Duration waited);
  void answered(const engine::AnswerCall& answer);

  // Thread-safe.
  void refused(const Refusal& refusal);
  // `platform`: what all use and hold together.
  std::string text(const engine::Engine::Stats& stats, const engine::UsageView& platform,
                   std::size_t subscribers);

 private:
  void count_end(const engine::JobRow& row);
  void count_charge(const engine::LedgerEntry& entry);
  prometheus::Counter& ended_counter(const engine::JobRow& row);
  void set_gauges(const engine::Engine::Stats& stats, const engine::UsageView& platform,
                  std::size_t subscribers);

  Alerts& alerts_;
  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  prometheus::Family<prometheus::Counter>& ended_;
  prometheus::Counter& completed_;
  prometheus::Histogram& pickup_;
  prometheus::Histogram& duration_;
  prometheus::Histogram& commit_;
  prometheus::Counter& operations_;
  prometheus::Family<prometheus::Gauge>& queued_;
  prometheus::Family<prometheus::Gauge>& running_;
  CounterSet cost_;
  CounterSet cost_reversed_;
  CounterSet usage_;
  CounterSet usage_reversed_;
  CounterSet refusals_;
  CounterSet calls_;
  prometheus::Histogram& call_duration_;
  prometheus::Family<prometheus::Gauge>& held_;
  prometheus::Gauge& held_cost_;
  prometheus::Gauge& subscribers_;
  prometheus::Gauge& resident_;
  // The committer's own: counters by (state, plan, task), and the one used last.
  boost::unordered_flat_map<std::string, prometheus::Counter*> by_kind_;
  std::string key_;
  std::string last_key_;
  prometheus::Counter* last_ = nullptr;
  std::mutex scrape_;
};

}  // namespace turnpike::node
