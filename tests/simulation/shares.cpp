// Seeds in which every account is backlogged all the time: classes get what they are guaranteed, accounts
// their turns.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "engine/durations.h"
#include "simulation/chaos.h"
#include "simulation/plans.h"
#include "simulation/share_meter.h"
#include "simulation/violation.h"
#include "simulation/world.h"

namespace turnpike::simulation {

using policy::class_index;
using policy::PriorityClass;
using std::chrono::milliseconds;

namespace {

constexpr std::uint64_t kStartsToMeasure = 700;
constexpr std::uint64_t kStartsToWarmUp = 200;
constexpr double kEpsilonPermille = 25;

struct Member {
  AccountId id;
  PriorityClass priority_class{};
  Duration shortest{0}, longest{0};
};

class Backlog {
 public:
  Backlog(const SeedOptions& options, Random random, Tally& tally)
      : random_(random),
        slots_(static_cast<std::uint32_t>(random_.between(1, 6))),
        world_(settings(options), plans(), tally) {
    for (const PriorityClass each : classes_) {
      const std::int64_t accounts = random_.between(1, 4);
      // Unequal between classes, and a little within.
      const Duration about{random_.between(20'000, 2'000'000)};
      for (std::int64_t i = 0; i < accounts; ++i) {
        const std::string name = policy::class_name(each);
        const AccountId id = world_.account(fmt::format("{}{}", name, i), name, false);
        members_[id] = {.id = id,
                        .priority_class = each,
                        .shortest = about / 2,
                        .longest = about * random_.between(1, 3)};
        longest_ = std::max(longest_, members_[id].longest);
      }
    }
    world_.fate = [this](const engine::StartTry& start) { return fate(start); };
  }

  void run(std::uint32_t& step) {
    for (auto& [id, member] : members_)
      for (std::uint32_t i = 0; i < backlog(); ++i) submit(id);
    const auto run_until = [this, &step](std::uint64_t starts) {
      while (meter_.starts() < starts) {
        world_.run_for(longest_);
        require(++step < 100'000, "I10", "the pool stands still");
      }
    };
    run_until(kStartsToWarmUp);
    meter_.reset(world_.now().mono);
    // As long as the least guaranteed class needs for several jobs of its own.
    run_until(kStartsToMeasure);
    while (meter_.total(world_.now().mono) < 400 * longest_) run_until(meter_.starts() + 50);
    check();
  }

 private:
  WorldOptions settings(const SeedOptions& options) {
    WorldOptions world{.seed = options.seed, .verbose = options.verbose, .broken = options.broken};
    // So that heads are always loaded: what is measured is the order, not the reads.
    world.engine.window_max = 64;
    return world;
  }

  policy::PolicyPtr plans() {
    PolicyBuilder builder;
    builder.pool("p0", slots_);
    for (const auto each :
         {PriorityClass::kLow, PriorityClass::kStandard, PriorityClass::kHigh, PriorityClass::kCritical}) {
      if (classes_.size() > 0 && random_.chance(250)) continue;
      classes_.push_back(each);
      auto plan = simple_plan(policy::class_name(each), each);
      plan.limits.dispatch_batch = static_cast<std::uint32_t>(random_.between(1, 4));
      turn_max_ = std::max(turn_max_, plan.limits.dispatch_batch);
      builder.plan(plan);
    }
    return builder.build();
  }

  std::uint32_t backlog() const { return 2 * slots_ + 2 * turn_max_; }

  void submit(AccountId account) {
    engine::NewJob job;
    job.id = world_.fresh_job_id();
    job.account = account;
    job.task = to_string(account);  // each account's jobs are of their own length
    job.route = routed(candidate("p0"));
    job.body = std::make_shared<engine::JobBody>();
    world_.submit(std::move(job));
  }

  Fate fate(const engine::StartTry& start) {
    const Member& member = members_.at(start.row.account);
    const Duration takes{random_.between(member.shortest.count(), member.longest.count())};
    meter_.start(member.id, member.priority_class, world_.now().mono);
    const Duration lag = meter_.lag(member.priority_class, world_.now().mono);
    // What is charged before it is known how long such jobs take may be far more than they take.
    const Duration dearest = std::max(longest_of(member.priority_class), engine::Durations::kUnknown);
    // Twice: the measure began at some point within the bound.
    const Duration bound = 2 * (turn_max_ + 1 + slots_) * dearest;
    require(measured() == false || lag <= bound, "I7", "an account of class {} lags {} us, {} are bearable",
            policy::class_name(member.priority_class), lag.count(), bound.count());
    world_.later(takes, [this, id = member.id] { meter_.end(id, world_.now().mono); });
    submit(member.id);
    return {.kind = Fate::Kind::kCompletes, .after = takes};
  }

  bool measured() const { return meter_.starts() > 0; }

  Duration longest_of(PriorityClass priority_class) const {
    Duration longest{0};
    for (const auto& [id, member] : members_)
      if (member.priority_class == priority_class) longest = std::max(longest, member.longest);
    return longest;
  }

  void check() {
    const Monotonic now = world_.now().mono;
    const auto total = static_cast<double>(meter_.total(now).count());
    const double unfinished = 1000.0 * 2 * slots_ * static_cast<double>(longest_.count()) / total;
    double rest = 1000;
    for (const PriorityClass each : classes_) {
      if (each == classes_.back()) break;
      const double guaranteed = world_.policy()->share_permille[class_index(each)];
      const double got = meter_.share_permille(each, now);
      rest -= guaranteed;
      require(std::abs(got - guaranteed) <= kEpsilonPermille + unfinished, "I7",
              "class {} got {:.0f} permille of the slot time, guaranteed are {:.0f}",
              policy::class_name(each), got, guaranteed);
    }
    const double first = meter_.share_permille(classes_.back(), now);
    require(std::abs(first - rest) <= 3 * kEpsilonPermille + unfinished, "I7",
            "class {} got {:.0f} permille of the slot time instead of the rest, {:.0f}",
            policy::class_name(classes_.back()), first, rest);
    world_.tally().add(Seen::kShareWindows);
  }

  Random random_;
  std::uint32_t slots_;
  std::uint32_t turn_max_ = 1;
  std::vector<PriorityClass> classes_;  // from low to critical
  World world_;
  std::map<AccountId, Member> members_;
  Duration longest_{0};
  ShareMeter meter_;
};

}  // namespace

void run_shares(const SeedOptions& options, Tally& tally, std::uint32_t& step) {
  step = 0;
  Backlog(options, Random(options.seed * 0x9e3779b97f4a7c15ULL + 3), tally).run(step);
}

}  // namespace turnpike::simulation
