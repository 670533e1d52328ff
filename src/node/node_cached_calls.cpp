// Calls that are answered with what was kept, or with what another one in flight gets. The cache is asked
// when it is known what serves the request, and before anything is held for it.
#include <algorithm>
#include <atomic>
#include <utility>

#include "base/check.h"
#include "node/answer_cache_call.h"
#include "node/node_impl.h"
#include "policy/resolve.h"
#include "provider/wire_body.h"

namespace turnpike::node {
namespace {

constexpr std::size_t kKeyInlineMax = 256ULL << 10;  // a larger body is hashed on a reader thread

std::string scope_of(const policy::PlanCache& cache, AccountId account) {
  return cache.scope == policy::PlanCache::Scope::kShared ? "shared:" + cache.group
                                                          : "account:" + to_string(account);
}

// Who followed has waited for an upstream, if not its own.
void waited(CallAnswer& answer, Monotonic since, Monotonic now) {
  answer.times.admitted = answer.times.started = since;
  answer.times.upstream = now - since;
}

// What a stream counts is known at its end, when it can no longer be refused: where it counts, it is not
// shared while it is in flight.
bool may_follow(const CallRequest& request, const policy::PlanCache& cache) {
  return cache.charge == policy::PlanCache::Charge::kNone || !request.wire || !request.wire->stream;
}

// A stream that was kept, as it came.
class Replay final : public CallStream {
 public:
  Replay(AnswerPtr answer, CallAnswer end) : answer_(std::move(answer)), end_(std::move(end)) {}

  asio::awaitable<std::string> read() override {
    while (next_ < answer_->events.size() && !left_.load(std::memory_order_relaxed)) {
      const std::uint32_t length = answer_->events[next_++];
      if (length == 0) continue;
      std::string bytes = answer_->body.substr(at_, length);
      at_ += length;
      co_return bytes;
    }
    co_return std::string();
  }
  asio::awaitable<Result<CallAnswer>> end() override { co_return std::move(end_); }
  void leave() override { left_.store(true, std::memory_order_relaxed); }

 private:
  const AnswerPtr answer_;
  CallAnswer end_;
  std::size_t next_ = 0;  // event
  std::size_t at_ = 0;    // byte
  std::atomic<bool> left_ = false;
};

// A stream that another request has asked for.
class Following final : public CallStream {
 public:
  using MakeEnd = std::function<CallAnswer(const AnswerPtr&)>;
  Following(std::shared_ptr<Follower> follower, Duration patience, CallAnswer failed, MakeEnd make_end)
      : follower_(std::move(follower)),
        patience_(patience),
        failed_(std::move(failed)),
        make_end_(std::move(make_end)) {}

  asio::awaitable<std::string> read() override {
    while (!left_.load(std::memory_order_relaxed) && !ended_) {
      Follower::Item item = co_await follower_->next(patience_);
      if (const auto* bytes = std::get_if<Follower::Bytes>(&item)) {
        if (!(*bytes)->empty()) co_return **bytes;
      } else if (const auto* landed = std::get_if<Follower::Landed>(&item)) {
        ended_ = make_end_(landed->answer);
      } else if (auto* failed = std::get_if<Follower::Failed>(&item)) {
        fail("transient", std::move(failed->error.message));
      } else if (!left_.load(std::memory_order_relaxed)) {
        fail("timeout", "the answer that was shared with this request stopped coming");
      }
    }
    co_return std::string();
  }
  asio::awaitable<Result<CallAnswer>> end() override {
    if (!ended_) fail("transient", "the client has left");
    co_return std::move(*ended_);
  }
  void leave() override {
    left_.store(true, std::memory_order_relaxed);
    follower_->interrupt();
  }

 private:
  void fail(std::string code, std::string message) {
    ended_ = std::move(failed_);
    ended_->row.state = engine::JobState::kFailed;
    ended_->row.error =
        engine::JobError{.code = std::move(code), .message = std::move(message), .provider = {}};
  }

