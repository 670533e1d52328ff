// Recounts the books: everything that periods and rollups say, from the entries of the ledger and the jobs
// that have not ended. Shared by all journals; each feeds it one snapshot.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "journal/journal.h"
#include "journal/usage_sums.h"

namespace turnpike::journal {

class Recount {
 public:
  static constexpr std::size_t kMistakesMax = 100;

  // Entries in the order of the ledger. `first_kept`: the time of the oldest row of the ledger; what began
  // before it is not compared with sums, for entries of it are gone.
  void add(const engine::LedgerEntry& entry);
  void add(const engine::JobRow& job);  // that has not ended
  void add(const engine::RunRow& run);  // likewise
  void compare(const engine::PeriodRow& row);
  void compare(const UsageKey& key, const UsageSum& sum);
  // Call last: what was counted and stands in no row.
  BooksReport finish(Wall first_kept);

 private:
  using PeriodKey = std::tuple<engine::Scope, std::uint64_t, std::string, Wall>;
  struct Count {
    policy::Amounts used, held;
    Money cost_used, cost_held;
    std::uint64_t holds = 0;
    std::map<std::string, std::pair<std::int64_t, std::int64_t>> content;  // used, held
    bool compared = false;
  };
  template <typename Each>
  void each_period(AccountId account, const std::string& team, Wall account_period, Wall team_period,
                   Wall platform_period, Each each);
  void hold(AccountId account, const engine::Hold& hold);
  void mistake(std::string text);
  void see_kind(const engine::LedgerEntry& entry);

  BooksReport report_;
  std::map<PeriodKey, Count> periods_;
  std::vector<std::pair<engine::PeriodRow, PeriodKey>> rows_;
  UsageSums sums_;
  std::vector<std::pair<UsageKey, UsageSum>> rollups_;
  std::map<TryId, std::uint8_t> kinds_;  // of each try, by bit: 8 bytes and a little for each
};

}  // namespace turnpike::journal
