// Worlds of routes with several upstreams of different prices: limits, keys, breakers, pauses and prices that
// change, fallbacks, moves, raises and restarts. The engine is driven directly, each command being durable at
// once; upstream_model.h says when a try may begin, and what is held is reckoned here.
//
//   gateway.cpp         commands, and what follows from them
//   gateway_policy.cpp  random configurations
//   gateway_tries.cpp   how tries end, and time
//   gateway_checks.cpp  what must hold after each command
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/random.h"
#include "engine/engine.h"
#include "simulation/chaos.h"
#include "simulation/upstream_model.h"

namespace turnpike::simulation {

class Gateway {
 public:
  Gateway(const SeedOptions& options, Random random, Tally& tally);
  // `step`: the random action under way.
  void run(std::uint32_t steps, std::uint32_t& step);

 private:
  using Said = UpstreamModel::Said;
  static constexpr std::size_t kPlans = 3;
  static constexpr std::size_t kProviders = 6;
  static constexpr std::size_t kOwnPools = 4;  // providers from there on share the slots of one pool
  static constexpr const char* kSharedPool = "shared";

  struct Live {
    JobId job;
    AccountId account;
    std::string provider;
    policy::PricePtr price;
    bool shared = false;  // runs in the shared pool
    bool silent = false, cancelled = false, timed_out = false;
  };

  // --- The policy
  static std::string provider_name(std::size_t number) { return fmt::format("u{}", number); }
  void put_provider(std::size_t number);
  void bound(policy::Provider& provider);
  void put_plan(std::size_t number);
  policy::PolicyPtr shared() const { return std::make_shared<const policy::Policy>(policy_); }
  policy::RoutePtr some_route();
  void change_policy();
  void pause();

  // --- Commands
  template <typename Do>
  void command(Do what);
  void take(engine::Changes out);
  void act();
  void submit();
  void call();
  void raise();
  void cancel();
  void restart();
  void start();
  void settle_down();

  // --- Tries
  void began(const engine::StartTry& start);
  void end(TryId id, engine::TryOutcome outcome, Said said, std::optional<std::int64_t> used,
           std::optional<Duration> retry_after = {});
  void finish(TryId id);
  void stop(const engine::StopTry& stop);
  engine::Usage some_usage(const policy::Amounts& held);
  policy::Amounts held_of(const Live& live) const;

  // --- Time
  void later(Duration delay, std::function<void()> action) {
    events_.emplace(std::pair(now_.mono + delay, ++order_), std::move(action));
  }
  void run_for(Duration duration);
  void extend_leases();

  // --- Checks
  void check();
  void check_books();
  void check_holders();
  void check_shared_slots() const;

  void answer(const engine::RefillQueue& asked);
  template <typename Asked, typename Wanted, typename Due, typename Refill>
  void answer_timed(const Asked& asked, Wanted wanted, Due due, Refill refill);
  void say(const std::string& text) const {
    if (options_.verbose)
      fmt::print("  {:>12} us  {}\n", (now_.mono.time_since_epoch() - std::chrono::seconds(1000)).count(),
                 text);
  }

  SeedOptions options_;
  Random random_;
  Tally* tally_;
  engine::EngineOptions settings_;
  UpstreamModel model_;
  policy::Policy policy_;
  policy::Overlay overlay_;
  std::uint64_t version_ = 1;
  std::unique_ptr<engine::Engine> engine_;
  Timestamp now_{.mono = Monotonic{std::chrono::seconds(1000)}, .wall = wall_from_seconds(1'790'000'000)};
  IdSource ids_{0};
  engine::Batch batch_ = 0;
  Duration pace_{};
  bool calm_ = false;
  bool count_tokens_ = false;  // of keys
  std::vector<AccountId> accounts_;
  std::vector<JobId> job_ids_;
  std::map<JobId, engine::JobRow> rows_;
  std::map<AccountId, engine::AccountRow> account_rows_;
  std::map<std::pair<AccountId, std::string>, engine::PutQueueCount> counts_;
  using PeriodKey = std::tuple<engine::Scope, AccountId, Wall>;
  std::map<PeriodKey, engine::PeriodRow> periods_, seen_;
  std::set<JobId> calls_;  // admitted and not answered
  std::map<TryId, Live> live_;
  std::multimap<std::pair<Monotonic, std::uint64_t>, std::function<void()>> events_;
  std::uint64_t order_ = 0;
};

template <typename Do>
void Gateway::command(Do what) {
  engine::Changes out;
  out.batch = ++batch_;
  what(out);
  engine_->close_batch(out);
  take(std::move(out));
  check();
}

}  // namespace turnpike::simulation
