#include "contract/provider/harness.h"

#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>

namespace turnpike::provider::test {
namespace {

namespace asio = boost::asio;
constexpr std::chrono::seconds kPatience{20};
constexpr std::chrono::milliseconds kGlance{
    2};  // between two looks at whether a program is ready to be cancelled

asio::awaitable<void> one_try(Provider& provider, Request request, Progress progress, bool awaits_afterwards,
                              std::optional<Outcome>& outcome) {
  outcome = co_await provider.run(std::move(request), std::move(progress));
  if (awaits_afterwards) {
    co_await asio::this_coro::throw_if_cancelled(false);
    const auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer{executor, std::chrono::milliseconds(1)};
    co_await timer.async_wait(asio::use_awaitable);
  }
}

void cancel_when_ready(asio::steady_timer& timer, const std::function<bool()>& ready,
                       asio::cancellation_signal& signal) {
  timer.expires_after(kGlance);
  timer.async_wait([&](const boost::system::error_code& error) {
    if (error) return;
    if (ready()) {
      signal.emit(asio::cancellation_type::terminal);
    } else {
      cancel_when_ready(timer, ready, signal);
    }
  });
}

std::vector<std::string> entries(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at{folder, error}, end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  return names;
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file{path, std::ios::binary};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file{path, std::ios::binary};
  file << text;
}

void write_script(const std::filesystem::path& path, const std::string& body) {
  write_file(path, "#!/bin/sh\n" + body + "\n");
  std::filesystem::permissions(path, std::filesystem::perms{0755});
}

Outcome run_try(Provider& provider, Request request, const Try& options) {
  asio::io_context io{1};
  asio::cancellation_signal signal;
  asio::steady_timer timer{io};
  std::optional<Outcome> outcome;
  std::exception_ptr thrown;
  asio::awaitable<void> task =
      one_try(provider, std::move(request), options.progress, options.awaits_afterwards, outcome);
  asio::co_spawn(io, std::move(task), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
                   thrown = std::move(e);
                   timer.cancel();
                 }));
  if (options.cancel == CancelAt::kOnce)
    asio::post(io, [&signal] { signal.emit(asio::cancellation_type::terminal); });
  if (options.cancel == CancelAt::kWhenReady) cancel_when_ready(timer, options.ready, signal);
  io.run_for(kPatience);
  if (thrown) std::rethrow_exception(thrown);
  if (!outcome) throw std::runtime_error("the try did not end");
  return std::move(*outcome);
}

std::vector<Outcome> run_all(std::vector<std::pair<Provider*, Request>> tries) {
  asio::io_context io{1};
  std::vector<std::optional<Outcome>> outcomes(tries.size());
  for (std::size_t i = 0; i < tries.size(); ++i) {
    asio::awaitable<void> task = one_try(*tries[i].first, std::move(tries[i].second), {}, false, outcomes[i]);
    asio::co_spawn(io, std::move(task), [](std::exception_ptr e) {
      if (e) std::rethrow_exception(e);
    });
  }
  io.run_for(kPatience);
  std::vector<Outcome> result;
  for (auto& outcome : outcomes) {
    if (!outcome) throw std::runtime_error("a try did not end");
    result.push_back(std::move(*outcome));
  }
  return result;
}

Result<void> run_probe(Provider& provider, Duration timeout) {
  asio::io_context io{1};
  std::optional<Result<void>> result;
  asio::co_spawn(io, provider.probe(timeout), [&result](std::exception_ptr e, Result<void> probed) {
    if (e) std::rethrow_exception(e);
    result = std::move(probed);
  });
  io.run_for(kPatience);
  if (!result) throw std::runtime_error("the probe did not end");
  return *result;
}

Request make_request(const std::string& task, const std::string& input,
                     const std::filesystem::path& work_dir) {
  static std::atomic<std::uint64_t> next{1};
  const std::uint64_t number = next++;
  Request request;
  request.job = JobId{number};
  // Unique over test processes, too: bare programs are told apart by it.
  request.try_id = TryId{static_cast<std::uint64_t>(::getpid()) << 32U | number};
  request.task = task;
  request.input = input;
  request.work_dir = work_dir;
  request.timeout = std::chrono::seconds(15);
  return request;
}

Holdings holdings() {
  Holdings held;
  held.descriptors = entries("/proc/self/fd").size();
  for (const std::string& thread : entries("/proc/self/task")) {
    std::istringstream children{read_file("/proc/self/task/" + thread + "/children")};
    for (std::string child; children >> child;) ++held.children;
  }
  return held;
}

void PrintTo(const Holdings& held, std::ostream* out) {
  *out << held.descriptors << " descriptors, " << held.children << " children";
}

std::size_t processes_with(const std::string& text) {
  std::size_t count = 0;
  for (const std::string& name : entries("/proc")) {
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (read_file("/proc/" + name + "/cmdline").contains(text)) ++count;
  }
  return count;
}

const Success* as_success(const Outcome& outcome) {
  return std::get_if<Success>(&outcome);
}
const Failure* as_failure(const Outcome& outcome) {
  return std::get_if<Failure>(&outcome);
}

std::string describe(const Outcome& outcome) {
  if (const auto* success = as_success(outcome)) return "success: " + success->output;
  if (const auto* failure = as_failure(outcome))
    return fmt::format("{}: {}", policy::failure_class_name(failure->failure), failure->message);
  return "cancelled";
}

}  // namespace turnpike::provider::test
