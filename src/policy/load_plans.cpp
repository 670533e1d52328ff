// The sections plans and defaults: a plan starts from defaults.plan and says what differs.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"
#include "policy/numbers.h"
#include "policy/resolve.h"

namespace turnpike::policy {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t kSharesMaxPermille = 900;  // what is promised to classes must leave room for order

// A plan while it is read, with what belongs to its class.
struct PlanDraft {
  Plan plan;
  std::optional<std::uint32_t> share_permille;
};

// The shares of the classes as they stand in the file so far.
struct Shares {
  std::array<std::uint32_t, kClassCount> permille{50, 100, 200, 0};  // by class_index
  std::array<std::string, kClassCount> promised_by{};  // the plan that says so; empty: none does
};

constexpr PriorityClass kClasses[] = {PriorityClass::kLow, PriorityClass::kStandard, PriorityClass::kHigh,
                                      PriorityClass::kCritical};

void read_limits(const Value& value, Limits& out) {
  value.section([&](Map& limits) {
    limits.at("concurrent_jobs").limit(out.concurrent_jobs, 0, 1'000'000);
    limits.at("concurrent_calls").limit(out.concurrent_calls, 0, 1'000'000);
    limits.at("batches").limit(out.concurrent_batches, 0, 100'000);
    limits.at("agents").limit(out.agents, 0, 1'000'000);
    limits.at("queue_depth").limit(out.queue_depth, 0, 100'000'000);
    limits.at("dispatch_batch").whole(out.dispatch_batch, 1, 1'000);
    limits.at("batch_operations").limit(out.batch_operations, 1, 100'000);
    limits.at("upload_bytes").bytes(out.upload_bytes_max, 1, 1ULL << 30);
  });
}

void read_backoff(Map& map, Backoff& out) {
  map.at("attempts").whole(out.attempts, 1, 100);
  map.at("base").duration(out.base, milliseconds(1), days(1));
  map.at("factor").factor(out.factor_permille, 1'000, 100'000);
  const Value cap = map.at("cap");
  cap.duration(out.cap, milliseconds(1), days(7));
  map.at("jitter").percent(out.jitter_permille, 0, 1'000);
  if (out.cap < out.base) {
    const std::string why = fmt::format("must be at least base ({})", duration_text(out.base));
    cap.present() ? cap.mistake(why) : map.mistake("cap " + why);
  }
}

void read_retry(const Value& value, Retry& out) {
  value.section([&](Map& retry) {
    const Value by_class = retry.at("by_class");
    read_backoff(retry, out.standard);
    by_class.section([&](Map& classes) {
      for (std::size_t i = 0; i < kFailureClassCount; ++i) {
        const auto failure = static_cast<FailureClass>(i);
        if (!failure_class_retryable(failure)) {
          classes.refuse(failure_class_name(failure), "is never tried again: it cannot succeed");
          continue;
        }
        classes.at(failure_class_name(failure)).section([&](Map& map) {
          Backoff backoff = out.by_class[i].value_or(out.standard);
          read_backoff(map, backoff);
          out.by_class[i] = backoff;
        });
      }
    });
  });
}

void read_tasks(const Value& value, const Policy& policy, Plan& out) {
  if (value.is_word("all")) {
    out.tasks.reset();
    return;
  }
  if (!value.present()) return;
  if (!value.is_list()) {
    value.mistake("must be a list of tasks, or `all`");
    return;
  }
  out.tasks.emplace();
  read_references(value, "task", known_tasks(policy), *out.tasks);
}

void read_provider_order(const Value& value, const Policy& policy, Plan& out) {
  value.each([&](const std::string& task, const Value& entry) {
    const std::vector<std::string> tasks = known_tasks(policy);
    if (!contains(tasks, task)) {
      entry.mistake(fmt::format("unknown task `{}`: {}", task, suggestion(task, tasks)));
      return;
    }
    read_task_providers(task, entry, policy, out);
  });
}

void read_priority_class(const Value& value, PriorityClass& out) {
  value.word(out, {{"critical", PriorityClass::kCritical},
                   {"high", PriorityClass::kHigh},
                   {"standard", PriorityClass::kStandard},
                   {"low", PriorityClass::kLow},
                   {"4", PriorityClass::kCritical},
                   {"3", PriorityClass::kHigh},
                   {"2", PriorityClass::kStandard},
                   {"1", PriorityClass::kLow}});
}

void read_expiry(const Value& value, std::optional<Duration>& out) {
  if (value.is_null() || value.is_word("never")) {
    out.reset();
    return;
  }
  Duration expiry{};
  if (value.duration(expiry, seconds(1), days(365))) out = expiry;
}

void read_share(const Value& value, std::optional<std::uint32_t>& out) {
  std::uint32_t share = 0;
  if (value.percent(share, 0, kSharesMaxPermille)) out = share;
}

void read_content_types_of(const Value& value, const Policy& policy, Plan& out) {
  if (value.is_word("all")) {
    out.content_types.reset();
    return;
  }
  if (!value.present()) return;
  if (!value.is_list()) {
    value.mistake("must be a list of content types, or `all`");
    return;
  }
  out.content_types.emplace();
  read_references(value, "content type", policy.content_types, *out.content_types);
}

void read_plan_keys(Map& map, const Policy& policy, PlanDraft& out) {
  read_share(map.at("guaranteed_share"), out.share_permille);
  map.at("grandfather").flag(out.plan.grandfather);
  map.at("upgrade_to").name(out.plan.upgrade_to);  // a plan; looked up when all are read
  read_overrides(map, policy, out.plan);
}

}  // namespace

void read_task_providers(const std::string& task, const Value& entry, const Policy& policy, Plan& out) {
  std::vector<std::string> order;
  read_references(entry, "provider", keys_of(policy.providers), order);
  for (const std::string& provider : order) {
    const bool serves = std::ranges::any_of(policy.models, [&](const auto& model) {
      return model.second.task == task && model.second.served_by(provider);
    });
    if (!serves)
      entry.mistake(fmt::format("no model of task `{}` is served by provider `{}`", task, provider));
  }
  if (entry.is_empty()) entry.mistake("needs at least one provider");
  out.providers[task] = std::move(order);
}

void read_overrides(Map& map, const Policy& policy, Plan& plan) {
  read_priority_class(map.at("priority_class"), plan.priority_class);
  read_promise(map, policy, plan.promise);
  map.at("admission").word(plan.admission, {{"fast", Admission::kFast}, {"durable", Admission::kDurable}});
  read_content_types_of(map.at("content_types"), policy, plan);
  read_limits(map.at("limits"), plan.limits);
  read_retry(map.at("retry"), plan.retry);
  map.at("attempt_timeout").duration(plan.attempt_timeout, milliseconds(10), hours(24));
  map.at("job_timeout").duration(plan.job_timeout, milliseconds(10), days(30));
  read_expiry(map.at("expire_after"), plan.expire_after);
  read_tasks(map.at("tasks"), policy, plan);
  read_provider_order(map.at("providers"), policy, plan);
  const Value models = map.at("models");
  const bool pinned_well = read_model_policy(models, policy, plan);
  // What plans start from is no plan yet, and is looked at in each of them.
  if (pinned_well && !plan.name.empty()) check_model_policy(models, policy, plan);
  read_plan_cache(map.at("cache"), policy, plan.cache);
  map.at("features").each([&](const std::string& name, const Value& value) {
    bool on = false;
    if (value.flag(on)) plan.features[name] = on;
  });
}

namespace {

// A share is a promise to a class: two plans of one class cannot promise different ones.
void promise_share(const Value& where, const PlanDraft& draft, Shares& shares) {
  if (!draft.share_permille) return;
  const std::size_t index = class_index(draft.plan.priority_class);
  std::string& promised_by = shares.promised_by[index];
  if (!promised_by.empty() && shares.permille[index] != *draft.share_permille) {
    where.mistake(
        fmt::format("promises class {} a guaranteed_share of {}, but plan `{}` of the same class promises "
                    "{}: a share belongs to the class, give them the same",
                    class_name(draft.plan.priority_class), percent_text(*draft.share_permille), promised_by,
                    percent_text(shares.permille[index])));
    return;
  }
  promised_by = draft.plan.name;
  shares.permille[index] = *draft.share_permille;
}

void read_default_shares(const Value& value, Shares& shares) {
  value.section([&](Map& map) {
    for (const PriorityClass c : kClasses)
      map.at(class_name(c)).percent(shares.permille[class_index(c)], 0, kSharesMaxPermille);
  });
}

}  // namespace

void read_plans(const Value& plans, const Value& defaults, Policy& policy) {
  Shares shares;
  PlanDraft start;
  std::optional<Value> share_section;
  defaults.section([&](Map& map) {
    map.at("plan").section([&](Map& plan) { read_plan_keys(plan, policy, start); });
    const Value section = map.at("guaranteed_share");
    if (section.present()) share_section.emplace(section);
    read_default_shares(section, shares);
  });
  const bool read = plans.each([&](const std::string& name, const Value& entry) {
    PlanDraft draft = start;
    draft.plan.name = name;
    entry.section([&](Map& map) { read_plan_keys(map, policy, draft); });
    promise_share(entry, draft, shares);
    policy.plans.insert_or_assign(name, std::move(draft.plan));
  });
  if (read && policy.plans.empty()) plans.mistake("needs at least one plan");
  for (const auto& [name, plan] : policy.plans) {
    if (plan.upgrade_to.empty()) continue;
    if (plan.upgrade_to == name || !policy.plans.contains(plan.upgrade_to)) {
      plans.mistake(fmt::format("`{}.upgrade_to` names `{}`, which is {}", name, plan.upgrade_to,
                                plan.upgrade_to == name ? "the plan itself" : "no plan"));
    }
  }
  const std::uint32_t total = std::accumulate(shares.permille.begin(), shares.permille.end(), 0U);
  if (total > kSharesMaxPermille) {
    share_section.value_or(plans).mistake(
        fmt::format("the guaranteed shares of all classes add up to {}, and may be at most {}: the "
                    "rest is what priorities decide about",
                    percent_text(total), percent_text(kSharesMaxPermille)));
  }
  policy.share_permille = shares.permille;
}

}  // namespace turnpike::policy
