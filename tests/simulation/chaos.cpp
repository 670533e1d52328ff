#include "simulation/chaos.h"

#include <fmt/format.h>

#include <algorithm>

#include "simulation/plans.h"
#include "simulation/random_work.h"
#include "simulation/violation.h"
#include "simulation/world.h"

namespace turnpike::simulation {

using engine::ColdJob;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

constexpr std::size_t kStashMax = 12;
constexpr int kRereadsMax = 8;
constexpr std::uint32_t kSettlingMinutes = 600;
constexpr std::uint64_t kCrowdEvery = 100;

WorldOptions world_options(const SeedOptions& options, Random& random) {
  WorldOptions world{.seed = options.seed, .verbose = options.verbose, .broken = options.broken};
  if (random.chance(700)) {
    world.engine.window_max = static_cast<std::size_t>(random.between(4, 16));
    world.engine.window_min = 4;
  }
  if (random.chance(200)) world.engine.window_budget = 24;
  world.engine.lease = seconds(random.between(3, 30));
  world.engine.timeout_grace = milliseconds(random.between(0, 3000));
  world.gather_max = random.chance(300) ? Duration{0} : Duration{milliseconds(random.between(1, 800))};
  world.commit_max = random.chance(300) ? Duration{0} : Duration{milliseconds(random.between(1, 500))};
  world.refill_max = random.chance(300) ? Duration{0} : Duration{milliseconds(random.between(1, 2000))};
  world.advance_max = random.chance(300) ? 1 : 1000;
  return world;
}

class Chaos {
 public:
  Chaos(const SeedOptions& options, Random random, Tally& tally)
      : random_(random),
        generous_(random_.chance(250)),
        shape_{.plans = static_cast<std::size_t>(random_.between(2, 5)),
               .pools = static_cast<std::size_t>(random_.between(1, 3)),
               .shares = random_.chance(500),
               .daily = generous_,
               .limits_permille = generous_ ? 300U : 120U},
        world_(world_options(options, random_), random_policy(random_, shape_), tally) {
    const std::int64_t users = random_.between(1, 10);
    for (std::int64_t i = 0; i < users; ++i) users_.push_back(fmt::format("user{}", i));
    pace_ = milliseconds(random_.between(5, 1500));
    crowd_ = random_.chance(300);
    world_.step_job = [this](AccountId account) { return random_job(account); };
    world_.fate = [this](const engine::StartTry&) { return random_fate(random_, calm_); };
  }

  void run(std::uint32_t steps, std::uint32_t& step) {
    for (step = 0; step < steps; ++step) {
      world_.run_for(Duration{random_.between(0, 2 * pace_.count())});
      act();
      if (random_.chance(50)) world_.recount();
    }
    settle_down();
  }

 private:
  void act();
  void submit();
  bool start_run(AccountId account, const std::string& graph);
  void start_large_runs(AccountId account);
  void run_of_some();
  engine::NewJob random_job(AccountId account);
  void submit_reading_key(engine::NewJob job, int rereads_left);
  void call();
  void change_account();
  std::string some_pool() { return fmt::format("p{}", random_.below(shape_.pools)); }
  void cancel();
  void cancel_reread(JobId id, int rereads_left);
  void retry();
  void stash();
  void change_plan();
  void apply();
  void drain();
  void look();
  void crash();
  void settle_down();
  JobId some_job();
  AccountId some_account();
  Tally& tally() { return world_.tally(); }