  const std::shared_ptr<Follower> follower_;
  const Duration patience_;
  CallAnswer failed_;
  const MakeEnd make_end_;
  std::optional<CallAnswer> ended_;
  std::atomic<bool> left_ = false;
};

}  // namespace

// Nothing: the plan has no cache for the task, or the request is refused, which is for admission to say.
std::optional<NodeImpl::CacheTerms> NodeImpl::cache_terms(const CallRequest& request) {
  CommitLoop::Turn turn(*loop_);
  const engine::Engine& engine = turn.engine();
  if (engine.account(request.account) == nullptr) return std::nullopt;
  const policy::Plan& plan = engine.plan_of(request.account);
  if (!plan.cache || !plan.cache->has_task(request.task)) return std::nullopt;
  const auto route = route_for(engine, request.account, request.task, request.model);
  if (!route) return std::nullopt;
  return CacheTerms{.cache = *plan.cache,
                    .plan = plan.name,
                    .candidate = (*route)->candidates.front(),
                    .patience = plan.attempt_timeout,
                    .bytes_max = engine.policy()->cache.entry_bytes_max,
                    .key = {}};
}

std::optional<CacheKey> NodeImpl::key_of(const CallRequest& request, const CacheTerms& terms) {
  const provider::WireCall* wire = request.wire.get();
  if (wire == nullptr && !request.body) return std::nullopt;
  const std::string scope = scope_of(terms.cache, request.account);
  const std::string operation =
      wire != nullptr ? "wire:" + std::string(provider::wire_path(wire->kind)) : "task:" + request.task;
  return cache_key(
      {.scope = scope,
       .operation = operation,
       .stream = wire != nullptr && wire->stream,
       .model = terms.candidate.model,
       .model_version = terms.candidate.model_version,
       .upstream_model = terms.candidate.upstream_model,
       .content_type = wire != nullptr ? std::string_view(wire->content_type) : "application/json",
       .body = wire != nullptr ? std::string_view(wire->body) : std::string_view(request.body->input),
       .files = {},
       .topic_field = terms.cache.topic_field});
}

asio::awaitable<std::optional<CacheKey>> NodeImpl::find_key(const CallRequest& request,
                                                            const CacheTerms& terms) {
  if (!request.wire || request.wire->body.size() <= kKeyInlineMax) co_return key_of(request, terms);
  std::optional<CacheKey> key;
  auto hash = [&request, &terms, &key] { key = key_of(request, terms); };
  (void)co_await readers_.run(std::move(hash));  // too much waits there: it goes without the cache
  co_return key;
}

// What a call gets that had no upstream of its own: a row like any other, without a cost.
CallAnswer NodeImpl::answer_again(const CallRequest& request, const CacheTerms& terms,
                                  const CachedAnswer& answer, CacheResult result) {
  CallAnswer again;
  engine::JobRow& row = again.row;
  {
    CommitLoop::Turn turn(*loop_);
    row.id = JobId{turn.fresh_id()};
    row.created_at = row.finished_at = turn.now().wall;
    again.times.admitted = turn.now().mono;
    again.rates = turn.engine().rates(request.account, turn.now());
  }
  row.account = request.account;
  row.state = engine::JobState::kCompleted;
  row.task = request.task;
  row.plan = terms.plan;
  row.provider = answer.provider;
  row.model = answer.model;
  row.model_version = answer.version;
  row.usage = answer.usage;
  row.content_type = request.content_type;
  if (!request.wire) row.output = answer.body;
  again.reply.content_type = answer.content_type;
  if (request.wire && !answer.stream) again.reply.body = answer.body;
  again.reply.stream_end = answer.ending;
  again.serving = {.provider = answer.provider,
                   .model = answer.model,
                   .model_version = answer.version,
                   .plan = terms.plan};
  again.cache = result;
  return again;
}

asio::awaitable<Result<void>> NodeImpl::count_again(const CallRequest& request, const CacheTerms& terms,
                                                    AnswerPtr answer) {
  if (terms.cache.charge == policy::PlanCache::Charge::kNone) co_return Result<void>{};
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    engine::CachedUse use{.id = JobId{turn.fresh_id()},
                          .account = request.account,
                          .task = request.task,
                          .provider = answer->provider,
                          .model = answer->model,
                          .model_version = answer->version,
                          .content_type = request.content_type,
                          .used = answer->usage};
    auto counted = turn.engine().count_cached(std::move(use), turn.now(), turn.changes());
    if (!counted) co_return counted;
    batch = turn.seal();
  }
  if (co_await loop_->committed(batch)) co_return Result<void>{};
  Error error;
  error.code = ErrorCode::kUnavailable;
  error.message = "the server is stopping; try again in a moment";
  error.retryable = true;
  error.retry_after = kDrainRetryAfter;
  co_return std::unexpected(std::move(error));
}

asio::awaitable<Result<CallAnswer>> NodeImpl::replay(const CallRequest& request, const CacheTerms& terms,
                                                     AnswerPtr answer, CacheResult result) {
  cache_metrics_.asked(terms.plan, result);
  auto counting = count_again(request, terms, answer);
  if (auto counted = co_await std::move(counting); !counted)
    co_return std::unexpected(std::move(counted.error()));
  CallAnswer again = answer_again(request, terms, *answer, result);
  if (!answer->stream) co_return again;
  CallAnswer begun{.row = {},
                   .rates = again.rates,
                   .reply = {.content_type = answer->content_type},
                   .serving = again.serving,
                   .times = again.times};
  begun.cache = result;
  begun.stream = std::make_shared<Replay>(std::move(answer), std::move(again));
  co_return begun;
}

CallAnswer NodeImpl::follow_stream(const CallRequest& request, const CacheTerms& terms,
                                   std::shared_ptr<Follower> follower, std::string content_type) {
  // What serves it is known in full when it has ended.
  CachedAnswer known;
  known.model = terms.candidate.model;
  known.version = terms.candidate.model_version;
  known.content_type = std::move(content_type);
  known.stream = true;
  CallAnswer failed = answer_again(request, terms, known, CacheResult::kShared);
  CallAnswer begun{.row = {},
                   .rates = failed.rates,
                   .reply = failed.reply,
                   .serving = failed.serving,
                   .times = failed.times};
  begun.cache = CacheResult::kShared;
  begun.stream =
      std::make_shared<Following>(std::move(follower), terms.patience, std::move(failed),
                                  [this, request, terms](const AnswerPtr& answer) {
                                    return answer_again(request, terms, *answer, CacheResult::kShared);
                                  });
  return begun;
}

