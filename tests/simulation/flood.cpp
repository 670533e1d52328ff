#include "simulation/flood.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <queue>
#include <unordered_map>
#include <vector>

#include "base/random.h"
#include "engine/engine.h"
#include "simulation/plans.h"
#include "simulation/share_meter.h"

namespace turnpike::simulation {

using engine::Changes;
using engine::Engine;
using policy::class_index;
using policy::PriorityClass;
using std::chrono::milliseconds;

namespace {

constexpr std::array kClasses{PriorityClass::kCritical, PriorityClass::kHigh, PriorityClass::kStandard,
                              PriorityClass::kLow};
constexpr std::array<double, 4> kPromisedPermille{650, 200, 100, 50};
constexpr double kTolerancePermille = 20;
constexpr std::uint32_t kSlots = 20;
constexpr std::uint32_t kTurn = 2;

// Every account always has several jobs waiting; each start submits the next.
class Flood {
 public:
  Flood(std::uint32_t accounts_per_class, std::array<Duration, 4> lengths)
      : lengths_(lengths), engine_(policy(), {}), ids_(0) {
    Changes out = changes();
    engine_.recover({}, now_, out);
    for (std::size_t c = 0; c < kClasses.size(); ++c) {
      for (std::uint32_t i = 0; i < accounts_per_class; ++i) {
        const std::string plan = policy::class_name(kClasses[c]);
        const auto made = engine_.ensure_account(fmt::format("{}{}", plan, i),
                                                 AccountId{ids_.next(now_.wall)}, plan, false, now_, out);
        class_of_[made->row.id] = c;
        accounts_.push_back(made->row.id);
      }
    }
  }

  void run(std::uint64_t jobs) {
    for (const AccountId account : accounts_)
      for (std::uint32_t i = 0; i < kTurn + 2; ++i) submit(account);
    const std::uint64_t warm_up = jobs / 20;
    while (meter_.starts() < warm_up) step();
    meter_.reset(now_.mono);
    while (meter_.starts() < jobs) {
      step();
      // Often enough: a lag does not come and go within so few starts.
      if (meter_.starts() % 4096 == 0) measure_lag();
    }
    measure_lag();
  }

  bool report(double seconds) const {
    bool good = true;
    fmt::print("{:>10}  {:>10}  {:>10}  {:>10}  {:>14}\n", "class", "job", "promised", "measured",
               "worst lag");
    for (std::size_t c = 0; c < kClasses.size(); ++c) {
      const double share = meter_.share_permille(kClasses[c], now_.mono);
      const bool fine = std::abs(share - kPromisedPermille[c]) <= kTolerancePermille && lag_[c] <= lag_max(c);
      fmt::print("{:>10}  {:>7} ms  {:>8.1f} %  {:>8.2f} %  {:>6} of {:>4} jobs{}\n",
                 policy::class_name(kClasses[c]), lengths_[c].count() / 1000, kPromisedPermille[c] / 10,
                 share / 10,
                 fmt::format("{:.1f}",
                             static_cast<double>(lag_[c].count()) / static_cast<double>(lengths_[c].count())),
                 lag_max(c) / lengths_[c], fine ? "" : "  <- out of bounds");
      good = good && fine;
    }
    fmt::print("{} jobs of {} accounts on {} slots in {:.1f} s: {:.1f} us a job\n", meter_.starts(),
               accounts_.size(), kSlots, seconds, 1e6 * seconds / static_cast<double>(meter_.starts()));
    return good;
  }

 private:
  struct Ending {
    Monotonic at;
    TryId id;
    AccountId account;
    bool operator<(const Ending& other) const { return at > other.at || (at == other.at && id > other.id); }
  };

  static policy::PolicyPtr policy() {
    PolicyBuilder builder;
    builder.pool("p0", kSlots);
    for (const PriorityClass each : kClasses) {
      auto plan = simple_plan(policy::class_name(each), each);
      plan.limits.dispatch_batch = kTurn;
      builder.plan(plan);
    }
    return builder.build();
  }