  Random random_;
  bool generous_ = false;  // many grants, much that is limited, and days pass
  PolicyShape shape_;
  World world_;
  std::vector<std::string> users_;
  std::vector<JobId> jobs_;
  std::vector<RunId> runs_;
  std::vector<ColdJob> stash_;  // rows as read at some time
  Duration pace_{};
  bool crowd_ = false;  // far more comes than can run
  bool calm_ = false;
};

AccountId Chaos::some_account() {
  const std::string& user = users_[random_.below(users_.size())];
  const engine::AccountRow* known = world_.engine().account_by_user(user);
  if (known) return known->id;
  const std::string plan = fmt::format("plan{}", random_.below(shape_.plans));
  return world_.account(user, world_.policy()->plan(plan) ? plan : "", false);
}

JobId Chaos::some_job() {
  if (jobs_.empty()) return {};
  // Mostly of the latest: the older ones have ended.
  const std::size_t range = random_.chance(600) ? std::min<std::size_t>(jobs_.size(), 30) : jobs_.size();
  return jobs_[jobs_.size() - 1 - random_.below(range)];
}

void Chaos::act() {
  const std::uint64_t dice = random_.below(1000);
  if (dice < (crowd_ ? 570 : 440)) return submit();
  if (dice < 620) return call();
  if (dice < 660) return run_of_some();
  if (dice < 690) return change_account();
  if (dice < 750) return cancel();
  if (dice < 810) return retry();
  if (dice < 860) return stash();
  if (dice < 885) return change_plan();
  if (dice < 905) return apply();
  if (dice < 915) return drain();
  if (dice < (generous_ ? 945 : 925)) {
    tally().add(Seen::kWallJumps);
    if (random_.chance(generous_ ? 800 : 100)) {
      world_.jump_wall(hours(25));
      // Who has grants asks for much in a period that has not been opened yet.
      if (generous_) {
        for (const engine::AccountRow& row : world_.engine().accounts({}, SIZE_MAX))
          if (!row.grants.empty()) start_large_runs(row.id);
      }
      return;
    }
    return world_.jump_wall(random_.chance(500) ? hours(1) : -hours(1));
  }
  if (dice < (generous_ ? 950 : 935)) {
    tally().add(Seen::kLongPauses);
    return world_.run_for(Duration{random_.between(0, Duration(minutes(3)).count())});
  }
  if (dice < 980) return look();
  if (dice < 985) return world_.stand_still(world_.options().engine.lease * random_.between(1, 4));
  crash();
}

void Chaos::submit() {
  const std::int64_t count = random_.chance(100) ? random_.between(2, 20) : 1;
  const AccountId account = some_account();
  for (std::int64_t i = 0; i < count; ++i) {
    engine::NewJob job = random_job(account);
    job.id = world_.fresh_job_id();
    if (random_.chance(300)) job.priority = static_cast<std::int32_t>(random_.between(-3, 3));
    if (random_.chance(150)) {
      job.run_at = world_.now().wall + seconds(random_.between(0, 120));
      tally().add(Seen::kScheduledSubmits);
    }
    if (random_.chance(150)) job.dedupe_key = fmt::format("key{}", random_.below(6));
    submit_reading_key(std::move(job), kRereadsMax);
  }
}

engine::NewJob Chaos::random_job(AccountId account) {
  engine::NewJob job;
  job.account = account;
  job.task = fmt::format("task{}", random_.below(3));
  job.route = routed(priced_candidate(*world_.policy(), some_pool()));
  job.content_type = random_content(random_, *world_.policy());
  job.estimate = random_estimate(random_);
  if (random_.chance(200)) job.max_attempts = static_cast<std::uint32_t>(random_.between(1, 5));
  if (random_.chance(100)) job.options.timeout = seconds(random_.between(1, 20));
  if (random_.chance(50))
    job.options.backoff = policy::Backoff{.base = milliseconds(random_.between(0, 500))};
  auto body = std::make_shared<engine::JobBody>();
  body->input = std::string(random_.chance(20) ? 5000 : 10, 'x');
  job.body = std::move(body);
  return job;
}

// From the largest down, until one is accepted: what is refused changes nothing.
void Chaos::start_large_runs(AccountId account) {
  std::vector<std::pair<std::uint32_t, std::string>> graphs;
  for (int i = 0; i < 24; ++i) {
    std::string text = fmt::to_string(random_.below(1'000'000));
    const RunGraph graph = run_graph(text);
    std::uint32_t jobs = 0;
    for (const auto& begin : what_follows(graph, std::vector<engine::StepRow>(graph.steps.size())).begin)
      jobs += begin.jobs;
    graphs.emplace_back(jobs, std::move(text));
  }
  std::ranges::sort(graphs, std::greater());
  for (const auto& [jobs, text] : graphs) {
    if (start_run(account, text)) return;
  }
}

bool Chaos::start_run(AccountId account, const std::string& graph) {
  const auto answer = world_.start_run(account, graph);
  if (!answer) return false;
  runs_.push_back(answer->id);
  // Its jobs may be cancelled by themselves.
  if (random_.chance(200)) jobs_.push_back(engine::job_of(answer->id, 0));
  return true;
}

// Starts one, or cancels or retries one of the latest.
void Chaos::run_of_some() {
  if (runs_.empty() || random_.chance(600)) {
    start_run(some_account(), fmt::to_string(random_.below(1'000'000)));
    return;
  }
  const RunId id = runs_[runs_.size() - 1 - random_.below(std::min<std::size_t>(runs_.size(), 8))];
  random_.chance(400) ? world_.cancel_run(id) : world_.retry_run(id);
}

void Chaos::submit_reading_key(engine::NewJob job, int rereads_left) {
  if (!job.dedupe_key.empty()) {
    std::tie(job.dedupe_job, job.dedupe_at) = world_.read_key(job.account, job.dedupe_key);
    // Sometimes the answer of the read is under way while others come.
    if (rereads_left == kRereadsMax && random_.chance(300)) {
      return world_.later(milliseconds(random_.between(1, 1500)), [this, job] {
        const auto answer = world_.submit(job);
        if (!answer && answer.error().code == ErrorCode::kStale) {
          world_.commit_all();
          submit_reading_key(job, kRereadsMax - 1);
        } else if (answer) {
          jobs_.push_back(answer->row.id);
        }
      });
    }
  }
  const auto answer = world_.submit(job);
  if (answer) {
    jobs_.push_back(answer->row.id);
  } else if (answer.error().code == ErrorCode::kStale) {
    require(rereads_left > 0, "stale", "a submit stays stale");
    world_.commit_all();
    submit_reading_key(std::move(job), rereads_left - 1);
  }
}

void Chaos::call() {
  const std::int64_t count = random_.chance(200) ? random_.between(2, 10) : 1;
  const AccountId account = some_account();
  for (std::int64_t i = 0; i < count; ++i)
    world_.admit(random_call(random_, *world_.policy(), world_.fresh_job_id(), account, some_pool()));
}

void Chaos::change_account() {
  const AccountId account = some_account();
  world_.change(account, random_change(random_, *world_.policy(), world_.checker().plan_of(account),
                                       *world_.engine().account(account), world_.fresh_grant_id(),
                                       world_.now().wall, generous_));
}

void Chaos::cancel() {
  if (!stash_.empty() && random_.chance(300)) {
    const ColdJob old = stash_[random_.below(stash_.size())];
    const auto answer = world_.cancel(old.row.id, &old);
    if (!answer && answer.error().code == ErrorCode::kStale) cancel_reread(old.row.id, kRereadsMax);
    return;
  }
  const JobId id = some_job();
  if (!id) return;
  if (random_.chance(300)) {
    world_.cancel(id, nullptr);
  } else {
    cancel_reread(id, kRereadsMax);
  }
}

// As the node does it: reads, and reads again once the open batch has committed.
void Chaos::cancel_reread(JobId id, int rereads_left) {
  const auto cold = world_.read(id);
  if (!cold) return;
  const auto answer = world_.cancel(id, &*cold);
  if (answer || answer.error().code != ErrorCode::kStale) return;
  require(rereads_left > 0, "stale", "a cancel of {} stays stale", to_string(id));
  world_.commit_all();
  cancel_reread(id, rereads_left - 1);
}

void Chaos::retry() {
  if (!stash_.empty() && random_.chance(200)) {
    world_.retry(stash_[random_.below(stash_.size())]);
    return;
  }
  for (int i = 0; i < 5; ++i) {
    const JobId id = some_job();
    const auto cold = id ? world_.read(id) : std::nullopt;
    if (!cold) return;
    if (!engine::ended(cold->row.state) && i < 4) continue;
    world_.retry(*cold);
    return;
  }
}

void Chaos::stash() {
  const JobId id = some_job();
  const auto cold = id ? world_.read(id) : std::nullopt;
  if (!cold) return;
  if (stash_.size() >= kStashMax) stash_.erase(stash_.begin());
  stash_.push_back(*cold);
}

void Chaos::change_plan() {
  const std::string& user = users_[random_.below(users_.size())];
  const std::string plan = fmt::format("plan{}", random_.below(shape_.plans));
  if (!world_.policy()->plan(plan)) return;
  world_.account(user, plan, true);
  tally().add(Seen::kPlanChanges);
}

void Chaos::apply() {
  const auto fresh = random_policy(random_, shape_);
  policy::Policy changed = *fresh;
  if (random_.chance(250) && changed.pools.size() > 1) {
    const auto last = std::prev(changed.pools.end());
    changed.providers.erase(last->first + "-provider");
    changed.pools.erase(last);
    tally().add(Seen::kPoolsRemoved);
  }
  if (random_.chance(250) && changed.plans.size() > 1) {
    changed.plans.erase(std::prev(changed.plans.end()));
    tally().add(Seen::kPlansRemoved);
  }
  world_.apply(std::make_shared<const policy::Policy>(std::move(changed)));
}

void Chaos::drain() {
  tally().add(Seen::kDrains);
  world_.set_draining(true);
  world_.run_for(Duration{random_.between(0, 5'000'000)});
  if (random_.chance(500)) world_.stop_running();
  world_.run_for(Duration{random_.between(0, 2'000'000)});
  if (random_.chance(300)) return crash();
  world_.set_draining(false);
}

void Chaos::look() {
  if (random_.chance(500) && !world_.checker().live().empty()) {
    auto it = world_.checker().live().begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(world_.checker().live().size())));
    return world_.progress(it->first);
  }
  const JobId id = some_job();
  const engine::JobRow* row = id ? world_.checker().ledger().job(id) : nullptr;
  if (!row) return;
  const auto view = world_.engine().queue_view(*row, world_.now());
  require(view.has_value() == !engine::ended(row->state), "view", "{} is {} and {} a place", to_string(id),
          job_state_name(row->state), view ? "has" : "lacks");
  if (!view) return;
  const bool waits = row->state != engine::JobState::kProcessing;
  require((view->position > 0) == waits && view->waiting_for.has_value() == waits, "view",
          "{} is {} at position {}", to_string(id), job_state_name(row->state), view->position);
  require(view->eta_seconds.first >= 0 && view->eta_seconds.first <= view->eta_seconds.second, "view",
          "{} is expected in {} to {} s", to_string(id), view->eta_seconds.first, view->eta_seconds.second);
  require(view->ahead_in_account <= world_.checker().ledger().waiting(row->account), "view",
          "{} has {} ahead", to_string(id), view->ahead_in_account);
  const engine::Why why = world_.engine().why(*row, world_.now());
  require(why.account_running == world_.checker().running(row->account), "view", "why tells {} running",
          why.account_running);
}

