// The ledger's entries summed by hour and by day, as the rollups keep them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

#include "journal/journal.h"

namespace turnpike::journal {

// What a rollup's row is named by; the time is the start of its hour or day, UTC.
struct UsageKey {
  UsageQuery::Grain grain{};
  Wall at;
  AccountId account;
  std::string plan, task, model, provider;
  friend auto operator<=>(const UsageKey&, const UsageKey&) = default;
};
struct UsageSum {
  policy::Amounts meters;
  Money cost;
  std::int64_t completed = 0, failed = 0;
  friend bool operator==(const UsageSum&, const UsageSum&) = default;
};
using UsageSums = std::map<UsageKey, UsageSum>;
void add(UsageSum& to, const UsageSum& sum);

// Start of the hour or day that contains `at`.
Wall usage_bucket(UsageQuery::Grain grain, Wall at);
// Adds an entry to its hour and its day. Entries of no account (groups' lost calls) are in their accounts'
// sums already.
void add_entry(UsageSums& sums, const engine::LedgerEntry& entry);

// The same sums for who adds many entries: it counts hours alone, and makes the days of them in the end.
class UsageHours {
 public:
  void add(const engine::LedgerEntry& entry);
  std::size_t size() const { return hours_.size(); }
  // The sums, by hour and by day, of what was added since the last take().
  UsageSums take();

 private:
  // A key without copies of its texts, to look up an entry's own.
  struct View {
    Wall at;
    const engine::LedgerEntry& entry;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(const UsageKey& key) const;
    std::size_t operator()(const View& view) const;
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const UsageKey& a, const UsageKey& b) const { return a == b; }
    bool operator()(const View& view, const UsageKey& key) const;
    bool operator()(const UsageKey& key, const View& view) const { return (*this)(view, key); }
  };
  std::unordered_map<UsageKey, UsageSum, Hash, Equal> hours_;
};

}  // namespace turnpike::journal
