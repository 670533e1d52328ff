#include "provider/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "provider/confinement.h"

namespace turnpike::provider {
namespace {

constexpr int kNiceness = 5;  // our own threads and other programs come first
constexpr rlim_t kOpenFilesMax = 256;
constexpr int kCannotExecute = 127;  // as shells say it
constexpr int kSafeDescriptor = 10;  // above every number that a program is given

struct Pipe {
  Descriptor read;
  Descriptor write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("could not make a pipe", errno);
  Pipe pipe{Descriptor{ends[0]}, Descriptor{ends[1]}};
  if (::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK) != 0) return fail_errno("could not set up a pipe", errno);
  return pipe;
}

// Standard input is a file in memory: nothing to feed, so a program that never reads it, or closes it early,
// can neither block nor signal us.
Result<Descriptor> make_input(const std::string& text) {
  if (text.empty()) {
    Descriptor null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
    if (!null) return fail_errno("could not open /dev/null", errno);
    return null;
  }
  Descriptor file{::memfd_create("stdin", MFD_CLOEXEC)};
  if (!file) return fail_errno("could not make a file in memory", errno);
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(file.get(), text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail_errno("could not write a file in memory", errno);
    written += static_cast<std::size_t>(count);
  }
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno("could not rewind a file in memory", errno);
  return file;
}

// Everything the child needs, made before the fork: after it only system calls are allowed.
struct Launch {
  std::vector<char*> arguments;
  std::vector<char*> environment;
  const char* work_dir = nullptr;
  std::array<int, 4> descriptors{-1, -1, -1, -1};  // what becomes 0, 1, 2 and kInfoDescriptor
  const Spawn* plan = nullptr;
  pid_t parent = 0;
  volatile int error = 0;  // errno of the step that failed; shared memory until the program is loaded
};

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

void limit(int resource, rlim_t value) {
  const rlimit both{value, value};
  ::setrlimit(static_cast<__rlimit_resource_t>(resource), &both);
}

void reset_signals() {
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void set_limits(const Spawn& plan) {
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NOFILE, kOpenFilesMax);
  if (plan.memory_bytes_max > 0) limit(RLIMIT_AS, plan.memory_bytes_max);
  if (plan.file_bytes_max > 0) limit(RLIMIT_FSIZE, plan.file_bytes_max);
  if (plan.cpu_max.count() > 0) limit(RLIMIT_CPU, static_cast<rlim_t>(plan.cpu_max.count()));
  ::setpriority(PRIO_PROCESS, 0, kNiceness);
}

// Numbers 0 to 3 may be taken by descriptors of ours that have yet to be moved, so all go out of the way
// first.
bool place_descriptors(std::array<int, 4> descriptors) {
  int count = 0;
  for (int& number : descriptors) {
    if (number < 0) break;
    number = ::fcntl(number, F_DUPFD, kSafeDescriptor);
    if (number < 0) return false;
    ++count;
  }
  for (int i = 0; i < count; ++i) {
    if (::dup2(descriptors[static_cast<std::size_t>(i)], i) < 0) return false;
  }
  return ::syscall(SYS_close_range, static_cast<unsigned>(count), ~0U, 0) == 0;
}

[[noreturn]] void become_program(Launch& launch) {
  ::setpgid(0, 0);
  // The parent may have died between the fork and this request; then nobody would send the signal.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != launch.parent) ::_exit(kCannotExecute);
  reset_signals();
  ::umask(077);
  set_limits(*launch.plan);
  if (::chdir(launch.work_dir) == 0 && place_descriptors(launch.descriptors))
    ::execve(launch.arguments.front(), launch.arguments.data(), launch.environment.data());
  launch.error = errno;
  ::_exit(kCannotExecute);
}

// vfork: the parent's memory, which may be large, is not copied, and the parent goes on once the program is
// loaded.
__attribute__((noinline)) pid_t start(Launch& launch) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  // A handler of ours must not run in the child, which shares our memory.
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  // posix_spawn can set neither limits nor the parent-death signal.
  const pid_t pid = ::vfork();  // NOLINT(bugprone-unsafe-functions)
  if (pid == 0) become_program(launch);
  const int reason = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = reason;
  return pid;
}

std::unexpected<Error> cannot_execute(int reason) {
  if (reason == E2BIG) return fail(ErrorCode::kInvalidRequest, "the input is too long to be an argument");
  if (reason == ENOENT || reason == EACCES || reason == ENOEXEC || reason == ENOTDIR || reason == EPERM) {
    auto failure = fail_errno("the program cannot be executed", reason);
    failure.error().code = ErrorCode::kConfiguration;
    return failure;
  }
  return fail_errno("the program could not be started", reason);
}

}  // namespace

void Descriptor::reset() {
  if (number_ >= 0) ::close(number_);
  number_ = -1;
}

// By number: glibc 2.36 declares its wrappers without C linkage.
Descriptor open_process(pid_t process) {
  return Descriptor{static_cast<int>(::syscall(SYS_pidfd_open, process, 0))};
}

void kill_process(int pidfd) {
  ::syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
}

Result<Child> spawn(const Spawn& plan) {
  auto input = make_input(plan.stdin_text);
  auto output = make_pipe();
  auto error = make_pipe();
  auto info = plan.wants_info ? make_pipe() : Result<Pipe>{Pipe{}};
  if (!input) return std::unexpected(input.error());
  for (const auto* pipe : {&output, &error, &info}) {
    if (!*pipe) return std::unexpected(pipe->error());
  }
  if (plan.stream_owner != 0) {
    for (const int stream : {output->write.get(), error->write.get()}) {
      if (::fchown(stream, plan.stream_owner, plan.stream_owner) != 0)
        return fail_errno("could not give a pipe to the program", errno);
    }
  }
  const std::string work_dir = plan.work_dir.string();
  Launch launch;
  launch.arguments = pointers(plan.arguments);
  launch.environment = pointers(plan.environment);
  launch.work_dir = work_dir.c_str();
  launch.descriptors = {input->get(), output->write.get(), error->write.get(), info->write.get()};
  launch.plan = &plan;
  launch.parent = ::getpid();

  Child child;
  child.pid = start(launch);
  if (child.pid < 0) return fail_errno("could not start a process", errno);
  child.pidfd = open_process(child.pid);
  if (launch.error != 0 || !child.pidfd) {
    const int reason = launch.error != 0 ? launch.error : errno;
    ::kill(child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, 0);
    return cannot_execute(reason);
  }
  child.output = std::move(output->read);
  child.error = std::move(error->read);
  child.info = std::move(info->read);
  return child;
}

int collect(const Child& child) {
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(child.pid), &info, WEXITED) != 0) {
    if (errno != EINTR) return kCannotExecute;
  }
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

Result<int> run_and_wait(const Spawn& plan, std::chrono::milliseconds timeout) {
  auto child = spawn(plan);
  if (!child) return std::unexpected(child.error());
  pollfd ended{.fd = child->pidfd.get(), .events = POLLIN, .revents = 0};
  const bool in_time = ::poll(&ended, 1, static_cast<int>(timeout.count())) == 1;
  ::kill(-child->pid, SIGKILL);
  const int status = collect(*child);
  if (!in_time) return fail(ErrorCode::kUpstreamTimeout, "the program did not end in time");
  return status;
}

}  // namespace turnpike::provider
