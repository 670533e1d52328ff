// Runs of workflows in a World: what the node does for them.
#include <algorithm>

#include "simulation/run_graph.h"
#include "simulation/violation.h"
#include "simulation/world.h"

namespace turnpike::simulation {

using engine::Changes;
using std::chrono::milliseconds;

// The jobs of `begin`, made up by whoever runs the world.
std::vector<engine::BeginStep> World::steps_to_begin(const std::vector<Following::Begin>& begin,
                                                     AccountId account,
                                                     const std::vector<engine::StepRow>& rows) {
  std::vector<engine::BeginStep> steps;
  for (const Following::Begin& each : begin) {
    engine::BeginStep& step = steps.emplace_back();
    step.step = each.step;
    step.skipped = each.skipped;
    for (std::uint32_t i = 0; i < each.jobs; ++i) {
      engine::NewJob& job = step.jobs.emplace_back(step_job(account));
      // What was held for it is what it counts for.
      if (rows.at(each.step).hold) job.content_type = rows.at(each.step).hold->content;
    }
  }
  return steps;
}

Result<engine::RunRow> World::start_run(AccountId account, const std::string& graph_text) {
  const RunGraph graph = run_graph(graph_text);
  auto body = std::make_shared<engine::RunBody>();
  body->workflow = graph_text;
  engine::NewRun run{.id = RunId{ids_.next_block(now_.wall, 1 + engine::kRunJobsMax)},
                     .account = account,
                     .workflow = "graph" + graph_text,
                     .steps = {},
                     .priority = random_.chance(200) ? static_cast<std::int32_t>(random_.between(-2, 2)) : 0,
                     .body = std::move(body),
                     .begin = {}};
  for (std::size_t i = 0; i < graph.steps.size(); ++i) run.steps.push_back(fmt::format("s{}", i));
  const std::vector<engine::StepRow> waiting(graph.steps.size());
  run.begin = steps_to_begin(what_follows(graph, waiting).begin, account, waiting);
  const auto begins = [&run](std::size_t step) {
    return std::ranges::any_of(run.begin,
                               [step](const engine::BeginStep& each) { return each.step == step; });
  };
  for (std::size_t i = 0; i < graph.steps.size(); ++i) {
    if (graph.steps[i].certain && !begins(i))
      run.certain.push_back({.step = i, .content_type = step_job(account).content_type});
  }

  checker_.pass_time(now_);
  std::set<ErrorCode> reasons;
  std::vector<Asked> all;
  for (const engine::BeginStep& step : run.begin) {
    for (const engine::NewJob& job : step.jobs) {
      const policy::Candidate& first = job.route->candidates.front();
      all.push_back({.account = account,
                     .estimate = job.estimate,
                     .count = policy::Meter::kJobs,
                     .content = job.content_type,
                     .price = first.price,
                     .remote = first.remote,
                     .extras = {}});
      reasons.merge(checker_.judge().not_allowed(all.back()));
    }
  }
  for (const engine::NewRun::Certain& each : run.certain) {
    all.push_back({.account = account,
                   .estimate = {},
                   .count = policy::Meter::kJobs,
                   .content = each.content_type,
                   .price = nullptr,
                   .extras = {}});
    const auto& has = checker_.plan_of(account).content_types;  // what it costs is asked when it begins
    if (!each.content_type.empty() && has && std::ranges::find(*has, each.content_type) == has->end())
      reasons.insert(ErrorCode::kNotInPlan);
  }
  reasons.merge(checker_.judge().spent(all, now_));
  const std::vector<engine::NewRun::Certain> later = run.certain;
  const std::uint64_t waits = checker_.ledger().waiting(account);
  const auto depth = checker_.plan_of(account).limits.queue_depth;
  const std::string stood = standing(account);
  Changes out = changes();
  const RunId id = run.id;
  auto answer = engine_->start_run(std::move(run), now_, out);
  say("run {} of {} -> {}", to_string(id), to_string(account),
      answer ? job_state_name(answer->state) : error_code_name(answer.error().code));
  if (answer) {
    tally_->add(Seen::kRuns);
    require(reasons.empty(), "I5", "{} was accepted, and should have been refused as {}", to_string(id),
            reasons.empty() ? "" : error_code_name(*reasons.begin()));
    require(!depth || waits < *depth, "depth", "{} was accepted: {} of {} wait", to_string(id), waits,
            depth.value_or(0));
    for (const auto& [step, content] : later) {
      const auto& hold = answer->steps.at(step).hold;
      require(hold && hold->content == content && hold->amounts[policy::Meter::kJobs] == 1, "I5",
              "{} does not hold what its step {} will count for", to_string(id), step);
      tally_->add(Seen::kStepsHeld);
    }
  } else {
    tally_->add(Seen::kRunsRefused);
    require(out.mutations.empty() && out.events.empty() && out.effects.empty() && standing(account) == stood,
            "refusal", "a refused run changed something");
    const ErrorCode code = answer.error().code;
    const bool full = code == ErrorCode::kQueueFull && depth && waits >= *depth;
    require(full || reasons.contains(code), "refusal", "{} was refused for no reason: {}", to_string(id),
            answer.error().message);
  }
  took_place({.name = "start_run"}, std::move(out));
  if (!answer) return answer;
  if (breaks(NodeFault::kAcknowledgesEarly, 100)) {
    checker_.runs().acknowledged(id);
  } else {
    open_.runs.push_back(id);
    plan_commit();
  }
  return answer;
}

// Read now, answered later: what is found may be old by then.
void World::continue_run(RunId id) {
  const auto stored = journal_.run(id, true);
  require(stored && *stored && (*stored)->body, "I1", "{} is to go on and cannot be read", to_string(id));
  const engine::RunRow row = (*stored)->row;
  if (engine::ended(row.state)) return;
  const Following following = what_follows(run_graph((*stored)->body->workflow), row.steps);
  if (following.begin.empty() && !following.completed && !following.stuck) return;
  later(delay(options_.refill_max), [this, row, following] {
    engine::RunAdvance advance{.run = row.id,
                               .revision = row.revision,
                               .begin = steps_to_begin(following.begin, row.account, row.steps),
                               .result = {},
                               .error = {}};
    if (following.stuck)
      advance.error = engine::JobError{.code = "invalid_step", .message = "as told", .provider = {}};
    if (following.completed) advance.result = engine::RunResult{.output = "{}", .artifacts = {}};
    checker_.pass_time(now_);
    Changes out = changes();
    const engine::RunRow* before = checker_.runs().run(row.id);
    const bool over = before == nullptr || engine::ended(before->state);
    const bool newer = before != nullptr && before->revision != row.revision;
    const auto answer = engine_->advance_run(std::move(advance), now_, out);
    say("advance {} -> {}", to_string(row.id), answer ? "ok" : error_code_name(answer.error().code));
    if (!answer) {
      tally_->add(Seen::kRunsStale);
      require(out.mutations.empty() && out.effects.empty() && out.events.empty(), "refusal",
              "a refused advance changed something");
      require(answer.error().code == ErrorCode::kConflict ? over : newer, "I8", "{}: {}", to_string(row.id),
              answer.error().message);
    }
    took_place({.name = "advance_run"}, std::move(out));
  });
}

void World::cancel_run(RunId id) {
  checker_.pass_time(now_);
  Changes out = changes();
  const engine::RunRow* before = checker_.runs().run(id);
  const bool over = before == nullptr || engine::ended(before->state);
  const auto answer = engine_->cancel_run(id, "simulation", now_, out);
  say("cancel {} -> {}", to_string(id), answer ? "ok" : error_code_name(answer.error().code));
  require(answer.has_value() != over, "cancel", "{} was{} over, and its cancel was {}", to_string(id),
          over ? "" : " not", answer ? "taken" : "refused");
  require(answer || out.mutations.empty(), "refusal", "a refused cancel changed something");
  took_place({.name = "cancel_run"}, std::move(out));
}

// Jobs of a run that has ended and that are not in memory.
void World::cancel_jobs(RunId id, int rounds_left) {
  const auto jobs = journal_.run_jobs(id);
  require(jobs.has_value(), "journal", "a read failed");
  tally_->add(Seen::kRunsClosedCold);
  std::vector<engine::ColdJob> waiting;
  for (const auto& stored : *jobs) {
    if (!engine::ended(stored.row.state))
      waiting.push_back({.row = stored.row, .body = stored.body, .at = stored.at});
  }
  if (waiting.empty()) return;
  later(delay(options_.refill_max), [this, id, rounds_left, waiting = std::move(waiting)] {
    bool stale = false;
    for (const engine::ColdJob& job : waiting) {
      const engine::JobRow* row = checker_.ledger().job(job.row.id);
      if (row == nullptr || engine::ended(row->state))
        continue;  // as the node does, which is told it is a conflict
      const auto answer = cancel(job.row.id, &job);
      stale = stale || (!answer && answer.error().code == ErrorCode::kStale);
    }
    if (!stale) return;
    require(rounds_left > 0, "stale", "jobs of {} stay stale", to_string(id));
    later(milliseconds(20), [this, id, rounds_left] { cancel_jobs(id, rounds_left - 1); });
  });
}

// As the node does it; a run that is stale is left alone this time.
void World::retry_run(RunId id) {
  const auto stored = journal_.run(id, false);
  require(stored.has_value(), "journal", "a read failed");
  if (!*stored) return;
  const auto jobs = journal_.run_jobs(id);
  require(jobs.has_value(), "journal", "a read failed");
  std::vector<engine::ColdJob> cold;
  for (const auto& each : *jobs) cold.push_back({.row = each.row, .body = each.body, .at = each.at});
  checker_.pass_time(now_);
  Changes out = changes();
  const engine::RunRow* before = checker_.runs().run(id);
  const bool may = before != nullptr && engine::ended(before->state) &&
                   before->state != engine::JobState::kCompleted && before->live_jobs == 0;
  const bool stopping = std::ranges::any_of(checker_.live(), [&](const auto& each) {
    return each.second.job.value > id.value && each.second.job.value <= id.value + engine::kRunJobsMax;
  });
  const engine::Batch changed = checker_.runs().changed(id), read_at = (*stored)->at;
  const auto answer =
      engine_->retry_run({.row = (*stored)->row, .at = (*stored)->at}, std::move(cold), now_, out);
  say("retry {} -> {}", to_string(id), answer ? "ok" : error_code_name(answer.error().code));
  if (answer) {
    tally_->add(Seen::kRunsRetried);
    require(may && !stopping, "retry", "{} was retried and may not be", to_string(id));
  } else {
    require(out.mutations.empty() && out.effects.empty() && out.events.empty(), "refusal",
            "a refused retry changed something");
    const ErrorCode code = answer.error().code;
    if (code == ErrorCode::kConflict) {
      require(!may || stopping, "retry", "{} may be retried, and was a conflict: {}", to_string(id),
              answer.error().message);
    } else if (code == ErrorCode::kStale) {
      check_stale(read_at, changed);
    } else {
      require(code == ErrorCode::kQueueFull, "retry", "{}", answer.error().message);
    }
  }
  took_place({.name = "retry_run", .retried_run = answer ? id : RunId{}}, std::move(out));
}

}  // namespace turnpike::simulation
