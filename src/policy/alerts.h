// What an operator wants to be told of: a signal, and what is too much of it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/time.h"

namespace turnpike::policy {

enum class Signal : std::uint8_t {
  kApiTime,  // ms that a request took of ours: no upstream's time, no stream, no file, no wait asked for
  kGenerationTime,  // ms from a job's last start, or a call's acceptance, to its completion
  kErrorRate,       // permille of jobs and calls that failed, of all that completed or failed
  kQueueLength,     // jobs that wait for their turn
  kConnections,     // open ones, of clients
  kStorage,         // permille of the disk that has the data folder, by whomever it is used
  kBandwidth,       // bytes a second that answers' bodies take
  kCost,            // nano-USD that was charged
  kUpstreamDown,    // upstreams whose breaker is open
};
constexpr std::size_t kSignals = 9;
const char* signal_name(Signal signal);  // "api_time"
const char* signal_unit(
    Signal signal);  // of AlertRule::over, as shown: "ms", "percent", "count", "bytes_per_second", "usd"

// Signals of time are about a share: more than kSlowPermille of what ended within the time took longer, which
// is to say that its 95th percentile did.
constexpr std::int64_t kSlowPermille = 50;
constexpr bool is_time(Signal signal) {
  return signal == Signal::kApiTime || signal == Signal::kGenerationTime;
}
// What is counted for each end of a request, a job or a call.
constexpr bool counts_ends(Signal signal) {
  return is_time(signal) || signal == Signal::kErrorRate;
}
// What is looked at as it is now, not over a time.
constexpr bool is_gauge(Signal signal) {
  return signal == Signal::kQueueLength || signal == Signal::kConnections || signal == Signal::kStorage ||
         signal == Signal::kUpstreamDown;
}

struct AlertRule {
  std::string name;
  Signal signal = Signal::kQueueLength;
  std::int64_t over = 0;  // in the signal's own unit, above
  // The time that is looked back over. A gauge has to be over for all of it.
  Duration within = std::chrono::minutes(1);
  std::uint32_t at_least = 20;  // api_time, generation_time, error_rate: fewer say nothing
  friend bool operator==(const AlertRule&, const AlertRule&) = default;
};

// An amount of a signal as JSON writes a number, in signal_unit(): 12.3 of a permille of 123, USD of
// nano-USD.
std::string signal_amount(Signal signal, std::int64_t amount);

}  // namespace turnpike::policy
