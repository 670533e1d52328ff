// The node's part of a World: batches, commits, crashes, tries and cold reads.
#include <algorithm>

#include "simulation/violation.h"
#include "simulation/world.h"

namespace turnpike::simulation {

using engine::Changes;
using engine::ColdJob;
using engine::Engine;
using std::chrono::milliseconds;

namespace {

constexpr int kColdReadsMax = 50;

std::vector<engine::JobRow> rows_of(const turnpike::testing::MemoryJournal& journal) {
  std::vector<engine::JobRow> rows;
  journal.for_each_job([&](const engine::JobRow& row) { rows.push_back(row); });
  return rows;
}

}  // namespace

// --- Commits

void World::plan_commit() {
  if (commit_planned_ || inflight_ || open_.empty()) return;
  commit_planned_ = true;
  later(delay(options_.gather_max), [this] {
    commit_planned_ = false;
    begin_commit();
  });
}

void World::begin_commit() {
  if (inflight_ || open_.empty()) return;
  inflight_ = std::move(open_);
  open_ = Open{};
  // A batch that changes nothing durable has no number of its own.
  open_.changes.batch = inflight_->changes.batch + (inflight_->has_rows() ? 1 : 0);
  if (options_.commit_max.count() == 0) {
    finish_commit();
  } else {
    later(delay(options_.commit_max), [this] { finish_commit(); });
  }
}

// At most one row a key, the last; the body is in the first.
journal::Commit World::merged(const Open& batch) {
  journal::Commit commit{
      .batch = batch.changes.batch, .at = now_.wall, .mutations = {}, .records = {}, .events = {}};
  std::map<JobId, std::size_t> jobs;
  std::map<RunId, std::size_t> runs;
  std::map<AccountId, std::size_t> accounts;
  std::map<QueueName, std::size_t> counts;
  std::map<std::tuple<engine::Scope, AccountId, std::string, Wall>, std::size_t> periods;
  const auto place = [&](auto& index, const auto& key, const engine::Mutation& mutation) {
    const auto [it, fresh] = index.try_emplace(key, commit.mutations.size());
    if (fresh) {
      commit.mutations.push_back(mutation);
      return;
    }
    engine::Mutation& existing = commit.mutations[it->second];
    engine::JobBodyPtr body;
    engine::RunBodyPtr run_body;
    if (const auto* job = std::get_if<engine::PutJob>(&existing)) body = job->body;
    if (const auto* run = std::get_if<engine::PutRun>(&existing)) run_body = run->body;
    existing = mutation;
    if (auto* job = std::get_if<engine::PutJob>(&existing); job && body) job->body = body;
    if (auto* run = std::get_if<engine::PutRun>(&existing); run && run_body) run->body = run_body;
  };
  for (const auto& mutation : batch.changes.mutations) {
    if (breaks(NodeFault::kLosesMutation, 5)) continue;
    if (const auto* job = std::get_if<engine::PutJob>(&mutation)) place(jobs, job->row.id, mutation);
    if (const auto* run = std::get_if<engine::PutRun>(&mutation)) place(runs, run->row.id, mutation);
    if (const auto* account = std::get_if<engine::PutAccount>(&mutation))
      place(accounts, account->row.id, mutation);
    if (const auto* count = std::get_if<engine::PutQueueCount>(&mutation))
      place(counts, QueueName{count->account, count->pool}, mutation);
    if (const auto* period = std::get_if<engine::PutPeriod>(&mutation)) {
      const engine::PeriodRow& row = period->row;
      place(periods, std::tuple(row.scope, row.account, row.team, row.start), mutation);
    }
    if (std::holds_alternative<engine::AddEntry>(mutation)) commit.mutations.push_back(mutation);
  }
  if (options_.broken.node == NodeFault::kWritesTwice) {
    for (const auto& mutation : commit.mutations) {
      const auto* job = std::get_if<engine::PutJob>(&mutation);
      if (job && job->row.state == engine::JobState::kCompleted) settled_rows_[job->row.id] = job->row;
    }
    if (!settled_rows_.empty() && random_.chance(20)) {
      const auto late = settled_rows_.begin();
      if (!jobs.contains(late->first)) commit.mutations.emplace_back(engine::PutJob{late->second, nullptr});
    }
  }
  commit.events = batch.changes.events;
  return commit;
}

void World::finish_commit() {
  if (!inflight_) return;
  if (inflight_->has_rows()) {
    const journal::Commit commit = merged(*inflight_);
    const auto done = journal_.commit(commit);
    require(done.has_value(), "journal", "batch {}: {}", commit.batch, done ? "" : done.error().message);
    checker_.committed(commit);
    tally_->add(Seen::kCommits);
    if (inflight_->commands > 1) tally_->add(Seen::kMergedCommits);
  }
  Open batch = std::move(*inflight_);
  inflight_.reset();
  release(std::move(batch));
  plan_commit();
}

void World::release(Open batch) {
  for (const JobId id : batch.submitted) checker_.acknowledged(id);
  for (const RunId id : batch.runs) checker_.runs().acknowledged(id);
  for (const auto& effect : batch.changes.effects) release(effect);
}

void World::commit_all() {
  while (inflight_ || !open_.empty()) {
    begin_commit();
    finish_commit();
  }
}

void World::recount() {
  const auto recovered = journal_.recover();
  require(recovered.has_value(), "journal", "the journal does not recover");
  checker_.recount(*recovered, rows_of(journal_));
  verify_books();
}

// Held is what jobs hold, used is what the ledger adds up to, nothing is charged twice (I5, I6).
void World::verify_books() {
  const auto books = journal_.verify_books();
  require(books.has_value(), "journal", "the books cannot be recounted");
  require(books->mistakes.empty(), "I6", "{}", books->mistakes.empty() ? "" : books->mistakes.front());
}

// --- Lives

void World::crash(bool durable, Duration downtime) {
  say("crash, {} batch under way{}", inflight_ ? "a" : "no", inflight_ && durable ? " became durable" : "");
  tally_->add(Seen::kCrashes);
  if (inflight_ && inflight_->has_rows()) {
    if (durable) {
      const journal::Commit commit = merged(*inflight_);
      const auto done = journal_.commit(commit);
      require(done.has_value(), "journal", "batch {}: {}", commit.batch, done ? "" : done.error().message);
      checker_.committed(commit);
      tally_->add(Seen::kCrashesAfterDurable);
    } else {
      tally_->add(Seen::kCrashesLosingABatch);
    }
  } else if (open_.has_rows()) {
    tally_->add(Seen::kCrashesLosingABatch);
  }
  inflight_.reset();
  commit_planned_ = false;
  draining_ = false;
  ++life_;
  // The children died with their parent; some of what they reported is still on its way.
  for (const auto& [id, running] : running_) {
    // Nobody knows a call any more: its connections died with the process.
    if (!running.call && random_.chance(300))
      later(
          Duration{random_.between(0, 5'000'000)},
          [this, dead = id] {
            settle(dead, engine::TryCompleted{.output = "{}", .artifacts = {}, .usage = {}});
          },
          true);
  }
  running_.clear();
  now_.mono += downtime;
  now_.wall += downtime;
  start_engine(now_);
  extend_leases();
}

void World::start_engine(Timestamp at) {
  auto recovered = journal_.recover();
  require(recovered.has_value(), "journal", "the journal does not recover");
  ids_ = IdSource(std::max(recovered->last_id, ids_.next(at.wall)));
  open_ = Open{};
  open_.changes.batch = recovered->last_batch + 1;
  checker_.pass_time(at);
  verify_books();
  const auto entries = journal_.ledger({}, std::nullopt, SIZE_MAX);
  require(entries.has_value(), "journal", "the ledger does not read");
  checker_.restarted(*recovered, rows_of(journal_), journal_.run_rows(), journal_.period_rows(),
                     entries->entries);
  engine::Recovery recovery{.accounts = recovered->accounts,
                            .queues = recovered->queues,
                            .processing = {},
                            .runs = recovered->runs,
                            .periods = recovered->periods,
                            .policies = {},
                            .policy_version = policy_version_,
                            .price_version = policy_version_,
                            .last_id = recovered->last_id};
  const auto policies = checker_.promises().policies();
  for (const auto& account : recovered->accounts) {
    if (account.plan_version != 0)
      recovery.policies.emplace(account.plan_version, policies.at(account.plan_version));
  }
  for (const auto& stored : recovered->processing) recovery.processing.push_back(stored.row);
  tally_->add(Seen::kRecoveredProcessing, recovery.processing.size());
  if (!recovery.processing.empty() && breaks(NodeFault::kForgetsProcessing, 500))
    recovery.processing.pop_back();
  if (!recovery.queues.empty() && breaks(NodeFault::kForgetsQueue, 500)) recovery.queues.pop_back();
  engine_ = std::make_unique<Engine>(policy_, options_.engine);
  Changes out = changes();
  engine_->recover(std::move(recovery), at, out);
  took_place({.name = "recover"}, std::move(out));
}

// --- Effects

void World::release(const engine::Effect& effect) {
  if (const auto* start = std::get_if<engine::StartTry>(&effect)) start_try(*start);
  if (const auto* stop = std::get_if<engine::StopTry>(&effect)) stop_try(*stop);
  if (const auto* refill = std::get_if<engine::RefillQueue>(&effect)) answer_queue(*refill);
  if (const auto* refill = std::get_if<engine::RefillScheduled>(&effect)) answer_scheduled(*refill);
  if (const auto* refill = std::get_if<engine::RefillExpiring>(&effect)) answer_expiring(*refill);
  if (const auto* expired = std::get_if<engine::ExpireCold>(&effect)) {
    tally_->add(Seen::kColdExpiries);
    answer_expiry(expired->job, kColdReadsMax);
  }
  if (const auto* run = std::get_if<engine::ContinueRun>(&effect)) continue_run(run->run);
  if (const auto* run = std::get_if<engine::CancelJobs>(&effect)) cancel_jobs(run->run, kColdReadsMax);
  if (const auto* answer = std::get_if<engine::AnswerCall>(&effect))
    checker_.call_answered(*answer, journal_.last_batch());
}

void World::start_try(const engine::StartTry& start) {
  if (start.call) {
    checker_.call_released(start, journal_.last_batch());
    require(start.body != nullptr, "calls", "the call {} lost its input", to_string(start.row.id));
  } else {
    const auto stored = journal_.job(start.row.id, true);
    checker_.released(start, stored ? *stored : std::nullopt);
    require((*stored)->body != nullptr, "I1", "{} lost its input", to_string(start.row.id));
    if (!start.body) tally_->add(Seen::kBodiesReadBack);
  }
  if (on_start) on_start(start);
  say("start {} of {} as {}", to_string(start.row.id), to_string(start.row.account), to_string(start.try_id));
  const Fate it = fate(start);
  const policy::Amounts held = start.row.hold ? start.row.hold->amounts : policy::Amounts{};
  running_[start.try_id] = {.job = start.row.id, .fate = it, .held = held, .call = start.call};
  if (it.kind == Fate::Kind::kCompletes || it.kind == Fate::Kind::kFails)
    later(it.after, [this, id = start.try_id] { end_try(id); });
  if (it.kind == Fate::Kind::kSilent && it.reports_again)
    settle_after(start.try_id, options_.engine.lease + it.after + Duration{1},
                 engine::TryCompleted{.output = "{}", .artifacts = {}, .usage = some_usage(held)});
}

// Mostly less than was held, now and then more; what nothing was held of is now and then used all the same.
engine::Usage World::some_usage(const policy::Amounts& held) {
  using policy::Meter;
  engine::Usage usage;
  const bool more = random_.chance(50);
  for (const Meter meter : {Meter::kInputTokens, Meter::kOutputTokens, Meter::kCharacters, Meter::kAudioMs,
                            Meter::kVideoMs, Meter::kImages, Meter::kPixels}) {
    if (random_.chance(30)) continue;  // the provider does not say
    const std::int64_t most = held[meter] > 0 ? held[meter] * (more ? 3 : 1) : random_.chance(10) ? 20 : 0;
    if (most == 0) continue;
    const std::int64_t used = random_.between(0, most);
    usage.emplace_back(policy::meter_name(meter).usage, used);
    if (meter == Meter::kInputTokens && random_.chance(300))
      usage.emplace_back(policy::meter_name(Meter::kCachedTokens).usage, random_.between(0, used));
  }
  return usage;
}

// What a try that did not complete is billed: mostly nothing, or something, or nobody knows.
std::optional<engine::Usage> World::some_bill(const policy::Amounts& held) {
  if (random_.chance(600)) return engine::Usage{};
  if (random_.chance(500)) return some_usage(held);
  return std::nullopt;
}

void World::end_try(TryId id) {
  const auto it = running_.find(id);
  if (it == running_.end()) return;  // stopped before
  const Fate fate_of_it = it->second.fate;
  const policy::Amounts held = it->second.held;
  running_.erase(it);
  engine::TryOutcome outcome =
      engine::TryCompleted{.output = "{}", .artifacts = {}, .usage = some_usage(held)};
  if (fate_of_it.kind == Fate::Kind::kFails)
    outcome = engine::TryFailed{.failure = fate_of_it.failure,
                                .message = "as told",
                                .retry_after = fate_of_it.retry_after,
                                .billed = some_bill(held)};
  settle(id, outcome);
  if (fate_of_it.reports_again) settle_after(id, delay(std::chrono::seconds(2)), outcome);
}

void World::settle_after(TryId id, Duration after, engine::TryOutcome outcome) {
  later(after, [this, id, outcome = std::move(outcome)] { settle(id, outcome); });
}

void World::settle(TryId id, engine::TryOutcome outcome) {
  checker_.pass_time(now_);
  Changes out = changes();
  const bool live = checker_.is_live(id);
  TryId told = id;
  if (!live && options_.broken.node == NodeFault::kRelabelsDeadTry && !checker_.live().empty())
    told = checker_.live().begin()->first;
  std::optional<engine::Usage> completed;
  report(outcome, completed);
  const bool taken = engine_->settle(told, std::move(outcome), now_, out);
  say("settle {} -> {}", to_string(id), taken ? "taken" : "dead");
  require(taken == live, "I4", "a settle of {}, which is {}, was {}", to_string(id),
          live ? "live" : "not live", taken ? "taken" : "refused");
  if (!live) {
    tally_->add(Seen::kDeadSettles);
    // It may correct its own charge, and changes no job.
    const bool books_only = std::ranges::all_of(out.mutations, [](const engine::Mutation& mutation) {
      return std::holds_alternative<engine::AddEntry>(mutation) ||
             std::holds_alternative<engine::PutPeriod>(mutation);
    });
    const bool thresholds_only = std::ranges::all_of(out.events, [](const engine::Event& event) {
      return event.type == engine::EventType::kUsageThreshold;
    });
    require(books_only && thresholds_only && out.effects.empty(), "I4",
            "a settle of {}, which is not live, changed something", to_string(id));
  }
  took_place({.name = "settle", .settled = live ? id : TryId{}, .completed = completed}, std::move(out));
}

// The checker is told what the engine is told.
void World::report(const engine::TryOutcome& outcome, std::optional<engine::Usage>& completed) {
  if (const auto* done = std::get_if<engine::TryCompleted>(&outcome)) completed = done->usage;
  std::optional<engine::Usage> used = completed;
  if (const auto* failed = std::get_if<engine::TryFailed>(&outcome)) used = failed->billed;
  if (const auto* stopped = std::get_if<engine::TryStopped>(&outcome)) used = stopped->billed;
  if (const auto* back = std::get_if<engine::TryHandedBack>(&outcome)) used = back->billed;
  checker_.books().reported(std::move(used), completed.has_value());
}

void World::stop_try(const engine::StopTry& stop) {
  say("stop {}", to_string(stop.try_id));
  if (stop.reason == engine::StopReason::kTimeout) tally_->add(Seen::kTimeouts);
  const auto it = running_.find(stop.try_id);
  if (it == running_.end() || it->second.fate.ignores_stop) return;
  const auto billed = some_bill(it->second.held);
  running_.erase(it);
  settle_after(stop.try_id, delay(milliseconds(300)), engine::TryStopped{.billed = billed});
}

void World::stop_running() {
  for (const auto& [id, running] : running_) {
    tally_->add(Seen::kHandedBack);
    settle_after(id, delay(milliseconds(300)), engine::TryHandedBack{.billed = some_bill(running.held)});
  }
  running_.clear();
}

void World::extend_leases() {
  std::vector<TryId> alive;
  for (const auto& [id, running] : running_)
    if (running.fate.kind != Fate::Kind::kSilent) alive.push_back(id);
  checker_.pass_time(now_);
  engine_->extend_leases(alive, now_);
  for (const TryId id : alive) checker_.lease_extended(id, now_);
  tally_->add(Seen::kLeaseExtensions, alive.size());
  later(options_.engine.lease / 3, [this] { extend_leases(); });
}

// --- Cold reads: read now, answered later

std::vector<ColdJob> World::cold(const std::vector<journal::StoredJob>& rows, engine::Batch at) {
  std::vector<ColdJob> heads;
  for (const auto& stored : rows) heads.push_back({.row = stored.row, .body = stored.body, .at = at});
  if (heads.size() > 1 && breaks(NodeFault::kDropsRefillRow, 300)) heads.erase(heads.begin());
  if (options_.broken.node == NodeFault::kForgesReadBatch)
    for (auto& head : heads) head.at += 1000;
  return heads;
}

void World::answer_queue(const engine::RefillQueue& request) {
  const auto read = journal_.queue_heads(request.account, request.pool, request.after, request.limit);
  require(read.has_value(), "journal", "a read failed");
  later(delay(options_.refill_max), [this, request, heads = cold(read->jobs, read->at)] {
    checker_.pass_time(now_);
    Changes out = changes();
    const bool taken = engine_->refill_queue(request, heads, now_, out);
    say("refill {} of {} with {} -> {}", request.pool, to_string(request.account), heads.size(),
        taken ? "taken" : "stale");
    tally_->add(taken ? Seen::kRefills : Seen::kRefillsStale);
    checker_.refill_answered(request);
    took_place({.name = "refill_queue"}, std::move(out));
  });
}

void World::answer_scheduled(const engine::RefillScheduled& request) {
  const auto read = journal_.scheduled_heads(request.after, request.limit);
  require(read.has_value(), "journal", "a read failed");
  later(delay(options_.refill_max), [this, request, heads = cold(read->jobs, read->at)] {
    checker_.pass_time(now_);
    Changes out = changes();
    engine_->refill_scheduled(request, heads, now_, out);
    tally_->add(Seen::kTimedRefills);
    checker_.scheduled_refill_answered(request.ticket);
    took_place({.name = "refill_scheduled"}, std::move(out));
  });
}

void World::answer_expiring(const engine::RefillExpiring& request) {
  const auto read = journal_.expiring_heads(request.after, request.limit);
  require(read.has_value(), "journal", "a read failed");
  later(delay(options_.refill_max), [this, request, heads = cold(read->jobs, read->at)] {
    checker_.pass_time(now_);
    Changes out = changes();
    engine_->refill_expiring(request, heads, now_, out);
    tally_->add(Seen::kTimedRefills);
    checker_.expiring_refill_answered(request.ticket);
    took_place({.name = "refill_expiring"}, std::move(out));
  });
}

void World::answer_expiry(JobId id, int tries_left) {
  const auto cold_job = read(id);
  if (!cold_job) {
    checker_.cold_expiry_answered(id);
    return;
  }
  later(delay(options_.refill_max), [this, id, tries_left, job = *cold_job] {
    checker_.pass_time(now_);
    Changes out = changes();
    const engine::Batch changed = checker_.ledger().changed(id);
    const auto done = engine_->expire_cold(job, now_, out);
    if (!done) check_stale(job.at, changed);
    say("expire cold {} -> {}", to_string(id), done ? "done" : "stale");
    if (done) checker_.cold_expiry_answered(id);
    took_place({.name = "expire_cold"}, std::move(out));
    if (done) return;
    require(tries_left > 0, "stale", "{} stays stale", to_string(id));
    later(milliseconds(20), [this, id, tries_left] { answer_expiry(id, tries_left - 1); });
  });
}

}  // namespace turnpike::simulation