// Waits for what another request gets. A Lead: the other gave up, and this one asks now.
asio::awaitable<NodeImpl::Followed> NodeImpl::follow(const CallRequest& request, const CacheTerms& terms,
                                                     std::shared_ptr<Follower> follower) {
  const Monotonic since = now().mono;
  Follower::Item item = co_await follower->next(terms.patience);
  if (auto* lead = std::get_if<Lead>(&item)) co_return Followed(std::move(*lead));
  if (std::holds_alternative<Follower::TimedOut>(item)) {
    Error late;
    late.code = ErrorCode::kUpstreamTimeout;
    late.message = "the answer that was shared with this request did not come in time";
    late.retryable = true;
    co_return Followed(std::unexpected(std::move(late)));
  }
  if (auto* failed = std::get_if<Follower::Failed>(&item))
    co_return Followed(std::unexpected(std::move(failed->error)));
  if (auto* landed = std::get_if<Follower::Landed>(&item)) {
    auto replaying = replay(request, terms, std::move(landed->answer), CacheResult::kShared);
    Result<CallAnswer> answer = co_await std::move(replaying);
    if (answer) waited(*answer, since, now().mono);
    co_return Followed(std::move(answer));
  }
  auto* head = std::get_if<Follower::Head>(&item);
  CHECK(head != nullptr);  // before bytes
  cache_metrics_.asked(terms.plan, CacheResult::kShared);
  CallAnswer begun = follow_stream(request, terms, std::move(follower), std::move(head->content_type));
  waited(begun, since, now().mono);
  co_return Followed(std::move(begun));
}

asio::awaitable<Result<CallAnswer>> NodeImpl::ask_upstream(CallRequest request, CacheTerms terms, Lead lead,
                                                           CacheResult result) {
  cache_metrics_.asked(terms.plan, result);
  CachedCall::Terms keep{.key = terms.key,
                         .model = terms.candidate.model,
                         .model_version = terms.candidate.model_version,
                         .upstream_model = terms.candidate.upstream_model,
                         .stream = request.wire && request.wire->stream,
                         .ttl = terms.cache.ttl,
                         .bytes_max = terms.bytes_max};
  auto cached = std::make_shared<CachedCall>(*cache_, std::move(keep), std::move(lead));
  auto calling = call_upstream(std::move(request), std::move(cached));
  Result<CallAnswer> answer = co_await std::move(calling);
  if (answer) answer->cache = result;
  co_return answer;
}

asio::awaitable<Result<CallAnswer>> NodeImpl::call_cached(CallRequest request, CacheTerms terms) {
  std::optional<CacheKey> key;
  if (!request.cache.no_store) {
    auto finding_key = find_key(request, terms);
    key = co_await std::move(finding_key);
  }
  if (!key) {
    cache_metrics_.asked(terms.plan, CacheResult::kBypass);
    auto calling = call_upstream(std::move(request), nullptr);
    Result<CallAnswer> answer = co_await std::move(calling);
    if (answer) answer->cache = CacheResult::kBypass;
    co_return answer;
  }
  terms.key = *key;
  if (request.cache.no_cache) {
    auto asking = ask_upstream(std::move(request), std::move(terms), Lead(), CacheResult::kBypass);
    co_return co_await std::move(asking);
  }
  const Duration age_max = std::min(terms.cache.ttl, request.cache.max_age.value_or(Duration::max()));
  auto finding = cache_->find(*key, now().wall, age_max);
  if (AnswerPtr found = co_await std::move(finding)) {
    auto replaying = replay(request, terms, std::move(found), CacheResult::kHit);
    co_return co_await std::move(replaying);
  }
  Flights::Seat seat = cache_->flights().join(*key);
  Lead lead;
  if (auto* leads = std::get_if<Lead>(&seat)) {
    lead = std::move(*leads);
    // It may have come between the look and the seat.
    if (AnswerPtr found = cache_->peek(*key, now().wall, age_max)) {
      lead.land(found);
      auto replaying = replay(request, terms, std::move(found), CacheResult::kHit);
      co_return co_await std::move(replaying);
    }
  } else if (auto* follows = std::get_if<Follower>(&seat);
             follows != nullptr && may_follow(request, terms.cache)) {
    auto following = follow(request, terms, std::make_shared<Follower>(std::move(*follows)));
    Followed followed = co_await std::move(following);
    if (auto* answer = std::get_if<Result<CallAnswer>>(&followed)) co_return std::move(*answer);
    lead = std::get<Lead>(std::move(followed));
  }
  auto asking = ask_upstream(std::move(request), std::move(terms), std::move(lead), CacheResult::kMiss);
  co_return co_await std::move(asking);
}

}  // namespace turnpike::node
