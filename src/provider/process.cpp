#include "provider/process.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <memory>
#include <optional>

#include "provider/process_tree.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using SteadyClock = std::chrono::steady_clock;

constexpr std::uint32_t kFolderEvery = 6;  // looks at the folder every so many watches
constexpr std::size_t kFolderEntriesMax = 10'000;
constexpr std::uint32_t kBubblewrapProcesses = 2;        // itself, and the init of the sandbox
constexpr std::chrono::milliseconds kInfoPatience{500};  // for bubblewrap to say which its init is
constexpr std::chrono::seconds kDeathPatience{5};        // for the kernel to end what was killed
constexpr std::size_t kReadBytesMax = 64 * 1024;         // in one turn, for fairness
constexpr int kSweepsMax = 20;                           // for processes that fork while they are hunted

// A state machine of plain callbacks, all on one executor and each holding the object alive; the coroutine
// only waits for `finished_`. This way a cancelled coroutine still sees the program to its end.
class Process : public std::enable_shared_from_this<Process> {
 public:
  Process(const asio::any_io_executor& executor, ProcessPlan plan, Child child)
      : plan_(std::move(plan)),
        pid_(child.pid),
        child_(executor, child.pidfd.release()),
        output_(executor, child.output.release()),
        error_(executor, child.error.release()),
        info_(executor),
        init_(executor),
        watch_(executor),
        finished_(executor, SteadyClock::time_point::max()) {
    if (child.info) info_.assign(child.info.release());
  }

  void begin() {
    read_more(output_, report_.output);
    read_more(error_, report_.error);
    if (info_.is_open()) await_info();
    await_child();
    watch();
  }

  void stop(ProcessEnd reason) {
    if (stopped_at_ || reaped_) return;
    report_.end = reason;
    stopped_at_ = SteadyClock::now();
    kill_when_known();
  }

  bool finished() const { return done_; }
  asio::steady_timer& finished_timer() { return finished_; }
  ProcessReport take_report() { return std::move(report_); }

 private:
  bool confined() const { return plan_.confinement == Confinement::kBubblewrap; }

  void read_more(asio::posix::stream_descriptor& from, std::string& into) {
    from.async_wait(asio::posix::stream_descriptor::wait_read,
                    [self = shared_from_this(), &from, &into](const error_code& error) {
                      if (!error && self->read_now(from, into)) self->read_more(from, into);
                    });
  }

  // False at the end of the stream, or once there was too much.
  bool read_now(asio::posix::stream_descriptor& from, std::string& into) {
    char buffer[16 * 1024];
    for (std::size_t total = 0; total < kReadBytesMax;) {
      const ssize_t count = ::read(from.native_handle(), buffer, sizeof buffer);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno == EAGAIN;
      if (count == 0) return false;
      total += static_cast<std::size_t>(count);
      if (plan_.keeps_tail) {
        keep_tail(into, {buffer, static_cast<std::size_t>(count)});
        continue;
      }
      const std::size_t room = plan_.output_bytes_max - into.size();
      into.append(buffer, std::min(static_cast<std::size_t>(count), room));
      if (static_cast<std::size_t>(count) > room) {
        stop(ProcessEnd::kOutputTooLong);
        return false;
      }
    }
    return true;
  }

  // Cut in large steps, so that what is kept is not moved for each line.
  void keep_tail(std::string& into, std::string_view more) const {
    into.append(more);
    if (into.size() > 2 * plan_.output_bytes_max) into.erase(0, into.size() - plan_.output_bytes_max);
  }

