#include "simulation/gateway.h"

#include <algorithm>

#include "simulation/ledger.h"
#include "simulation/plans.h"
#include "simulation/random_work.h"
#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::Changes;
using engine::Engine;
using engine::JobState;
using engine::PeriodRow;
using policy::Meter;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

constexpr int kSettlingMinutes = 600;

}  // namespace

Gateway::Gateway(const SeedOptions& options, Random random, Tally& tally)
    : options_(options), random_(random), tally_(&tally), model_(tally) {
  settings_.fault = options.broken.engine;
  settings_.lease = seconds(random_.between(5, 30));
  settings_.timeout_grace = milliseconds(random_.between(0, 3000));
  count_tokens_ = random_.chance(500);
  pace_ = milliseconds(random_.between(20, 2500));
  for (std::size_t i = 0; i < kProviders; ++i) put_provider(i);
  for (std::size_t i = 0; i < kPlans; ++i) put_plan(i);
  policy_.accounts.default_plan = "plan0";
  policy_.share_permille = {50, 100, 200, 0};
  start();
  for (std::size_t i = 0; i < 4; ++i) {
    command([&](engine::Changes& out) {
      const auto made = engine_->ensure_account(fmt::format("user{}", i), AccountId{ids_.next(now_.wall)},
                                                fmt::format("plan{}", i % kPlans), false, now_, out);
      accounts_.push_back(made->row.id);
    });
  }
}

void Gateway::run(std::uint32_t steps, std::uint32_t& step) {
  for (step = 0; step < steps; ++step) {
    run_for(Duration{random_.between(0, 2 * pace_.count())});
    act();
  }
  settle_down();
}

// Rows first, as they would be committed; then what follows, in the order it was decided in.
void Gateway::take(Changes out) {
  tally_->add(Seen::kCommands);
  for (const auto& mutation : out.mutations) {
    if (const auto* put = std::get_if<engine::PutJob>(&mutation)) {
      engine::JobRow& row = rows_[put->row.id];
      if (row.id && row.state == JobState::kQueued && put->row.state == JobState::kQueued &&
          row.pool != put->row.pool)
        tally_->add(Seen::kMoves);
      row = put->row;
    }
    if (const auto* put = std::get_if<engine::PutAccount>(&mutation)) account_rows_[put->row.id] = put->row;
    if (const auto* put = std::get_if<engine::PutQueueCount>(&mutation))
      counts_[{put->account, put->pool}] = *put;
    if (const auto* put = std::get_if<engine::PutPeriod>(&mutation))
      periods_[{put->row.scope, put->row.account, put->row.start}] = put->row;
  }
  for (const auto& effect : out.effects) {
    if (const auto* start = std::get_if<engine::StartTry>(&effect)) began(*start);
    if (const auto* ask = std::get_if<engine::StopTry>(&effect)) stop(*ask);
    if (const auto* told = std::get_if<engine::AnswerCall>(&effect)) {
      require(calls_.erase(told->row.id) == 1, "calls", "{} was answered twice", to_string(told->row.id));
      require(!told->row.hold, "I5", "{} has ended and holds something", to_string(told->row.id));
    }
  }
  for (const auto& effect : out.effects) {
    if (const auto* queue = std::get_if<engine::RefillQueue>(&effect)) answer(*queue);
    if (const auto* timed = std::get_if<engine::RefillScheduled>(&effect))
      answer_timed(
          *timed, [](const engine::JobRow& row) { return row.state == JobState::kScheduled; },
          [](const engine::JobRow& row) { return row.due_at; },
          [this](const auto& asked, auto heads, Changes& more) {
            engine_->refill_scheduled(asked, std::move(heads), now_, more);
          });
    if (const auto* timed = std::get_if<engine::RefillExpiring>(&effect))
      answer_timed(
          *timed,
          [](const engine::JobRow& row) {
            return row.state == JobState::kQueued && row.expires_at != kNever;
          },
          [](const engine::JobRow& row) { return row.expires_at; },
          [this](const auto& asked, auto heads, Changes& more) {
            engine_->refill_expiring(asked, std::move(heads), now_, more);
          });
  }
}

