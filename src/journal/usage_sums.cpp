#include "journal/usage_sums.h"

#include <functional>
#include <utility>

namespace turnpike::journal {
namespace {

UsageKey key_of(UsageQuery::Grain grain, const engine::LedgerEntry& entry) {
  return {.grain = grain,
          .at = usage_bucket(grain, entry.at),
          .account = entry.account,
          .plan = entry.plan,
          .task = entry.task,
          .model = entry.model,
          .provider = entry.provider};
}

void count(UsageSum& sum, const engine::LedgerEntry& entry) {
  using engine::EntryKind;
  sum.meters += entry.meters;
  sum.cost += entry.cost;
  switch (entry.kind) {
    case EntryKind::kCompleted:
      ++sum.completed;
      break;
    case EntryKind::kFailed:
    case EntryKind::kLost:
    case EntryKind::kCallsLost:
      ++sum.failed;
      break;
    case EntryKind::kReversal:  // its kCorrection follows: the try failed all the same
    case EntryKind::kCorrection:
      break;
  }
}

// Plan, task and provider are mostly given by account and model: equality looks at them, the hash does not.
std::size_t hash(Wall at, AccountId account, const std::string& model) {
  constexpr std::uint64_t kOdd = 0x9e37'79b9'7f4a'7c15;
  const std::uint64_t mixed = (static_cast<std::uint64_t>(unix_micros(at)) * kOdd + account.value) * kOdd;
  return (mixed >> 32) ^ mixed ^ std::hash<std::string>{}(model);
}

}  // namespace

Wall usage_bucket(UsageQuery::Grain grain, Wall at) {
  if (grain == UsageQuery::Grain::kHour) return std::chrono::floor<std::chrono::hours>(at);
  return std::chrono::floor<std::chrono::days>(at);
}

void add(UsageSum& to, const UsageSum& sum) {
  to.meters += sum.meters;
  to.cost += sum.cost;
  to.completed += sum.completed;
  to.failed += sum.failed;
}

void add_entry(UsageSums& sums, const engine::LedgerEntry& entry) {
  if (!entry.account) return;
  for (const auto grain : {UsageQuery::Grain::kHour, UsageQuery::Grain::kDay})
    count(sums[key_of(grain, entry)], entry);
}

std::size_t UsageHours::Hash::operator()(const UsageKey& key) const {
  return hash(key.at, key.account, key.model);
}
std::size_t UsageHours::Hash::operator()(const View& view) const {
  return hash(view.at, view.entry.account, view.entry.model);
}
bool UsageHours::Equal::operator()(const View& view, const UsageKey& key) const {
  return view.at == key.at && view.entry.account == key.account && view.entry.plan == key.plan &&
         view.entry.task == key.task && view.entry.model == key.model && view.entry.provider == key.provider;
}

void UsageHours::add(const engine::LedgerEntry& entry) {
  if (!entry.account) return;
  const View view{.at = usage_bucket(UsageQuery::Grain::kHour, entry.at), .entry = entry};
  auto found = hours_.find(view);
  if (found == hours_.end())
    found = hours_.emplace(key_of(UsageQuery::Grain::kHour, entry), UsageSum{}).first;
  count(found->second, entry);
}

UsageSums UsageHours::take() {
  UsageSums sums;
  for (const auto& [hour, sum] : hours_) {
    UsageKey day = hour;
    day.grain = UsageQuery::Grain::kDay;
    day.at = usage_bucket(day.grain, hour.at);
    journal::add(sums[std::move(day)], sum);
    sums.emplace(hour, sum);
  }
  hours_.clear();
  return sums;
}

}  // namespace turnpike::journal