  // bubblewrap tells the process number of the sandbox's init before it lets it begin. Its end is the end of
  // all that is in the sandbox, and the kernel lets it end only after the others.
  void await_info() {
    info_.async_wait(asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this()](const error_code& error) {
                       if (error) return;
                       self->read_info();
                       if (self->stopped_at_) self->kill_when_known();
                     });
  }

  void read_info() {
    if (!info_.is_open() || init_.is_open()) return;
    char buffer[512];
    const ssize_t count = ::read(info_.native_handle(), buffer, sizeof buffer);
    if (count <= 0) return;
    const std::string_view text{buffer, static_cast<std::size_t>(count)};
    constexpr std::string_view kKey = "\"child-pid\": ";
    const std::size_t at = text.find(kKey);
    if (at == std::string_view::npos) return;
    pid_t init = 0;
    std::from_chars(text.data() + at + kKey.size(), text.data() + text.size(), init);
    Descriptor handle = init > 0 ? open_process(init) : Descriptor{};
    if (handle) init_.assign(handle.release());
  }

  // bubblewrap is killed only when its init is known: killed earlier, it could leave an init that nobody
  // knows of.
  void kill_when_known() {
    if (reaped_ || killed_) return;
    if (confined()) {
      read_info();
      if (!init_.is_open() && SteadyClock::now() < *stopped_at_ + kInfoPatience) return;
    }
    killed_ = true;
    kill_init();
    ::kill(-pid_, SIGKILL);
    kill_process(child_.native_handle());  // in case it has not yet made its group
  }

  void kill_init() {
    if (init_.is_open()) kill_process(init_.native_handle());
  }

  void await_child() {
    child_.async_wait(asio::posix::stream_descriptor::wait_read,
                      [self = shared_from_this()](const error_code& error) {
                        if (!error) self->child_ended();
                      });
  }

  void child_ended() {
    read_info();
    ::kill(-pid_, SIGKILL);  // before it is collected: until then its number cannot mean another group
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0 && errno == EINTR) {
    }
    reaped_ = true;
    reaped_at_ = SteadyClock::now();
    report_.status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    kill_init();
    if (!init_.is_open()) return finish();
    init_.async_wait(asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this()](const error_code& error) {
                       if (!error) self->finish();
                     });
  }

  void watch() {
    watch_.expires_at(std::min(SteadyClock::now() + plan_.watch_every,
                               stopped_at_ ? SteadyClock::time_point::max() : plan_.deadline));
    watch_.async_wait([self = shared_from_this()](const error_code& error) {
      if (error || self->done_) return;
      self->look();
      if (!self->done_) self->watch();
    });
  }

  void look() {
    const auto now = SteadyClock::now();
    if (reaped_) {
      // Nothing ends this one: a process in an uninterruptible call. It holds no descriptor of ours.
      if (now > reaped_at_ + kDeathPatience) finish();
      return;
    }
    if (stopped_at_) return kill_when_known();
    if (now >= plan_.deadline) return stop(ProcessEnd::kTimedOut);
    const std::uint32_t ours = confined() ? kBubblewrapProcesses : 0;
    const std::uint32_t most = plan_.processes_max + ours;
    const TreeSize size = measure_tree(pid_, most);
    if (size.processes > most) return stop(ProcessEnd::kTooManyProcesses);
    if (plan_.memory_bytes_max > 0 && size.memory_bytes > plan_.memory_bytes_max)
      return stop(ProcessEnd::kTooMuchMemory);
    if (plan_.folder_bytes_max > 0 && ++looks_ % kFolderEvery == 0 &&
        measure_folder(plan_.work_dir, kFolderEntriesMax) > plan_.folder_bytes_max)
      stop(ProcessEnd::kTooMuchDisk);
  }

  void finish() {
    if (done_) return;
    if (!confined() && !plan_.marker.empty()) {
      for (int i = 0; i < kSweepsMax && kill_marked(plan_.marker) > 0; ++i) {
      }
    }
    // What is left in the pipes was written before the end; whoever still holds them is not waited for.
    if (report_.end == ProcessEnd::kExited || plan_.keeps_tail) {
      drain(output_, report_.output);
      drain(error_, report_.error);
    }
    collect_init();
    done_ = true;
    error_code ignored;
    for (auto* descriptor : {&child_, &output_, &error_, &info_, &init_}) {
      if (descriptor->is_open()) descriptor->close(ignored);
    }
    watch_.cancel();
    finished_.cancel();
  }

  void drain(asio::posix::stream_descriptor& from, std::string& into) {
    char buffer[16 * 1024];
    for (std::size_t total = 0;
         plan_.keeps_tail ? total < kReadBytesMax : into.size() <= plan_.output_bytes_max;) {
      const ssize_t count = ::read(from.native_handle(), buffer, sizeof buffer);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      total += static_cast<std::size_t>(count);
      if (plan_.keeps_tail) {
        keep_tail(into, {buffer, static_cast<std::size_t>(count)});
        continue;
      }
      into.append(buffer, static_cast<std::size_t>(count));
    }
    if (plan_.keeps_tail) return;
    into.resize(plan_.output_bytes_max);
    report_.end = ProcessEnd::kOutputTooLong;
  }

  // Where we are the machine's first process (a container), the init of a sandbox is left to us.
  void collect_init() {
    if (!init_.is_open()) return;
    siginfo_t info{};
    ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(init_.native_handle()), &info,
             WEXITED | WNOHANG);
  }

  const ProcessPlan plan_;
  const pid_t pid_;
  asio::posix::stream_descriptor child_;
  asio::posix::stream_descriptor output_;
  asio::posix::stream_descriptor error_;
  asio::posix::stream_descriptor info_;
  asio::posix::stream_descriptor init_;
  asio::steady_timer watch_;
  asio::steady_timer finished_;  // never expires; cancelled at the end

  ProcessReport report_;
  std::optional<SteadyClock::time_point> stopped_at_;  // when its end was decided by us
  SteadyClock::time_point reaped_at_{};
  std::uint32_t looks_ = 0;
  bool killed_ = false;
  bool reaped_ = false;
  bool done_ = false;
};

// Takes a started program under watch; if that fails (no descriptors to be had), it is ended.
Result<std::shared_ptr<Process>> adopt(const asio::any_io_executor& executor, ProcessPlan plan, Child child) {
  const pid_t pid = child.pid;
  try {
    auto process = std::make_shared<Process>(executor, std::move(plan), std::move(child));
    process->begin();
    return process;
  } catch (const std::exception& problem) {
    ::kill(-pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return fail(ErrorCode::kIo, std::string{"a program could not be watched: "} + problem.what());
  }
}

}  // namespace

asio::awaitable<Result<ProcessReport>> run_process(ProcessPlan plan) {
  const auto executor = co_await asio::this_coro::executor;
  const bool throws = co_await asio::this_coro::throw_if_cancelled();
  co_await asio::this_coro::throw_if_cancelled(false);
  auto child = spawn(plan.spawn);
  auto adopted = child ? adopt(executor, std::move(plan), std::move(*child))
                       : Result<std::shared_ptr<Process>>{std::unexpected(child.error())};
  if (!adopted) {
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return std::unexpected(adopted.error());
  }
  const std::shared_ptr<Process> process = std::move(*adopted);
  // Ends within the deadline plus the patience for the killed. A second cancellation only wakes the loop once
  // more.
  while (!process->finished()) {
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) process->stop(ProcessEnd::kCancelled);
    if (process->finished()) break;
    co_await process->finished_timer().async_wait(asio::as_tuple(asio::use_awaitable));
  }
  co_await asio::this_coro::throw_if_cancelled(throws);
  co_return process->take_report();
}

}  // namespace turnpike::provider
