#include "provider/exec_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <exception>

#include "provider/exec_end.h"
#include "provider/upstream_failure.h"
#include "provider/upstream_try.h"

namespace turnpike::provider {

namespace asio = boost::asio;
using policy::FailureClass;
using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;
using State = ServerProcess::State;

namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);
constexpr milliseconds kSetbackFirst{100};
constexpr seconds kSetbackMax{30};
constexpr seconds kSetbackWaited{2};  // a start that is farther away is not waited for
constexpr std::size_t kSetbacksMax = 4096;
constexpr milliseconds kLookFirst{5};  // between two looks at whether a program listens, growing to kLookMax
constexpr milliseconds kLookMax{100};
constexpr std::chrono::hours kLongWait{1};
constexpr std::size_t kWordsKept = 16 * 1024;  // of what a program says, each of its two streams
constexpr milliseconds kWatchEvery{250};
constexpr std::uint64_t kFolderFactor = 4;  // each place may hold so many times the largest file

// Whether somebody listens on the socket of this descriptor; never waits.
bool is_listening(const Descriptor& socket) {
  if (!socket) return false;
  const Descriptor caller{::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (!caller) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}", socket.get());
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return ::connect(caller.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

// As the program names it. A bare program's folder may be deeper than a socket's name may be long; it is its
// current folder then.
std::string socket_for(bool confined, const std::filesystem::path& home) {
  if (confined) return fmt::format("{}/{}", kSandboxWorkDir, kSocketName);
  std::string path = (home / kSocketName).string();
  return path.size() < sizeof(sockaddr_un::sun_path) ? path : kSocketName;
}

std::vector<std::string> command_of(const policy::ExecServe& serve, const std::filesystem::path& program,
                                    const std::string& socket) {
  constexpr std::string_view kReference = "${socket}";
  std::vector<std::string> command = serve.command;
  command.front() = program.string();
  for (std::size_t i = 1; i < command.size(); ++i) {
    for (std::size_t at = 0; (at = command[i].find(kReference, at)) != std::string::npos; at += socket.size())
      command[i].replace(at, kReference.size(), socket);
  }
  return command;
}

policy::ExecTask limits_of(const policy::ExecServe& serve) {
  policy::ExecTask limits;
  limits.memory_bytes_max = serve.memory_bytes_max;
  limits.file_bytes_max = serve.file_bytes_max;
  limits.processes_max = serve.processes_max;
  return limits;
}

}  // namespace

std::string ServerPool::program() const {
  return program_name(setup_.serve.command.front());
}

// --- Places

asio::awaitable<std::expected<ServerPool::Place, Failure>> ServerPool::take(AccountId account,
                                                                            std::filesystem::path parent,
                                                                            Time until) {
  parent_ = std::move(parent);
  if (!tended_) {
    tended_ = true;
    group_.spawn(executor_, tend());
  }
  auto waiter = std::make_shared<Waiter>(executor_, account);
  waiter->timer.expires_at(until);
  waiters_.push_back(waiter);
  changed();
  if (!waiter->result) co_await waiter->timer.async_wait(kAsTuple);
  std::erase(waiters_, waiter);
  if (waiter->result) co_return std::move(*waiter->result);
  const bool starts = find(account, State::kStarting) != nullptr;
  co_return std::unexpected(failure(FailureClass::kTimeout, starts ? program() + " was not ready in time"
                                                                   : program() + " had no place in time"));
}

bool ServerPool::listens(const ServerProcess& process) const {
  return is_listening(process.folder.socket());
}

void ServerPool::answered(ServerProcess& process) {
  process.answered = true;
  setbacks_.erase(process.account);
}

void ServerPool::give_back(const ServerProcessPtr& process) {
  --process->taken;
  process->idle_since = SteadyClock::now();
  if (process->ending) end(*process);
  changed();
}

void ServerPool::replace(const ServerProcessPtr& process) {
  process->ending = true;
}

void ServerPool::end(ServerProcess& process) {
  process.ending = true;
  if (process.taken == 0) process.handle.cancel();
}

// Whatever has changed: everybody who waits is looked at again, in the order of their coming.
void ServerPool::changed() {
  const Time now = SteadyClock::now();
  for (const auto& process : processes_) process->promised = 0;
  const auto waiters = waiters_;
  for (const auto& waiter : waiters) {
    if (!waiter->result) assign(*waiter, now);
  }
  due_.cancel();
}

void ServerPool::give(Waiter& waiter, std::expected<Place, Failure> result) {
  waiter.result.emplace(std::move(result));
  waiter.timer.cancel();
}

// The one with the most room.
ServerProcess* ServerPool::find(AccountId account, State state) const {
  ServerProcess* best = nullptr;
  for (const auto& process : processes_) {
    const std::uint32_t used = process->taken + process->promised;
    if (process->account != account || process->state != state || process->ending ||
        used >= setup_.serve.concurrency)
      continue;
    if (best == nullptr || used < best->taken + best->promised) best = process.get();
  }
  return best;
}

void ServerPool::assign(Waiter& waiter, Time now) {
  if (ServerProcess* ready = find(waiter.account, State::kReady)) {
    ++ready->taken;
    const auto at = std::ranges::find(processes_, ready, &ServerProcessPtr::get);
    return give(waiter, Place{*this, *at});
  }
  if (ServerProcess* starting = find(waiter.account, State::kStarting)) {
    ++starting->promised;
    return;
  }
  // One for each account, and no other before that one has ended.
  if (setup_.serve.per_account &&
      std::ranges::count(processes_, waiter.account, [](const auto& each) { return each->account; }) > 0)
    return;
  if (const auto setback = setbacks_.find(waiter.account);
      setback != setbacks_.end() && now < setback->second.next_start) {
    if (setback->second.next_start <= now + kSetbackWaited) return;
    Failure why = setback->second.why;
    why.retry_after = std::chrono::duration_cast<Duration>(setback->second.next_start - now);
    return give(waiter, std::unexpected(std::move(why)));
  }
  if (processes_.size() < setup_.serve.instances || make_room()) start(waiter);
}

// Of processes for one account each, the one that has been idle longest goes. True: there is room now; else
// there may be once it has ended.
bool ServerPool::make_room() {
  if (!setup_.serve.per_account) return false;
  ServerProcess* oldest = nullptr;
  for (const auto& process : processes_) {
    // One that goes already is for the first who waits; the next is taken when that one has its process.
    if (process->ending && process->taken == 0) return false;
    if (process->state != State::kReady || process->taken > 0) continue;
    if (oldest == nullptr || process->idle_since < oldest->idle_since) oldest = process.get();
  }
  if (oldest != nullptr) end(*oldest);
  return false;
}

void ServerPool::start(Waiter& waiter) {
  auto made = make_process(waiter.account);
  if (!made) return give(waiter, std::unexpected(refused_try(made.error())));
  const ServerProcessPtr process = std::move(*made);
  ++process->promised;
  processes_.push_back(process);
  process->handle = group_.spawn(executor_, live(process));
  group_.spawn(executor_, await_ready(process));
}

// --- What is due at a time

ServerPool::Time ServerPool::next_due(Time now) const {
  Time due = now + kLongWait;
  for (const auto& process : processes_) {
    if (setup_.serve.idle_stop && process->state == State::kReady && process->taken == 0 && !process->ending)
      due = std::min(due, process->idle_since + *setup_.serve.idle_stop);
  }
  for (const auto& waiter : waiters_) {
    const auto setback = setbacks_.find(waiter->account);
    if (setback != setbacks_.end() && setback->second.next_start > now)
      due = std::min(due, setback->second.next_start);
  }
  return due;
}

void ServerPool::end_idle(Time now) {
  if (!setup_.serve.idle_stop) return;
  for (const auto& process : processes_) {
    if (process->state == State::kReady && process->taken == 0 && !process->ending &&
        now >= process->idle_since + *setup_.serve.idle_stop)
      end(*process);
  }
}

asio::awaitable<void> ServerPool::tend() {
  co_await asio::this_coro::throw_if_cancelled(false);
  while (!co_await is_cancelled()) {
    const Time now = SteadyClock::now();
    due_.expires_at(next_due(now));
    const auto [interrupted] = co_await due_.async_wait(kAsTuple);
    if (interrupted) continue;
    end_idle(SteadyClock::now());
    changed();
  }
}

// --- One process

Result<ServerProcessPtr> ServerPool::make_process(AccountId account) const {
  std::optional<SandboxUser> user;
  if (confined() && process_bound() == ProcessBound::kOwnUser) {
    auto taken = SandboxUser::take();
    if (!taken) return std::unexpected(taken.error());
    user.emplace(std::move(*taken));
  }
  auto folder = ServerFolder::make(parent_, setup_.provider, user ? user->id() : 0);
  if (!folder) return std::unexpected(folder.error());
  return std::make_shared<ServerProcess>(account, std::move(user), std::move(*folder));
}

Result<View> ServerPool::view_of(const ServerProcess& process, const std::filesystem::path& program) const {
  View view{.work_dir = process.folder.home(),
            .inputs = {{process.folder.input(), kSandboxInputDir}},
            .reads = {setup_.serve.files.begin(), setup_.serve.files.end()},
            .tries = process.folder.tries(),
            .program = program,
            .processes_max = setup_.serve.processes_max,
            .bound = process_bound(),
            .user = 0,
            .groups = {}};
  std::vector<std::filesystem::path> reads = view.reads;
  reads.push_back(program);
  std::erase_if(reads, is_system_program);
  for (const auto& path : reads) {
    std::error_code error;
    if (!std::filesystem::exists(path, error))
      return fail(ErrorCode::kConfiguration,
                  fmt::format("{} is not there, which `serve.files` names", path.filename().string()));
  }
  if (!process.user) return view;
  auto groups = groups_to_read(reads);
  if (!groups) return std::unexpected(groups.error());
  view.user = process.user->id();
  view.groups = std::move(*groups);
  return view;
}

Result<ProcessPlan> ServerPool::plan_of(const ServerProcess& process) const {
  static std::atomic<std::uint64_t> count = 0;
  const policy::ExecServe& serve = setup_.serve;
  const std::filesystem::path program = find_program(serve.command.front());
  if (program.empty())
    return fail(ErrorCode::kConfiguration, fmt::format("program {} is not installed", this->program()));
  const std::string socket = socket_for(confined(), process.folder.home());
  ProcessPlan plan;
  plan.confinement = setup_.confinement;
  plan.marker = fmt::format("TURNPIKE_SERVER={}-{}", ::getpid(), ++count);
  plan.work_dir = process.folder.own();
  plan.deadline = Time::max();
  plan.output_bytes_max = kWordsKept;
  plan.keeps_tail = true;
  plan.watch_every = kWatchEvery;
  plan.memory_bytes_max = serve.memory_bytes_max;
  plan.folder_bytes_max = serve.file_bytes_max * kFolderFactor * serve.concurrency;
  plan.processes_max = serve.processes_max;
  plan.spawn.arguments = command_of(serve, program, socket);
  if (confined()) {
    auto view = view_of(process, program);
    if (!view) return std::unexpected(view.error());
    plan.spawn.arguments = confine(*view, plan.spawn.arguments);
    plan.spawn.stream_owner = view->user;
  }
  plan.spawn.environment =
      program_environment(confined() ? kSandboxWorkDir : process.folder.home().string(), plan.marker);
  plan.spawn.environment.push_back(fmt::format("TURNPIKE_SOCKET={}", socket));
  plan.spawn.work_dir = process.folder.home();
  plan.spawn.wants_info = confined();
  plan.spawn.memory_bytes_max = serve.memory_bytes_max;
  plan.spawn.file_bytes_max = serve.file_bytes_max;
  return plan;
}

asio::awaitable<void> ServerPool::live(ServerProcessPtr process) {
  co_await asio::this_coro::throw_if_cancelled(false);
  auto plan = plan_of(*process);
  Result<ProcessReport> report = ProcessReport{};
  try {
    if (plan) {
      report = co_await run_process(std::move(*plan));
    } else {
      report = std::unexpected(plan.error());
    }
  } catch (const std::exception& problem) {
    report = fail(ErrorCode::kIo, std::string{"the program could not be watched: "} + problem.what());
  }
  ended(process, report);
}

asio::awaitable<void> ServerPool::await_ready(ServerProcessPtr process) {
  co_await asio::this_coro::throw_if_cancelled(false);
  asio::steady_timer timer(executor_);
  const Time until = SteadyClock::now() + setup_.serve.start_timeout;
  milliseconds pause = kLookFirst;
  while (process->state == State::kStarting && !co_await is_cancelled()) {
    if (listens(*process)) {
      process->state = State::kReady;
      process->idle_since = SteadyClock::now();
      changed();
      co_return;
    }
    if (SteadyClock::now() >= until) {
      process->late = true;
      process->ending = true;
      process->handle.cancel();
      co_return;
    }
    timer.expires_after(pause);
    pause = std::min(pause * 2, kLookMax);
    co_await timer.async_wait(kAsTuple);
  }
}

Failure ServerPool::why_ended(const ServerProcess& process, const Result<ProcessReport>& report) const {
  if (!report) return refused_try(report.error());
  if (process.late) {
    const auto patience = std::chrono::duration_cast<milliseconds>(setup_.serve.start_timeout);
    return failure(FailureClass::kTransient,
                   fmt::format("{} did not listen on its socket within {} ms{}", program(), patience.count(),
                               last_words(report->error)));
  }
  if (report->end == ProcessEnd::kCancelled)
    return failure(FailureClass::kTransient, program() + " was ended");
  std::optional<Outcome> judged;
  if (confined() && report->end == ProcessEnd::kExited && did_not_start(*report)) {
    judged = sandbox_failed(setup_.serve.command.front(), *report);
  } else {
    const bool bounded = confined() && process_bound() != ProcessBound::kWatched;
    judged = judge_end(program(), *report, limits_of(setup_.serve), bounded);
  }
  const auto* failed = judged ? std::get_if<Failure>(&*judged) : nullptr;
  if (failed == nullptr)
    return failure(FailureClass::kTransient, program() + " ended by itself" + last_words(report->error));
  Failure why = *failed;
  // It is not an input that a program which stays blames by its status.
  if (why.failure == FailureClass::kInvalidInput)
    why = failure(FailureClass::kTransient, fmt::format("{} failed with status {}{}", program(),
                                                        report->status, last_words(report->error)));
  return why;
}

void ServerPool::ended(const ServerProcessPtr& process, const Result<ProcessReport>& report) {
  const bool was_ready = process->state == State::kReady;
  const bool by_us = process->ending && !process->late;
  process->state = State::kEnded;
  process->why = why_ended(*process, report);
  std::erase(processes_, process);
  if (!by_us && !process->answered) set_back(process->account, *process->why);
  if (!by_us && !was_ready) {
    const auto waiters = waiters_;
    for (const auto& waiter : waiters) {
      if (waiter->account == process->account && !waiter->result)
        give(*waiter, std::unexpected(*process->why));
    }
  }
  changed();
}

void ServerPool::set_back(AccountId account, Failure& why) {
  const Time now = SteadyClock::now();
  if (setbacks_.size() >= kSetbacksMax)
    std::erase_if(setbacks_, [now](const auto& each) { return each.second.next_start < now; });
  if (setbacks_.size() >= kSetbacksMax && !setbacks_.contains(account)) return;
  Setback& setback = setbacks_[account];
  const std::uint32_t doublings = std::min(setback.failures, 16U);
  const auto pause = std::min<Duration>(kSetbackFirst * (1U << doublings), kSetbackMax);
  ++setback.failures;
  setback.next_start = now + pause;
  why.retry_after = pause;
  setback.why = why;
}

}  // namespace turnpike::provider
