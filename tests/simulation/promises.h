// What was promised to whom, by the checker's own reckoning: from policies and account rows alone.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"
#include "simulation/ledger.h"

namespace turnpike::simulation {

// Who has limits, books and rates: an account, a team, the platform.
struct Who {
  engine::Scope scope{};
  AccountId account;  // kAccount
  std::string team;   // kTeam
  friend auto operator<=>(const Who&, const Who&) = default;
};
std::string to_string(const Who& who);

// What is left of grants once a period has paid with them for what it used and held beyond the plan: the one
// that expires first pays first, and only with what was there in that period.
std::vector<engine::Grant> after_period(std::vector<engine::Grant> grants, const policy::Promise& promise,
                                        const engine::PeriodRow& period);

class Promises {
 public:
  // `ledger` outlives it.
  explicit Promises(const Ledger& ledger) : ledger_(&ledger) {}

  // A policy comes into force. Who lives on by the plan as it was has to be written with `version - 1`.
  void set_policy(policy::PolicyPtr policy, std::uint64_t version);
  const policy::Policy& policy() const { return *policy_; }
  std::map<std::uint64_t, policy::PolicyPtr> policies() const { return policies_; }
  // The accounts that the last policy leaves on the plan as it was.
  const std::vector<AccountId>& grandfathered() const { return grandfathered_; }
  std::uint64_t version() const { return version_; }

  const policy::Plan& plan_of(AccountId id) const;
  std::string team_of(AccountId id) const;
  // The account, its team (if it has one), the platform.
  std::vector<Who> payers(AccountId id) const;
  const policy::Promise& of(const Who& who) const;
  std::optional<std::uint32_t> concurrent_jobs(const Who& who) const;
  std::optional<std::uint32_t> concurrent_calls(const Who& who) const;
  policy::Period period(const Who& who, Wall now) const;

  // Limits with what grants add to them. `book`: the payer's last period as told, or null; where it is over
  // and not closed yet, grants have that to pay for first.
  std::optional<std::int64_t> limit(const Who& who, policy::Meter meter, const engine::PeriodRow* book,
                                    Wall now) const;
  std::optional<std::int64_t> limit(const Who& who, std::string_view content, const engine::PeriodRow* book,
                                    Wall now) const;
  std::optional<Money> cap(const Who& who, const engine::PeriodRow* book, Wall now) const;
  // Nothing may be spent that could pass a cap, of whichever scope.
  bool hard_stop(AccountId id) const;

 private:
  struct Applied {
    std::string plan, overrides;
    std::uint64_t plan_version = 0, version = 0;
    const policy::Plan* base = nullptr;
    std::unique_ptr<const policy::Plan> own;
  };
  const policy::Group* terms(const Who& who) const;
  const policy::Plan* base_plan(const engine::AccountRow& row) const;
  std::vector<engine::Grant> grants(const Who& who, const engine::PeriodRow* book, Wall now) const;

  const Ledger* ledger_;
  policy::PolicyPtr policy_;
  std::uint64_t version_ = 0;
  std::map<std::uint64_t, policy::PolicyPtr> policies_;
  std::vector<AccountId> grandfathered_;
  mutable std::unordered_map<AccountId, Applied> applied_;
};

}  // namespace turnpike::simulation
