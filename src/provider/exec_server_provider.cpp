// Local programs that stay: each try is one request over a Unix socket to a process of the provider's. The
// protocol, and what happens on cancellation, are written down in docs/decisions/0020.
//
// Processes outlive the tries that use them, and io threads are the tries'. So a provider has a thread of its
// own, on which its pool lives and each try's exchange runs; the try's coroutine waits for it on its own
// thread. What blocks there (folders, copies of files) delays tries of this provider and of no other.

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <exception>
#include <map>
#include <mutex>

#include "net/client.h"
#include "net/io_threads.h"
#include "net/task_group.h"
#include "provider/exec_end.h"
#include "provider/exec_output.h"
#include "provider/exec_server.h"
#include "provider/exec_server_folder.h"
#include "provider/exec_server_wire.h"
#include "provider/exec_task.h"
#include "provider/json_text.h"
#include "provider/produced.h"
#include "provider/provider_kinds.h"
#include "provider/upstream_failure.h"
#include "provider/upstream_try.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;
using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);
constexpr Duration kLongest = std::chrono::hours(24);
constexpr Duration kStopMax = std::chrono::seconds(10);
constexpr milliseconds kDeathNews{500};  // a broken connection is often heard before the death behind it
constexpr milliseconds kGlance{10};
constexpr milliseconds kGlanceMax{100};

// A try on its way: begun on its own thread, done on the provider's.
struct Crossing {
  explicit Crossing(asio::any_io_executor executor) : home(std::move(executor)) {}

  // On the provider's thread. False: it has been cancelled already.
  bool begin() {
    const std::scoped_lock lock(mutex);
    begun = true;
    return !cancelled;
  }
  // True: the task runs, and must be told. One that has not begun would never end.
  bool cancel() {
    const std::scoped_lock lock(mutex);
    cancelled = true;
    return begun;
  }
  // The try's thread gets to know only there, so that nothing of it is touched once it may have gone.
  static void end(std::shared_ptr<Crossing> self, Outcome how) {
    const asio::any_io_executor home = self->home;
    asio::post(home, [self = std::move(self), how = std::move(how)]() mutable {
      self->outcome.emplace(std::move(how));
      self->waits->cancel();
    });
  }

  const asio::any_io_executor home;  // of the try
  std::mutex mutex;
  // Guarded by mutex:
  bool begun = false;
  bool cancelled = false;
  // On the try's thread only:
  asio::steady_timer* waits = nullptr;  // until there is an outcome
  std::optional<Outcome> outcome;
};

// What a try has in a process. The folder goes first.
struct Stay {
  ServerPool::Place place;
  TryFolder folder;
};

class ExecServerProvider final : public Provider {
 public:
  ExecServerProvider(const policy::Provider& config, Confinement confinement)
      : client_(net::Client::create()),
        threads_(1),
        group_([](std::string_view) {}),  // each of its tasks ends as a value, whatever is thrown in it
        pool_({.provider = config.name, .serve = *config.serve, .confinement = confinement},
              threads_.context(0).get_executor(), group_) {}
  ExecServerProvider(const ExecServerProvider&) = delete;
  ExecServerProvider& operator=(const ExecServerProvider&) = delete;
  ~ExecServerProvider() override {
    group_.stop(kStopMax);
    threads_.stop();
  }

