#include "node/node.h"

#include <algorithm>
#include <system_error>
#include <utility>
#include <variant>

#include "journal/sqlite/sqlite_journal.h"
#include "node/log.h"
#include "node/node_impl.h"

namespace turnpike::node {
namespace fs = std::filesystem;
namespace {

constexpr Duration kRetentionEvery = std::chrono::minutes(1);
constexpr Duration kRetentionAgain = std::chrono::milliseconds(200);  // while there is more to remove
constexpr Duration kOrphanAge = std::chrono::hours(1);  // of a file that a crash kept from its row, at most
constexpr Duration kKeepLedger = std::chrono::hours(24 * 400);
constexpr Duration kKeepDeliveries = std::chrono::hours(24 * 7);  // of webhooks, once they ended
constexpr Duration kRunsLookEvery = std::chrono::seconds(1);      // at what was put off
constexpr Duration kGroupStopMax = std::chrono::seconds(5);

// Makes the folder, and empties it where it holds what a process that ended has left.
Result<void> make_folder(const fs::path& folder, bool empty_it) {
  std::error_code error;
  if (empty_it) fs::remove_all(folder, error);
  if (!error) fs::create_directories(folder, error);
  if (error) return fail_errno("making the folder " + folder.string(), error.value());
  return {};
}

Result<void> make_folders(const fs::path& data) {
  for (const char* name : {"work", "spool"}) {
    if (auto made = make_folder(data / name, true); !made) return made;
  }
  return make_folder(data / "artifacts", false);
}

ProviderSet::Maker maker_of(const Options& options, std::shared_ptr<provider::WorkDesk> desk) {
  if (options.make_provider) return options.make_provider;
  return [desk = std::move(desk)](const policy::Provider& config, std::vector<std::string>& warnings) {
    return provider::make_provider(config, warnings, desk);
  };
}

}  // namespace

Result<std::unique_ptr<Node>> Node::start(Options options, net::IoThreads& threads) {
  std::error_code error;
  options.data_dir = fs::absolute(options.data_dir, error);
  if (!options.clock) options.clock = std::make_shared<SystemClock>();
  // The journal first: it locks the folder, and what lies there may be a living server's.
  std::unique_ptr<journal::Journal> journal = std::move(options.journal);
  if (!journal) {
    auto opened = journal::open_sqlite(options.data_dir, {});
    if (!opened) return std::unexpected(std::move(opened.error()));
    journal = std::move(*opened);
  }
  if (auto made = make_folders(options.data_dir); !made) return std::unexpected(std::move(made.error()));
  auto node = std::make_unique<NodeImpl>(std::move(options), threads, std::move(journal));
  if (auto recovered = node->recover(); !recovered) return std::unexpected(std::move(recovered.error()));
  return node;
}

NodeImpl::NodeImpl(Options options, net::IoThreads& threads, std::unique_ptr<journal::Journal> journal)
    : options_(std::move(options)),
      threads_(threads),
      clock_(options_.clock),
      journal_(std::move(journal)),
      providers_(maker_of(options_, desk_)),
      artifacts_(options_.data_dir / "artifacts", *journal_),
      policy_(options_.policy) {}

// Without drain_and_stop() this is an abrupt end: what is open is lost, as in a crash.
NodeImpl::~NodeImpl() {
  if (loop_) loop_->halt();
  if (hub_) hub_->close_all();
  callers_.close();
  if (runners_) runners_->shut(kGroupStopMax);
  readers_.stop();
}

Result<void> NodeImpl::recover() {
  auto recovered = journal_->recover();
  if (!recovered) return std::unexpected(std::move(recovered.error()));
  keys_ = std::move(recovered->keys);
  recall(std::move(recovered->discoveries));
  options_.policy = discovered_in(options_.policy);
  readers_.post_own([this, since = recovered->last_at - kOrphanAge] { artifacts_.sweep(since); });
  hub_ = std::make_shared<EventHub>(recovered->last_batch, *journal_, readers_);
  providers_.replace(providers_.build(*options_.policy));
  cache_ = std::make_unique<AnswerCache>(options_.data_dir / "cache", options_.policy->cache, readers_);
  loop_ = std::make_unique<CommitLoop>(engine::Engine(options_.policy, options_.engine), *journal_, *clock_,
                                       recovered->last_id, *this, options_.on_fatal);
  cold_ = std::make_unique<ColdReads>(*loop_, *journal_, readers_, options_.on_fatal);
  RunnerParts parts{
      .loop = *loop_,
      .journal = *journal_,
      .readers = readers_,
      .artifacts = artifacts_,
      .providers = providers_,
      .clock = *clock_,
      .callers = callers_,
      .unavailable = options_.unavailable_providers,
      .desk = *desk_,
      .policy = [this] { return policy(); },
      .picture_client = options_.picture_client ? options_.picture_client : net::Client::create(),
      .work_dir = options_.data_dir / "work",
      .spool_dir = options_.data_dir / "spool"};
  runners_ = std::make_unique<Runners>(std::move(parts), threads_);
  watch_ = make_watch();
  auto policies = read_policies(std::move(recovered->grandfathered));
  // Whether the price table has changed since: read from the text, as everything that was promised is.
  std::string old_prices;
  if (recovered->policy && recovered->policy->hash != options_.policy->hash) {
    const auto old = policy::load_text(recovered->policy->text, "the version in force before");
    if (old.policy != nullptr) old_prices = old.policy->prices_hash;
  }
  {
    CommitLoop::Turn turn(*loop_);
    const auto& kept = recovered->policy;
    const bool same = kept && kept->hash == options_.policy->hash;
    const std::uint64_t version = kept ? kept->version + (same ? 0 : 1) : 1;
    // Prices as they were keep their version; a version from before there were any is its own.
    std::uint64_t prices = version;
    if (kept && (same || old_prices == options_.policy->prices_hash)) {
      prices = kept->price_version == 0 ? kept->version : kept->price_version;
    }
    put_in_force(options_.policy, version, prices);
    if (!same) {
      const PolicyChange change{.by = options_.applied_by, .reason = {}};
      turn.record(version_row(*options_.policy, version, prices, change));
      if (kept) tell_change(turn, *options_.policy, version, kept->version, change);
    }
    engine::Recovery recovery{.accounts = std::move(recovered->accounts),
                              .queues = std::move(recovered->queues),
                              .processing = {},
                              .runs = std::move(recovered->runs),
                              .periods = std::move(recovered->periods),
                              .policies = std::move(policies),
                              .policy_version = version,
                              .price_version = prices,
                              .last_id = recovered->last_id};
    for (journal::StoredJob& job : recovered->processing) recovery.processing.push_back(std::move(job.row));
    turn.engine().set_overlay(read_overlay(recovered->overlay), turn.now(), turn.changes());
    turn.engine().recover(std::move(recovery), turn.now(), turn.changes());
    log_unread(turn.engine().unread_overrides(kUnreadOverridesLogged));
    leases_at_ = turn.now().mono;
    retention_at_ = turn.now().mono + kRetentionEvery;
    cache_at_ = turn.now().mono + AnswerCache::kTouchEvery;
    watch_at_ = turn.now().mono;
    alerts_at_ = turn.now().mono + Alerts::kEvery;
    runs_at_ = turn.now().mono;
  }
  recall_alerts();
  if (auto committed = loop_->commit_now(); !committed) return committed;
  loop_->begin();
  return {};
}

// --- What follows from a commit

void NodeImpl::act(engine::Effect effect, Deliveries& deliveries) {
  struct Visitor {
    NodeImpl& node;
    Deliveries& deliveries;
    void operator()(engine::StartTry& start) const {
      node.metrics_.picked_up(node.clock_->now().wall - start.row.queued_at);
      if (start.claim) node.desk_->expect(start.claim, start.claimed);
      node.runners_->start(std::move(start), deliveries);
    }
    void operator()(engine::StopTry& stop) const { node.runners_->stop(stop.try_id, stop.reason); }
    void operator()(engine::RefillQueue& refill) const { node.cold_->answer(std::move(refill)); }
    void operator()(engine::RefillScheduled& refill) const { node.cold_->answer(refill); }
    void operator()(engine::RefillExpiring& refill) const { node.cold_->answer(refill); }
    void operator()(engine::ExpireCold& expire) const { node.runners_->spawn(node.cold_->expire(expire)); }
    void operator()(engine::CanaryFailed& failed) const {
      node.runners_->spawn(node.roll_back(std::move(failed)));
    }
    void operator()(engine::ContinueRun& run) const {
      node.look_after({.run = run.run, .kind = RunWork::Kind::kContinue});
    }
    void operator()(engine::CancelJobs& run) const {
      node.look_after({.run = run.run, .kind = RunWork::Kind::kCancelJobs});
    }
    void operator()(engine::AnswerCall& answer) const { node.answer(std::move(answer), deliveries); }
  };
  std::visit(Visitor{.node = *this, .deliveries = deliveries}, effect);
}

void NodeImpl::answer(engine::AnswerCall answer, Deliveries& deliveries) {
  metrics_.answered(answer);
  const bool served = !answer.error.has_value();
  const Callers::PlacePtr place = callers_.find(answer.row.id);
  if (served && place)
    gateway_metrics_.ended(answer.row, place->wire().get(), place->times(), clock_->now().mono);
  if (place && place->cached()) place->cached()->ended(answer.row, !served, clock_->now().wall);
  callers_.answer(std::move(answer), deliveries);
}

void NodeImpl::on_committed(OpenBatch& batch, Deliveries& deliveries, Duration took) {
  if (batch.writes()) {
    metrics_.committed(batch, took);
    hub_->publish(batch.number(), batch.commit().events, deliveries);
  }
  for (engine::Effect& effect : batch.effects()) act(std::move(effect), deliveries);
}

void NodeImpl::on_decided(std::vector<engine::Effect>& effects) {
  Deliveries deliveries;
  for (engine::Effect& effect : effects) act(std::move(effect), deliveries);
  deliveries.flush(true);
}

Duration NodeImpl::upkeep(Timestamp now) {
  if (now.mono >= leases_at_) {
    const std::vector<TryId> tries = runners_->live();
    CommitLoop::Turn turn(*loop_);
    turn.engine().extend_leases(tries, turn.now());
    leases_at_ = now.mono + options_.engine.lease / 3;
  }
  if (now.mono >= retention_at_) {
    const bool more = retain(now);
    retention_at_ = now.mono + (more ? kRetentionAgain : kRetentionEvery);
  }
  if (now.mono >= cache_at_) {
    cache_->upkeep(now.wall);
    cache_at_ = now.mono + AnswerCache::kTouchEvery;
  }
  if (now.mono >= watch_at_) {
    const bool ending = draining();
    if (!ending) {
      for (std::string& provider : watch_->due(now.mono)) runners_->spawn(look_due(std::move(provider)));
    }
    watch_at_ = now.mono + (ending ? ModelWatch::kLookAgainMax : watch_->until(now.mono));
  }
  if (now.mono >= alerts_at_) {
    look_at_alerts(now);
    alerts_at_ = now.mono + Alerts::kEvery;
  }
  if (now.mono >= runs_at_) {
    for (std::size_t workers = run_work_.due(now.mono); workers > 0; --workers)
      runners_->spawn(work_on_runs());
    runs_at_ = now.mono + kRunsLookEvery;
  }
  return std::min({leases_at_, retention_at_, cache_at_, watch_at_, alerts_at_, runs_at_}) - now.mono;
}

bool NodeImpl::retain(Timestamp now) {
  const policy::Store store = policy()->store;
  const journal::Journal::Retention retention{.jobs_before = now.wall - store.keep_jobs,
                                              .artifacts_before = now.wall - store.keep_artifacts,
                                              .events_before = now.wall - store.keep_events,
                                              .now = now.wall,
                                              .ledger_before = now.wall - kKeepLedger,
                                              .deliveries_before = now.wall - kKeepDeliveries};
  const auto more = artifacts_.retain(retention);
  if (!more) {
    log_event(LogLevel::kError, "retention.failed",
              {{"message", more.error().message}, {"cause", more.error().cause}});
  }
  return more.value_or(false);
}

// --- The end

void NodeImpl::drain_and_stop(Duration limit) {
  std::call_once(stopped_, [this, limit] {
    log_event("node.draining", {{"limit_s", std::chrono::duration<double>(limit).count()}});
    draining_.store(true);
    {
      CommitLoop::Turn turn(*loop_);
      turn.engine().set_draining(true, turn.now(), turn.changes());
    }
    desk_->stop();
    const auto idle = [](engine::Engine& engine) { return engine.live_tries().empty(); };
    bool done = loop_->wait_until(idle, limit);
    // A start may still be on its way to the runners when the first round of stops goes out.
    const Monotonic until = clock_->now().mono + kStopTriesMax;
    while (!done && clock_->now().mono < until) {
      runners_->stop_all(engine::StopReason::kDrain);
      done = loop_->wait_until(idle, std::chrono::milliseconds(200));
    }
    loop_->stop();
    callers_.close();
    const bool ended = runners_->shut(kGroupStopMax);
    hub_->close_all();
    cache_->flush(clock_->now().wall);
    log_event("node.stopped", {{"idle", done}, {"tasks_ended", ended}});
  });
}

}  // namespace turnpike::node
