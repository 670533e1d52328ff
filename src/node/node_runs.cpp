// Runs of workflows: their start, what follows from a step's end, cancel and retry. The engine decides; here
// what steps made is read, and inputs are made of it.
#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "node/log.h"
#include "node/node_impl.h"
#include "policy/contains.h"
#include "policy/workflow_next.h"

namespace turnpike::node {
namespace json = boost::json;
namespace {

constexpr std::size_t kMadeBytesMax = 16ULL << 20;  // what all steps of a run have made, when it goes on
constexpr std::size_t kRunArtifactsMax = 1'000;     // of a run's result
constexpr Duration kAgainAfter = std::chrono::seconds(5);  // a step whose providers are all away
constexpr int kRoundsMax = 64;                             // that a run's row changes while it is read

Error at_step(Error error, std::string_view step) {
  error.message = fmt::format("step `{}`: {}", step, error.message);
  return error;
}

std::unexpected<Error> no_run(RunId id) {
  return fail(ErrorCode::kNotFound, "there is no run " + to_string(id));
}

policy::StepProgress progress_of(engine::StepState state) {
  switch (state) {
    case engine::StepState::kWaiting:
      return policy::StepProgress::kWaiting;
    case engine::StepState::kCompleted:
      return policy::StepProgress::kCompleted;
    case engine::StepState::kSkipped:
      return policy::StepProgress::kSkipped;
    case engine::StepState::kRunning:
    case engine::StepState::kFailed:
    case engine::StepState::kCancelled:
      break;
  }
  return policy::StepProgress::kRunning;
}

json::array artifacts_of(const engine::JobRow& job) {
  json::array made;
  for (const engine::ArtifactRef& each : job.artifacts) {
    made.push_back(json::object{{"id", to_string(each.id)}, {"mime", each.mime}, {"bytes", each.bytes}});
  }
  return made;
}

// What the steps that completed have made. Error: it is too much, or no longer there.
Result<std::vector<policy::StepFacts>> facts_of(const engine::RunRow& run,
                                                const std::map<JobId, engine::JobRow>& jobs) {
  std::vector<policy::StepFacts> facts;
  std::size_t bytes = 0;
  for (const engine::StepRow& step : run.steps) {
    policy::StepFacts& each = facts.emplace_back();
    each.state = progress_of(step.state);
    if (step.state != engine::StepState::kCompleted) continue;
    for (std::uint32_t i = 0; i < step.jobs; ++i) {
      const auto job = jobs.find(engine::job_of(run.id, step.first_job + i));
      if (job == jobs.end()) {
        return fail(ErrorCode::kUnprocessable,
                    fmt::format("what step `{}` made is no longer kept", step.name), step.name);
      }
      bytes += job->second.output.size();
      if (bytes > kMadeBytesMax) {
        return fail(ErrorCode::kUnprocessable,
                    fmt::format("the run's steps have made more than {} MiB of text", kMadeBytesMax >> 20U),
                    step.name);
      }
      boost::system::error_code error;
      json::value output =
          job->second.output.empty() ? json::value() : json::parse(job->second.output, error);
      if (error) output = nullptr;  // nothing in it can be looked up
      each.outputs.push_back(std::move(output));
      each.artifacts.push_back(artifacts_of(job->second));
    }
  }
  return facts;
}

// Steps count alike; of one that runs, its jobs.
std::uint8_t percent_of(const engine::RunRow& run, const std::vector<JobView>& jobs) {
  if (run.state == engine::JobState::kCompleted) return 100;
  std::uint64_t done = 0;  // in hundredths of a step
  for (const engine::StepRow& step : run.steps) {
    if (step.state == engine::StepState::kCompleted || step.state == engine::StepState::kSkipped) {
      done += 100;
    } else if (step.jobs > 0) {
      std::uint64_t part = std::uint64_t{step.completed} * 100;
      for (const JobView& job : jobs) {
        const std::uint64_t place = job.row.id.value - run.id.value - 1;
        if (place >= step.first_job && place < step.first_job + step.jobs) part += job.percent;
      }
      done += part / step.jobs;
    }
  }
  return static_cast<std::uint8_t>(done / std::max<std::size_t>(1, run.steps.size()));
}

engine::JobError run_error(const Error& error) {
  return {.code = error.code == ErrorCode::kUnprocessable || error.code == ErrorCode::kInvalidRequest
                      ? "invalid_step"
                      : error_code_name(error.code),
          .message = error.message,
          .provider = {}};
}

}  // namespace

// --- Views

RunView NodeImpl::view_run(CommitLoop::Turn& turn, engine::RunRow row, engine::RunBodyPtr body,
                           std::vector<engine::JobRow> jobs) {
  RunView shown;
  shown.body = std::move(body);
  if (const engine::AccountRow* account = turn.engine().account(row.account))
    shown.user_id = account->user_id;
  const bool over = engine::ended(row.state);
  const policy::Plan& applies = turn.engine().plan_of(row.account);
  const policy::Plan* plan = over ? turn.engine().policy()->plan(row.plan) : &applies;
  shown.plan = over ? row.plan : applies.name;
  shown.priority_class = plan != nullptr ? plan->priority_class : applies.priority_class;
  for (engine::JobRow& job : jobs) {
    const bool waits = job.state == engine::JobState::kQueued || job.state == engine::JobState::kScheduled;
    JobView each = view(turn, std::move(job), nullptr);
    if (waits && !over) each.queue = turn.engine().queue_view(each.row, turn.now());
    if (each.queue && !shown.queue) shown.queue = each.queue;
    shown.jobs.push_back(std::move(each));
  }
  shown.percent = percent_of(row, shown.jobs);
  shown.row = std::move(row);
  return shown;
}

asio::awaitable<Result<NodeImpl::ReadRun>> NodeImpl::read_run(RunId id, std::optional<AccountId> account,
                                                              bool with_body) {
  Result<std::optional<journal::StoredRun>> run;
  Result<std::vector<journal::StoredJob>> jobs;
  auto question = [this, id, with_body, &run, &jobs] {
    run = journal_->run(id, with_body);
    if (run && *run) jobs = journal_->run_jobs(id);
  };
  auto reading = readers_.run(std::move(question));
  if (auto done = co_await std::move(reading); !done) co_return std::unexpected(std::move(done.error()));
  if (!run) co_return std::unexpected(std::move(run.error()));
  if (!*run || (account && (*run)->row.account != *account)) co_return no_run(id);
  if (!jobs) co_return std::unexpected(std::move(jobs.error()));
  ReadRun read{.run = std::move(**run), .jobs = {}};
  for (journal::StoredJob& job : *jobs) read.jobs.push_back(cold_job(std::move(job)));
  co_return read;
}

asio::awaitable<Result<RunView>> NodeImpl::run(RunId id, std::optional<AccountId> account) {
  auto reading = read_run(id, account, true);
  auto read = co_await std::move(reading);
  if (!read) co_return std::unexpected(std::move(read.error()));
  std::vector<engine::JobRow> jobs;
  for (engine::ColdJob& job : read->jobs) jobs.push_back(std::move(job.row));
  CommitLoop::Turn turn(*loop_);
  co_return view_run(turn, std::move(read->run.row), std::move(read->run.body), std::move(jobs));
}

asio::awaitable<Result<std::vector<RunView>>> NodeImpl::runs(journal::RunQuery query, bool& has_more) {
  Result<journal::RunPage> page;
  auto question = [this, &query, &page] { page = journal_->runs(query); };
  auto reading = readers_.run(std::move(question));
  if (auto done = co_await std::move(reading); !done) co_return std::unexpected(std::move(done.error()));
  if (!page) co_return std::unexpected(std::move(page.error()));
  has_more = page->has_more;
  std::vector<RunView> shown;
  shown.reserve(page->runs.size());
  CommitLoop::Turn turn(*loop_);
  for (journal::StoredRun& each : page->runs)
    shown.push_back(view_run(turn, std::move(each.row), std::move(each.body), {}));
  co_return shown;
}

asio::awaitable<Result<RunView>> NodeImpl::wait_run(RunId id, std::optional<AccountId> account,
                                                    Duration timeout) {
  const Monotonic until = clock_->now().mono + timeout;
  // Subscribed before the first look, so that no end can fall between.
  const std::shared_ptr<Subscription> subscription = hub_->subscribe(std::nullopt, id, std::nullopt);
  while (true) {
    auto looking = run(id, account);
    auto shown = co_await std::move(looking);
    if (!shown || engine::ended(shown->row.state)) co_return shown;
    bool look_again = false;
    while (!look_again) {
      const Duration left = until - clock_->now().mono;
      if (left <= Duration::zero()) {
        auto last = run(id, account);
        co_return co_await std::move(last);
      }
      auto waiting = subscription->next(left);
      const Subscription::Item item = co_await std::move(waiting);
      if (item.closed) co_return shown;
      look_again = item.lagged;
      for (const journal::StoredEvent& event : item.events)
        look_again = look_again || is_run_end(event.event.type);
    }
  }
}

// --- What begins

// Whatever steps a run begins with or goes on to: inputs are read as a request's are, and name only what is
// the account's own. Errors: `param` is the step.
asio::awaitable<Result<std::vector<NodeImpl::ReadyStep>>> NodeImpl::read_steps(policy::WorkflowPtr workflow,
                                                                               AccountId account,
                                                                               policy::NextOf next,
                                                                               std::string request_id) {
  std::vector<ReadyStep> ready;
  for (policy::NextStep& each : next.begin) {
    const policy::WorkflowStep& step = workflow->steps()[each.step];
    ReadyStep& begun = ready.emplace_back(ReadyStep{.step = each.step, .skipped = each.skipped, .jobs = {}});
    for (const json::object& input : each.inputs) {
      StepInput facts;
      if (options_.read_input) {
        auto read = options_.read_input(step.task, input);
        if (!read) {
          Error error = at_step(std::move(read.error()), step.name);
          error.param = step.name;
          co_return std::unexpected(std::move(error));
        }
        facts = std::move(*read);
      }
      if (facts.image) {
        auto checking = owns_artifact(*facts.image, account);
        const auto owned = co_await std::move(checking);
        if (!owned) co_return std::unexpected(owned.error());
        if (!*owned) {
          co_return fail(
              ErrorCode::kInvalidRequest,
              fmt::format("step `{}`: there is no artifact {}", step.name, to_string(*facts.image)),
              step.name);
        }
      }
      std::string text = json::serialize(input);
      if (text.size() > kInputBytesMax) {
        co_return fail(ErrorCode::kUnprocessable,
                       fmt::format("step `{}`: its input is larger than 1 MiB", step.name), step.name);
      }
      begun.jobs.push_back(
          {.body = std::make_shared<const engine::JobBody>(std::move(text), std::string(), request_id),
           .ask = std::move(facts.ask)});
    }
  }
  co_return ready;
}

asio::awaitable<Result<bool>> NodeImpl::owns_artifact(ArtifactId id, AccountId account) {
  Result<std::optional<journal::ArtifactRow>> row;
  auto question = [this, id, &row] { row = journal_->artifact(id); };
  auto reading = readers_.run(std::move(question));
  if (auto done = co_await std::move(reading); !done) co_return std::unexpected(std::move(done.error()));
  if (!row) co_return std::unexpected(std::move(row.error()));
  co_return row->has_value() && (*row)->account == account;
}

// As things are now: which models, at which prices. Under the mutex.
Result<std::vector<engine::BeginStep>> NodeImpl::resolve_steps(const engine::Engine& engine,
                                                               AccountId account,
                                                               const policy::Workflow& workflow,
                                                               const std::vector<ReadyStep>& ready) const {
  std::vector<engine::BeginStep> begin;
  for (const ReadyStep& each : ready) {
    const policy::WorkflowStep& step = workflow.steps()[each.step];
    engine::BeginStep& made = begin.emplace_back();
    made.step = each.step;
    made.skipped = each.skipped;
    if (each.jobs.empty()) continue;
    auto route = route_for(engine, account, step.task, step.model);
    if (!route) return std::unexpected(at_step(std::move(route.error()), step.name));
    for (const ReadyJob& job : each.jobs) {
      SubmitRequest request;
      request.account = account;
      request.task = step.task;
      request.content_type = step.content_type;
      request.ask = job.ask;
      request.body = job.body;
      request.options.timeout = step.timeout;
      request.options.backoff = step.retry;
      if (step.retry) request.max_attempts = step.retry->attempts;
      made.jobs.push_back(new_job(request, JobId{}, *route, *engine.policy(), {}));
    }
  }
  return begin;
}

asio::awaitable<Result<RunAnswer>> NodeImpl::start_run(RunRequest request) {
  if (draining()) co_return stopping();
  if (request.input.size() > kInputBytesMax)
    co_return fail(ErrorCode::kTooLarge, "the input is larger than 1 MiB", "input");
  if (request.metadata.size() > kMetadataBytesMax)
    co_return fail(ErrorCode::kTooLarge, "the metadata is larger than 16 KiB", "metadata");
  const policy::PolicyPtr policy = this->policy();
  const auto found = policy->workflows.find(request.workflow);
  if (found == policy->workflows.end()) {
    std::string known;
    for (const auto& [name, each] : policy->workflows) known += (known.empty() ? "" : ", ") + name;
    co_return fail(ErrorCode::kInvalidRequest,
                   known.empty()
                       ? fmt::format("there is no workflow `{}`: none is configured", request.workflow)
                       : fmt::format("there is no workflow `{}`; workflows are: {}", request.workflow, known),
                   "workflow");
  }
  const policy::WorkflowPtr workflow = found->second;
  boost::system::error_code parse_error;
  const json::value input = json::parse(request.input, parse_error);
  if (parse_error || !input.is_object())
    co_return fail(ErrorCode::kInvalidRequest, "`input` must be an object", "input");
  const policy::Plan plan = plan_of(request.account);
  auto next = policy::next_of(*workflow,
                              {.input = input.get_object(),
                               .plan = plan,
                               .steps = std::vector<policy::StepFacts>(workflow->steps().size())},
                              engine::kRunJobsMax);
  if (!next) {
    co_return fail(ErrorCode::kInvalidRequest, std::move(next.error().message), "input");
  }
  if (auto asked = policy::check_content_types(*policy, plan, *workflow, input.get_object()); !asked)
    co_return std::unexpected(std::move(asked.error()));
  if (next->output) {
    co_return fail(
        ErrorCode::kUnprocessable,
        fmt::format("workflow `{}` has nothing to do for this input on plan {}", request.workflow, plan.name),
        "input");
  }
  auto reading = read_steps(workflow, request.account, std::move(*next), request.request_id);
  auto ready = co_await std::move(reading);
  if (!ready) {
    ready.error().param = "input";
    co_return std::unexpected(std::move(ready.error()));
  }
  engine::Batch batch = 0;
  auto answer = take_run(request, *workflow, input.get_object(), *ready, batch);
  if (answer && !co_await loop_->committed(batch)) co_return stopping();
  co_return answer;
}

Result<RunAnswer> NodeImpl::take_run(const RunRequest& request, const policy::Workflow& workflow,
                                     const json::object& input, const std::vector<ReadyStep>& ready,
                                     engine::Batch& batch) {
  CommitLoop::Turn turn(*loop_);
  engine::Engine& engine = turn.engine();
  if (turn.overloaded()) return not_now("the server is overloaded; try again");
  // What it will need for certain, its plan must have.
  const policy::Plan& plan = engine.plan_of(request.account);
  const std::vector<std::size_t> certain = policy::certain_steps(workflow, input, plan);
  for (const std::size_t at : certain) {
    const policy::WorkflowStep& step = workflow.steps()[at];
    if (auto route = route_for(engine, request.account, step.task, step.model); !route)
      return std::unexpected(at_step(std::move(route.error()), step.name));
  }
  auto begin = resolve_steps(engine, request.account, workflow, ready);
  if (!begin) return std::unexpected(std::move(begin.error()));
  auto body = std::make_shared<const engine::RunBody>(workflow.text(), request.input, request.metadata,
                                                      request.request_id);
  engine::NewRun fresh{.id = RunId{turn.fresh_ids(1 + engine::kRunJobsMax)},
                       .account = request.account,
                       .workflow = request.workflow,
                       .steps = {},
                       .priority = request.priority,
                       .webhook = request.webhook,
                       .body = body,
                       .begin = std::move(*begin)};
  for (const policy::WorkflowStep& step : workflow.steps()) fresh.steps.push_back(step.name);
  for (const std::size_t at : certain) {
    if (!policy::contains(ready, at, &ReadyStep::step))
      fresh.certain.push_back({.step = at, .content_type = workflow.steps()[at].content_type});
  }
  auto started = engine.start_run(std::move(fresh), turn.now(), turn.changes());
  if (!started) return std::unexpected(std::move(started.error()));
  std::map<JobId, engine::JobRow> jobs;  // as the turn has left them
  for (const engine::Mutation& mutation : turn.changes().mutations) {
    const auto* put = std::get_if<engine::PutJob>(&mutation);
    if (put != nullptr && put->row.run == started->id) jobs.insert_or_assign(put->row.id, put->row);
  }
  std::vector<engine::JobRow> rows;
  for (auto& [id, row] : jobs) rows.push_back(std::move(row));
  RunAnswer answer;
  answer.run = view_run(turn, std::move(*started), std::move(body), std::move(rows));
  answer.rates = engine.rates(request.account, turn.now());
  if (request.render) answer.rendered = request.render(answer.run);
  record_answer(turn, request.idempotency, answer.rendered);
  batch = turn.seal();
  return answer;
}

// --- What follows

void NodeImpl::look_after(RunWork::Item item) {
  if (run_work_.add(item)) runners_->spawn(work_on_runs());
}

asio::awaitable<void> NodeImpl::work_on_runs() {
  while (const auto item = run_work_.take()) {
    Result<void> done;
    if (item->kind == RunWork::Kind::kContinue) {
      auto going = continue_run(item->run);
      done = co_await std::move(going);
    } else {
      auto ending = cancel_jobs(item->run);
      done = co_await std::move(ending);
    }
    if (done || draining()) continue;  // what is left undone, a restart finds
    if (done.error().code != ErrorCode::kUnavailable) {
      log_event(LogLevel::kError, "run.stuck",
                {{"run", to_string(item->run)}, {"message", done.error().message}});
    }
    run_work_.add_later(*item, clock_->now().mono + kAgainAfter);
  }
}

asio::awaitable<Result<void>> NodeImpl::continue_run(RunId id) {
  auto reading = read_run(id, std::nullopt, true);
  auto read = co_await std::move(reading);
  if (!read) co_return std::unexpected(std::move(read.error()));
  const engine::RunRow& row = read->run.row;
  if (engine::ended(row.state)) co_return Result<void>{};
  engine::RunAdvance advance{.run = id, .revision = row.revision, .begin = {}, .result = {}, .error = {}};
  std::vector<ReadyStep> ready;
  policy::WorkflowPtr workflow;
  auto finding = find_next(*read, workflow, ready, advance);
  if (auto found = co_await std::move(finding); !found) {
    if (found.error().code == ErrorCode::kUnavailable || found.error().code == ErrorCode::kIo)
      co_return std::unexpected(std::move(found.error()));
    advance.error = run_error(found.error());
  }
  if (ready.empty() && !advance.result && !advance.error) co_return Result<void>{};
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    if (!advance.error) {
      auto begin = resolve_steps(turn.engine(), row.account, *workflow, ready);
      if (begin) {
        advance.begin = std::move(*begin);
      } else if (begin.error().code == ErrorCode::kUnavailable) {
        co_return std::unexpected(std::move(begin.error()));
      } else {
        advance.error = run_error(begin.error());
        advance.result.reset();
      }
    }
    // Refused where a step has ended since (which is told of by itself), or the run has.
    (void)turn.engine().advance_run(std::move(advance), turn.now(), turn.changes());
    batch = turn.seal();
  }
  (void)co_await loop_->committed(batch);
  co_return Result<void>{};
}

