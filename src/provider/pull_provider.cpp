// Work that the operator's own workers claim over HTTP (provider/work_desk.h). A try begins once the engine
// has given it to a claim; it ends with its worker's report, or with the worker's silence.

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <string>
#include <utility>

#include "provider/json_text.h"
#include "provider/provider_kinds.h"
#include "provider/upstream_failure.h"
#include "provider/upstream_try.h"
#include "provider/work_desk.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;
using SteadyClock = std::chrono::steady_clock;

Cancelled handed_back() {
  return Cancelled{.why = "the worker that was to have it had gone"};
}

// Of a worker that is at it, or was: what it used nobody knows.
Outcome unknown_use(Failure failed) {
  failed.billed.reset();
  return failed;
}

class PullProvider final : public Provider {
 public:
  PullProvider(const policy::Provider& config, std::shared_ptr<WorkDesk> desk)
      : name_(config.name),
        lease_(config.lease),
        file_bytes_max_(config.file_bytes_max),
        desk_(std::move(desk)) {}

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    const auto input = parse_json(request.input);
    if (!input || !input->is_object())
      co_return failure(FailureClass::kInvalidInput, "the input must be a JSON object");
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    const auto executor = co_await asio::this_coro::executor;
    auto bell = std::make_shared<Bell>(executor);
    const auto until = SteadyClock::now() + request.timeout;
    Work work{.id = request.try_id,
              .job = request.job,
              .provider = name_,
              .task = std::move(request.task),
              .model = std::move(request.model),
              .input = std::move(request.input),
              .max_output_tokens = request.max_output_tokens,
              .files = std::move(request.files),
              .lease = lease_,
              .timeout = request.timeout};
    auto held =
        desk_->arrive(request.claim, std::move(work), std::move(request.work_dir), file_bytes_max_, bell);
    Outcome outcome = handed_back();
    if (held) {
      auto waiting = attend(std::move(held), std::move(bell), until, std::move(progress));
      outcome = co_await std::move(waiting);
    }
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return outcome;
  }

  // Workers come to us: there is nothing to look at.
  asio::awaitable<Result<void>> probe(Duration) override { co_return Result<void>{}; }

 private:
  asio::awaitable<Outcome> attend(WorkDesk::HeldPtr held, std::shared_ptr<Bell> bell, Bell::Time until,
                                  Progress progress) {
    for (;;) {
      WorkDesk::News news = desk_->news(held);
      if (news.progress && progress) progress(news.progress->first, news.progress->second);
      if (news.report) {
        desk_->leave(held, WorkDesk::End::kReported);
        if (auto* success = std::get_if<Success>(&*news.report)) co_return std::move(*success);
        co_return std::get<Failure>(std::move(*news.report));
      }
      const auto now = SteadyClock::now();
      const bool cancelled = co_await is_cancelled();
      if (cancelled && desk_->leave(held, WorkDesk::End::kStopped)) co_return stopped(news.taken);
      if (news.given_back && desk_->leave(held, WorkDesk::End::kGivenBack)) co_return handed_back();
      if (now >= until && desk_->leave(held, WorkDesk::End::kTimedOut)) {
        co_return unknown_use(
            failure(FailureClass::kTimeout, "the worker did not finish in the attempt's time"));
      }
      const bool silent = news.taken && now >= news.lease_until;
      if (silent && desk_->leave(held, WorkDesk::End::kLost)) co_return lost();
      if (cancelled || news.given_back || now >= until || silent) continue;  // a report has just come
      co_await bell->wait_until(news.taken ? std::min(until, news.lease_until) : until);
    }
  }

  static Outcome stopped(bool taken) {
    Cancelled outcome;
    if (taken) outcome.billed.reset();
    return outcome;
  }

  Outcome lost() const {
    Failure failed = failure(
        FailureClass::kTransient,
        fmt::format("its worker was not heard of for {} s", static_cast<double>(lease_.count()) / 1e6));
    failed.lost = true;
    return unknown_use(std::move(failed));
  }

  const std::string name_;
  const Duration lease_;
  const std::uint64_t file_bytes_max_;
  const std::shared_ptr<WorkDesk> desk_;
};

}  // namespace

std::unique_ptr<Provider> make_pull_provider(const policy::Provider& config, std::shared_ptr<WorkDesk> desk) {
  return std::make_unique<PullProvider>(config, std::move(desk));
}

}  // namespace turnpike::provider