void Gateway::answer(const engine::RefillQueue& asked) {
  std::vector<engine::ColdJob> heads;
  for (const auto& [id, row] : rows_) {
    if (row.state == JobState::kQueued && row.account == asked.account && row.pool == asked.pool)
      heads.push_back({.row = row, .body = nullptr, .at = batch_});
  }
  const auto goes_before = [](const engine::QueueKey& a, const engine::QueueKey& b) {
    return BestFirst{}(a, b);
  };
  const auto key = [](const engine::ColdJob& head) {
    return engine::QueueKey{head.row.priority, head.row.id};
  };
  if (asked.after)
    std::erase_if(heads, [&](const engine::ColdJob& head) { return !goes_before(*asked.after, key(head)); });
  std::ranges::sort(heads, goes_before, key);
  if (heads.size() > asked.limit) heads.resize(asked.limit);
  Changes more;
  more.batch = ++batch_;
  engine_->refill_queue(asked, std::move(heads), now_, more);
  engine_->close_batch(more);
  take(std::move(more));
}

template <typename Asked, typename Wanted, typename Due, typename Refill>
void Gateway::answer_timed(const Asked& asked, Wanted wanted, Due due, Refill refill) {
  std::vector<engine::ColdJob> heads;
  for (const auto& [id, row] : rows_) {
    if (wanted(row) && std::pair(due(row), id) > asked.after)
      heads.push_back({.row = row, .body = nullptr, .at = batch_});
  }
  std::ranges::sort(heads, {},
                    [&](const engine::ColdJob& head) { return std::pair(due(head.row), head.row.id); });
  if (heads.size() > asked.limit) heads.resize(asked.limit);
  Changes more;
  more.batch = ++batch_;
  refill(asked, std::move(heads), more);
  engine_->close_batch(more);
  take(std::move(more));
}

void Gateway::act() {
  const std::uint64_t dice = random_.below(1000);
  if (dice < 330) return submit();
  if (dice < 600) return call();
  if (dice < 780) return raise();
  if (dice < 850) return cancel();
  if (dice < 920) return change_policy();
  if (dice < 950) return pause();
  if (dice < 985) return run_for(seconds(random_.between(1, 90)));
  restart();
}

void Gateway::submit() {
  const auto route = some_route();
  if (!route) return;
  engine::NewJob job;
  job.id = JobId{ids_.next(now_.wall)};
  job.account = accounts_[random_.below(accounts_.size())];
  job.task = "task";
  job.route = route;
  job.estimate = random_estimate(random_);
  if (random_.chance(200)) job.run_at = now_.wall + seconds(random_.between(1, 60));
  job.body = std::make_shared<const engine::JobBody>();
  const JobId id = job.id;
  tally_->add(Seen::kSubmits);
  command([&](Changes& out) {
    job.dedupe_at = batch_ - 1;
    const auto answer = engine_->submit(std::move(job), now_, out);
    say(fmt::format("submit {} -> {}", to_string(id), answer ? "ok" : answer.error().message));
    if (answer) job_ids_.push_back(id);
  });
}

