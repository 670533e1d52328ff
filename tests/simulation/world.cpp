#include "simulation/world.h"

#include <algorithm>

#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::Changes;
using engine::ColdJob;
using engine::Engine;
using std::chrono::milliseconds;

namespace {

constexpr int kAdvancesAtOnceMax = 100'000;

}  // namespace

World::World(WorldOptions options, policy::PolicyPtr policy, Tally& tally)
    : options_(options),
      tally_(&tally),
      random_(options.seed),
      policy_(std::move(policy)),
      now_{.mono = Monotonic{std::chrono::seconds(1000)}, .wall = wall_from_seconds(1'790'000'000)},
      checker_(options.engine, tally) {
  options_.engine.fault = options_.broken.engine;
  checker_.set_policy(policy_, policy_version_);
  checker_.look_at_all_every(options_.look_at_all_every);
  open_.changes.batch = 1;
  start_engine(now_);
  extend_leases();
}

void World::say_line(const std::string& line) const {
  fmt::print("  {:>12} us  batch {:>4}  {}\n",
             (now_.mono.time_since_epoch() - std::chrono::seconds(1000)).count(), open_.changes.batch, line);
}

Duration World::delay(Duration max) {
  return max.count() == 0 ? Duration{0} : Duration{random_.between(0, max.count())};
}

bool World::breaks(NodeFault fault, std::uint64_t permille) {
  return options_.broken.node == fault && random_.chance(permille);
}

// --- Time

void World::later(Duration delay, Action action, bool survives) {
  events_.push({.at = now_.mono + delay,
                .order = ++order_,
                .life = survives ? 0 : life_,
                .action = std::move(action)});
}

void World::run_until(Monotonic time) {
  const auto pass_to = [this](Monotonic to) {
    if (to <= now_.mono) return;
    now_.wall += to - now_.mono;
    now_.mono = to;
  };
  for (int at_once = 0;; ++at_once) {
    while (!events_.empty() && events_.top().life != 0 && events_.top().life != life_) events_.pop();
    const auto wakeup = engine_->next_wakeup(now_);
    const Monotonic wake = wakeup ? now_.mono + std::max(*wakeup, Duration{0}) : Monotonic::max();
    const Monotonic event = events_.empty() ? Monotonic::max() : events_.top().at;
    const Monotonic next = std::min(wake, event);
    if (next > time) break;
    if (next > now_.mono) at_once = 0;
    require(at_once < kAdvancesAtOnceMax, "progress", "time stands still");
    pass_to(next);
    if (wake < event) {  // what ends at the instant its time is up ended in time
      advance();
      continue;
    }
    const Action action = std::move(const_cast<Event&>(events_.top()).action);
    events_.pop();
    action();
  }
  pass_to(time);
}

void World::advance() {
  const std::size_t work = options_.advance_max;
  checker_.pass_time(now_);
  Changes out = changes();
  const auto advanced = engine_->advance(now_, work, out);
  if (!out.effects.empty() || !out.mutations.empty()) say("advance");
  took_place({.name = "advance", .advanced_all = !advanced.more, .advanced_part = advanced.more},
             std::move(out));
}

void World::stand_still(Duration duration) {
  say("stands still for {} s", duration.count() / 1'000'000);
  tally_->add(Seen::kStandstills);
  now_.mono += duration;
  now_.wall += duration;
  advance();
}

void World::jump_wall(Duration by) {
  say("the wall clock jumps by {} s", by.count() / 1'000'000);
  now_.wall += by;
}

// --- Commands

Changes World::changes() const {
  Changes out;
  out.batch = open_.changes.batch;
  return out;
}

void World::took_place(Command command, Changes out) {
  engine_->close_batch(out);  // after each command, so that each can be checked by itself
  checker_.observe(command, out, *engine_, now_);
  add_to_open(std::move(out));
}

void World::add_to_open(Changes out) {
  ++open_.commands;
  if (out.mutations.empty() && out.events.empty() && out.effects.empty()) return;
  std::ranges::move(out.mutations, std::back_inserter(open_.changes.mutations));
  std::ranges::move(out.events, std::back_inserter(open_.changes.events));
  for (auto& effect : out.effects) {
    const auto* start = std::get_if<engine::StartTry>(&effect);
    const auto* answer = std::get_if<engine::AnswerCall>(&effect);
    const bool at_once = (start != nullptr && start->at_once) ||
                         (answer != nullptr && answer->at_once && answer->held_in <= journal_.last_batch());
    if (at_once || (start != nullptr && breaks(NodeFault::kStartsEarly, 100))) {
      release(effect);
    } else {
      open_.changes.effects.push_back(std::move(effect));
    }
  }
  plan_commit();
}

AccountId World::account(const std::string& user, const std::string& plan, bool set_plan) {
  checker_.pass_time(now_);
  Changes out = changes();
  const auto ensured =
      engine_->ensure_account(user, AccountId{ids_.next(now_.wall)}, plan, set_plan, now_, out);
  require(ensured.has_value(), "accounts", "account {} on plan {} was refused", user, plan);
  say("account {} on plan {} -> {}", user, plan, to_string(ensured->row.id));
  took_place({.name = "ensure_account"}, std::move(out));
  return ensured->row.id;
}

Result<engine::Submitted> World::submit(engine::NewJob job) {
  checker_.pass_time(now_);
  Changes out = changes();
  const Asking asked = asked_of(job);
  auto answer = engine_->submit(std::move(job), now_, out);
  say("submit {} of {} -> {}", to_string(asked.id), to_string(asked.account),
      answer ? job_state_name(answer->row.state) : error_code_name(answer.error().code));
  tally_->add(Seen::kSubmits);
  const bool changed_nothing = out.mutations.empty() && out.events.empty() && out.effects.empty();
  if (answer) {
    check_accepted(asked, *answer, changed_nothing);
  } else {
    check_refused(asked, answer.error(), changed_nothing);
  }
  took_place({.name = "submit"}, std::move(out));
  if (!answer || answer->deduplicated) return answer;
  const engine::JobRow* row = checker_.ledger().job(asked.id);
  require(row != nullptr, "I1", "{} was accepted and not written", to_string(asked.id));
  require(row->state == answer->row.state, "submit", "{} is {} and was said to be {}", to_string(asked.id),
          job_state_name(row->state), job_state_name(answer->row.state));
  if (breaks(NodeFault::kAcknowledgesEarly, 100)) {
    checker_.acknowledged(asked.id);
  } else {
    open_.submitted.push_back(asked.id);
  }
  return answer;
}

World::Asking World::asked_of(const engine::NewJob& job) const {
  Asking asked{.id = job.id, .account = job.account, .read_at = job.dedupe_at};
  asked.standing = standing(job.account);
  const Asked want{.account = job.account,
                   .estimate = job.estimate,
                   .count = policy::Meter::kJobs,
                   .content = job.content_type,
                   .price = job.route->candidates.front().price,
                   .remote = job.route->candidates.front().remote,
                   .extras = job.extras};
  asked.reasons = checker_.judge().not_allowed(want);
  if (job.run_at <= now_.wall) asked.reasons.merge(checker_.judge().spent(want, now_));
  asked.waiting = checker_.ledger().waiting(job.account);
  asked.depth = checker_.plan_of(job.account).limits.queue_depth;
  if (job.dedupe_key.empty()) return asked;
  asked.holder = checker_.ledger().holder(job.account, job.dedupe_key);
  asked.key_changed = checker_.ledger().changed(job.account, job.dedupe_key);
  return asked;
}

void World::check_accepted(const Asking& asked, const engine::Submitted& answer, bool changed_nothing) const {
  const std::string id = to_string(asked.id);
  if (answer.deduplicated) {
    tally_->add(Seen::kDedupeHits);
    require(asked.holder == answer.row.id, "dedupe", "{} was given for {}, whose key {} holds",
            to_string(answer.row.id), id, to_string(asked.holder));
    require(changed_nothing, "dedupe", "a deduplicated submit changed something");
    return;
  }
  require(!asked.holder, "dedupe", "{} was accepted though {} has its key", id, to_string(asked.holder));
  require(!asked.depth || asked.waiting < *asked.depth, "depth", "{} was accepted: {} of {} wait", id,
          asked.waiting, asked.depth.value_or(0));
  require(answer.row.id == asked.id, "submit", "the answer is about another job");
  require(asked.reasons.empty(), "I5", "{} was accepted, and should have been refused as {}", id,
          asked.reasons.empty() ? "" : error_code_name(*asked.reasons.begin()));
}

// The plan's quota or cap, or a request that the plan does not have or cannot price.
bool World::over_limit(ErrorCode code) {
  return code == ErrorCode::kQuotaExceeded || code == ErrorCode::kCostCapReached ||
         code == ErrorCode::kModelNotAllowed || code == ErrorCode::kNotInPlan ||
         code == ErrorCode::kInvalidRequest;
}

void World::check_refused(const Asking& asked, const Error& error, bool changed_nothing) const {
  require(changed_nothing, "refusal", "a refused submit changed something");
  require(standing(asked.account) == asked.standing, "refusal", "a refused submit took something");
  if (error.code == ErrorCode::kStale) return check_stale(asked.read_at, asked.key_changed);
  if (over_limit(error.code)) {
    require(asked.reasons.contains(error.code), "refusal", "{} was refused for no reason: {}",
            to_string(asked.id), error.message);
    count_refusal(error);
    return;
  }
  require(error.code == ErrorCode::kQueueFull, "submit", "{} was refused: {}", to_string(asked.id),
          error_code_name(error.code));
  tally_->add(Seen::kQueueFull);
  require(asked.depth && asked.waiting >= *asked.depth, "depth", "refused as full: {} of {} wait",
          asked.waiting, asked.depth.value_or(0));
}

void World::check_stale(engine::Batch read_at, engine::Batch changed) const {
  tally_->add(Seen::kStales);
  // What was decided since may concern the job without having changed its row (it left memory).
  require(read_at + 1 < open_.changes.batch || open_.has_rows() || changed > read_at, "stale",
          "refused as stale, though read at batch {}, which is the last, and changed in {}", read_at,
          changed);
}

Result<engine::JobRow> World::cancel(JobId id, const ColdJob* cold) {
  checker_.pass_time(now_);
  Changes out = changes();
  const engine::JobRow* row = checker_.ledger().job(id);
  const bool was_over = row && engine::ended(row->state);
  const engine::Batch changed = checker_.ledger().changed(id);
  auto answer = engine_->cancel(id, "simulation", cold, now_, out);
  say("cancel {} -> {}", to_string(id), answer ? "ok" : error_code_name(answer.error().code));
  if (answer) {
    require(!was_over, "cancel", "{} had ended and was cancelled", to_string(id));
    if (cold && cold->row.state != engine::JobState::kProcessing) tally_->add(Seen::kColdCancels);
  } else {
    require(out.mutations.empty() && out.effects.empty() && out.events.empty(), "refusal",
            "a refused cancel changed something");
    const ErrorCode code = answer.error().code;
    if (code == ErrorCode::kConflict) {
      tally_->add(Seen::kConflicts);
      require(was_over, "cancel", "{} has not ended, and its cancel was a conflict", to_string(id));
    } else if (code == ErrorCode::kStale) {
      require(cold != nullptr, "stale", "stale without a read");
      check_stale(cold->at, changed);
    } else {
      require(code == ErrorCode::kNotFound && !cold, "cancel", "{}: {}", to_string(id),
              answer.error().message);
    }
  }
  const bool ok = answer.has_value();
  took_place({.name = "cancel"}, std::move(out));
  require(!ok || checker_.ledger().job(id)->state == engine::JobState::kCancelled, "cancel", "{} is {}",
          to_string(id), ok ? job_state_name(checker_.ledger().job(id)->state) : "");
  return answer;
}

Result<engine::Submitted> World::retry(ColdJob cold) {
  checker_.pass_time(now_);
  Changes out = changes();
  const JobId id = cold.row.id;
  const engine::Batch read_at = cold.at;
  const engine::JobRow* row = checker_.ledger().job(id);
  const bool may = row && engine::ended(row->state) && row->state != engine::JobState::kCompleted;
  const bool stopping =
      std::ranges::any_of(checker_.live(), [&](const auto& each) { return each.second.job == id; });
  const JobId holder =
      row && !row->dedupe_key.empty() ? checker_.ledger().holder(row->account, row->dedupe_key) : JobId{};
  const engine::Batch changed =
      row && !row->dedupe_key.empty()
          ? std::max(checker_.ledger().changed(id), checker_.ledger().changed(row->account, row->dedupe_key))
          : checker_.ledger().changed(id);
  std::set<ErrorCode> reasons;
  const std::string stood = row ? standing(row->account) : std::string();
  if (row) {
    const auto provider = policy_->providers.find(cold.row.provider);
    const Asked want{.account = row->account,
                     .estimate = cold.row.estimate,
                     .count = policy::Meter::kJobs,
                     .content = cold.row.content_type,
                     .price = policy_->price(cold.row.provider, cold.row.upstream_model),
                     .remote = provider != policy_->providers.end() &&
                               provider->second.kind == policy::ProviderKind::kOpenAi,
                     .extras = {}};
    reasons = checker_.judge().not_allowed(want);
    reasons.merge(checker_.judge().spent(want, now_));
  }
  auto answer = engine_->retry(std::move(cold), now_, out);
  say("retry {} -> {}", to_string(id), answer ? "ok" : error_code_name(answer.error().code));
  if (answer) {
    tally_->add(Seen::kRetriesByUser);
    require(may && !stopping, "retry", "{} was {} and was retried", to_string(id),
            job_state_name(row->state));
    require(reasons.empty(), "I5", "{} was retried, and should have been refused as {}", to_string(id),
            reasons.empty() ? "" : error_code_name(*reasons.begin()));
  } else if (answer.error().code == ErrorCode::kStale) {
    check_stale(read_at, changed);
  } else if (answer.error().code == ErrorCode::kConflict) {
    tally_->add(Seen::kConflicts);
    const bool step = row != nullptr && row->run;  // its run is retried, not it
    require(!may || stopping || holder || step, "retry", "{} may be retried, and was a conflict",
            to_string(id));
  } else if (over_limit(answer.error().code)) {
    count_refusal(answer.error());
    require(reasons.contains(answer.error().code), "refusal", "a retry of {} was refused for no reason: {}",
            to_string(id), answer.error().message);
    require(out.mutations.empty(), "refusal", "a refused retry changed something");
    require(row == nullptr || standing(row->account) == stood, "refusal", "a refused retry took something");
  } else {
    require(answer.error().code == ErrorCode::kQueueFull, "retry", "{}", answer.error().message);
  }
  took_place({.name = "retry", .retried = answer ? id : JobId{}}, std::move(out));
  return answer;
}

void World::progress(TryId id) {
  checker_.pass_time(now_);
  Changes out = changes();
  const bool live = checker_.is_live(id);
  const auto percent = static_cast<std::uint8_t>(random_.below(101));
  const bool taken = engine_->progress(id, percent, "so far", now_, out);
  require(live || !taken, "I4", "progress of {}, which is not live, was taken", to_string(id));
  require(out.mutations.empty(), "progress", "progress wrote a row");
  tally_->add(Seen::kProgress);
  took_place({.name = "progress"}, std::move(out));
}

void World::apply(policy::PolicyPtr policy) {
  checker_.pass_time(now_);
  Changes out = changes();
  policy_ = policy;
  checker_.set_policy(policy, ++policy_version_);
  engine_->apply(std::move(policy), policy_version_, policy_version_, now_, out);
  say("apply");
  tally_->add(Seen::kApplies);
  took_place({.name = "apply"}, std::move(out));
}

void World::set_draining(bool draining) {
  checker_.pass_time(now_);
  Changes out = changes();
  draining_ = draining;
  checker_.set_draining(draining);
  engine_->set_draining(draining, now_, out);
  say("draining {}", draining);
  took_place({.name = "set_draining"}, std::move(out));
}

std::optional<ColdJob> World::read(JobId id) {
  const auto stored = journal_.job(id, true);
  if (!stored || !*stored) return std::nullopt;
  return ColdJob{.row = (*stored)->row, .body = (*stored)->body, .at = (*stored)->at};
}

std::pair<std::optional<ColdJob>, engine::Batch> World::read_key(AccountId account, const std::string& key) {
  const auto stored = journal_.job_by_dedupe_key(account, key);
  require(stored.has_value(), "journal", "a read failed");
  if (!stored->first) return {std::nullopt, stored->second};
  return {ColdJob{.row = stored->first->row, .body = stored->first->body, .at = stored->second},
          stored->second};
}

}  // namespace turnpike::simulation
