// Records of the api's own, events, artifacts, policy versions, numbers.
#include <utility>

#include "node/log.h"
#include "node/node_impl.h"
#include "policy/event_json.h"

namespace turnpike::node {
std::unexpected<Error> not_now(std::string message, std::chrono::seconds retry_after) {
  Error error;
  error.code = ErrorCode::kUnavailable;
  error.message = std::move(message);
  error.retryable = true;
  error.retry_after = retry_after;
  return std::unexpected(std::move(error));
}

std::unexpected<Error> stopping() {
  return not_now("the server is stopping; try again in a moment", kDrainRetryAfter);
}

void record_answer(CommitLoop::Turn& turn, const std::optional<journal::IdempotencyRow>& idempotency,
                   const std::string& rendered) {
  if (!idempotency) return;
  journal::IdempotencyRow row = *idempotency;
  row.body = rendered;
  turn.record(std::move(row));
}

asio::awaitable<Result<void>> NodeImpl::store(std::vector<journal::Record> records) {
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    for (journal::Record& record : records) turn.record(std::move(record));
    batch = turn.seal();
  }
  if (!co_await loop_->committed(batch)) co_return stopping();
  co_return Result<void>{};
}

asio::awaitable<Result<void>> NodeImpl::read(std::function<void(journal::Journal&)> question) {
  auto work = [this, question = std::move(question)] { question(*journal_); };
  return readers_.run(std::move(work));
}

asio::awaitable<Result<void>> NodeImpl::catch_up() {
  if (!co_await loop_->everything_committed()) co_return stopping();
  co_return Result<void>{};
}

std::uint64_t NodeImpl::fresh_id() {
  CommitLoop::Turn turn(*loop_);
  return turn.fresh_id();
}

asio::awaitable<Result<std::shared_ptr<Subscription>>> NodeImpl::subscribe(std::optional<AccountId> account,
                                                                           Subscription::Subject subject,
                                                                           std::optional<EventId> after) {
  co_return hub_->subscribe(account, subject, after);
}

std::shared_ptr<Subscription> NodeImpl::listen(std::optional<AccountId> account) {
  return hub_->listen(account);
}

// --- Artifacts

asio::awaitable<Result<engine::ArtifactRef>> NodeImpl::store_artifact(std::filesystem::path file,
                                                                      std::string mime, std::string extension,
                                                                      AccountId account) {
  Result<engine::ArtifactRef> ref;
  auto put = [&] { ref = artifacts_.put(file, std::move(mime), std::move(extension)); };
  if (auto done = co_await readers_.run(std::move(put)); !done)
    co_return std::unexpected(std::move(done.error()));
  if (!ref) co_return ref;
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    ref->id = ArtifactId{turn.fresh_id()};
    turn.record(
        journal::ArtifactRow{.ref = *ref, .account = account, .job = {}, .created_at = turn.now().wall});
    batch = turn.seal();
  }
  if (!co_await loop_->committed(batch)) co_return stopping();
  artifacts_.release(*ref, true);
  co_return ref;
}

std::filesystem::path NodeImpl::artifact_path(std::string_view sha256, std::string_view extension) const {
  return artifacts_.path_of(sha256, extension);
}

// --- Policy

policy::PolicyPtr NodeImpl::policy() const {
  const std::scoped_lock lock(policy_mutex_);
  return policy_;
}

std::uint64_t NodeImpl::policy_version() const {
  const std::scoped_lock lock(policy_mutex_);
  return policy_version_;
}

void NodeImpl::put_in_force(policy::PolicyPtr policy, std::uint64_t version, std::uint64_t price_version) {
  cache_->set_limits(policy->cache);
  alerts_->set_rules(policy->alerts);
  const std::scoped_lock lock(policy_mutex_);
  policy_ = std::move(policy);
  policy_version_ = version;
  price_version_ = price_version;
}

std::optional<std::uint64_t> NodeImpl::same_version(const policy::Policy& policy) const {
  const std::scoped_lock lock(policy_mutex_);
  if (policy_->hash != policy.hash) return std::nullopt;
  return policy_version_;
}

