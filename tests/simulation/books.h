// The checker's own view of money: periods, ledger and holds as the mutations tell them. It shares nothing
// with the engine but the questions that anyone may ask.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"
#include "simulation/tally.h"

namespace turnpike::simulation {

class Books {
 public:
  using PlanOf = std::function<const policy::Plan&(AccountId)>;

  explicit Books(Tally& tally) : tally_(&tally) {}

  // After every command: I5 (nothing is held beyond a limit but for recorded debt; a try is charged once, in
  // the periods and at the price that admitted it) and I6 (the engine's books are what it told).
  void observe(const engine::Changes& out, const engine::Engine& engine, const policy::Policy& policy,
               const PlanOf& plan_of, bool recovering);
  // A new life begins with what the journal holds.
  void restarted(const std::vector<engine::PeriodRow>& periods,
                 const std::vector<engine::LedgerEntry>& entries, const std::vector<engine::JobRow>& jobs);
  // Everything has ended: nothing is held.
  void all_ended() const;

 private:
  using Key = std::tuple<engine::Scope, AccountId, std::string, Wall>;

  static Key key_of(const engine::PeriodRow& row) { return {row.scope, row.account, row.team, row.start}; }
  void see(const engine::PeriodRow& row, const policy::Promise& promise);
  void see(const engine::LedgerEntry& entry, bool recovering);

  Tally* tally_;
  std::map<Key, engine::PeriodRow> periods_;
  std::unordered_map<JobId, engine::Hold> holds_;  // before the command
  std::map<std::pair<TryId, engine::EntryKind>, engine::LedgerEntry> entries_;
};

}  // namespace turnpike::simulation