void Gateway::call() {
  const auto route = some_route();
  if (!route) return;
  engine::NewCall call;
  call.id = JobId{ids_.next(now_.wall)};
  call.account = accounts_[random_.below(accounts_.size())];
  call.task = "task";
  call.route = route;
  call.estimate = random_estimate(random_);
  call.patience = milliseconds(random_.between(1, 20'000));
  call.timeout = seconds(random_.between(1, 60));
  call.body = std::make_shared<const engine::JobBody>();
  const JobId id = call.id;
  tally_->add(Seen::kCalls);
  command([&](Changes& out) {
    calls_.insert(id);
    const auto answer = engine_->admit(std::move(call), now_, out);
    say(fmt::format("call {} -> {}", to_string(id), answer ? "ok" : answer.error().message));
    if (!answer) calls_.erase(id);
  });
}

policy::Amounts Gateway::held_of(const Live& live) const {
  for (const engine::Holder& holder : engine_->holders(live.account, SIZE_MAX).most)
    if (holder.job == live.job) return holder.amounts;
  return {};
}

void Gateway::raise() {
  if (live_.empty()) return;
  auto at = live_.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(random_.below(live_.size())));
  const TryId id = at->first;
  policy::Amounts more;
  if (random_.chance(900)) {
    more[Meter::kOutputTokens] = more[Meter::kTokens] = random_.between(1, 300);
  } else {
    more[Meter::kVideoMs] = 1'000;
  }
  const bool over = at->second.cancelled;
  command([&](Changes& out) {
    const auto raised = engine_->raise(id, more, now_, out);
    say(fmt::format("raise {} -> {}", to_string(id), raised ? "ok" : raised.error().message));
    tally_->add(raised ? Seen::kRaises : Seen::kRaisesRefused);
    require(!over || !raised, "raise", "{} is over and holds more", to_string(id));
    if (raised) {
      model_.raised(id, more[Meter::kTokens], now_.mono);
      return;
    }
    require(out.mutations.empty() && out.effects.empty() && out.events.empty(), "refusal",
            "a refused raise changed something");
  });
}

void Gateway::cancel() {
  if (job_ids_.empty()) return;
  const std::size_t range = std::min<std::size_t>(job_ids_.size(), 12);
  const JobId id = job_ids_[job_ids_.size() - 1 - random_.below(range)];
  const auto row = rows_.find(id);
  if (row == rows_.end() || ended(row->second.state)) return;
  const TryId runs = row->second.current_try;
  if (const auto live = live_.find(runs); live != live_.end()) {
    live->second.cancelled = true;
    tally_->add(Seen::kCancelsRunning);
  }
  command([&](Changes& out) {
    const engine::ColdJob cold{.row = row->second, .body = nullptr, .at = batch_ - 1};
    const auto answer = engine_->cancel(id, "simulation", &cold, now_, out);
    say(fmt::format("cancel {} -> {}", to_string(id), answer ? "ok" : answer.error().message));
    require(answer.has_value(), "cancel", "{} waits or runs and cannot be cancelled", to_string(id));
  });
}

// The process dies: what ran is lost, calls are taken as used.
void Gateway::restart() {
  say("restart");
  tally_->add(Seen::kCrashes);
  model_.restarted();
  events_.clear();
  live_.clear();
  calls_.clear();
  now_.mono += seconds(random_.between(0, 10));
  now_.wall += seconds(random_.between(0, 10));
  start();
}

void Gateway::start() {
  engine::Recovery recovery;
  for (const auto& [key, row] : periods_)
    if (row.current || row.holds > 0) recovery.periods.push_back(row);
  for (const auto& [id, row] : account_rows_) recovery.accounts.push_back(row);
  for (const auto& [name, count] : counts_) recovery.queues.push_back(count);
  for (const auto& [id, row] : rows_) {
    recovery.last_id = std::max({recovery.last_id, id.value, row.current_try.value});
    if (row.state == JobState::kProcessing) recovery.processing.push_back(row);
  }
  if (batch_ > 0) recovery.last_id = ids_.next(now_.wall) + 1'000'000;
  recovery.policy_version = recovery.price_version = version_;
  engine_ = std::make_unique<Engine>(shared(), settings_);
  model_.configured(policy_);
  // Pauses are told once it has recovered.
  const policy::Overlay overlay = std::exchange(overlay_, {});
  command([&](Changes& out) { engine_->recover(std::move(recovery), now_, out); });
  overlay_ = overlay;
  command([&](Changes& out) {
    engine_->set_overlay(std::make_shared<const policy::Overlay>(overlay_), now_, out);
  });
  extend_leases();
}

// No more comes, everything may run: then all of it ends.
void Gateway::settle_down() {
  calm_ = true;
  overlay_ = {};
  command([&](Changes& out) {
    engine_->set_overlay(std::make_shared<const policy::Overlay>(overlay_), now_, out);
  });
  for (std::size_t i = 0; i < kProviders; ++i) {
    put_provider(i);
    policy::Provider& provider = policy_.providers.at(provider_name(i));
    provider.limit.reset();
    provider.breaker.reset();
    provider.keys.clear();
  }
  for (auto& [name, plan] : policy_.plans) plan.promise = {};
  command([&](Changes& out) {
    ++version_;
    model_.configured(policy_);
    engine_->apply(shared(), version_, version_, now_, out);
  });
  for (int i = 0; i < kSettlingMinutes; ++i) {
    run_for(minutes(1));
    const auto stats = engine_->stats();
    if (stats.queued + stats.scheduled == 0 && live_.empty() && calls_.empty()) break;
  }
  for (const JobId id : job_ids_)
    require(ended(rows_.at(id).state), "I1", "{} is still {} after everything has come to rest",
            to_string(id), job_state_name(rows_.at(id).state));
  require(calls_.empty(), "calls", "{} calls were never answered", calls_.size());
  for (const PeriodRow& row : engine_->periods())
    require(row.held.zero() && row.cost_held == Money{}, "I5", "everything has ended, and {} USD are held",
            to_string(row.cost_held));
}

void run_gateway(const SeedOptions& options, Tally& tally, std::uint32_t& step) {
  Random random(options.seed * 0x9e3779b97f4a7c15ULL + 5);
  const std::uint32_t steps =
      options.steps > 0 ? options.steps : static_cast<std::uint32_t>(random.between(200, 400));
  Gateway(options, random, tally).run(steps, step);
}

}  // namespace turnpike::simulation
