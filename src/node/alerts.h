// What operators are told of by their own rules (policy::AlertRule): what happens is counted as it happens,
// looked at every second, and each alert is raised once and cleared once.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/money.h"
#include "base/time.h"
#include "policy/alerts.h"

namespace turnpike::node {

// What happened within a time that ends now, to a sixtieth of it.
class AlertWindow {
 public:
  static constexpr std::size_t kSlices = 60;
  struct Sums {
    std::int64_t all = 0, bad = 0;
  };

  explicit AlertWindow(Duration within) : slice_(within / kSlices) {}
  void add(Sums sums, Monotonic now);
  Sums sums(Monotonic now) const;

 private:
  struct Slice {
    std::int64_t number = -1;  // of the time since the clock's beginning, in slices; -1: none
    Sums sums;
  };
  std::int64_t number_at(Monotonic now) const { return now.time_since_epoch() / slice_; }

  const Duration slice_;  // at least 1/60 s
  std::array<Slice, kSlices> slices_{};
};

// How a rule stands.
struct AlertState {
  policy::AlertRule rule;
  // As policy::signal_amount() shows it; of a signal of time the permille that took longer.
  std::int64_t value = 0;
  std::vector<std::string> upstreams = {};  // upstream_down: which
  std::optional<Wall> raised_at = {};       // nullopt: it is not raised
};

// An alert that is raised or cleared now.
struct AlertChange {
  AlertState state;  // raised_at: since when it is, or was, raised
  bool raised = false;
  std::string reason = {};  // why it is cleared though nothing says that it is over: "removed", "changed"
  std::string told = {};    // the text that raised it, where its rule was gone when the node started
};
// The text of its event: engine::EventType::kAlertRaised, kAlertCleared.
std::string alert_json(const AlertChange& change);
// The name of the alert in such a text; empty: it has none.
std::string alert_named_in(std::string_view json);
// The unit of AlertState::value as it is shown: that of the rule, but "percent_slower" for signals of time.
const char* alert_value_unit(policy::Signal signal);
std::string alert_value(const AlertState& state);  // as JSON writes a number

// Thread-safe.
class Alerts {
 public:
  static constexpr Duration kEvery = std::chrono::seconds(1);
  // An alert is cleared once it has not been over for so long, or for its `within` where that is less.
  static constexpr Duration kCalm = std::chrono::minutes(1);

  explicit Alerts(std::shared_ptr<const Clock> clock) : clock_(std::move(clock)) {}

  // What is looked at as it is.
  struct Gauges {
    std::uint64_t queued = 0;
    std::int64_t storage_permille = 0;
    std::vector<std::string> upstreams_down;
  };

  // These are the rules from now on. Alerts whose rule is gone or is another are cleared by the next look.
  void set_rules(const std::vector<policy::AlertRule>& rules);
  // An alert that was raised before this start, with this text, is still raised. After set_rules().
  void recall(std::string text, Wall raised_at);
  bool any() const { return any_.load(std::memory_order_relaxed); }

  // How many connections clients have; empty: nobody counts them. The function is called by look() until it
  // is replaced.
  void count_connections(std::function<std::size_t()> count);

  // A request has ended; `own_time` nullopt: what it took was not ours alone.
  void requested(std::optional<Duration> own_time, std::uint64_t bytes_out);
  // A job or call has completed after `took`, or failed (nullopt).
  void ended(std::optional<Duration> took);
  void charged(Money cost);

  std::vector<AlertChange> look(const Gauges& gauges, Timestamp now);
  std::vector<AlertState> states() const;  // by name

 private:
  struct Kept {
    AlertState state;
    AlertWindow window;
    std::optional<Monotonic> over_since = {}, calm_since = {};
  };
  void add(policy::Signal signal, const std::function<AlertWindow::Sums(const policy::AlertRule&)>& sums);
  static bool is_over(Kept& kept, const Gauges& gauges, std::size_t connections, Monotonic now);

  const std::shared_ptr<const Clock> clock_;
  std::atomic<bool> any_ = false;
  mutable std::mutex mutex_;
  std::map<std::string, Kept, std::less<>> kept_;  // guarded by mutex_
  std::vector<AlertChange> gone_;                  // guarded by mutex_; to be cleared by the next look
  std::function<std::size_t()> connections_;       // guarded by mutex_
};

}  // namespace turnpike::node