// Fills `ready` or `advance.result`. Errors: the run cannot go on; kUnavailable, kIo: not now.
asio::awaitable<Result<void>> NodeImpl::find_next(const ReadRun& read, policy::WorkflowPtr& workflow,
                                                  std::vector<ReadyStep>& ready,
                                                  engine::RunAdvance& advance) {
  const engine::RunRow& row = read.run.row;
  boost::system::error_code parse_error;
  const json::value definition = json::parse(read.run.body->workflow, parse_error);
  auto parsed = policy::Workflow::parse(row.workflow, definition);
  if (parse_error || !parsed || (*parsed)->steps().size() != row.steps.size()) {
    co_return fail(ErrorCode::kUnprocessable, fmt::format("its workflow cannot be read any more: {}",
                                                          parsed ? "it is another" : parsed.error().message));
  }
  workflow = *parsed;
  const json::value input = json::parse(read.run.body->input, parse_error);
  if (parse_error || !input.is_object())
    co_return fail(ErrorCode::kUnprocessable, "its input cannot be read any more");
  std::map<JobId, engine::JobRow> jobs;
  for (const engine::ColdJob& job : read.jobs) jobs.emplace(job.row.id, job.row);
  auto facts = facts_of(row, jobs);
  if (!facts) co_return std::unexpected(std::move(facts.error()));
  const policy::Plan plan = plan_of(row.account);
  auto next =
      policy::next_of(*workflow, {.input = input.get_object(), .plan = plan, .steps = std::move(*facts)},
                      engine::kRunJobsMax - row.next_job);
  if (!next) co_return std::unexpected(std::move(next.error()));
  if (next->output) {
    engine::RunResult result{.output = json::serialize(*next->output), .artifacts = {}};
    if (result.output.size() > engine::kRunOutputMax)
      co_return fail(ErrorCode::kUnprocessable, "the run's output is larger than 64 KiB");
    for (const std::size_t at : workflow->results()) {
      const engine::StepRow& step = row.steps[at];
      for (std::uint32_t i = 0; i < step.jobs; ++i) {
        const auto job = jobs.find(engine::job_of(row.id, step.first_job + i));
        if (job == jobs.end()) continue;
        for (const engine::ArtifactRef& each : job->second.artifacts) result.artifacts.push_back(each);
      }
    }
    if (result.artifacts.size() > kRunArtifactsMax) {
      co_return fail(ErrorCode::kUnprocessable,
                     fmt::format("the run's result has more than {} artifacts", kRunArtifactsMax));
    }
    advance.result = std::move(result);
  }
  auto reading = read_steps(workflow, row.account, std::move(*next), read.run.body->request_id);
  auto begun = co_await std::move(reading);
  if (!begun) co_return std::unexpected(std::move(begun.error()));
  ready = std::move(*begun);
  co_return Result<void>{};
}

