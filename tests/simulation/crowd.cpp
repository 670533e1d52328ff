// Thousands of accounts in one world: plans, teams, prices and grants at random, estimates that are wrong,
// crashes, lost leases and pauses past every lease. The whole state is looked at now and then, what a command
// changed always.
#include <fmt/format.h>

#include "simulation/chaos.h"
#include "simulation/plans.h"
#include "simulation/random_work.h"
#include "simulation/violation.h"
#include "simulation/world.h"

namespace turnpike::simulation {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

constexpr std::uint64_t kAccounts = 3'000;
constexpr std::uint32_t kSteps = 2'500;
constexpr std::uint32_t kLookAtAllEvery = 400;
constexpr std::uint32_t kSettlingMinutes = 600;
constexpr std::size_t kPools = 3;

WorldOptions crowd_options(const SeedOptions& options, Random& random) {
  WorldOptions world{.seed = options.seed, .verbose = options.verbose, .broken = options.broken};
  world.engine.lease = seconds(random.between(5, 30));
  world.gather_max = milliseconds(random.between(0, 50));
  world.commit_max = milliseconds(random.between(0, 20));
  world.refill_max = milliseconds(random.between(0, 200));
  world.look_at_all_every = kLookAtAllEvery;
  return world;
}

PolicyShape crowd_shape(Random& random) {
  return {.plans = 6,
          .pools = kPools,
          .shares = random.chance(500),
          .teams = 40,
          .slots_max = 60,
          .grandfather = false,
          .limits_permille = 100};
}

class Crowd {
 public:
  Crowd(const SeedOptions& options, Random random, Tally& tally)
      : random_(random),
        shape_(crowd_shape(random_)),
        world_(crowd_options(options, random_), random_policy(random_, shape_), tally) {
    world_.fate = [this](const engine::StartTry&) { return random_fate(random_, calm_); };
    tally.add(Seen::kCrowds);
  }

  void run(std::uint32_t steps, std::uint32_t& step) {
    for (std::uint64_t i = 0; i < kAccounts; ++i) {
      const std::string plan = fmt::format("plan{}", random_.below(shape_.plans));
      accounts_.push_back(world_.account(fmt::format("user{}", i), plan, false));
      if (random_.chance(200)) change(accounts_.back());
    }
    for (step = 0; step < steps; ++step) {
      if (random_.chance(300)) world_.run_for(milliseconds(random_.between(0, 200)));
      act();
    }
    settle_down();
  }

 private:
  // Each account lives in one pool.
  std::string pool_of(AccountId id) const { return fmt::format("p{}", id.value % kPools); }
  AccountId someone() { return accounts_[random_.below(accounts_.size())]; }

  void act() {
    const std::uint64_t dice = random_.below(1000);
    if (dice < 600) return submit(someone());
    if (dice < 900) {
      const AccountId id = someone();
      world_.admit(random_call(random_, *world_.policy(), world_.fresh_job_id(), id, pool_of(id)));
      return;
    }
    if (dice < 980) return change(someone());
    if (dice < 990) return world_.run_for(minutes(random_.between(0, 3)));
    if (dice < 992) return world_.jump_wall(hours(random_.between(1, 30)));
    if (dice < 995) return world_.stand_still(world_.options().engine.lease * random_.between(1, 4));
    if (dice < 997) return world_.apply(random_policy(random_, shape_));
    if (dice < 999) return world_.recount();
    world_.crash(random_.chance(500), seconds(random_.between(0, 20)));
  }

  void submit(AccountId id) {
    engine::NewJob job;
    job.id = world_.fresh_job_id();
    job.account = id;
    job.task = fmt::format("task{}", random_.below(3));
    job.route = routed(priced_candidate(*world_.policy(), pool_of(id)));
    job.content_type = random_content(random_, *world_.policy());
    job.estimate = random_estimate(random_);
    if (random_.chance(100)) job.run_at = world_.now().wall + seconds(random_.between(0, 300));
    job.body = std::make_shared<const engine::JobBody>();
    world_.submit(std::move(job));
  }

  void change(AccountId id) {
    const engine::AccountRow* row = world_.engine().account(id);
    if (row == nullptr) return;  // its making was lost in a crash
    world_.change(id, random_change(random_, *world_.policy(), world_.checker().plan_of(id), *row,
                                    world_.fresh_grant_id(), world_.now().wall, false));
  }

  // No more comes, everything may run: then all that was acknowledged ends, and nothing is held.
  void settle_down() {
    calm_ = true;
    for (const engine::AccountRow& row : world_.engine().accounts({}, SIZE_MAX)) {
      if (row.overrides.empty()) continue;
      engine::Engine::AccountChange plain;
      plain.overrides = "";
      world_.change(row.id, std::move(plain));
    }
    PolicyBuilder builder;
    for (std::size_t i = 0; i < kPools; ++i) builder.pool(fmt::format("p{}", i), 100);
    for (std::size_t i = 0; i < shape_.plans; ++i)
      builder.plan(simple_plan(fmt::format("plan{}", i), policy::PriorityClass::kStandard));
    world_.apply(builder.build());
    for (std::uint32_t i = 0; i < kSettlingMinutes; ++i) {
      world_.run_for(minutes(1));
      const auto stats = world_.engine().stats();
      if (stats.queued + stats.scheduled == 0 && world_.checker().live().empty() &&
          world_.checker().calls().open() == 0)
        break;
    }
    world_.commit_all();
    world_.recount();
    world_.checker().all_ended();
  }

  Random random_;
  PolicyShape shape_;
  World world_;
  std::vector<AccountId> accounts_;
  bool calm_ = false;
};

}  // namespace

void run_crowd(const SeedOptions& options, Tally& tally, std::uint32_t& step) {
  Random random(options.seed * 0x9e3779b97f4a7c15ULL + 2);
  Crowd(options, random, tally).run(options.steps > 0 ? options.steps : kSteps, step);
}

}  // namespace turnpike::simulation
