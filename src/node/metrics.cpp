#include "node/metrics.h"

#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <fstream>

#include "node/event_hub.h"

namespace turnpike::node {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}

Buckets pickup_buckets() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
}
Buckets duration_buckets() {
  return {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600};
}
Buckets commit_buckets() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1};
}

// Of this process; 0 if the kernel does not say.
double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  file >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

Metrics::Metrics()
    : ended_(BuildCounter()
                 .Name("turnpike_jobs_total")
                 .Help("Jobs that ended, by status, plan and task")
                 .Register(*registry_)),
      completed_(BuildCounter()
                     .Name("turnpike_jobs_completed_total")
                     .Help("Jobs that completed")
                     .Register(*registry_)
                     .Add({})),
      pickup_(BuildHistogram()
                  .Name("turnpike_pickup_seconds")
                  .Help("From when a job began to wait for its turn until its try was handed to a runner")
                  .Register(*registry_)
                  .Add({}, pickup_buckets())),
      duration_(BuildHistogram()
                    .Name("turnpike_job_duration_seconds")
                    .Help("From the acceptance of a job to its completion")
                    .Register(*registry_)
                    .Add({}, duration_buckets())),
      commit_(BuildHistogram()
                  .Name("turnpike_commit_seconds")
                  .Help("Time of one group commit")
                  .Register(*registry_)
                  .Add({}, commit_buckets())),
      operations_(BuildCounter()
                      .Name("turnpike_commit_operations")
                      .Help("Rows written by group commits")
                      .Register(*registry_)
                      .Add({})),
      queued_(BuildGauge()
                  .Name("turnpike_queue_jobs")
                  .Help("Jobs that wait for their turn")
                  .Register(*registry_)),
      running_(BuildGauge().Name("turnpike_running").Help("Tries that run now").Register(*registry_)),
      subscribers_(BuildGauge()
                       .Name("turnpike_event_subscribers")
                       .Help("Open event streams")
                       .Register(*registry_)
                       .Add({})),
      resident_(BuildGauge()
                    .Name("turnpike_process_resident_bytes")
                    .Help("Resident memory of the process")
                    .Register(*registry_)
                    .Add({})) {
  BuildGauge()
      .Name("turnpike_build_info")
      .Help("Always 1")
      .Register(*registry_)
      .Add({{"version", TURNPIKE_VERSION}})
      .Set(1);
}

prometheus::Counter& Metrics::ended_counter(const engine::JobRow& row) {
  key_.clear();
  key_.push_back(static_cast<char>('a' + static_cast<int>(row.state)));
  key_ += row.plan;
  key_.push_back('\0');
  key_ += row.task;
  if (last_ != nullptr && key_ == last_key_) return *last_;
  prometheus::Counter*& counter = by_kind_[key_];
  if (counter == nullptr) {
    counter =
        &ended_.Add({{"status", engine::job_state_name(row.state)}, {"plan", row.plan}, {"task", row.task}});
  }
  last_ = counter;
  last_key_ = key_;
  return *counter;
}

void Metrics::count_end(const engine::JobRow& row) {
  ended_counter(row).Increment();
  if (row.state != engine::JobState::kCompleted) return;
  completed_.Increment();
  duration_.Observe(seconds(row.finished_at - row.created_at));
}

void Metrics::committed(const OpenBatch& batch, Duration took) {
  commit_.Observe(seconds(took));
  operations_.Increment(static_cast<double>(batch.operations()));
  for (const engine::Event& event : batch.commit().events) {
    if (!is_end(event.type)) continue;
    if (const engine::JobRow* row = batch.job(event.job)) count_end(*row);
  }
}

void Metrics::picked_up(Duration waited) {
  pickup_.Observe(seconds(std::max(Duration::zero(), waited)));
}

void Metrics::set_gauges(const engine::Engine::Stats& stats, std::size_t subscribers) {
  for (const auto& pool : stats.pools) {
    running_.Add({{"pool", pool.name}}).Set(pool.running);
    for (std::size_t i = 0; i < policy::kClassCount; ++i) {
      const char* name = policy::class_name(static_cast<policy::PriorityClass>(i + 1));
      queued_.Add({{"pool", pool.name}, {"class", name}}).Set(static_cast<double>(pool.queued[i]));
    }
  }
  subscribers_.Set(static_cast<double>(subscribers));
  resident_.Set(resident_bytes());
}

std::string Metrics::text(const engine::Engine::Stats& stats, std::size_t subscribers) {
  const std::scoped_lock lock(scrape_);
  set_gauges(stats, subscribers);
  return prometheus::TextSerializer{}.Serialize(registry_->Collect());
}

}  // namespace turnpike::node
