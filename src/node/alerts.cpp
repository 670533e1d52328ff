#include "node/alerts.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace turnpike::node {
namespace {

using policy::Signal;

std::int64_t permille(AlertWindow::Sums sums) {
  return sums.all == 0 ? 0 : sums.bad * 1'000 / sums.all;
}

std::string quoted_list(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += fmt::format("{}\"{}\"", out.empty() ? "" : ",", name);
  return out;
}

}  // namespace

// --- Window

void AlertWindow::add(Sums sums, Monotonic now) {
  const std::int64_t number = number_at(now);
  Slice& slice = slices_[static_cast<std::size_t>(number) % kSlices];
  if (slice.number != number) slice = {.number = number, .sums = {}};
  slice.sums.all += sums.all;
  slice.sums.bad += sums.bad;
}

AlertWindow::Sums AlertWindow::sums(Monotonic now) const {
  const std::int64_t oldest = number_at(now) - static_cast<std::int64_t>(kSlices) + 1;
  Sums all;
  for (const Slice& slice : slices_) {
    if (slice.number < oldest) continue;
    all.all += slice.sums.all;
    all.bad += slice.sums.bad;
  }
  return all;
}

// --- Texts

const char* alert_value_unit(Signal signal) {
  return policy::is_time(signal) ? "percent_slower" : policy::signal_unit(signal);
}

std::string alert_value(const AlertState& state) {
  const Signal shown = policy::is_time(state.rule.signal) ? Signal::kErrorRate : state.rule.signal;
  return policy::signal_amount(shown, state.value);
}

// Names are those of the configuration: nothing in them is to be escaped.
std::string alert_json(const AlertChange& change) {
  const AlertState& state = change.state;
  const policy::AlertRule& rule = state.rule;
  std::string out = change.told.substr(0, change.told.size() - (change.told.empty() ? 0 : 1));
  if (out.empty()) {
    const std::string value = alert_value(state);
    const std::string over = policy::signal_amount(rule.signal, rule.over);
    out = fmt::format(
        R"({{"alert":"{}","signal":"{}","value":{},"value_unit":"{}","over":{},"over_unit":"{}","within_seconds":{})",
        rule.name, policy::signal_name(rule.signal), value, alert_value_unit(rule.signal), over,
        policy::signal_unit(rule.signal),
        std::chrono::duration_cast<std::chrono::seconds>(rule.within).count());
    if (rule.signal == Signal::kUpstreamDown)
      out += fmt::format(",\"upstreams\":[{}]", quoted_list(state.upstreams));
  }
  if (!change.raised) {
    out += fmt::format(R"(,"raised_at":{})", unix_seconds(state.raised_at.value_or(Wall{})));
    out += change.reason.empty() ? std::string(R"(,"reason":null)")
                                 : fmt::format(R"(,"reason":"{}")", change.reason);
  }
  out.push_back('}');
  return out;
}

std::string alert_named_in(std::string_view json) {
  constexpr std::string_view kHead = R"({"alert":")";
  if (!json.starts_with(kHead)) return {};
  json.remove_prefix(kHead.size());
  return std::string(json.substr(0, json.find('"')));
}

// --- Rules

void Alerts::set_rules(const std::vector<policy::AlertRule>& rules) {
  const std::scoped_lock lock(mutex_);
  std::map<std::string, Kept, std::less<>> before = std::exchange(kept_, {});
  for (const policy::AlertRule& rule : rules) {
    if (auto same = before.extract(rule.name); !same.empty()) {
      if (same.mapped().state.rule == rule) {
        kept_.insert(std::move(same));
        continue;
      }
      if (same.mapped().state.raised_at) gone_.push_back({.state = same.mapped().state, .reason = "changed"});
    }
    kept_.emplace(rule.name, Kept{.state = {.rule = rule}, .window = AlertWindow(rule.within)});
  }
  for (auto& [name, kept] : before) {
    if (kept.state.raised_at) gone_.push_back({.state = std::move(kept.state), .reason = "removed"});
  }
  any_ = !kept_.empty() || !gone_.empty();
}

void Alerts::recall(std::string text, Wall raised_at) {
  const std::scoped_lock lock(mutex_);
  const auto found = kept_.find(alert_named_in(text));
  if (found != kept_.end()) {
    found->second.state.raised_at = raised_at;
    return;
  }
  gone_.push_back(
      {.state = {.rule = {}, .raised_at = raised_at}, .reason = "removed", .told = std::move(text)});
  any_ = true;
}

void Alerts::count_connections(std::function<std::size_t()> count) {
  const std::scoped_lock lock(mutex_);
  connections_ = std::move(count);
}

// --- What happens