void Chaos::crash() {
  stash_.clear();
  world_.crash(random_.chance(500), Duration{random_.between(0, 10'000'000)});
}

// No more comes, everything may run: then all that was acknowledged ends.
void Chaos::settle_down() {
  calm_ = true;
  if (world_.draining()) world_.set_draining(false);
  PolicyBuilder builder;
  for (std::size_t i = 0; i < shape_.pools; ++i) builder.pool(fmt::format("p{}", i), 4);
  for (std::size_t i = 0; i < shape_.plans; ++i)
    builder.plan(simple_plan(fmt::format("plan{}", i), policy::PriorityClass::kStandard));
  world_.apply(builder.build());
  for (const engine::AccountRow& row : world_.engine().accounts({}, SIZE_MAX)) {
    if (row.plan_version == 0 && row.overrides.empty()) continue;
    engine::Engine::AccountChange plain;
    plain.plan = row.plan == "plan0" ? "plan1" : "plan0";
    plain.overrides = "";
    plain.by = "simulation";
    world_.change(row.id, std::move(plain));
  }
  for (std::uint32_t i = 0; i < kSettlingMinutes; ++i) {
    world_.run_for(minutes(1));
    const auto stats = world_.engine().stats();
    if (stats.queued + stats.scheduled == 0 && world_.checker().live().empty() &&
        world_.checker().calls().open() == 0 && world_.engine().runs().empty())
      break;
  }
  world_.commit_all();
  world_.recount();
  world_.checker().all_ended();
}

}  // namespace

void run_chaos(const SeedOptions& options, Tally& tally, std::uint32_t& step) {
  Random random(options.seed * 0x9e3779b97f4a7c15ULL + 1);
  const std::uint32_t steps =
      options.steps > 0 ? options.steps : static_cast<std::uint32_t>(random.between(200, 400));
  Chaos(options, random, tally).run(steps, step);
}

void run_seed(const SeedOptions& options, Tally& tally, std::uint32_t& step) {
  if (options.seed % kCrowdEvery == kCrowdEvery / 2) return run_crowd(options, tally, step);
  if (options.seed % 16 == 7) return run_positions(options, tally, step);
  if (options.seed % 16 == 15) return run_shares(options, tally, step);
  if (options.seed % 8 == 3) return run_gateway(options, tally, step);
  run_chaos(options, tally, step);
}

}  // namespace turnpike::simulation
