#include "node/runners.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <exception>
#include <system_error>
#include <utility>
#include <variant>

#include "node/answer_cache_call.h"
#include "node/log.h"
#include "provider/picture.h"

namespace turnpike::node {
namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace {

// `billed`: what the provider says of it; a try that never reached one used nothing.
engine::TryOutcome stopped_outcome(engine::StopReason reason,
                                   std::optional<engine::Usage> billed = engine::Usage{}) {
  if (reason == engine::StopReason::kDrain) return engine::TryHandedBack{.billed = std::move(billed)};
  return engine::TryStopped{.billed = std::move(billed)};
}

std::optional<engine::Usage> billed_of(const provider::Outcome& outcome) {
  if (const auto* failure = std::get_if<provider::Failure>(&outcome)) return failure->billed;
  if (const auto* cancelled = std::get_if<provider::Cancelled>(&outcome)) return cancelled->billed;
  return engine::Usage{};
}

// What its trace says of a try; empty: it answered.
std::string_view failure_of(const provider::Outcome& outcome) {
  if (const auto* failure = std::get_if<provider::Failure>(&outcome))
    return policy::failure_class_name(failure->failure);
  return std::holds_alternative<provider::Cancelled>(outcome) ? "cancelled" : "";
}

engine::TryFailed failed(policy::FailureClass failure, std::string message) {
  return engine::TryFailed{
      .failure = failure, .message = std::move(message), .retry_after = {}, .billed = engine::Usage{}};
}

// What fails before the provider is asked is not its fault, and another would fail alike.
engine::TryFailed unasked(provider::Failure failure) {
  engine::TryFailed end = failed(failure.failure, std::move(failure.message));
  end.retry_after = failure.retry_after;
  end.unasked = true;
  return end;
}

void log_exception(std::string_view what) {
  log_event(LogLevel::kError, "task.exception", {{"what", what}});
}

}  // namespace

Runners::Runners(RunnerParts parts, net::IoThreads& threads)
    : parts_(std::move(parts)), threads_(threads), tasks_(log_exception) {}

// --- Which tries live

asio::any_io_executor Runners::next_executor() {
  const std::size_t index = turn_.fetch_add(1, std::memory_order_relaxed) % threads_.size();
  return threads_.context(index).get_executor();
}

void Runners::start(engine::StartTry start, Deliveries& deliveries) {
  Callers::PlacePtr place = start.call ? parts_.callers.find(start.row.id) : nullptr;
  asio::any_io_executor where = place ? place->executor() : next_executor();
  auto live = std::make_shared<Live>(*this, std::move(start), std::move(place), std::move(where));
  {
    const std::scoped_lock lock(mutex_);
    live_.emplace(live->start.try_id, live);
  }
  const asio::any_io_executor& executor = live->executor;
  deliveries.add(executor, [live](bool) { live->runners.launch(live); });
}

void Runners::launch(LivePtr live) {
  Live& self = *live;
  auto handle = tasks_.spawn(self.executor, run(std::move(live)));
  const std::scoped_lock lock(mutex_);
  self.handle = std::move(handle);
}

void Runners::spawn(asio::awaitable<void> task) {
  tasks_.spawn(next_executor(), std::move(task));
}

// A cancelled task that has not begun would never run, and so never settle: until it has begun, a stop is a
// mark.
bool Runners::begin(Live& live) {
  const std::scoped_lock lock(mutex_);
  live.begun = true;
  return !live.stop;
}

void Runners::request_stop(Live& live, engine::StopReason reason) {
  if (live.stop) return;
  live.stop = reason;
  if (live.begun) live.handle.cancel();
  if (live.place) live.place->interrupt();
}

void Runners::stop(TryId try_id, engine::StopReason reason) {
  const std::scoped_lock lock(mutex_);
  const auto found = live_.find(try_id);
  if (found != live_.end()) request_stop(*found->second, reason);
}

void Runners::stop_all(engine::StopReason reason) {
  const std::scoped_lock lock(mutex_);
  for (const auto& [id, live] : live_) request_stop(*live, reason);
}

std::optional<engine::StopReason> Runners::stop_of(const Live& live) const {
  const std::scoped_lock lock(mutex_);
  return live.stop;
}

std::vector<TryId> Runners::live() const {
  const std::scoped_lock lock(mutex_);
  std::vector<TryId> ids;
  ids.reserve(live_.size());
  for (const auto& [id, live] : live_) ids.push_back(id);
  return ids;
}

// --- One try

// However a coroutine ends: a try that stood here still would have its lease extended for ever.
class Runners::Leaving {
 public:
  explicit Leaving(Live& live) : live_(live) {}
  ~Leaving() {
    Runners& runners = live_.runners;
    {
      const std::scoped_lock lock(runners.mutex_);
      runners.live_.erase(live_.start.try_id);
    }
    if (live_.start.claim) runners.parts_.desk.settled(live_.start.claim, live_.start.try_id);
  }
  Leaving(const Leaving&) = delete;
  Leaving& operator=(const Leaving&) = delete;

