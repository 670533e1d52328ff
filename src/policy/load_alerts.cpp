// The section alerts: what an operator wants to be told of.
#include <fmt/format.h>

#include "base/money.h"
#include "policy/alerts.h"
#include "policy/load_parts.h"

namespace turnpike::policy {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kAlertsMax = 64;
constexpr Money kCostMax{1'000'000'000'000'000'000};  // a billion USD

void read_over(const Value& value, AlertRule& rule) {
  std::uint64_t whole = 0;
  std::uint32_t permille = 0;
  Duration time{0};
  std::string text;
  switch (rule.signal) {
    case Signal::kApiTime:
    case Signal::kGenerationTime:
      if (value.duration(time, milliseconds(1), hours(24)))
        rule.over = std::chrono::duration_cast<milliseconds>(time).count();
      return;
    case Signal::kErrorRate:
    case Signal::kStorage:
      if (value.percent(permille, 0, 999)) rule.over = permille;
      return;
    case Signal::kQueueLength:
    case Signal::kConnections:
    case Signal::kUpstreamDown:
      if (value.whole(whole, 0, 1'000'000'000)) rule.over = static_cast<std::int64_t>(whole);
      return;
    case Signal::kBandwidth:
      if (value.bytes(whole, 1, 1ULL << 40)) rule.over = static_cast<std::int64_t>(whole);
      return;
    case Signal::kCost:
      if (!value.raw_text(text)) return;
      const auto money = parse_money(text, kCostMax);
      money ? void(rule.over = money->nanos) : value.mistake(money.error().message);
      return;
  }
}

}  // namespace

void read_alerts(const Value& value, Policy& policy) {
  value.each([&](const std::string& name, const Value& entry) {
    AlertRule rule;
    rule.name = name;
    entry.section([&](Map& map) {
      const bool known =
          map.require("signal").word(rule.signal, {{"api_time", Signal::kApiTime},
                                                   {"generation_time", Signal::kGenerationTime},
                                                   {"error_rate", Signal::kErrorRate},
                                                   {"queue_length", Signal::kQueueLength},
                                                   {"connections", Signal::kConnections},
                                                   {"storage", Signal::kStorage},
                                                   {"bandwidth", Signal::kBandwidth},
                                                   {"cost", Signal::kCost},
                                                   {"upstream_down", Signal::kUpstreamDown}});
      const Value over = map.at("over");
      const Value at_least = map.at("at_least");
      if (known) {
        if (rule.signal == Signal::kCost) rule.within = hours(1);
        if (counts_ends(rule.signal)) rule.within = std::chrono::minutes(5);
        // Of an upstream that is down one is too many.
        if (over.present() || rule.signal != Signal::kUpstreamDown) read_over(map.require("over"), rule);
        if (at_least.present() && !counts_ends(rule.signal))
          at_least.mistake("belongs to api_time, generation_time and error_rate");
      }
      at_least.whole(rule.at_least, 1, 1'000'000);
      map.at("within").duration(rule.within, seconds(1), hours(24));
    });
    if (policy.alerts.size() == kAlertsMax) entry.mistake(fmt::format("at most {} alerts", kAlertsMax));
    policy.alerts.push_back(std::move(rule));
  });
}

}  // namespace turnpike::policy
