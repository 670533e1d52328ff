// The checker's own view of money: periods, ledger and holds as the mutations tell them, added up again after
// every command. It shares nothing with the engine but the questions that anyone may ask.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"
#include "simulation/call_book.h"
#include "simulation/promises.h"
#include "simulation/tally.h"

namespace turnpike::simulation {

class Books {
 public:
  Books(const Promises& promises, Tally& tally) : promises_(&promises), tally_(&tally) {}

  // Of the command that follows: what a try is said to have used, or that nobody knows.
  void reported(std::optional<engine::Usage> usage, bool completed) {
    usage_ = std::move(usage);
    completed_ = completed;
  }
  // The command has taken place and its rows are not in the ledger yet: what they replace is kept.
  void before(const engine::Changes& out, const Ledger& ledger);
  // A call holds something, or no longer.
  void hold(JobId call, AccountId account, const engine::Hold& hold);
  // Then: I5 (nothing is held beyond a limit but for recorded debt; a try is charged once, for
  // what it used, in the periods and at the price that admitted it) and I6 (held is the sum of what jobs and
  // calls hold, used the sum of the entries). `whole`: the engine's books are compared, too.
  void observe(const engine::Changes& out, const engine::Engine& engine, const Ledger& ledger,
               std::string_view command, Timestamp now, bool whole);
  // A new life begins with what the journal holds, and what calls held in it.
  void restarted(const std::vector<engine::PeriodRow>& periods,
                 const std::vector<engine::LedgerEntry>& entries, const std::vector<engine::JobRow>& jobs,
                 const std::map<RunId, engine::RunRow>& runs, const std::vector<CallBook::Call>& calls);
  // Everything has ended: nothing is held.
  void all_ended() const;

  // The payer's last period as told, over or not; null: it has had none.
  const engine::PeriodRow* last(const Who& who) const;
  // The same, where it is not over.
  const engine::PeriodRow* current(const Who& who, Wall now) const;

 private:
  using Key = std::pair<Who, Wall>;
  enum Count : std::uint8_t { kUsed, kHeld, kCallsHeld, kCounts };
  // What adds up in one period.
  struct Sum {
    policy::Amounts used, held, calls_held, debt;
    Money cost_used, cost_held, cost_calls_held, cost_debt;
    std::uint64_t holds = 0;
    std::map<std::string, std::array<std::int64_t, kCounts>, std::less<>> content;
  };
  struct Held {
    engine::Hold hold;
    bool call = false;
  };

  static Key key_of(const engine::PeriodRow& row) {
    return {Who{row.scope, row.account, row.team}, row.start};
  }
  template <typename Each>
  void each_sum(AccountId account, const std::string& team, Wall account_start, Wall team_start,
                Wall platform_start, Each each);
  void add(AccountId account, const Held& held, int sign);
  void let_go(JobId id);
  // What a run's steps to come count for.
  void see(const engine::RunRow& run);
  void see(const engine::PeriodRow& row, std::string_view command, Timestamp now);
  void see_new_period(const engine::PeriodRow& row, Timestamp now) const;
  void check_sum(const engine::PeriodRow& row);
  void see(const engine::LedgerEntry& entry, bool recovering);
  void see_calls_lost(const engine::LedgerEntry& entry, bool recovering);
  void see_charge(const engine::LedgerEntry& entry, const engine::Hold& hold);
  policy::Amounts expected_use(const engine::Hold& hold) const;
  Money expected_cost(const engine::Hold& hold) const;
  void see_grants(const Ledger& ledger, std::string_view command, Timestamp now);

  const Promises* promises_;
  Tally* tally_;
  // A period of an account that was closed by the command.
  struct Closed {
    policy::Promise promise;
    engine::PeriodRow before;
  };
  std::optional<engine::Usage> usage_;
  bool completed_ = false;
  std::map<AccountId, std::vector<engine::Grant>> grants_before_;
  std::map<AccountId, Closed> closed_;
  std::unordered_map<TryId, engine::Hold> late_;  // of tries that were lost
  std::map<Key, engine::PeriodRow> periods_;
  std::map<Key, Sum> sums_;
  std::unordered_map<JobId, std::pair<AccountId, Held>> holds_;  // before the command
  std::map<std::pair<TryId, engine::EntryKind>, engine::LedgerEntry> entries_;
};

}  // namespace turnpike::simulation
