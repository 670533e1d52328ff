// Local programs: each step of a task is one process, and its files are the result. How a
// program's end is read stands in exec_end.h.

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "provider/exec_end.h"
#include "provider/exec_output.h"
#include "provider/exec_task.h"
#include "provider/json_text.h"
#include "provider/process.h"
#include "provider/produced.h"
#include "provider/provider_kinds.h"
#include "provider/sandbox_user.h"
#include "provider/upstream_failure.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;
using SteadyClock = std::chrono::steady_clock;

constexpr std::uint64_t kFolderFactor = 4;  // a work folder may hold so many times the largest file
constexpr Duration kLongest = std::chrono::hours(24);

class ExecProvider final : public Provider {
 public:
  ExecProvider(std::string name, Confinement confinement)
      : name_(std::move(name)), confinement_(confinement) {}

  void add_task(const std::string& task, const policy::ExecTask& config, std::vector<std::string>& warnings) {
    auto parsed = parse_task(config);
    if (!parsed) {
      warnings.push_back(
          fmt::format("provider {}: task {} cannot run: {}", name_, task, parsed.error().message));
      return;
    }
    for (const ParsedStep& step : parsed->steps) {
      if (find_program(step.program).empty())
        warnings.push_back(
            fmt::format("provider {}: program {} of task {} is not found", name_, step.program, task));
    }
    tasks_.emplace(task, std::move(*parsed));
  }

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    // Cancellation is looked at between steps and by run_process: an await must not throw on the way.
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    Outcome outcome = co_await run_steps(std::move(request), std::move(progress));
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return outcome;
  }

  asio::awaitable<Result<void>> probe(Duration) override {
    for (const auto& [name, task] : tasks_) {
      for (const ParsedStep& step : task.steps) {
        if (find_program(step.program).empty())
          co_return fail(ErrorCode::kUnavailable, fmt::format("program {} is not found", step.program));
      }
    }
    co_return Result<void>{};
  }

 private:
  asio::awaitable<Outcome> run_steps(Request request, Progress progress) const {
    const auto found = tasks_.find(request.task);
    if (found == tasks_.end())
      co_return failure(FailureClass::kMisconfigured,
                        fmt::format("provider {} has no program for task {}", name_, request.task));
    const ParsedTask& task = found->second;
    const Duration limit = request.timeout > Duration::zero() ? request.timeout : kLongest;
    const auto deadline = SteadyClock::now() + std::min(limit, task.config.time_max);
    auto expansion = Expansion::make(task, request, confinement_);
    if (!expansion) co_return refused_try(expansion.error());

    auto lodging = lodge(request);
    if (!lodging) co_return refused_try(lodging.error());

    std::string last_output;
    for (std::size_t i = 0; i < task.steps.size(); ++i) {
      auto ended = co_await run_step(task, i, request, *expansion, *lodging, deadline, last_output);
      if (ended) co_return std::move(*ended);
      if (progress) {
        const auto percent = static_cast<int>(100 * (i + 1) / task.steps.size());
        progress(percent, fmt::format("step {} of {}", i + 1, task.steps.size()));
      }
    }
    co_return conclude(task, request, *expansion, last_output);
  }

  // Who all steps of one try run as; nobody in particular where the sandbox needs no user of its own.
  using Lodging = std::optional<SandboxUser>;

  Result<Lodging> lodge(const Request& request) const {
    if (!confined() || process_bound() != ProcessBound::kOwnUser) return Lodging{};
    auto user = SandboxUser::take();
    if (!user) return std::unexpected(user.error());
    if (auto given = hand_over(request.work_dir, user->id()); !given) return std::unexpected(given.error());
    return Lodging{std::move(*user)};
  }

  bool confined() const { return confinement_ == Confinement::kBubblewrap; }

  // nullopt: it worked, or was not wanted.
  asio::awaitable<std::optional<Outcome>> run_step(const ParsedTask& task, std::size_t index,
                                                   const Request& request, const Expansion& expansion,
                                                   const Lodging& lodging, SteadyClock::time_point deadline,
                                                   std::string& last_output) const {
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) co_return Cancelled{};
    const ParsedStep& step = task.steps[index];
    const auto wanted = expansion.wanted(step);
    if (!wanted) co_return refused_try(wanted.error());
    if (!*wanted) co_return std::nullopt;
    auto plan = plan_step(task, index, request, expansion, lodging, deadline);
    if (!plan) co_return refused_try(plan.error());
    auto report = co_await run_process(std::move(*plan));
    if (!report) co_return refused_try(report.error());
    last_output = std::move(report->output);
    if (confined() && report->end == ProcessEnd::kExited && did_not_start(*report))
      co_return sandbox_failed(step.program, *report);
    const bool bounded = confined() && process_bound() != ProcessBound::kWatched;
    co_return judge_end(program_name(step.program), *report, task.config, bounded);
  }

  Result<ProcessPlan> plan_step(const ParsedTask& task, std::size_t index, const Request& request,
                                const Expansion& expansion, const Lodging& lodging,
                                SteadyClock::time_point deadline) const {
    const ParsedStep& step = task.steps[index];
    const std::filesystem::path program = find_program(step.program);
    if (program.empty())
      return fail(ErrorCode::kConfiguration,
                  fmt::format("program {} is not installed", program_name(step.program)));
    auto arguments = expansion.arguments(step);
    if (!arguments) return std::unexpected(arguments.error());
    arguments->insert(arguments->begin(), program.string());
    auto text = index == 0 ? expansion.stdin_text(task) : Result<std::string>{};
    if (!text) return std::unexpected(text.error());

    const policy::ExecTask& limits = task.config;
    ProcessPlan plan;
    plan.confinement = confinement_;
    plan.marker = fmt::format("TURNPIKE_TRY={}", to_string(request.try_id));
    plan.work_dir = request.work_dir;
    plan.deadline = deadline;
    plan.output_bytes_max = limits.output_bytes_max;
    plan.memory_bytes_max = limits.memory_bytes_max;
    plan.folder_bytes_max = limits.file_bytes_max * kFolderFactor;
    plan.processes_max = limits.processes_max;
    plan.spawn.arguments = std::move(*arguments);
    if (confined()) {
      auto view = view_of(request, expansion, lodging, program, limits);
      if (!view) return std::unexpected(view.error());
      plan.spawn.arguments = confine(*view, plan.spawn.arguments);
      plan.spawn.stream_owner = view->user;
    }
    plan.spawn.environment =
        program_environment(confined() ? kSandboxWorkDir : request.work_dir.string(), plan.marker);
    plan.spawn.stdin_text = std::move(*text);
    plan.spawn.work_dir = request.work_dir;
    plan.spawn.wants_info = confined();
    plan.spawn.memory_bytes_max = limits.memory_bytes_max;
    plan.spawn.file_bytes_max = limits.file_bytes_max;
    // Our own deadline comes first; this one holds if we are not there to keep it, for each of several
    // threads.
    plan.spawn.cpu_max = std::chrono::ceil<std::chrono::seconds>(limits.time_max) * 4;
    return plan;
  }

  static Result<View> view_of(const Request& request, const Expansion& expansion, const Lodging& lodging,
                              const std::filesystem::path& program, const policy::ExecTask& limits) {
    View view{.work_dir = request.work_dir,
              .inputs = expansion.inputs(),
              .program = program,
              .processes_max = limits.processes_max,
              .bound = process_bound(),
              .user = 0,
              .groups = {}};
    if (!lodging) return view;
    std::vector<std::filesystem::path> reads;
    for (const auto& [host, inside] : view.inputs) reads.push_back(host);
    if (!is_system_program(program)) reads.push_back(program);
    auto groups = groups_to_read(reads);
    if (!groups) return std::unexpected(groups.error());
    view.user = lodging->id();
    view.groups = std::move(*groups);
    return view;
  }

  static Outcome conclude(const ParsedTask& task, const Request& request, const Expansion& expansion,
                          const std::string& last_output) {
    Success success;
    boost::json::object output;
    if (task.config.stdout_json) {
      auto said = parse_json(last_output);
      if (!said || !said->is_object())
        return failure(FailureClass::kBadOutput, "the program did not print a JSON object");
      output = std::move(said->get_object());
    }
    auto taken =
        take_outputs(expansion.outputs(), request.work_dir, task.config.file_bytes_max, output, success);
    if (!taken) return failure(FailureClass::kBadOutput, taken.error().message);
    if (request.task == "speech")
      add_usage(success, "characters", count_characters(expansion.text_field("text")));
    if (auto put = put_output(success, boost::json::serialize(output), request.work_dir); !put)
      return failure(FailureClass::kTransient, put.error().message);
    return success;
  }

  const std::string name_;
  const Confinement confinement_;
  std::map<std::string, ParsedTask, std::less<>> tasks_;
};

}  // namespace

std::unique_ptr<Provider> make_exec_provider(const policy::Provider& config, Confinement confinement,
                                             std::vector<std::string>& warnings) {
  auto provider = std::make_unique<ExecProvider>(config.name, confinement);
  for (const auto& [task, settings] : config.exec_tasks) provider->add_task(task, settings, warnings);
  return provider;
}

}  // namespace turnpike::provider
