#include "simulation/run_book.h"

#include <algorithm>

#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::ended;
using engine::JobRow;
using engine::JobState;
using engine::RunRow;
using engine::StepRow;
using engine::StepState;

const RunRow* RunBook::run(RunId id) const {
  const auto found = rows_.find(id);
  return found == rows_.end() ? nullptr : &found->second;
}

engine::Batch RunBook::changed(RunId id) const {
  const auto found = changed_.find(id);
  return found == changed_.end() ? 0 : found->second;
}

std::vector<RunId> RunBook::known() const {
  std::vector<RunId> ids;
  for (const auto& [id, row] : rows_) ids.push_back(id);
  return ids;
}

void RunBook::learn(const RunRow& row) {
  for (std::size_t i = 0; i < row.steps.size(); ++i) {
    const StepRow& step = row.steps[i];
    if (step.state == StepState::kWaiting) continue;
    const auto [at, fresh] = begun_.try_emplace({row.id, i}, step.first_job);
    require(fresh || at->second == step.first_job, "I8", "step {} of {} was begun again", step.name,
            to_string(row.id));
  }
}

void RunBook::put(const RunRow& row, engine::Batch batch) {
  const std::string id = to_string(row.id);
  if (const RunRow* before = run(row.id)) {
    require(before->account == row.account && before->workflow == row.workflow &&
                before->steps.size() == row.steps.size() && before->created_at == row.created_at,
            "I8", "{} became another", id);
    require(before->state != JobState::kCompleted || row.state == JobState::kCompleted, "I8",
            "{} had completed and is {}", id, job_state_name(row.state));
    require(before->next_job <= row.next_job, "I8", "{} gives places of jobs again", id);
    for (std::size_t i = 0; i < row.steps.size(); ++i) {
      const StepState was = before->steps[i].state;
      require((was != StepState::kCompleted && was != StepState::kSkipped) || row.steps[i].state == was, "I8",
              "step {} of {} was {} and is {}", row.steps[i].name, id, step_state_name(was),
              step_state_name(row.steps[i].state));
      require(row.steps[i].completed >= before->steps[i].completed, "I8",
              "jobs of step {} of {} that had completed are to run again", row.steps[i].name, id);
    }
    if (!ended(before->state) && ended(row.state)) {
      tally_->add(row.state == JobState::kCompleted ? Seen::kRunsCompleted
                  : row.state == JobState::kFailed  ? Seen::kRunsFailed
                                                    : Seen::kRunsCancelled);
    }
  }
  require(row.state != JobState::kCompleted || std::ranges::all_of(row.steps,
                                                                   [](const StepRow& step) {
                                                                     return step.state ==
                                                                                StepState::kCompleted ||
                                                                            step.state == StepState::kSkipped;
                                                                   }),
          "I8", "{} has completed, and not all of its steps have", id);
  learn(row);
  rows_.insert_or_assign(row.id, row);
  changed_[row.id] = batch;
}

void RunBook::see_job(const JobRow& row) {
  if (!row.run) return;
  require(row.id.value > row.run.value && row.id.value <= row.run.value + engine::kRunJobsMax, "I8",
          "{} is no job of {}", to_string(row.id), to_string(row.run));
  jobs_[row.run].insert(row.id);
}

void RunBook::see_start(const JobRow& row) const {
  if (!row.run) return;
  const RunRow* of = run(row.run);
  require(of == nullptr || !ended(of->state), "I8", "{} was started, and {} had ended", to_string(row.id),
          to_string(row.run));
}

void RunBook::check_run(const RunRow& row, const Ledger& ledger) const {
  const std::string id = to_string(row.id);
  std::uint32_t live = 0, all = 0;
  Money cost;
  const auto jobs = jobs_.find(row.id);
  if (jobs != jobs_.end()) {
    for (const JobId each : jobs->second) {
      const JobRow* job = ledger.job(each);
      require(job != nullptr, "I1", "{} of {} is missing", to_string(each), id);
      ++all;
      if (!ended(job->state)) {
        ++live;
      } else {
        cost += job->cost;
      }
    }
  }
  require(all == row.next_job, "I6", "{} gave places to {} jobs, and has {}", id, row.next_job, all);
  require(live == row.live_jobs, "I6", "{} counts {} live jobs, {} by recount", id, row.live_jobs, live);
  require(cost == row.cost, "I6", "{} cost {} USD, {} by recount", id, to_string(row.cost), to_string(cost));
  for (const StepRow& step : row.steps) {
    std::uint32_t completed = 0;
    for (std::uint32_t i = 0; i < step.jobs; ++i) {
      const JobRow* job = ledger.job(engine::job_of(row.id, step.first_job + i));
      require(job != nullptr && job->run == row.id, "I6", "a job of step {} of {} is missing", step.name, id);
      completed += job->state == JobState::kCompleted ? 1 : 0;
    }
    require(completed == step.completed, "I6", "step {} of {} counts {} jobs completed, {} by recount",
            step.name, id, step.completed, completed);
    const bool whole = step.state == StepState::kCompleted;
    require(step.state == StepState::kWaiting || whole == (completed == step.jobs) ||
                step.state == StepState::kSkipped,
            "I6", "step {} of {} is {} with {} of {} jobs completed", step.name, id,
            step_state_name(step.state), completed, step.jobs);
  }
}

void RunBook::check(const engine::Engine& engine, const Ledger& ledger) const {
  std::size_t live = 0;
  for (const auto& [id, row] : rows_) {
    if (ended(row.state) && row.live_jobs == 0) {
      require(engine.run(id) == nullptr, "bounds", "{} is over and stays in memory", to_string(id));
      continue;
    }
    ++live;
    const RunRow* known = engine.run(id);
    require(known != nullptr, "I6", "{} is {} and the engine does not know it", to_string(id),
            job_state_name(row.state));
    require(known->revision == row.revision && known->live_jobs == row.live_jobs &&
                known->state == row.state && known->steps == row.steps,
            "I6", "{} is not as it was written", to_string(id));
    check_run(row, ledger);
  }
  require(engine.runs().size() == live, "I6", "{} runs are live, {} by recount", engine.runs().size(), live);
}

void RunBook::restarted(const std::map<RunId, RunRow>& rows, const std::vector<JobRow>& jobs) {
  begun_ = completed_;
  jobs_.clear();
  for (const JobRow& job : jobs) see_job(job);
  for (const auto& [id, row] : rows) learn(row);
  rows_ = rows;
  for (const RunId id : acknowledged_)
    require(rows_.contains(id), "I1", "{} was acknowledged and is missing", to_string(id));
  for (const auto& [id, state] : ended_)
    require(rows_.contains(id), "I1", "{} had ended and is missing", to_string(id));
}

// What completed in a commit stays so in every life to come.
void RunBook::committed(const RunRow& row) {
  for (std::size_t i = 0; i < row.steps.size(); ++i) {
    const StepRow& step = row.steps[i];
    const auto done = completed_.find({row.id, i});
    require(
        done == completed_.end() || (step.state == StepState::kCompleted && step.first_job == done->second),
        "I8", "step {} of {}, whose end was committed, is {}", step.name, to_string(row.id),
        step_state_name(step.state));
    if (step.state == StepState::kCompleted) completed_[{row.id, i}] = step.first_job;
  }
  if (ended(row.state)) ended_[row.id] = row.state;
}

void RunBook::all_ended() const {
  for (const auto& [id, row] : rows_)
    require(ended(row.state) && row.live_jobs == 0, "I8", "{} is still {} after everything has come to rest",
            to_string(id), job_state_name(row.state));
}

}  // namespace turnpike::simulation
