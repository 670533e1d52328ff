#include "api/request_record.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "api/request_spans.h"
#include "node/call_trail.h"
#include "node/log.h"
#include "node/trace_export.h"
#include "policy/meters.h"

namespace turnpike::api {
namespace {

using node::LogField;
using node::LogLevel;

constexpr std::size_t kFieldsMax = 40;
constexpr std::uint8_t kSampled = 1;

double milliseconds(Duration d) {
  return static_cast<double>(d.count()) / 1000;
}

void add_text(std::vector<LogField>& fields, std::string_view name, std::string_view text) {
  if (!text.empty()) fields.emplace_back(name, text);
}

void add_time(std::vector<LogField>& fields, std::string_view name, const std::optional<Duration>& time) {
  if (time) fields.emplace_back(name, milliseconds(*time));
}

// What is ours of its time: not what waited for room or an upstream, where all of that is known.
std::optional<Duration> overhead(const RequestRecord& record, Duration whole) {
  if (!record.upstream || record.cache == node::CacheResult::kShared) return std::nullopt;
  return std::max(Duration{0}, whole - record.queued.value_or(Duration{0}) - *record.upstream);
}

void log_request(const RequestRecord& record, Duration whole) {
  const LogLevel level = record.call ? LogLevel::kInfo : LogLevel::kDebug;
  if (!node::log_enabled(level)) return;
  // Texts that fields borrow:
  const std::string account = record.account ? to_string(record.account) : std::string();
  const std::string job = record.job ? to_string(record.job) : std::string();
  const std::string run = record.run ? to_string(record.run) : std::string();
  const std::string cost = record.cost ? to_string(*record.cost) : std::string();
  std::vector<LogField> fields;
  fields.reserve(kFieldsMax);
  add_text(fields, "request", record.id);
  add_text(fields, "method", record.method);
  add_text(fields, "path", record.route);
  fields.emplace_back("status", record.status);
  add_text(fields, "error", record.error);
  add_text(fields, "failure", record.failure);
  add_text(fields, "account", account);
  add_text(fields, "plan", record.plan);
  add_text(fields, "key", record.caller);
  if (record.call) {
    add_text(fields, "job", job);
    add_text(fields, "run", run);
    add_text(fields, "task", record.task);
    add_text(fields, "workflow", record.workflow);
    add_text(fields, "model_asked", record.model_asked);
    add_text(fields, "model", record.model);
    add_text(fields, "version", record.model_version);
    add_text(fields, "provider", record.provider);
    if (record.cache != node::CacheResult::kNone)
      fields.emplace_back("cache", node::cache_result_name(record.cache));
    fields.emplace_back("stream", record.stream);
    for (const auto& [meter, amount] : record.usage) {
      if (policy::meter_reported(meter)) fields.emplace_back(meter, amount);
    }
    add_text(fields, "cost_usd", cost);
    add_time(fields, "queue_ms", record.queued);
    add_time(fields, "ttft_ms", record.first_byte);
    add_time(fields, "upstream_ms", record.upstream);
    if (const auto own = overhead(record, whole)) fields.emplace_back("overhead_us", own->count());
  }
  fields.emplace_back("duration_ms", milliseconds(whole));
  fields.emplace_back("bytes_in", record.bytes_in);
  fields.emplace_back("bytes_out", record.bytes_out);
  if (record.trace) add_text(fields, "trace", text_of(record.trace->trace_id));
  node::log_event(level, "request", fields);
}

// What the client says of its trace.
std::optional<TraceContext> trace_asked(const net::Headers& headers) {
  constexpr std::string_view kName = "traceparent";
  const std::string* header = net::find_header(headers, kName);
  if (header == nullptr) return std::nullopt;
  const auto same = [kName](const auto& each) {
    return std::ranges::equal(each.first, kName, [](char a, char b) {
      return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
    });
  };
  if (std::ranges::count_if(headers, same) != 1) return std::nullopt;
  return parse_traceparent(*header);
}

}  // namespace

void begin_trace(RequestRecord& record, const net::Headers& headers, const policy::Otlp* otlp) {
  record.trace = trace_asked(headers);
  if (otlp != nullptr) {
    if (!record.trace) {
      TraceContext made{.trace_id = fresh_trace_id(), .span_id = {}, .flags = kSampled};
      if (in_sample(made.trace_id, otlp->sample_permille)) record.trace = made;
    } else if (record.trace->sampled()) {
      record.parent = record.trace->span_id;
    }
    record.recorded = record.trace && record.trace->sampled();
    if (record.recorded) record.trace->span_id = fresh_span_id();
  }
  if (record.trace) record.trail = std::make_shared<node::CallTrail>(*record.trace, record.recorded);
}

void note_answer(RequestRecord& record, const node::CallAnswer& answer) {
  const node::CallServing& serving = answer.serving;
  record.provider = serving.provider;
  record.model = serving.model;
  record.model_version = serving.model_version;
  record.upstream_model = serving.upstream_model;
  record.plan = serving.plan;
  record.cache = answer.cache == node::CacheResult::kNone ? record.cache : answer.cache;
  const node::CallTimes& times = answer.times;
  record.queued = times.queued();
  if (times.first_byte != Monotonic{}) record.first_byte = times.first_byte - times.admitted;
  if (answer.stream) return;
  record.upstream = times.upstream;
  const engine::JobRow& row = answer.row;
  record.job = row.id;
  if (!row.plan.empty()) record.plan = row.plan;
  if (!row.upstream_model.empty()) record.upstream_model = row.upstream_model;
  record.usage = row.usage;
  record.cost = row.cost;
  if (row.error) record.failure = row.error->code;
}

void note_job(RequestRecord& record, const node::JobView& job) {
  const engine::JobRow& row = job.row;
  record.job = row.id;
  record.account = row.account;
  record.plan = job.plan;
  record.task = row.task;
  record.provider = row.provider;
  record.model = row.model;
  record.model_version = row.model_version;
  record.upstream_model = row.upstream_model;
  record.failure = row.error ? row.error->code : std::string();
  if (row.first_started_at != kNever)
    record.queued = std::max(Duration{0}, row.first_started_at - row.created_at);
  if (!engine::ended(row.state)) return;
  record.usage = row.usage;
  record.cost = row.cost;
  if (row.started_at != kNever && row.finished_at != kNever)
    record.upstream = std::max(Duration{0}, row.finished_at - row.started_at);
}

LastWord::~LastWord() {
  if (!said_ && record_->status != 0) say(SystemClock{}.now());
}

void LastWord::say(Timestamp now) {
  if (std::exchange(said_, true)) return;
  const Duration whole = std::max(Duration{0}, now.mono - record_->began.mono);
  log_request(*record_, whole);
  std::optional<Duration> own;
  if (!record_->paced) own = record_->call ? overhead(*record_, whole) : std::optional(whole);
  alerts_->requested(own, record_->bytes_out);
  if (traces_ && record_->recorded) traces_->add(spans_of(*record_, whole));
}

}  // namespace turnpike::api
