#include "policy/alerts.h"

#include <fmt/format.h>

#include "base/money.h"

namespace turnpike::policy {

const char* signal_name(Signal signal) {
  switch (signal) {
    case Signal::kApiTime:
      return "api_time";
    case Signal::kGenerationTime:
      return "generation_time";
    case Signal::kErrorRate:
      return "error_rate";
    case Signal::kQueueLength:
      return "queue_length";
    case Signal::kConnections:
      return "connections";
    case Signal::kStorage:
      return "storage";
    case Signal::kBandwidth:
      return "bandwidth";
    case Signal::kCost:
      return "cost";
    case Signal::kUpstreamDown:
      return "upstream_down";
  }
  return "api_time";
}

const char* signal_unit(Signal signal) {
  switch (signal) {
    case Signal::kApiTime:
    case Signal::kGenerationTime:
      return "ms";
    case Signal::kErrorRate:
    case Signal::kStorage:
      return "percent";
    case Signal::kQueueLength:
    case Signal::kConnections:
    case Signal::kUpstreamDown:
      return "count";
    case Signal::kBandwidth:
      return "bytes_per_second";
    case Signal::kCost:
      return "usd";
  }
  return "count";
}

std::string signal_amount(Signal signal, std::int64_t amount) {
  if (signal == Signal::kCost) return to_string(Money{amount});
  if (signal != Signal::kErrorRate && signal != Signal::kStorage) return fmt::to_string(amount);
  return amount % 10 == 0 ? fmt::to_string(amount / 10) : fmt::format("{}.{}", amount / 10, amount % 10);
}

}  // namespace turnpike::policy
