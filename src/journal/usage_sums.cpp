#include "journal/usage_sums.h"

namespace turnpike::journal {

Wall usage_bucket(UsageQuery::Grain grain, Wall at) {
  if (grain == UsageQuery::Grain::kHour) return std::chrono::floor<std::chrono::hours>(at);
  return std::chrono::floor<std::chrono::days>(at);
}

void add_entry(UsageSums& sums, const engine::LedgerEntry& entry) {
  using engine::EntryKind;
  if (!entry.account) return;
  for (const auto grain : {UsageQuery::Grain::kHour, UsageQuery::Grain::kDay}) {
    UsageSum& sum = sums[UsageKey{.grain = grain,
                                  .at = usage_bucket(grain, entry.at),
                                  .account = entry.account,
                                  .plan = entry.plan,
                                  .task = entry.task,
                                  .model = entry.model,
                                  .provider = entry.provider}];
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
}

}  // namespace turnpike::journal
