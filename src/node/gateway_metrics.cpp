#include "node/gateway_metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <chrono>

namespace turnpike::node {
namespace {

using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

// Boundaries as the conventions advise them.
const Buckets kDurationBuckets = {0.01, 0.02, 0.04, 0.08,  0.16,  0.32,  0.64,
                                  1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
const Buckets kFirstByteBuckets = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                   0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10};
const Buckets kTokenBuckets = {1,     4,     16,     64,      256,     1024,     4096,
                               16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
const Buckets kOverheadBuckets = {0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025,
                                  0.005,   0.01,   0.05,    0.25,   1};

double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}

std::int64_t amount(const engine::JobRow& row, std::string_view meter) {
  const auto found = std::ranges::find(row.usage, meter, &engine::Usage::value_type::first);
  return found == row.usage.end() ? 0 : found->second;
}

}  // namespace

const char* operation_name(provider::Wire wire) {
  switch (wire) {
    case provider::Wire::kNone:
      return "task";
    case provider::Wire::kChat:
    case provider::Wire::kResponses:
      return "chat";
    case provider::Wire::kCompletions:
      return "text_completion";
    case provider::Wire::kEmbeddings:
      return "embeddings";
    case provider::Wire::kImages:
    case provider::Wire::kImageEdits:
      return "image_generation";
    case provider::Wire::kSpeech:
      return "speech";
    case provider::Wire::kTranscriptions:
      return "transcription";
  }
  return "task";
}

GatewayMetrics::GatewayMetrics()
    : duration_(BuildHistogram()
                    .Name("gen_ai_server_request_duration_seconds")
                    .Help("From the admission of a call to its end")
                    .Register(*registry_)),
      first_byte_(BuildHistogram()
                      .Name("gen_ai_server_time_to_first_token_seconds")
                      .Help("From the admission of a call to the first bytes of its stream")
                      .Register(*registry_)),
      tokens_(BuildHistogram()
                  .Name("gen_ai_client_token_usage")
                  .Help("Tokens of a call, by type")
                  .Register(*registry_)),
      overhead_(BuildHistogram()
                    .Name("turnpike_overhead_seconds")
                    .Help("Of a call: from admission to end, without its waiting for room and its upstream")
                    .Register(*registry_)
                    .Add({}, kOverheadBuckets)) {}

// The labels cost a look-up once a call.
const GatewayMetrics::Series& GatewayMetrics::series(const engine::JobRow& row, const char* operation) {
  key_ = operation;
  for (const std::string* part : {&row.provider, &row.model, &row.upstream_model}) (key_ += '\n') += *part;
  const auto known = series_.find(key_);
  if (known != series_.end()) return known->second;
  const bool full = series_.size() >= kSeriesMax;
  const std::string none = "(other)";
  const prometheus::Labels labels = {{"gen_ai_operation_name", operation},
                                     {"gen_ai_provider_name", full ? none : row.provider},
                                     {"gen_ai_request_model", full ? none : row.model},
                                     {"gen_ai_response_model", full ? none : row.upstream_model}};
  prometheus::Labels input = labels;
  input["gen_ai_token_type"] = "input";
  prometheus::Labels output = labels;
  output["gen_ai_token_type"] = "output";
  const Series made{.duration = &duration_.Add(labels, kDurationBuckets),
                    .first_byte = &first_byte_.Add(labels, kFirstByteBuckets),
                    .input = &tokens_.Add(input, kTokenBuckets),
                    .output = &tokens_.Add(output, kTokenBuckets)};
  if (full) key_ = std::string("(other)\n") + operation;
  return series_.insert_or_assign(key_, made).first->second;
}

void GatewayMetrics::ended(const engine::JobRow& row, const provider::WireCall* wire, const CallTimes& times,
                           Monotonic now) {
  const Duration whole = now - times.admitted;
  overhead_.Observe(seconds(std::max(Duration{0}, whole - times.queued() - times.upstream)));
  const std::scoped_lock lock(mutex_);
  const Series& told = series(row, operation_name(wire == nullptr ? provider::Wire::kNone : wire->kind));
  told.duration->Observe(seconds(whole));
  if (times.first_byte != Monotonic{}) {
    told.first_byte->Observe(seconds(times.first_byte - times.admitted));
  }
  if (const auto used = amount(row, "tokens_in"); used > 0) told.input->Observe(static_cast<double>(used));
  if (const auto made = amount(row, "tokens_out"); made > 0) told.output->Observe(static_cast<double>(made));
}

std::string GatewayMetrics::text() {
  return prometheus::TextSerializer().Serialize(registry_->Collect());
}

}  // namespace turnpike::node
