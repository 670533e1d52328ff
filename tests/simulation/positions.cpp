// Seeds in which nothing new arrives: what was said about positions is compared with the order of starts.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "simulation/chaos.h"
#include "simulation/plans.h"
#include "simulation/violation.h"
#include "simulation/world.h"

namespace turnpike::simulation {

using policy::PriorityClass;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr double kGuessErrorMax = 0.75;  // mean relative error of a world's estimated positions
constexpr std::size_t kGuessesToJudge = 20;

class Quiet {
 public:
  Quiet(const SeedOptions& options, Random random, Tally& tally)
      : random_(random),
        shares_(random_.chance(300)),
        small_windows_(random_.chance(400)),
        world_(settings(options), plans(), tally) {
    const std::int64_t accounts = random_.between(1, 6);
    for (std::int64_t i = 0; i < accounts; ++i)
      accounts_.push_back(
          world_.account(fmt::format("user{}", i), fmt::format("plan{}", random_.below(kPlans)), false));
    takes_ = milliseconds(random_.between(5, 3000));
    world_.fate = [this](const engine::StartTry& start) {
      started_.push_back(start.row.id);
      return Fate{.after = takes_};
    };
  }

  void run(std::uint32_t& step) {
    // So that it is known how long such jobs take: each takes the same, or a few milliseconds would decide.
    for (int i = 0; i < 40; ++i) submit(accounts_[random_.below(accounts_.size())], 0);
    world_.run_for(400 * takes_);
    require(world_.checker().live().empty(), "I1", "the warm-up does not end");
    for (std::uint32_t i = 0; i < kJobs; ++i, ++step)
      submit(accounts_[random_.below(accounts_.size())],
             static_cast<std::int32_t>(random_.chance(300) ? random_.between(0, 2) : 0));
    world_.commit_all();
    world_.run_for(Duration{1});
    started_.clear();
    tell();
    world_.run_for(Duration{takes_.count() * (kJobs + 10)});
    compare();
  }

 private:
  static constexpr std::size_t kPlans = 3;
  static constexpr std::uint32_t kJobs = 60;

  WorldOptions settings(const SeedOptions& options) {
    WorldOptions world{.seed = options.seed, .verbose = options.verbose, .broken = options.broken};
    if (small_windows_) {
      world.engine.window_max = 8;
      world.engine.window_min = 4;
    }
    return world;
  }

  policy::PolicyPtr plans() {
    PolicyBuilder builder;
    builder.pool("p0", static_cast<std::uint32_t>(random_.between(1, 3)));
    for (std::size_t i = 0; i < kPlans; ++i) {
      auto plan = simple_plan(fmt::format("plan{}", i), static_cast<PriorityClass>(random_.between(1, 4)));
      plan.limits.dispatch_batch = static_cast<std::uint32_t>(random_.between(1, 4));
      builder.plan(plan);
    }
    if (!shares_) builder.shares(0, 0, 0, 0);
    return builder.build();
  }

  void submit(AccountId account, std::int32_t priority) {
    engine::NewJob job;
    job.id = world_.fresh_job_id();
    job.account = account;
    job.task = "task";
    job.route = routed(candidate("p0"));
    job.priority = priority;
    job.body = std::make_shared<engine::JobBody>();
    require(world_.submit(std::move(job)).has_value(), "submit", "refused");
  }

  void tell() {
    for (const auto& [id, row] : world_.checker().ledger().jobs()) {
      if (row.state != engine::JobState::kQueued) continue;
      const auto view = world_.engine().queue_view(row, world_.now());
      require(view.has_value() && view->position >= 1, "view", "{} waits and has no place", to_string(id));
      told_[id] = *view;
    }
  }

  void compare() {
    std::size_t guesses = 0;
    double error = 0;
    for (const auto& [id, view] : told_) {
      const auto at = std::ranges::find(started_, id);
      require(at != started_.end(), "I1", "{} did not start", to_string(id));
      const auto actual = static_cast<std::uint64_t>(at - started_.begin()) + 1;
      const auto off = static_cast<double>(std::llabs(static_cast<std::int64_t>(view.position - actual)));
      if (view.exact && !shares_) {
        world_.tally().add(Seen::kExactPositions);
        require(view.position == actual, "position", "{} was said to be exactly number {}, and was number {}",
                to_string(id), view.position, actual);
      } else {
        world_.tally().add(Seen::kEstimatedPositions);
        world_.tally().position_error += off / static_cast<double>(actual);
        error += off / static_cast<double>(actual);
        ++guesses;
      }
    }
    require(guesses < kGuessesToJudge || error / static_cast<double>(guesses) <= kGuessErrorMax, "position",
            "estimated positions were off by {:.0f} %", 100 * error / static_cast<double>(guesses));
  }

  Random random_;
  bool shares_;
  bool small_windows_;
  World world_;
  std::vector<AccountId> accounts_;
  Duration takes_{};
  std::map<JobId, engine::QueueView> told_;
  std::vector<JobId> started_;
};

}  // namespace

void run_positions(const SeedOptions& options, Tally& tally, std::uint32_t& step) {
  step = 0;
  Quiet(options, Random(options.seed * 0x9e3779b97f4a7c15ULL + 2), tally).run(step);
}

}  // namespace turnpike::simulation
