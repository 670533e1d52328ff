// Jobs: reads, commands, and the answers that wait for their commit.
#include <utility>

#include "node/node_impl.h"
#include "policy/estimate.h"
#include "policy/overlay.h"
#include "policy/resolve.h"

namespace turnpike::node {
namespace {

// What was read has changed again and again.
std::unexpected<Error> busy_error() {
  return not_now("the job is changing; try again");
}

std::unexpected<Error> not_found(JobId id) {
  return fail(ErrorCode::kNotFound, "there is no job " + to_string(id));
}

bool is_stale(const Error& error) {
  return error.code == ErrorCode::kStale;
}

}  // namespace

// --- Views

JobView NodeImpl::view(CommitLoop::Turn& turn, engine::JobRow row, engine::JobBodyPtr body) {
  engine::Engine& engine = turn.engine();
  JobView view;
  view.body = std::move(body);
  const engine::AccountRow* account = engine.account(row.account);
  const policy::Plan* applies = account == nullptr ? nullptr : &engine.plan_of(row.account);
  const bool waits = row.state == engine::JobState::kScheduled || row.state == engine::JobState::kQueued;
  if (account != nullptr) view.user_id = account->user_id;
  view.plan = waits && applies != nullptr ? applies->name : row.plan;
  const policy::Plan* shown = engine.policy()->plan(view.plan);
  if (shown == nullptr) shown = applies;
  if (shown != nullptr) view.priority_class = shown->priority_class;
  if (row.state == engine::JobState::kProcessing) {
    std::tie(view.percent, view.progress_message) = engine.progress_of(row.id);
  }
  view.row = std::move(row);
  return view;
}

JobView NodeImpl::seen(engine::ColdJob cold) {
  CommitLoop::Turn turn(*loop_);
  JobView shown = view(turn, std::move(cold.row), std::move(cold.body));
  shown.queue = turn.engine().queue_view(shown.row, turn.now());
  return shown;
}

// --- Reads

asio::awaitable<Result<engine::ColdJob>> NodeImpl::read_job(JobId id, std::optional<AccountId> account,
                                                            bool with_body) {
  Result<std::optional<journal::StoredJob>> stored;
  auto question = [this, id, with_body, &stored] { stored = journal_->job(id, with_body); };
  if (auto done = co_await readers_.run(std::move(question)); !done) {
    co_return std::unexpected(std::move(done.error()));
  }
  if (!stored) co_return std::unexpected(std::move(stored.error()));
  if (!*stored || (account && (*stored)->row.account != *account)) co_return not_found(id);
  co_return cold_job(std::move(**stored));
}

asio::awaitable<Result<JobView>> NodeImpl::job(JobId id, std::optional<AccountId> account, bool with_body) {
  auto cold = co_await read_job(id, account, with_body);
  if (!cold) co_return std::unexpected(std::move(cold.error()));
  co_return seen(std::move(*cold));
}

asio::awaitable<Result<std::vector<JobView>>> NodeImpl::jobs(journal::JobQuery query, bool& has_more) {
  Result<journal::JobPage> page;
  auto question = [this, &query, &page] { page = journal_->jobs(query); };
  if (auto done = co_await readers_.run(std::move(question)); !done) {
    co_return std::unexpected(std::move(done.error()));
  }
  if (!page) co_return std::unexpected(std::move(page.error()));
  has_more = page->has_more;
  std::vector<JobView> views;
  views.reserve(page->jobs.size());
  for (journal::StoredJob& stored : page->jobs) views.push_back(seen(cold_job(std::move(stored))));
  co_return views;
}

asio::awaitable<Result<std::pair<JobView, engine::Why>>> NodeImpl::why(JobId id,
                                                                       std::optional<AccountId> account) {
  auto cold = co_await read_job(id, account, false);
  if (!cold) co_return std::unexpected(std::move(cold.error()));
  CommitLoop::Turn turn(*loop_);
  engine::Why reasons = turn.engine().why(cold->row, turn.now());
  JobView shown = view(turn, std::move(cold->row), std::move(cold->body));
  shown.queue = turn.engine().queue_view(shown.row, turn.now());
  co_return std::pair(std::move(shown), std::move(reasons));
}

asio::awaitable<Result<JobView>> NodeImpl::wait(JobId id, std::optional<AccountId> account,
                                                Duration timeout) {
  const Monotonic until = clock_->now().mono + timeout;
  // Subscribed before the first look, so that no end can fall between.
  const std::shared_ptr<Subscription> subscription = hub_->subscribe(std::nullopt, id, std::nullopt);
  while (true) {
    auto shown = co_await job(id, account, true);
    if (!shown || engine::ended(shown->row.state)) co_return shown;
    bool look_again = false;
    while (!look_again) {
      const Duration left = until - clock_->now().mono;
      if (left <= Duration::zero()) co_return co_await job(id, account, true);
      const Subscription::Item item = co_await subscription->next(left);
      if (item.closed) co_return shown;
      look_again = item.lagged;
      for (const journal::StoredEvent& event : item.events)
        look_again = look_again || is_end(event.event.type);
    }
  }
}

// --- Submit

std::optional<Error> NodeImpl::refusal(const SubmitRequest& request) const {
  if (draining()) return stopping().error();
  if (!request.body)
    return Error{.code = ErrorCode::kInternal, .message = "a job without a body", .param = {}};
  if (request.body->input.size() > kInputBytesMax) {
    return Error{.code = ErrorCode::kTooLarge, .message = "the input is larger than 1 MiB", .param = "input"};
  }
  if (request.body->metadata.size() > kMetadataBytesMax) {
    return Error{
        .code = ErrorCode::kTooLarge, .message = "the metadata is larger than 16 KiB", .param = "metadata"};
  }
  return std::nullopt;
}

engine::NewJob NodeImpl::new_job(const SubmitRequest& request, JobId id, policy::RoutePtr route,
                                 const policy::Policy& policy, Dedupe dedupe) {
  const policy::Amounts estimate =
      policy::estimate(policy.models.at(route->candidates.front().model), request.ask);
  return engine::NewJob{.id = id,
                        .account = request.account,
                        .task = request.task,
                        .route = std::move(route),
                        .priority = request.priority,
                        .run_at = request.run_at,
                        .max_attempts = request.max_attempts,
                        .options = request.options,
                        .content_type = request.content_type,
                        .estimate = estimate,
                        .extras = request.ask.extras,
                        .dedupe_key = request.dedupe_key,
                        .dedupe_job = std::move(dedupe.job),
                        .dedupe_at = dedupe.at,
                        .body = request.body};
}

asio::awaitable<Result<NodeImpl::Dedupe>> NodeImpl::read_dedupe(AccountId account, std::string key) {
  Result<std::pair<std::optional<journal::StoredJob>, engine::Batch>> found;
  auto question = [this, account, &key, &found] { found = journal_->job_by_dedupe_key(account, key); };
  if (auto done = co_await readers_.run(std::move(question)); !done) {
    co_return std::unexpected(std::move(done.error()));
  }
  if (!found) co_return std::unexpected(std::move(found.error()));
  Dedupe dedupe{.job = {}, .at = found->second};
  if (found->first) dedupe.job = cold_job(std::move(*found->first));
  co_return dedupe;
}

// One turn: resolves, decides, and puts the stored answer beside the job.
Result<SubmitAnswer> NodeImpl::take(const SubmitRequest& request, Dedupe dedupe, engine::Batch& batch) {
  CommitLoop::Turn turn(*loop_);
  engine::Engine& engine = turn.engine();
  if (turn.overloaded()) {
    return not_now("the server is overloaded; try again");
  }
  auto route = route_for(engine, request.account, request.task, request.model);
  if (!route) return std::unexpected(std::move(route.error()));
  const engine::JobBodyPtr known = dedupe.job ? dedupe.job->body : nullptr;
  auto submitted = engine.submit(
      new_job(request, JobId{turn.fresh_id()}, std::move(*route), *engine.policy(), std::move(dedupe)),
      turn.now(), turn.changes());
  if (!submitted) return std::unexpected(std::move(submitted.error()));
  SubmitAnswer answer;
  answer.deduplicated = submitted->deduplicated;
  answer.job = view(turn, std::move(submitted->row), submitted->deduplicated ? known : request.body);
  answer.job.queue = submitted->queue;
  answer.rates = engine.rates(request.account, turn.now());
  if (request.render) answer.rendered = request.render(answer.job);
  record_answer(turn, request.idempotency, answer.rendered);
  batch = turn.seal();
  return answer;
}

asio::awaitable<Result<SubmitAnswer>> NodeImpl::submit(SubmitRequest request) {
  if (auto refused = refusal(request)) co_return std::unexpected(std::move(*refused));
  for (int round = 0; round < kStaleRoundsMax; ++round) {
    Dedupe dedupe;
    if (!request.dedupe_key.empty()) {
      auto read = co_await read_dedupe(request.account, request.dedupe_key);
      if (!read) co_return std::unexpected(std::move(read.error()));
      dedupe = std::move(*read);
    }
    engine::Batch batch = 0;
    auto answer = take(request, std::move(dedupe), batch);
    if (answer) {
      if (!co_await loop_->committed(batch)) co_return stopping();
      co_return answer;
    }
    if (!is_stale(answer.error())) co_return answer;
    if (!co_await loop_->everything_committed()) co_return stopping();
  }
  co_return busy_error();
}

// --- Commands on jobs that may be cold

asio::awaitable<Result<JobView>> NodeImpl::cancel(JobId id, std::optional<AccountId> account,
                                                  std::string by) {
  for (int round = 0; round < kStaleRoundsMax; ++round) {
    auto cold = co_await read_job(id, account, true);
    if (!cold) co_return std::unexpected(std::move(cold.error()));
    std::optional<JobView> shown;
    engine::Batch batch = 0;
    {
      CommitLoop::Turn turn(*loop_);
      auto row = turn.engine().cancel(id, by, &*cold, turn.now(), turn.changes());
      if (!row && !is_stale(row.error())) co_return std::unexpected(std::move(row.error()));
      if (row) shown = view(turn, std::move(*row), cold->body);
      batch = turn.seal();
    }
    if (!co_await loop_->committed(batch)) co_return stopping();
    if (shown) co_return std::move(*shown);
  }
  co_return busy_error();
}

asio::awaitable<Result<JobView>> NodeImpl::retry(JobId id, std::optional<AccountId> account) {
  if (draining()) co_return stopping();
  for (int round = 0; round < kStaleRoundsMax; ++round) {
    auto cold = co_await read_job(id, account, true);
    if (!cold) co_return std::unexpected(std::move(cold.error()));
    const engine::JobBodyPtr body = cold->body;
    std::optional<JobView> shown;
    engine::Batch batch = 0;
    {
      CommitLoop::Turn turn(*loop_);
      auto queued = turn.engine().retry(std::move(*cold), turn.now(), turn.changes());
      if (!queued && !is_stale(queued.error())) co_return std::unexpected(std::move(queued.error()));
      if (queued) {
        shown = view(turn, std::move(queued->row), body);
        shown->queue = queued->queue;
      }
      batch = turn.seal();
    }
    if (!co_await loop_->committed(batch)) co_return stopping();
    if (shown) co_return std::move(*shown);
  }
  co_return busy_error();
}

}  // namespace turnpike::node
