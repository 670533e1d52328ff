// Runs of workflows: what begins, what its end makes of the run, and that nothing of one that has ended
// starts any more. Which step follows from which is the caller's to find (policy::next_of), for what steps
// made is not in memory.

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {
namespace {

constexpr std::chrono::seconds kFullRetryAfter{5};

std::uint32_t place_of(RunId run, JobId job) {
  CHECK(job.value > run.value && job.value <= run.value + kRunJobsMax);
  return static_cast<std::uint32_t>(job.value - run.value - 1);
}

StepRow& step_of(RunRow& run, JobId job) {
  const std::uint32_t place = place_of(run.id, job);
  const auto found = std::ranges::find_if(run.steps, [place](const StepRow& step) {
    return place >= step.first_job && place < step.first_job + step.jobs;
  });
  CHECK(found != run.steps.end());
  return *found;
}

// As the command has written it last.
const RunRow& written(RunId id, const Changes& out) {
  const auto last =
      std::find_if(out.mutations.rbegin(), out.mutations.rend(), [id](const Mutation& mutation) {
        const auto* put = std::get_if<PutRun>(&mutation);
        return put != nullptr && put->row.id == id;
      });
  CHECK(last != out.mutations.rend());
  return std::get<PutRun>(*last).row;
}

// What the one job of a step to come counts for.
Want count_of(const NewRun::Certain& step) {
  Want want{.amounts = {}, .content = step.content_type, .price = nullptr, .cost = {}};
  want.amounts[policy::Meter::kJobs] = 1;
  return want;
}

Error named(Error error, const std::string& step) {
  error.message = fmt::format("step `{}`: {}", step, error.message);
  return error;
}

}  // namespace

void Engine::State::put_run(const RunRow& row, RunBodyPtr body, Changes& out) {
  note_changed(row.id.value, out.batch);
  out.mutations.emplace_back(PutRun{row, std::move(body)});
}

void Engine::State::tell_run(EventType type, const RunRow& run, Timestamp now, Changes& out,
                             std::string text) {
  out.events.push_back(Event{.type = type,
                             .at = now.wall,
                             .account = run.account,
                             .job = {},
                             .text = std::move(text),
                             .webhook = run.webhook,
                             .run = run.id});
}

// --- Beginning

// What its first steps ask to hold, and what those that are certain to follow count for: each by itself, so
// that a refusal names it, and all together.
std::optional<Error> Engine::State::run_refusal(const Account& account, const NewRun& run,
                                                Timestamp now) const {
  Want all{.amounts = {}, .content = {}, .price = nullptr, .cost = {}};
  std::map<std::string, std::int64_t> content;
  for (const BeginStep& each : run.begin) {
    const std::string& name = run.steps.at(each.step);
    for (const NewJob& job : each.jobs) {
      auto want =
          want_of(account, job.estimate, policy::Meter::kJobs, job.content_type, *job.route, job.extras);
      if (!want) return named(std::move(want.error()), name);
      if (auto refused = refusal(account, *want, now)) return named(std::move(*refused), name);
      all.amounts += want->amounts;
      all.cost.nanos = std::min(all.cost.nanos, INT64_MAX - want->cost.nanos) + want->cost.nanos;
      if (!job.content_type.empty()) ++content[job.content_type];
    }
  }
  for (const NewRun::Certain& each : run.certain) {
    all.amounts += count_of(each).amounts;
    if (each.content_type.empty()) continue;
    const auto& has = account.plan->content_types;
    if (has && std::ranges::find(*has, each.content_type) == has->end()) {
      return Error{.code = ErrorCode::kNotInPlan,
                   .message = fmt::format("step `{}`: plan {} does not have content type {}",
                                          run.steps.at(each.step), account.plan->name, each.content_type),
                   .param = "content_type"};
    }
    ++content[each.content_type];
  }
  for (const auto& [type, count] : content) {
    Want want{.amounts = {}, .content = type, .price = nullptr, .cost = {}};
    want.content_count = count;
    if (auto refused = refusal(account, want, now)) return refused;
  }
  return refusal(account, all, now);
}

Result<RunRow> Engine::State::start_run(NewRun run, Timestamp now, Changes& out) {
  Account* account = find_account(run.account);
  if (account == nullptr) return fail(ErrorCode::kNotFound, "no such account", "account");
  CHECK(!run.steps.empty() && run.steps.size() <= kRunStepsMax);
  CHECK(std::ranges::any_of(run.begin, [](const BeginStep& each) { return !each.jobs.empty(); }));
  if (runs_.size() >= kRunsMax) {
    Error error{.code = ErrorCode::kQueueFull,
                .message = fmt::format("{} runs are under way, and no more are taken: come back", kRunsMax),
                .param = {}};
    error.retryable = true;
    error.retry_after = kFullRetryAfter;
    return std::unexpected(std::move(error));
  }
  if (auto full = queue_full(*account)) return std::unexpected(std::move(*full));
  if (auto refused = run_refusal(*account, run, now)) return std::unexpected(std::move(*refused));

  RunRow fresh{.id = run.id,
               .account = run.account,
               .workflow = std::move(run.workflow),
               .plan = account->plan->name,
               .priority = run.priority,
               .revision = 1,
               .steps = {},
               .created_at = now.wall,
               .webhook = run.webhook};
  fresh.steps.reserve(run.steps.size());
  for (std::string& name : run.steps) fresh.steps.push_back({.name = std::move(name)});
  RunRow& row = runs_.emplace(run.id, std::move(fresh)).first->second;
  for (const NewRun::Certain& each : run.certain) {
    StepRow& step = row.steps.at(each.step);
    if (options_.fault != Fault::kStepUnheld) step.hold = take(*account, count_of(each), false, now, out);
  }
  begin_steps(row, std::move(run.begin), now, out);
  put_run(row, std::move(run.body), out);
  finish(now, out);
  return row;
}

void Engine::State::begin_steps(RunRow& run, std::vector<BeginStep> begin, Timestamp now, Changes& out) {
  for (BeginStep& each : begin) {
    StepRow& step = run.steps.at(each.step);
    CHECK(step.state == StepState::kWaiting);
    let_step_go(run, step);
    step.started_at = now.wall;
    step.first_job = run.next_job;
    step.jobs = static_cast<std::uint32_t>(each.jobs.size());
    CHECK(step.jobs <= kRunJobsMax - run.next_job);
    run.next_job += step.jobs;
    run.live_jobs += step.jobs;
    if (step.jobs == 0) {
      step.state = each.skipped ? StepState::kSkipped : StepState::kCompleted;
      step.finished_at = now.wall;
      tell_run(each.skipped ? EventType::kStepSkipped : EventType::kStepCompleted, run, now, out, step.name);
      continue;
    }
    step.state = StepState::kRunning;
    tell_run(EventType::kStepQueued, run, now, out, step.name);
    for (std::size_t i = 0; i < each.jobs.size(); ++i) {
      NewJob& job = each.jobs[i];
      job.id = job_of(run.id, step.first_job + static_cast<std::uint32_t>(i));
      job.account = run.account;
      job.priority = run.priority;
      begin_job(job, run.id, now, out);
    }
  }
}

// What cannot be had now waits as work does whose time has come and whose quota is used up: a step is never
// refused.
void Engine::State::begin_job(const NewJob& job, RunId run, Timestamp now, Changes& out) {
  Account& account = *find_account(job.account);
  std::optional<Want> held;
  auto want = want_of(account, job.estimate, policy::Meter::kJobs, job.content_type, *job.route, job.extras);
  if (want && !refusal(account, *want, now)) held = std::move(*want);
  place(job, run, std::move(held), now, out);
  forget_large_body(job.id);
}

void Engine::State::let_step_go(const RunRow& run, StepRow& step) {
  if (!step.hold) return;
  let_go(*find_account(run.account), *step.hold, false);
  step.hold.reset();
}

void Engine::State::run_started(const JobRow& job, Timestamp now, Changes& out) {
  const auto found = runs_.find(job.run);
  CHECK(found != runs_.end());
  RunRow& run = found->second;
  if (run.state != JobState::kQueued) return;
  run.state = JobState::kProcessing;
  run.started_at = now.wall;
  tell_run(EventType::kRunStarted, run, now, out, {});
  put_run(run, nullptr, out);
}

// --- What follows

// A job of a run has ended, and its row is written.
void Engine::State::job_of_run_ended(const JobRow& job, Timestamp now, Changes& out) {
  const auto found = runs_.find(job.run);
  CHECK(found != runs_.end());
  RunRow& run = found->second;
  CHECK(run.live_jobs > 0);
  --run.live_jobs;
  run.cost += job.cost;
  StepRow& step = step_of(run, job.id);
  if (job.state == JobState::kCompleted) {
    if (++step.completed == step.jobs) {
      step.state = StepState::kCompleted;
      step.finished_at = now.wall;
      ++run.revision;
      tell_run(EventType::kStepCompleted, run, now, out, step.name);
      if (!ended(run.state)) out.effects.emplace_back(ContinueRun{run.id});
    }
  } else if (step.state == StepState::kRunning) {
    step.state = ended(run.state) ? StepState::kCancelled : StepState::kFailed;
    step.finished_at = now.wall;
    ++run.revision;
    if (step.state == StepState::kFailed) {
      tell_run(EventType::kStepFailed, run, now, out, step.name);
      JobError error =
          job.error.value_or(JobError{.code = job_state_name(job.state), .message = {}, .provider = {}});
      error.message = fmt::format("step `{}`: {}", step.name,
                                  error.message.empty()
                                      ? "its job " + to_string(job.id) + " has " +
                                            (job.state == JobState::kExpired ? "expired" : "been cancelled")
                                      : error.message);
      end_run(run, JobState::kFailed, std::move(error), now, out);
    }
  }
  put_run(run, nullptr, out);
  if (ended(run.state)) closing_.insert(run.id);
}

void Engine::State::end_run(RunRow& run, JobState state, std::optional<JobError> error, Timestamp now,
                            Changes& out) {
  run.state = state;
  run.finished_at = now.wall;
  run.error = std::move(error);
  ++run.revision;
  for (StepRow& step : run.steps) let_step_go(run, step);
  const EventType type = state == JobState::kCompleted ? EventType::kRunCompleted
                         : state == JobState::kFailed  ? EventType::kRunFailed
                                                       : EventType::kRunCancelled;
  tell_run(type, run, now, out, run.error ? run.error->code : std::string());
  closing_.insert(run.id);
}

// Runs that have ended: what is left of them in memory ends before anything starts; the rest is asked for.
// One without live jobs leaves memory.
void Engine::State::close_runs(Timestamp now, Changes& out) {
  if (closing_.empty()) return;  // as after nearly every command
  for (const RunId id : std::exchange(closing_, {})) {
    const auto found = runs_.find(id);
    if (found == runs_.end()) continue;
    const RunRow& run = found->second;
    if (!ended(run.state)) continue;
    for (std::uint32_t place = 0;
         place < run.next_job && run.live_jobs > 0 && options_.fault != Fault::kRunOutlived; ++place) {
      const auto job = jobs_.find(job_of(id, place));
      if (job != jobs_.end()) end_cancelled(&job->second, job->second.row, "run", now, out);
    }
    closing_.erase(id);  // its jobs' ends have put it there again
    if (run.live_jobs == 0) {
      asked_.erase(id);
      runs_.erase(found);
    } else if (asked_.insert(id).second) {
      out.effects.emplace_back(CancelJobs{id});
    }
  }
}

bool Engine::State::run_is_over(const JobRow& job) const {
  if (!job.run || options_.fault == Fault::kRunOutlived) return false;
  const auto found = runs_.find(job.run);
  return found == runs_.end() || ended(found->second.state);
}

Result<RunRow> Engine::State::advance_run(RunAdvance advance, Timestamp now, Changes& out) {
  const auto found = runs_.find(advance.run);
  if (found == runs_.end() || ended(found->second.state))
    return fail(ErrorCode::kConflict, "the run has ended", "run");
  RunRow& run = found->second;
  if (run.revision != advance.revision)
    return fail(ErrorCode::kStale, "a step of the run has ended since it was read", "run");
  ++run.revision;
  begin_steps(run, std::move(advance.begin), now, out);
  if (advance.error) {
    end_run(run, JobState::kFailed, std::move(advance.error), now, out);
  } else if (advance.result) {
    CHECK(std::ranges::all_of(run.steps, [](const StepRow& step) {
      return step.state == StepState::kCompleted || step.state == StepState::kSkipped;
    }));
    run.output = std::move(advance.result->output);
    run.artifacts = std::move(advance.result->artifacts);
    end_run(run, JobState::kCompleted, std::nullopt, now, out);
  }
  CHECK(ended(run.state) || run.live_jobs > 0);  // it would wait for nothing
  put_run(run, nullptr, out);
  close_runs(now, out);
  RunRow row = written(advance.run, out);
  finish(now, out);
  return row;
}

Result<RunRow> Engine::State::cancel_run(RunId id, std::string_view by, Timestamp now, Changes& out) {
  const auto found = runs_.find(id);
  if (found == runs_.end()) return fail(ErrorCode::kNotFound, "no such run", "id");
  RunRow& run = found->second;
  if (ended(run.state)) {
    return fail(ErrorCode::kConflict,
                fmt::format("the run has ended already ({}); only a run that has not ended can be cancelled",
                            job_state_name(run.state)),
                "id");
  }
  run.cancelled_by = by;
  end_run(run, JobState::kCancelled, std::nullopt, now, out);
  put_run(run, nullptr, out);
  close_runs(now, out);
  RunRow row = written(id, out);
  finish(now, out);
  return row;
}

// --- Going on

Result<RunRow> Engine::State::retry_run(ColdRun cold, std::vector<ColdJob> jobs, Timestamp now,
                                        Changes& out) {
  const auto conflict = [](std::string message) {
    return fail(ErrorCode::kConflict, std::move(message), "id");
  };
  const RunId id = cold.row.id;
  if (const auto live = runs_.find(id); live != runs_.end()) {
    return conflict(ended(live->second.state)
                        ? "the run's jobs are still being stopped; try again in a moment"
                        : "the run has not ended; it needs no retry, or cancel it first");
  }
  const auto stale = [] { return fail(ErrorCode::kStale, "the run changed since it was read", "id"); };
  if (changed_since(id.value, cold.at) || !ended(cold.row.state) || cold.row.live_jobs > 0) return stale();
  if (cold.row.state == JobState::kCompleted)
    return conflict("the run has completed; start a new one to run it again");
  if (jobs.size() != cold.row.next_job) {
    return conflict(
        "results of the run's steps are no longer kept, and it cannot go on from them: start a new one");
  }
  for (const ColdJob& job : jobs) {
    if (stopping_.contains(job.row.id))
      return conflict("the run's jobs are still being stopped; try again in a moment");
    if (!is_current(job) || !ended(job.row.state)) return stale();
  }
  Account* account = find_account(cold.row.account);
  CHECK(account != nullptr);
  if (auto full = queue_full(*account)) return std::unexpected(std::move(*full));

  RunRow& run = runs_.emplace(id, std::move(cold.row)).first->second;
  run.state = JobState::kQueued;
  run.finished_at = kNever;
  run.error.reset();
  run.cancelled_by.clear();
  ++run.revision;
  for (StepRow& step : run.steps) {
    if (step.state != StepState::kFailed && step.state != StepState::kCancelled) continue;
    step.state = StepState::kRunning;
    step.finished_at = kNever;
    tell_run(EventType::kStepQueued, run, now, out, step.name);
  }
  for (ColdJob& job : jobs) {
    StepRow& step = step_of(run, job.row.id);
    const bool again = options_.fault == Fault::kStepRepeated && step.state == StepState::kRunning;
    if (job.row.state == JobState::kCompleted && !again) continue;
    if (job.row.state == JobState::kCompleted) --step.completed;
    ++run.live_jobs;
    run.cost -= job.row.cost;  // it comes back with the job's end
    queue_again(std::move(job), *account, now, out);
  }
  // What was ready when it ended has not begun.
  out.effects.emplace_back(ContinueRun{id});
  put_run(run, nullptr, out);
  RunRow row = run;
  finish(now, out);
  return row;
}

// As retry() does, but never refused: it takes its hold when it is due, which is now.
void Engine::State::queue_again(ColdJob cold, Account& account, Timestamp now, Changes& out) {
  const JobId id = cold.row.id;
  make_fresh(cold.row, account, now);
  cold.row.due_at = now.wall;
  Durations& duration = took(cold.row.task, cold.row.provider);
  Job& job = jobs_
                 .emplace(id, Job{.account = &account,
                                  .row = std::move(cold.row),
                                  .body = std::move(cold.body),
                                  .took = &duration})
                 .first->second;
  schedule(job, nullptr, now, out);
}

// --- After a restart

void Engine::State::recover_runs(std::vector<RunRow> rows, Changes& out) {
  for (RunRow& row : rows) {
    const RunId id = row.id;
    if (options_.fault == Fault::kStepForgotten && !ended(row.state)) {
      const auto done = std::ranges::find(row.steps, StepState::kCompleted, &StepRow::state);
      if (done != row.steps.end()) {
        done->state = StepState::kWaiting;
        done->completed = 0;
      }
    }
    if (ended(row.state)) {
      closing_.insert(id);
    } else {
      out.effects.emplace_back(ContinueRun{id});
    }
    runs_.emplace(id, std::move(row));
  }
}

}  // namespace turnpike::engine