  // A turn and one more of the longest jobs, and as a constant what was charged before it was known what they
  // take.
  static constexpr int kSettlingJobs = 5;
  Duration lag_max(std::size_t c) const { return (kTurn + 1 + kSettlingJobs) * longest(c); }
  Duration longest(std::size_t c) const { return lengths_[c] * 3 / 2; }

  void measure_lag() {
    for (std::size_t c = 0; c < kClasses.size(); ++c)
      lag_[c] = std::max(lag_[c], meter_.lag(kClasses[c], now_.mono));
  }

  Changes changes() {
    Changes out;
    out.batch = ++batch_;
    return out;
  }

  void submit(AccountId account) {
    engine::NewJob job;
    job.id = JobId{ids_.next(now_.wall)};
    job.account = account;
    job.task = policy::class_name(kClasses[class_of_.at(account)]);
    job.route = routed(candidate("p0"));
    Changes out = changes();
    (void)engine_.submit(std::move(job), now_, out);
    took_place(out);
  }

  void took_place(const Changes& out) {
    for (const auto& effect : out.effects) {
      const auto* start = std::get_if<engine::StartTry>(&effect);
      if (!start) continue;
      const std::size_t c = class_of_.at(start->row.account);
      const Duration takes{random_.between(lengths_[c].count() / 2, longest(c).count())};
      meter_.start(start->row.account, kClasses[c], now_.mono);
      endings_.push({.at = now_.mono + takes, .id = start->try_id, .account = start->row.account});
      hungry_.push_back(start->row.account);
    }
  }

  void step() {
    const Ending next = endings_.top();
    endings_.pop();
    now_.wall += next.at - now_.mono;
    now_.mono = next.at;
    alive_.clear();
    if (now_.mono - extended_ > std::chrono::seconds(10)) {
      extended_ = now_.mono;
      alive_ = engine_.live_tries();
      engine_.extend_leases(alive_, now_);
    }
    if (const auto wakeup = engine_.next_wakeup(now_); wakeup && wakeup->count() <= 0) {
      Changes out = changes();
      engine_.advance(now_, 1000, out);
      took_place(out);
    }
    meter_.end(next.account, now_.mono);
    Changes out = changes();
    engine_.settle(next.id, engine::TryCompleted{.output = "{}", .artifacts = {}, .usage = {}}, now_, out);
    took_place(out);
    while (!hungry_.empty()) {
      const AccountId account = hungry_.back();
      hungry_.pop_back();
      submit(account);
    }
  }

  std::array<Duration, 4> lengths_;
  Engine engine_;
  IdSource ids_;
  Random random_{1};
  Timestamp now_{.mono = Monotonic{std::chrono::seconds(1)}, .wall = wall_from_seconds(1'790'000'000)};
  Monotonic extended_{};
  engine::Batch batch_ = 0;
  std::unordered_map<AccountId, std::size_t> class_of_;
  std::vector<AccountId> accounts_;
  std::vector<AccountId> hungry_;  // who has started one and gets another
  std::vector<TryId> alive_;
  std::priority_queue<Ending> endings_;
  ShareMeter meter_;
  std::array<Duration, 4> lag_{};
};

bool run(std::uint64_t jobs, std::uint32_t accounts_per_class, std::array<Duration, 4> lengths) {
  const auto begun = std::chrono::steady_clock::now();
  Flood flood(accounts_per_class, lengths);
  flood.run(jobs);
  return flood.report(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
}

}  // namespace

bool run_flood(std::uint64_t jobs) {
  return run(jobs, 5, {milliseconds(100), milliseconds(200), milliseconds(500), milliseconds(1000)});
}

bool run_million(std::uint64_t jobs, std::uint32_t accounts) {
  return run(jobs, std::max<std::uint32_t>(1, accounts / 4),
             {milliseconds(100), milliseconds(50), milliseconds(500), milliseconds(1000)});
}

}  // namespace turnpike::simulation