journal::PolicyVersionRow NodeImpl::version_row(const policy::Policy& policy, std::uint64_t version,
                                                std::uint64_t price_version, PolicyChange change) const {
  return journal::PolicyVersionRow{.version = version,
                                   .hash = policy.hash,
                                   .text = policy.text,
                                   .applied_at = clock_->now().wall,
                                   .applied_by = std::move(change.by),
                                   .reason = std::move(change.reason),
                                   .price_version = price_version};
}

void NodeImpl::tell_change(CommitLoop::Turn& turn, const policy::Policy& policy, std::uint64_t version,
                           std::uint64_t previous, const PolicyChange& change) const {
  policy::PolicyChanged changed{.version = version,
                                .previous = previous,
                                .hash = policy.hash,
                                .by = change.by,
                                .reason = change.reason,
                                .rolled_back_to = change.rolled_back_to};
  turn.changes().events.push_back(engine::Event{.type = engine::EventType::kPolicyChanged,
                                                .at = turn.now().wall,
                                                .account = {},
                                                .job = {},
                                                .text = policy::policy_changed_json(changed)});
}

std::map<std::uint64_t, policy::PolicyPtr> NodeImpl::read_policies(
    std::vector<journal::PolicyVersionRow> rows) {
  std::map<std::uint64_t, policy::PolicyPtr> policies;
  for (journal::PolicyVersionRow& row : rows) {
    policy::Loaded loaded = policy::load_text(std::move(row.text), "version " + std::to_string(row.version));
    if (loaded.policy != nullptr) {
      policies.emplace(row.version, std::move(loaded.policy));
    } else {
      log_event(LogLevel::kError, "policy.version_unreadable",
                {{"version", row.version}, {"message", policy::to_string(loaded.mistakes.front())}});
    }
  }
  return policies;
}

// One line an account, for the first of them; each says how many there are.
void NodeImpl::log_unread(const engine::UnreadOverrides& unread) {
  for (const auto& [account, mistake] : unread.shown) {
    log_event(LogLevel::kWarn, "account.overrides_unread",
              {{"account", to_string(account)}, {"message", mistake}, {"accounts", unread.accounts}});
  }
}

asio::awaitable<Result<std::uint64_t>> NodeImpl::apply(policy::PolicyPtr policy, PolicyChange change) {
  if (const auto same = same_version(*policy)) {
    if (!co_await loop_->everything_committed()) co_return stopping();
    co_return *same;
  }
  ProviderSet::Map providers;
  auto build = [&] { providers = providers_.build(*policy); };
  if (auto done = co_await readers_.run(std::move(build)); !done)
    co_return std::unexpected(std::move(done.error()));
  std::uint64_t version = 0;
  engine::Batch batch = 0;
  engine::UnreadOverrides unread;
  {
    CommitLoop::Turn turn(*loop_);
    if (const auto same = same_version(*policy)) {
      version = *same;
    } else {
      version = policy_version() + 1;
      const bool same_prices = this->policy()->prices_hash == policy->prices_hash;
      const std::uint64_t price_version = same_prices ? price_version_ : version;
      turn.record(version_row(*policy, version, price_version, change));
      turn.record(journal::AuditRow{.at = turn.now().wall,
                                    .actor = change.by,
                                    .action = "policy.applied",
                                    .subject = std::to_string(version),
                                    .detail = R"({"hash":")" + policy->hash + R"("})"});
      tell_change(turn, *policy, version, version - 1, change);
      policy = discovered_in(std::move(policy));
      turn.engine().apply(policy, version, price_version, turn.now(), turn.changes());
      unread = turn.engine().unread_overrides(kUnreadOverridesLogged);
      providers_.replace(std::move(providers));
      put_in_force(policy, version, price_version);
    }
    batch = turn.seal();
  }
  if (!co_await loop_->committed(batch)) co_return stopping();
  log_event("policy.in_force", {{"version", version}, {"by", change.by}});
  log_unread(unread);
  co_return version;
}

// --- Numbers

engine::Engine::Stats NodeImpl::stats() {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().stats();
}

std::string NodeImpl::metrics_text() {
  return metrics_.text(stats(), platform_usage(), hub_->subscribers()) + gateway_metrics_.text() +
         cache_metrics_.text(cache_->totals()) + watch_->metrics_text();
}

}  // namespace turnpike::node