 private:
  Live& live_;
};

asio::awaitable<void> Runners::run(LivePtr live) {
  const Leaving leaving(*live);
  co_await asio::this_coro::throw_if_cancelled(false);  // a stop is answered with a settle
  Ending ending = co_await attempt(live);
  co_await settle(live, std::move(ending));
  clean(*live);
}

void Runners::clean(const Live& live) {
  for (fs::path left : {live.has_folder ? folder_of(live) : fs::path(), live.picture}) {
    if (left.empty()) continue;
    parts_.readers.post_own([left = std::move(left)] {
      std::error_code error;
      fs::remove_all(left, error);
      if (error) log_event(LogLevel::kWarn, "work.not_removed", {{"cause", error.message()}});
    });
  }
}

asio::awaitable<Runners::Ending> Runners::attempt(LivePtr live) {
  if (!begin(*live)) co_return Ending{.outcome = stopped_outcome(*stop_of(*live)), .files = {}};
  log_start(*live);
  const std::string& name = live->start.row.provider;
  auto serving = parts_.providers.find(name, live->start.key);
  if (!serving || parts_.unavailable.contains(name)) {
    const char* why = serving ? "was not found when the server started" : "is no longer configured";
    co_return Ending{
        .outcome = failed(policy::FailureClass::kMisconfigured, "provider `" + name + "` " + why),
        .files = {}};
  }
  std::string what;
  try {
    co_return co_await serve(live, std::move(*serving));
  } catch (const std::exception& error) {
    what = error.what();
  }
  log_event(LogLevel::kError, "provider.exception",
            {{"job", to_string(live->start.row.id)}, {"provider", name}, {"what", what}});
  co_return Ending{
      .outcome = failed(policy::FailureClass::kTransient, "the provider failed in an unexpected way"),
      .files = {}};
}

asio::awaitable<Runners::Ending> Runners::serve(LivePtr live, ProviderSet::Serving serving) {
  const engine::StartTry& start = live->start;
  provider::Request request{.job = start.row.id,
                            .account = start.row.account,
                            .try_id = start.try_id,
                            .task = start.row.task,
                            .model = start.row.upstream_model,
                            .input = start.body ? start.body->input : std::string(),
                            .max_output_tokens = start.output_limit,
                            .files = {},
                            .work_dir = {},
                            .timeout = start.timeout,
                            .wire = live->place ? live->place->wire() : nullptr,
                            .claim = start.claim};
  if (request.wire && request.wire->stream) {
    request.sink = live->place;
    if (live->place->cached()) request.sink = cached_sink(live->place, live->place->cached());
  }
  // A sandbox writes no file; a job for it that names none costs no turn of another thread. Nor does a call
  // that goes over the wire as it came. Who writes files takes them, too.
  const bool writes =
      serving.kind == policy::ProviderKind::kExec || serving.kind == policy::ProviderKind::kPull;
  const bool with_folder = request.wire ? writes : serving.kind != policy::ProviderKind::kSandbox;
  live->has_folder = with_folder;
  if (with_folder || (!start.body && !request.wire) ||
      request.input.find(ArtifactTag::kPrefix) != std::string::npos) {
    if (auto ready = co_await prepare(live, with_folder, request); !ready) {
      log_event(LogLevel::kError, "try.not_prepared",
                {{"job", to_string(start.row.id)},
                 {"message", ready.error().message},
                 {"cause", ready.error().cause}});
      co_return Ending{
          .outcome = failed(policy::FailureClass::kTransient, "the server could not prepare the attempt"),
          .files = {}};
    }
    if (const auto reason = stop_of(*live))
      co_return Ending{.outcome = stopped_outcome(*reason), .files = {}};
  }
  if (writes && !request.wire && provider::edits_picture(request.task)) {
    auto taking = take_picture(live, request);
    Taken taken = co_await std::move(taking);
    if (const auto reason = stop_of(*live))
      co_return Ending{.outcome = stopped_outcome(*reason), .files = {}};
    if (!taken) co_return Ending{.outcome = unasked(std::move(taken.error())), .files = {}};
  }
  provider::Outcome outcome = co_await ask(live, std::move(serving), std::move(request));
  co_return co_await finish(live, std::move(outcome));
}

asio::awaitable<provider::Outcome> Runners::ask(LivePtr live, ProviderSet::Serving serving,
                                                provider::Request request) {
  if (!live->place) {
    provider::Progress progress = [target = live.get()](int percent, std::string_view message) {
      target->runners.report_progress(*target, percent, message);
    };
    co_return co_await serving.provider->run(std::move(request), std::move(progress));
  }
  // Of a call nobody could see how far it is.
  request.traceparent = live->place->try_begins(live->start);
  provider::Outcome outcome = co_await serving.provider->run(std::move(request), nullptr);
  live->place->try_ends(failure_of(outcome));
  if (live->place->wire()) put_reply(*live, outcome);
  co_return outcome;
}

// A reply goes to its client beside the engine, which has no use for it.
void Runners::put_reply(const Live& live, provider::Outcome& outcome) {
  CallReply reply;
  if (auto* success = std::get_if<provider::Success>(&outcome)) {
    reply.content_type = std::move(success->content_type);
    reply.body = std::exchange(success->output, std::string());
    reply.stream_end = std::move(success->stream_end);
  } else if (auto* failure = std::get_if<provider::Failure>(&outcome)) {
    reply.status = failure->reply_status;
    reply.body = std::move(failure->reply);
    reply.param = std::move(failure->param);
  }
  if (live.place->cached()) live.place->cached()->reply(reply);
  live.place->put_reply(std::move(reply));
}

asio::awaitable<Result<void>> Runners::prepare(LivePtr live, bool with_folder, provider::Request& request) {
  Result<void> ready;
  auto read = [this, &live, with_folder, &request, &ready] {
    ready = read_inputs(*live, with_folder, request);
  };
  Result<void> done = co_await parts_.readers.run_own(std::move(read));
  co_return done ? std::move(ready) : std::move(done);
}

asio::awaitable<Runners::Ending> Runners::finish(LivePtr live, provider::Outcome outcome) {
  if (auto* success = std::get_if<provider::Success>(&outcome))
    co_return co_await keep(live, std::move(*success));
  if (const auto reason = stop_of(*live)) {
    co_return Ending{.outcome = stopped_outcome(*reason, billed_of(outcome)), .files = {}};
  }
  if (auto* failure = std::get_if<provider::Failure>(&outcome)) {
    co_return Ending{.outcome = engine::TryFailed{.failure = failure->failure,
                                                  .message = std::move(failure->message),
                                                  .retry_after = failure->retry_after,
                                                  .billed = std::move(failure->billed),
                                                  .began = live->place && live->place->begun(),
                                                  .key_refused = failure->key_refused,
                                                  .lost = failure->lost},
                     .files = {}};
  }
  // Cancelled although nobody asked: nobody took it, or the group is being stopped.
  const std::string& why = std::get<provider::Cancelled>(outcome).why;
  if (why.empty())
    co_return Ending{.outcome = engine::TryHandedBack{.billed = billed_of(outcome)}, .files = {}};
  if (live->place) co_return Ending{.outcome = failed(policy::FailureClass::kTransient, why), .files = {}};
  co_return Ending{.outcome = engine::TryHandedBack{.billed = billed_of(outcome), .why = why}, .files = {}};
}

asio::awaitable<Runners::Ending> Runners::keep(LivePtr live, provider::Success success) {
  Ending ending;
  if (!success.files.empty() || success.output.size() > provider::kOutputBytesMax) {
    Result<std::vector<engine::ArtifactRef>> files;
    auto store = [this, &live, &success, &files] { files = store_files(*live, success); };
    const Result<void> done = co_await parts_.readers.run_own(std::move(store));
    if (!done || !files) {
      const Error& error = done ? files.error() : done.error();
      log_event(LogLevel::kError, "artifact.not_stored",
                {{"job", to_string(live->start.row.id)}, {"message", error.message}, {"cause", error.cause}});
      ending.outcome = failed(policy::FailureClass::kTransient, "the result could not be stored");
      co_return ending;
    }
    ending.files = std::move(*files);
  }
  ending.outcome = engine::TryCompleted{
      .output = std::move(success.output), .artifacts = {}, .usage = std::move(success.usage)};
  co_return ending;
}

asio::awaitable<void> Runners::settle(LivePtr live, Ending ending) {
  const engine::JobRow& row = live->start.row;
  bool was_live = false;
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(parts_.loop);
    for (engine::ArtifactRef& file : ending.files) file.id = ArtifactId{turn.fresh_id()};
    if (auto* completed = std::get_if<engine::TryCompleted>(&ending.outcome))
      completed->artifacts = ending.files;
    was_live =
        turn.engine().settle(live->start.try_id, std::move(ending.outcome), turn.now(), turn.changes());
    if (was_live) {
      for (const engine::ArtifactRef& file : ending.files) {
        turn.record(journal::ArtifactRow{
            .ref = file, .account = row.account, .job = row.id, .created_at = turn.now().wall});
      }
    }
    batch = turn.seal();
  }
  if (!ending.files.empty()) {
    const bool kept = was_live && co_await parts_.loop.committed(batch);
    // Live and yet not committed: the process ends, and whether the row is there is not known here.
    if (kept || !was_live) {
      parts_.readers.post_own([this, files = std::move(ending.files), kept] {
        for (const engine::ArtifactRef& file : files) parts_.artifacts.release(file, kept);
      });
    }
  }
}

