#include "node/metrics.h"

#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <utility>
#include <variant>

#include "base/result.h"
#include "node/event_hub.h"
#include "policy/meters.h"

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
Buckets call_buckets() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};
}
Buckets commit_buckets() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1};
}

constexpr std::string_view kOther = "(other)";
constexpr double kNanosInUsd = 1e9;

double usd(Money money) {
  return static_cast<double>(money.nanos) / kNanosInUsd;
}

// In the meter's named units: audio_seconds, not milliseconds.
double named_units(const policy::MeterName& name, std::int64_t amount) {
  return static_cast<double>(amount) / static_cast<double>(name.units);
}

// How a call ended that was admitted.
const char* outcome_of(const engine::AnswerCall& answer) {
  if (answer.error) return "refused";
  return answer.row.state == engine::JobState::kCompleted ? "completed" : "failed";
}

// Whether an end is the service's failure: not the input's, and not the plan's.
bool fails_us(const engine::JobRow& row) {
  if (row.state != engine::JobState::kFailed || !row.error) return false;
  return row.error->code != policy::failure_class_name(policy::FailureClass::kInvalidInput) &&
         row.error->code != error_code_name(ErrorCode::kCostCapReached);
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

CounterSet::CounterSet(prometheus::Registry& registry, const char* name, const char* help,
                       std::vector<std::string> labels)
    : labels_(std::move(labels)), family_(BuildCounter().Name(name).Help(help).Register(registry)) {}

void CounterSet::add(std::initializer_list<std::string_view> values, double amount) {
  const std::scoped_lock lock(mutex_);
  key_.clear();
  for (const std::string_view value : values) {
    key_ += value;
    key_.push_back('\0');
  }
  const auto found = series_.find(key_);
  prometheus::Counter& counter = found != series_.end() ? *found->second : make(values);
  counter.Increment(amount);
}

prometheus::Counter& CounterSet::make(std::initializer_list<std::string_view> values) {
  const bool full = series_.size() >= kSeriesMax;
  if (full && other_ != nullptr) return *other_;
  prometheus::Labels labels;
  const auto* value = values.begin();
  for (const std::string& label : labels_) labels.emplace(label, full ? kOther : *value++);
  prometheus::Counter& counter = family_.Add(labels);
  if (full) {
    other_ = &counter;
  } else {
    series_.emplace(key_, &counter);
  }
  return counter;
}

Metrics::Metrics(Alerts& alerts)
    : alerts_(alerts),
      ended_(BuildCounter()
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
      cost_(*registry_, "turnpike_cost_usd_total",
            "Charged cost in USD; what turnpike_cost_reversed_usd_total counts was taken back of it",
            {"plan", "provider", "model"}),
      cost_reversed_(*registry_, "turnpike_cost_reversed_usd_total",
                     "Charged cost in USD that a late report took back", {"plan", "provider", "model"}),
      usage_(*registry_, "turnpike_usage_total", "Use charged to quotas, in each meter's own unit",
             {"plan", "meter"}),
      usage_reversed_(*registry_, "turnpike_usage_reversed_total", "Charged use that a late report took back",
                      {"plan", "meter"}),
      refusals_(*registry_, "turnpike_refusals_total",
                "Refusals by the plan, a limit or the server's state, by code and by whose limit it was",
                {"code", "scope", "plan"}),
      calls_(*registry_, "turnpike_calls_total",
             "Calls that were admitted, by how they ended; refused: they waited for room and got none",
             {"outcome", "plan", "model"}),
      call_duration_(BuildHistogram()
                         .Name("turnpike_call_duration_seconds")
                         .Help("From the acceptance of a call to its completion")
                         .Register(*registry_)
                         .Add({}, call_buckets())),
      held_(BuildGauge()
                .Name("turnpike_held")
                .Help("Held in the platform's current period by work that has not ended, in each meter's own "
                      "unit")
                .Register(*registry_)),
      held_cost_(BuildGauge()
                     .Name("turnpike_held_cost_usd")
                     .Help("Cost in USD held in the platform's current period by work that has not ended")
                     .Register(*registry_)
                     .Add({})),
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
  if (fails_us(row)) alerts_.ended(std::nullopt);
  if (row.state != engine::JobState::kCompleted) return;
  completed_.Increment();
  duration_.Observe(seconds(row.finished_at - row.created_at));
  alerts_.ended(row.finished_at - row.started_at);
}

// Each charge once: its entry names the account's period, but for calls that were lost with the process, of
// which the books of the team and the platform have entries of their own.
void Metrics::count_charge(const engine::LedgerEntry& entry) {
  if (entry.account_period == kNever) return;
  alerts_.charged(entry.cost);
  const auto cost = [&](CounterSet& set, Money amount) {
    if (amount.nanos > 0) set.add({entry.plan, entry.provider, entry.model}, usd(amount));
  };
  cost(cost_, entry.cost);
  cost(cost_reversed_, Money{-entry.cost.nanos});
  for (const policy::MeterName& name : policy::meter_names()) {
    const std::int64_t amount = entry.meters[name.meter];
    if (amount == 0) continue;
    CounterSet& set = amount > 0 ? usage_ : usage_reversed_;
    set.add({entry.plan, name.name}, named_units(name, std::abs(amount)));
  }
}

void Metrics::answered(const engine::AnswerCall& answer) {
  const engine::JobRow& row = answer.row;
  calls_.add({outcome_of(answer), row.plan, row.model});
  if (!answer.error && fails_us(row)) alerts_.ended(std::nullopt);
  if (row.state != engine::JobState::kCompleted) return;
  call_duration_.Observe(seconds(row.finished_at - row.created_at));
  alerts_.ended(row.finished_at - row.created_at);
}

void Metrics::refused(const Refusal& refusal) {
  const std::string_view scope = refusal.limit != nullptr ? std::string_view(refusal.limit->scope) : "none";
  refusals_.add({error_code_name(refusal.code), scope, refusal.plan});
}

void Metrics::committed(const OpenBatch& batch, Duration took) {
  commit_.Observe(seconds(took));
  operations_.Increment(static_cast<double>(batch.operations()));
  for (const engine::Mutation& mutation : batch.commit().mutations) {
    if (const auto* add = std::get_if<engine::AddEntry>(&mutation)) count_charge(add->entry);
  }
  for (const engine::Event& event : batch.commit().events) {
    if (!is_end(event.type)) continue;
    if (const engine::JobRow* row = batch.job(event.job)) count_end(*row);
  }
}

void Metrics::picked_up(Duration waited) {
  pickup_.Observe(seconds(std::max(Duration::zero(), waited)));
}

void Metrics::set_gauges(const engine::Engine::Stats& stats, const engine::UsageView& platform,
                         std::size_t subscribers) {
  for (const auto& pool : stats.pools) {
    running_.Add({{"pool", pool.name}}).Set(pool.running);
    for (std::size_t i = 0; i < policy::kClassCount; ++i) {
      const char* name = policy::class_name(static_cast<policy::PriorityClass>(i + 1));
      queued_.Add({{"pool", pool.name}, {"class", name}}).Set(static_cast<double>(pool.queued[i]));
    }
  }
  std::array<std::int64_t, policy::kMeterCount> held{};
  for (const engine::MeterUsage& usage : platform.meters) {
    if (usage.of) held[policy::index_of(*usage.of)] = usage.held;
  }
  for (const policy::MeterName& name : policy::meter_names()) {
    held_.Add({{"meter", name.name}}).Set(named_units(name, held[policy::index_of(name.meter)]));
  }
  held_cost_.Set(usd(platform.cost_held));
  subscribers_.Set(static_cast<double>(subscribers));
  resident_.Set(resident_bytes());
}

std::string Metrics::text(const engine::Engine::Stats& stats, const engine::UsageView& platform,
                          std::size_t subscribers) {
  const std::scoped_lock lock(scrape_);
  set_gauges(stats, platform, subscribers);
  return prometheus::TextSerializer{}.Serialize(registry_->Collect());
}

}  // namespace turnpike::node
