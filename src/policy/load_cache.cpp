// The section cache, and the key cache of a plan.
#include <fmt/format.h>

#include <algorithm>

#include "policy/load_parts.h"
#include "policy/numbers.h"
#include "policy/resolve.h"

namespace turnpike::policy {
namespace {

using std::chrono::days;
using std::chrono::seconds;

constexpr std::size_t kFieldBytesMax = 128;

void read_cached_tasks(const Value& value, const Policy& policy, PlanCache& out) {
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

}  // namespace

bool PlanCache::has_task(std::string_view task) const {
  return !tasks || std::ranges::find(*tasks, task) != tasks->end();
}

void read_plan_cache(const Value& value, const Policy& policy, std::optional<PlanCache>& out) {
  if (value.is_null() || value.is_word("none")) {
    out.reset();
    return;
  }
  value.section([&](Map& map) {
    PlanCache read = out.value_or(PlanCache{});
    map.at("scope").word(read.scope,
                         {{"account", PlanCache::Scope::kAccount}, {"shared", PlanCache::Scope::kShared}});
    const Value group = map.at("group");
    if (group.name(read.group) && read.scope != PlanCache::Scope::kShared)
      group.mistake("is who shares with whom: it needs `scope: shared`");
    map.at("ttl").duration(read.ttl, seconds(1), days(365));
    read_cached_tasks(map.at("tasks"), policy, read);
    map.at("charge").word(read.charge,
                          {{"none", PlanCache::Charge::kNone}, {"full", PlanCache::Charge::kFull}});
    const Value normalise = map.at("normalise");
    if (normalise.is_null() || normalise.is_word("none")) {
      read.topic_field.clear();
    } else {
      normalise.section([&](Map& topic) { topic.require("field").text(read.topic_field, kFieldBytesMax); });
    }
    out = std::move(read);
  });
}

void read_cache(const Value& value, Policy& policy) {
  CacheLimits& out = policy.cache;
  value.section([&](Map& cache) {
    cache.at("bytes_max").bytes(out.bytes_max, 1ULL << 20, 1ULL << 50);
    const Value entry = cache.at("entry_bytes_max");
    entry.bytes(out.entry_bytes_max, 1ULL << 10, 256ULL << 20);
    if (out.entry_bytes_max > out.bytes_max) {
      const std::string why = fmt::format("must be at most cache.bytes_max ({})", bytes_text(out.bytes_max));
      entry.present() ? entry.mistake(why) : cache.mistake("entry_bytes_max " + why);
    }
  });
}

}  // namespace turnpike::policy