void Runners::report_progress(Live& live, int percent, std::string_view message) {
  const Monotonic now = parts_.clock.now().mono;
  if (live.progress_at != Monotonic{} && now - live.progress_at < kProgressEvery) return;
  live.progress_at = now;
  std::size_t length = std::min(message.size(), kProgressTextMax);
  while (length > 0 && length < message.size() &&
         (static_cast<unsigned char>(message[length]) & 0xc0U) == 0x80) {
    --length;  // not within a character
  }
  const auto bounded = static_cast<std::uint8_t>(std::clamp(percent, 0, 100));
  CommitLoop::Turn turn(parts_.loop);
  turn.engine().progress(live.start.try_id, bounded, message.substr(0, length), turn.now(), turn.changes());
}

// Of a call its request's own line says the same and more.
void Runners::log_start(const Live& live) const {
  const LogLevel level = live.place ? LogLevel::kDebug : LogLevel::kInfo;
  if (!log_enabled(level)) return;
  const engine::StartTry& start = live.start;
  log_event(level, "job.started",
            {{"job", to_string(start.row.id)},
             {"task", start.row.task},
             {"plan", start.row.plan},
             {"priority", static_cast<unsigned>(start.priority_class)},
             {"active", start.active},
             {"limit", start.limit},
             {"account", to_string(start.row.account)},
             {"try", to_string(start.try_id)},
             {"attempt", start.row.attempt},
             {"provider", start.row.provider}});
}

fs::path Runners::folder_of(const Live& live) const {
  return parts_.work_dir / to_string(live.start.try_id);
}

}  // namespace turnpike::node