  void add_task(const std::string& task, const policy::ExecTask& config, std::vector<std::string>& warnings) {
    auto parsed = parse_served_task(config);
    if (parsed) {
      tasks_.emplace(task, std::move(*parsed));
    } else {
      warnings.push_back(
          fmt::format("provider {}: task {} cannot run: {}", pool_.provider(), task, parsed.error().message));
    }
  }

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    const auto executor = co_await asio::this_coro::executor;
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    asio::steady_timer done(executor, SteadyClock::time_point::max());
    auto crossing = std::make_shared<Crossing>(executor);
    crossing->waits = &done;
    const auto handle = group_.spawn(threads_.context(0).get_executor(), cross(crossing, std::move(request)));
    // Ends with the exchange, which has a deadline. A second cancellation only wakes the loop once more.
    while (!crossing->outcome) {
      if (co_await is_cancelled() && crossing->cancel()) handle.cancel();
      co_await done.async_wait(kAsTuple);
    }
    Outcome outcome = std::move(*crossing->outcome);
    if (progress && std::holds_alternative<Success>(outcome)) progress(100, "answered");
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return outcome;
  }

  asio::awaitable<Result<void>> probe(Duration) override {
    if (find_program(pool_.serve().command.front()).empty())
      co_return fail(ErrorCode::kUnavailable, fmt::format("program {} is not found", pool_.program()));
    co_return Result<void>{};
  }

 private:
  // All that follows is on the provider's thread.
  asio::awaitable<void> cross(std::shared_ptr<Crossing> crossing, Request request) {
    co_await asio::this_coro::throw_if_cancelled(false);
    if (!crossing->begin()) {
      Crossing::end(crossing, Cancelled{});
      co_return;
    }
    Outcome outcome;
    try {
      outcome = co_await serve(std::move(request));
    } catch (const std::exception&) {
      // A bug of ours, or no memory to be had; the try ends all the same.
      outcome = failure(FailureClass::kTransient, "the provider failed in an unexpected way");
    }
    if (co_await is_cancelled() && std::holds_alternative<Failure>(outcome)) outcome = Cancelled{};
    Crossing::end(crossing, std::move(outcome));
  }

  asio::awaitable<Outcome> serve(Request request) {
    const auto found = tasks_.find(request.task);
    if (found == tasks_.end())
      co_return failure(FailureClass::kMisconfigured,
                        fmt::format("provider {} has no task {}", pool_.provider(), request.task));
    const ParsedTask& task = found->second;
    auto expansion = Expansion::make(task, request, Confinement::kNone);
    if (!expansion) co_return refused_try(expansion.error());

    const Duration limit = request.timeout > Duration::zero() ? request.timeout : kLongest;
    const auto until = SteadyClock::now() + std::min(limit, task.config.time_max);
    const AccountId account = pool_.serve().per_account ? request.account : AccountId{};
    auto place = co_await pool_.take(account, request.work_dir.parent_path(), until);
    if (co_await is_cancelled()) co_return Cancelled{};
    if (!place) co_return std::move(place.error());
    auto folder = TryFolder::make(place->process()->folder, to_string(request.try_id));
    if (!folder) co_return refused_try(folder.error());
    Stay stay{std::move(*place), std::move(*folder)};
    co_return co_await exchange(task, std::move(request), std::move(*expansion), std::move(stay), until);
  }

  asio::awaitable<Outcome> exchange(const ParsedTask& task, Request request, Expansion expansion, Stay stay,
                                    SteadyClock::time_point until) {
    const ServerProcessPtr process = stay.place.process();
    const auto left = std::chrono::duration_cast<Duration>(until - SteadyClock::now());
    auto body = prepare(request, expansion, stay, std::max<Duration>(left, milliseconds(1)));
    if (!body) co_return refused_try(body.error());
    const Descriptor socket = process->folder.socket();
    if (!socket) co_return no_longer_listens(process);
    auto cut = std::make_shared<Descriptor>();
    net::ClientRequest ask{.method = "POST",
                           .url = fmt::format("unix:/proc/self/fd/{}:/run", socket.get()),
                           .headers = {{"Content-Type", "application/json"}},
                           .body = std::move(*body),
                           .timeout = std::max<Duration>(left, milliseconds(1)),
                           .response_bytes_max = task.config.output_bytes_max,
                           .keep_alive = false,
                           .on_cut = [cut](int number) { *cut = Descriptor{number}; }};
    auto answer = co_await send_request(client_, std::move(ask));
    if (answer) pool_.answered(*process);
    Outcome outcome;
    if (answer) {
      outcome = conclude(task, request, expansion, stay, *answer);
    } else {
      outcome = co_await why_silent(process, answer.error());
    }
    if (*cut) group_.spawn(threads_.context(0).get_executor(), see_off(std::move(*cut), std::move(stay)));
    co_return outcome;
  }

  // Copies the inputs in. The body of the request.
  Result<std::string> prepare(const Request& request, const Expansion& expansion, const Stay& stay,
                              Duration timeout) const {
    const std::string name = to_string(request.try_id);
    const ServerFolder& server = stay.place.process()->folder;
    const std::filesystem::path work = (pool_.confined() ? kSandboxTriesDir : server.tries()) / name;
    const std::filesystem::path inputs = (pool_.confined() ? kSandboxInputDir : server.input()) / name;
    ServedCall call{.work_dir = work.string(), .files = {}, .outputs = {}, .timeout = timeout};
    for (const InputFile& file : request.files) {
      // The field's name is the user's, and no name of a file.
      const std::string copy = fmt::format("{}{}", call.files.size(), file.path.extension().string());
      if (auto put = stay.folder.put(file.path, copy); !put) return std::unexpected(put.error());
      call.files.push_back({file.field, (inputs / copy).string(), file.mime, file.place.has_value()});
    }
    for (const ExpectedOutput& output : expansion.outputs())
      call.outputs.push_back({output.name, (work / output.file).string(), output.mime});
    return server_request(request, call);
  }

  Outcome conclude(const ParsedTask& task, const Request& request, const Expansion& expansion,
                   const Stay& stay, const net::ClientResponse& response) const {
    if (response.status != 200) return read_refusal(pool_.program(), response);
    auto answer = read_answer(response.body);
    if (!answer) return failure(FailureClass::kBadOutput, answer.error().message);
    const std::uint64_t bytes_max = task.config.file_bytes_max;
    for (const ExpectedOutput& expected : expansion.outputs()) {
      if (auto taken = stay.folder.take(expected.file, request.work_dir, bytes_max); !taken)
        return taken.error().code == ErrorCode::kUpstreamError
                   ? failure(FailureClass::kBadOutput, taken.error().message)
                   : refused_try(taken.error());
    }
    Success success;
    auto taken = take_outputs(expansion.outputs(), request.work_dir, bytes_max, answer->output, success);
    if (!taken) return failure(FailureClass::kBadOutput, taken.error().message);
    if (request.task == "speech")
      add_usage(success, "characters", count_characters(expansion.text_field("text")));
    for (const auto& [meter, amount] : answer->usage) {
      const auto measured =
          std::ranges::find(success.usage, meter, [](const auto& each) { return each.first; });
      if (measured != success.usage.end())
        return failure(
            FailureClass::kBadOutput,
            fmt::format("the program's answer reports usage of `{}`, which is measured here", meter));
      add_usage(success, meter, amount);
    }
    if (auto put = put_output(success, boost::json::serialize(answer->output), request.work_dir); !put)
      return failure(FailureClass::kTransient, put.error().message);
    return success;
  }

  // Why there was no answer; the program's death where that is the reason.
  asio::awaitable<Failure> why_silent(ServerProcessPtr process, Error error) {
    if (error.code == ErrorCode::kUpstreamTimeout)
      co_return failure(FailureClass::kTimeout, pool_.program() + " did not answer in time");
    if (error.code == ErrorCode::kUpstreamError && !error.retryable)
      co_return failure(FailureClass::kBadOutput, pool_.program() + " answered more than it may");
    asio::steady_timer timer(threads_.context(0).get_executor());
    for (const auto until = SteadyClock::now() + kDeathNews; !process->why && SteadyClock::now() < until;) {
      if (co_await is_cancelled()) break;
      timer.expires_after(kGlance);
      co_await timer.async_wait(kAsTuple);
    }
    if (process->why) co_return *process->why;
    if (!pool_.listens(*process)) co_return no_longer_listens(process);
    co_return failure(FailureClass::kTransient, pool_.program() + " broke off, or answered no HTTP");
  }

  // It lives, and cannot be asked any more: another takes its place.
  Failure no_longer_listens(const ServerProcessPtr& process) {
    pool_.replace(process);
    return failure(FailureClass::kTransient, pool_.program() + " no longer listens on its socket");
  }

  // A request that we left keeps its place until the program closes the connection, on which it sees that
  // nobody waits. One that it does not let go of costs the process its life.
  asio::awaitable<void> see_off(Descriptor socket, Stay stay) {
    co_await asio::this_coro::throw_if_cancelled(false);
    asio::steady_timer timer(threads_.context(0).get_executor());
    const auto until = SteadyClock::now() + pool_.serve().cancel_grace;
    milliseconds pause = kGlance;
    while (!has_closed(socket)) {
      if (SteadyClock::now() >= until) {
        pool_.replace(stay.place.process());
        co_return;
      }
      if (co_await is_cancelled()) co_return;
      timer.expires_after(pause);
      pause = std::min(pause * 2, kGlanceMax);
      co_await timer.async_wait(kAsTuple);
    }
  }

  // What still comes is thrown away, a bounded part of it at a time.
  static bool has_closed(const Descriptor& socket) {
    char buffer[16 * 1024];
    for (int i = 0; i < 64; ++i) {
      const ssize_t count = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (count == 0) return true;
      if (count < 0) return errno != EAGAIN && errno != EINTR;
    }
    return false;
  }

  const std::shared_ptr<net::Client> client_;
  std::map<std::string, ParsedTask, std::less<>> tasks_;
  net::IoThreads threads_;
  net::TaskGroup group_;
  ServerPool pool_;  // on the thread alone, but for its settings
};

}  // namespace

std::unique_ptr<Provider> make_exec_server_provider(const policy::Provider& config, Confinement confinement,
                                                    std::vector<std::string>& warnings) {
  auto provider = std::make_unique<ExecServerProvider>(config, confinement);
  for (const auto& [task, settings] : config.exec_tasks) provider->add_task(task, settings, warnings);
  if (find_program(config.serve->command.front()).empty())
    warnings.push_back(
        fmt::format("provider {}: program {} is not found", config.name, config.serve->command.front()));
  return provider;
}

}  // namespace turnpike::provider
