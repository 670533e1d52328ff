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
#include <memory>
#include <mutex>
#include <string>

#include "engine/engine.h"
#include "node/open_batch.h"

namespace turnpike::node {

class Metrics {
 public:
  Metrics();

  // By the committer:
  void committed(const OpenBatch& batch, Duration took);
  void picked_up(Duration waited);

  // Thread-safe.
  std::string text(const engine::Engine::Stats& stats, std::size_t subscribers);

 private:
  void count_end(const engine::JobRow& row);
  prometheus::Counter& ended_counter(const engine::JobRow& row);
  void set_gauges(const engine::Engine::Stats& stats, std::size_t subscribers);

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  prometheus::Family<prometheus::Counter>& ended_;
  prometheus::Counter& completed_;
  prometheus::Histogram& pickup_;
  prometheus::Histogram& duration_;
  prometheus::Histogram& commit_;
  prometheus::Counter& operations_;
  prometheus::Family<prometheus::Gauge>& queued_;
  prometheus::Family<prometheus::Gauge>& running_;
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
