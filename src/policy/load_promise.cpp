// What is promised of quotas, rates and cost: the keys that plans, teams and the platform share; and the
// sections teams, platform, content_types, rules and flags.
#include <fmt/format.h>

#include <algorithm>

#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"
#include "policy/numbers.h"

namespace turnpike::policy {
namespace {

constexpr std::int64_t kQuotaMax =
    1'000'000'000'000;  // of a meter's named units; x units it stays far below kAmountMax
constexpr Money kCapMax{1'000'000'000LL * 1'000'000'000LL};  // a billion USD

// "600", "2.5": in a meter's units, if that is a whole number of them.
std::optional<std::int64_t> quota_amount(std::string_view text, std::int64_t units) {
  const std::size_t point = text.find('.');
  const auto whole = parse_whole(text.substr(0, point));
  if (!whole || *whole > static_cast<std::uint64_t>(kQuotaMax)) return std::nullopt;
  std::int64_t amount = static_cast<std::int64_t>(*whole) * units;
  if (point == std::string_view::npos) return amount;
  std::int64_t unit = units;
  const std::string_view behind = text.substr(point + 1);
  if (behind.empty() || behind.size() > 6) return std::nullopt;
  for (const char digit : behind) {
    if (digit < '0' || digit > '9') return std::nullopt;
    if (unit % 10 != 0 && digit != '0') return std::nullopt;
    unit /= 10;
    amount += (digit - '0') * unit;
  }
  return amount;
}

std::vector<std::string> quota_names(const Policy& policy) {
  std::vector<std::string> names = policy.content_types;
  for (const MeterName& meter : meter_names()) names.emplace_back(meter.name);
  return names;
}

void read_quota(const std::string& name, const Value& value, const Policy& policy, Quotas& out) {
  const auto meter = meter_named(name);
  if (!meter && !contains(policy.content_types, name)) {
    value.mistake(fmt::format("there is no meter or content type `{}`: {}", name,
                              suggestion(name, quota_names(policy))));
    return;
  }
  std::optional<std::int64_t> limit;
  if (!value.is_null() && !value.is_word("unlimited")) {
    std::string text;
    if (!value.raw_text(text)) return;
    const std::int64_t units = meter ? meter_name(*meter).units : 1;
    limit = quota_amount(text, units);
    if (!limit) {
      value.mistake(fmt::format("must be a whole number from 0 to {}, or `unlimited`{}", kQuotaMax,
                                units > 1 ? "; decimals as far as milliseconds are whole" : ""));
      return;
    }
  }
  if (meter) {
    out.meters[index_of(*meter)] = limit;
  } else {
    out.content[name] = limit;
  }
}

void read_rates(const Value& value, Rates& out) {
  value.section([&](Map& rates) {
    rates.at("rps").limit(out.rps, 1, 1'000'000);
    rates.at("rpm").limit(out.rpm, 1, 60'000'000);
    const Value burst = rates.at("burst");
    burst.limit(out.burst, 1, 1'000'000);
    std::optional<std::uint32_t> tokens;
    const Value tpm = rates.at("tpm");
    if (tpm.limit(tokens, 1, 4'000'000'000)) out.tpm = tokens;
    if (burst.present() && out.burst && !out.rps && !out.rpm)
      burst.mistake("needs `rps` or `rpm`: it is how many may come at once within them");
  });
}

void read_cost_cap(const Value& value, std::optional<CostCap>& out) {
  if (value.is_null() || value.is_word("unlimited")) {
    out.reset();
    return;
  }
  value.section([&](Map& cap) {
    CostCap read = out.value_or(CostCap{});
    std::string text;
    const Value monthly = out ? cap.at("monthly_usd") : cap.require("monthly_usd");
    if (monthly.raw_text(text)) {
      if (const auto money = parse_money(text, kCapMax)) {
        read.monthly = *money;
      } else {
        monthly.mistake(money.error().message);
      }
    }
    cap.at("hard_stop").flag(read.hard_stop);
    out = read;
  });
}

void read_period(const Value& value, PeriodRule& out) {
  if (!value.is_map()) {
    PeriodRule::Kind kind = out.kind;
    if (value.word(kind, {{"calendar_month", PeriodRule::Kind::kCalendarMonth},
                          {"anchored_month", PeriodRule::Kind::kAnchored},
                          {"day", PeriodRule::Kind::kDay}})) {
      out = {.kind = kind, .day = {}};
    }
    return;
  }
  value.section([&](Map& period) {
    std::uint32_t day = 1;
    if (!period.require("anchor_day").whole(day, 1, 31)) return;
    out = {.kind = PeriodRule::Kind::kAnchored, .day = static_cast<std::uint8_t>(day)};
  });
}

void read_thresholds(const Value& value, Thresholds& out) {
  if (!value.present()) return;
  Thresholds read;
  const bool is_list = value.list([&](const Value& item) {
    std::uint32_t permille = 0;
    if (!item.percent(permille, 1, 10'000)) return;
    if (!read.empty() && permille <= read.back()) item.mistake("must be larger than the one before it");
    read.push_back(permille);
  });
  if (read.size() > 16) value.mistake("has more than 16 thresholds");
  if (is_list) out = std::move(read);
}

void read_zone(const Value& value, std::string& out) {
  std::string zone;
  if (!value.text(zone, 64)) return;
  if (const auto known = check_zone(zone, {}); !known) {
    value.mistake(known.error().message);
    return;
  }
  out = zone;
}

void read_group(Map& map, const Policy& policy, Group& out) {
  read_promise(map, policy, out.promise);
  read_zone(map.at("time_zone"), out.time_zone);
  map.at("concurrent_jobs").limit(out.concurrent_jobs, 0, 1'000'000);
  map.at("concurrent_calls").limit(out.concurrent_calls, 0, 1'000'000);
}

void read_plan_reference(const Value& value, const Policy& policy, std::string& out) {
  if (value.name(out) && !policy.plans.contains(out))
    value.mistake(fmt::format("unknown plan `{}`: {}", out, suggestion(out, keys_of(policy.plans))));
}

void read_rule_condition(const Value& value, Rule& out) {
  value.section([&](Map& when) {
    std::string meter;
    const Value of = when.require("meter");
    if (of.text(meter, 64)) {
      out.meter = meter_named(meter);
      out.cost = meter == "cost_usd";
      if (!out.meter && !out.cost) {
        std::vector<std::string> known{"cost_usd"};
        for (const MeterName& each : meter_names()) known.emplace_back(each.name);
        of.mistake(fmt::format("there is no meter `{}`: {}", meter, suggestion(meter, known)));
      }
    }
    const Value above = when.at("at_least");
    const Value below = when.at("below");
    if (above.present() == below.present()) {
      when.mistake("needs either `at_least` (acts at once) or `below` (acts when a period ends)");
      return;
    }
    out.when = above.present() ? Rule::When::kAbove : Rule::When::kBelow;
    const Value& amount = above.present() ? above : below;
    std::string text;
    if (!amount.raw_text(text)) return;
    if (out.cost) {
      const auto money = parse_money(text, kCapMax);
      money ? void(out.amount = money->nanos) : amount.mistake(money.error().message);
    } else {
      const auto units = out.meter ? meter_name(*out.meter).units : 1;
      const auto whole = quota_amount(text, units);
      whole ? void(out.amount = *whole)
            : amount.mistake(fmt::format("must be a whole number from 0 to {}", kQuotaMax));
    }
  });
}

}  // namespace

void read_promise(Map& map, const Policy& policy, Promise& out) {
  map.at("quotas").each(
      [&](const std::string& name, const Value& value) { read_quota(name, value, policy, out.quotas); });
  read_rates(map.at("rates"), out.rates);
  read_cost_cap(map.at("cost_cap"), out.cost_cap);
  read_period(map.at("period"), out.period);
  read_thresholds(map.at("thresholds"), out.thresholds);
}

void read_content_types(const Value& value, Policy& policy) {
  value.list([&](const Value& item) {
    std::string name;
    if (!item.name(name)) return;
    if (meter_named(name) || name == "cost_usd") {
      item.mistake(fmt::format("`{}` is the name of a meter: a content type needs another", name));
    } else if (contains(policy.content_types, name)) {
      item.mistake(fmt::format("`{}` stands here twice", name));
    } else {
      policy.content_types.push_back(name);
    }
  });
  if (policy.content_types.size() > 100) value.mistake("has more than 100 content types");
}

void read_groups(const Value& teams, const Value& platform, Policy& policy) {
  policy.platform.name = "platform";
  platform.section([&](Map& map) { read_group(map, policy, policy.platform); });
  teams.each([&](const std::string& name, const Value& value) {
    Group team;
    team.name = name;
    value.section([&](Map& map) { read_group(map, policy, team); });
    policy.teams.insert_or_assign(name, std::move(team));
  });
}

void read_rules(const Value& value, Policy& policy) {
  value.list([&](const Value& item) {
    Rule rule;
    item.section([&](Map& map) {
      map.require("name").name(rule.name);
      const Value from = map.require("from");
      read_plan_reference(from, policy, rule.from);
      if (!rule.from.empty() && rule.from == policy.anonymous_plan()) {
        from.mistake(
            "is the plan of whoever has no key (`public` of an endpoint), who is on it again with the next "
            "request: give `public` a plan of its own");
      }
      const Value to = map.require("to");
      read_plan_reference(to, policy, rule.to);
      if (!rule.to.empty() && rule.to == rule.from) to.mistake("is the plan that the rule moves from");
      read_rule_condition(map.require("when"), rule);
    });
    if (contains(policy.rules, rule.name, &Rule::name))
      item.mistake(fmt::format("there are two rules `{}`", rule.name));
    policy.rules.push_back(std::move(rule));
  });
  if (policy.rules.size() > 100) value.mistake("has more than 100 rules");
}

void read_flags(const Value& value, Policy& policy) {
  value.each([&](const std::string& name, const Value& entry) {
    Flag flag;
    flag.name = name;
    entry.section([&](Map& map) {
      map.at("share").percent(flag.share_permille, 0, 1'000);
      read_references(map.at("plans"), "plan", keys_of(policy.plans), flag.plans);
      map.at("accounts").list([&](const Value& item) {
        std::string user;
        if (item.text(user, 255)) flag.accounts.push_back(std::move(user));
      });
    });
    policy.flags.insert_or_assign(name, std::move(flag));
  });
}

void read_account_zone(const Value& value, Policy& policy) {
  read_zone(value, policy.accounts.time_zone);
}

}  // namespace turnpike::policy