// Of a run that has ended: those that were not in memory.
asio::awaitable<Result<void>> NodeImpl::cancel_jobs(RunId id) {
  auto reading = read_run(id, std::nullopt, false);
  auto read = co_await std::move(reading);
  if (!read) co_return std::unexpected(std::move(read.error()));
  for (const engine::ColdJob& job : read->jobs) {
    if (engine::ended(job.row.state)) continue;
    auto cancelling = cancel(job.row.id, std::nullopt, "run");
    const auto cancelled = co_await std::move(cancelling);
    if (!cancelled && cancelled.error().code != ErrorCode::kConflict &&
        cancelled.error().code != ErrorCode::kNotFound)
      co_return std::unexpected(cancelled.error());
  }
  co_return Result<void>{};
}

// --- Commands

asio::awaitable<Result<RunView>> NodeImpl::cancel_run(RunId id, std::optional<AccountId> account,
                                                      std::string by) {
  for (int round = 0; round < kRoundsMax; ++round) {
    auto reading = read_run(id, account, false);
    const auto read = co_await std::move(reading);
    if (!read) co_return std::unexpected(read.error());
    engine::Batch batch = 0;
    bool taken = false;
    {
      CommitLoop::Turn turn(*loop_);
      const auto row = turn.engine().cancel_run(id, by, turn.now(), turn.changes());
      taken = row.has_value();
      if (!row && row.error().code == ErrorCode::kConflict) co_return std::unexpected(row.error());
      if (!row && engine::ended(read->run.row.state)) {
        co_return fail(
            ErrorCode::kConflict,
            fmt::format("the run has ended already ({}); only a run that has not ended can be cancelled",
                        engine::job_state_name(read->run.row.state)),
            "id");
      }
      batch = turn.seal();
    }
    if (!co_await loop_->committed(batch)) co_return stopping();
    if (taken) {
      auto showing = run(id, account);
      co_return co_await std::move(showing);
    }
    if (!co_await loop_->everything_committed()) co_return stopping();
  }
  co_return not_now("the run is changing; try again");
}

asio::awaitable<Result<RunView>> NodeImpl::retry_run(RunId id, std::optional<AccountId> account) {
  if (draining()) co_return stopping();
  for (int round = 0; round < kRoundsMax; ++round) {
    auto reading = read_run(id, account, false);
    auto read = co_await std::move(reading);
    if (!read) co_return std::unexpected(std::move(read.error()));
    engine::Batch batch = 0;
    bool taken = false;
    {
      CommitLoop::Turn turn(*loop_);
      const auto row = turn.engine().retry_run({.row = std::move(read->run.row), .at = read->run.at},
                                               std::move(read->jobs), turn.now(), turn.changes());
      taken = row.has_value();
      if (!row && row.error().code != ErrorCode::kStale) co_return std::unexpected(row.error());
      batch = turn.seal();
    }
    if (!co_await loop_->committed(batch)) co_return stopping();
    if (taken) {
      auto showing = run(id, account);
      co_return co_await std::move(showing);
    }
    if (!co_await loop_->everything_committed()) co_return stopping();
  }
  co_return not_now("the run is changing; try again");
}

}  // namespace turnpike::node