void Alerts::add(Signal signal, const std::function<AlertWindow::Sums(const policy::AlertRule&)>& sums) {
  const Monotonic now = clock_->now().mono;
  for (auto& [name, kept] : kept_) {
    if (kept.state.rule.signal == signal) kept.window.add(sums(kept.state.rule), now);
  }
}

void Alerts::requested(std::optional<Duration> own_time, std::uint64_t bytes_out) {
  if (!any()) return;
  const std::scoped_lock lock(mutex_);
  if (own_time) {
    add(Signal::kApiTime, [&](const auto& rule) {
      return AlertWindow::Sums{.all = 1, .bad = *own_time > std::chrono::milliseconds(rule.over) ? 1 : 0};
    });
  }
  add(Signal::kBandwidth,
      [&](const auto&) { return AlertWindow::Sums{.all = static_cast<std::int64_t>(bytes_out)}; });
}

void Alerts::ended(std::optional<Duration> took) {
  if (!any()) return;
  const std::scoped_lock lock(mutex_);
  if (took) {
    add(Signal::kGenerationTime, [&](const auto& rule) {
      return AlertWindow::Sums{.all = 1, .bad = *took > std::chrono::milliseconds(rule.over) ? 1 : 0};
    });
  }
  add(Signal::kErrorRate, [&](const auto&) { return AlertWindow::Sums{.all = 1, .bad = took ? 0 : 1}; });
}

void Alerts::charged(Money cost) {
  if (!any()) return;
  const std::scoped_lock lock(mutex_);
  add(Signal::kCost, [&](const auto&) { return AlertWindow::Sums{.all = cost.nanos}; });
}

// --- The look

bool Alerts::is_over(Kept& kept, const Gauges& gauges, std::size_t connections, Monotonic now) {
  AlertState& state = kept.state;
  const policy::AlertRule& rule = state.rule;
  const AlertWindow::Sums sums = kept.window.sums(now);
  const bool enough = sums.all >= static_cast<std::int64_t>(rule.at_least);
  switch (rule.signal) {
    case Signal::kApiTime:
    case Signal::kGenerationTime:
      state.value = permille(sums);
      return enough && sums.bad * 1'000 > sums.all * policy::kSlowPermille;
    case Signal::kErrorRate:
      state.value = permille(sums);
      return enough && sums.bad * 1'000 > sums.all * rule.over;
    case Signal::kBandwidth:
      state.value = sums.all / std::max<std::int64_t>(
                                   1, std::chrono::duration_cast<std::chrono::seconds>(rule.within).count());
      return state.value > rule.over;
    case Signal::kCost:
      state.value = std::max<std::int64_t>(0, sums.all);
      return state.value > rule.over;
    case Signal::kQueueLength:
      state.value = static_cast<std::int64_t>(gauges.queued);
      break;
    case Signal::kConnections:
      state.value = static_cast<std::int64_t>(connections);
      break;
    case Signal::kStorage:
      state.value = gauges.storage_permille;
      break;
    case Signal::kUpstreamDown:
      state.value = static_cast<std::int64_t>(gauges.upstreams_down.size());
      if (!gauges.upstreams_down.empty()) state.upstreams = gauges.upstreams_down;
      break;
  }
  return state.value > rule.over;
}

std::vector<AlertChange> Alerts::look(const Gauges& gauges, Timestamp now) {
  const std::scoped_lock lock(mutex_);
  std::vector<AlertChange> changes = std::exchange(gone_, {});
  const std::size_t connections = connections_ ? connections_() : 0;
  for (auto& [name, kept] : kept_) {
    const policy::AlertRule& rule = kept.state.rule;
    if (is_over(kept, gauges, connections, now.mono)) {
      kept.calm_since.reset();
      if (!kept.over_since) kept.over_since = now.mono;
      const Duration needed = policy::is_gauge(rule.signal) ? rule.within : Duration{0};
      if (kept.state.raised_at || now.mono - *kept.over_since < needed) continue;
      kept.state.raised_at = now.wall;
      changes.push_back({.state = kept.state, .raised = true});
    } else {
      kept.over_since.reset();
      if (!kept.state.raised_at) continue;
      if (!kept.calm_since) kept.calm_since = now.mono;
      if (now.mono - *kept.calm_since < std::min(rule.within, kCalm)) continue;
      changes.push_back({.state = kept.state});
      kept.calm_since.reset();
      kept.state.raised_at.reset();
      kept.state.upstreams.clear();
    }
  }
  any_ = !kept_.empty();
  return changes;
}

std::vector<AlertState> Alerts::states() const {
  const std::scoped_lock lock(mutex_);
  std::vector<AlertState> all;
  for (const auto& [name, kept] : kept_) all.push_back(kept.state);
  return all;
}

}  // namespace turnpike::node
