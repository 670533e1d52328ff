#include "support/memory_journal.h"

#include <algorithm>
#include <iterator>

#include "journal/alerts.h"
#include "journal/audit_chain.h"
#include "journal/last_id.h"
#include "journal/recount.h"

namespace turnpike::testing {

using engine::JobState;
using journal::Batch;
using journal::StoredJob;

namespace {

std::size_t body_bytes(const engine::JobBody& body) {
  return body.input.size() + body.metadata.size() + body.request_id.size();
}

// Adds or removes `entry` in the set under `key`, and the set itself with its last entry.
template <typename Map, typename Key, typename Entry>
void keep(Map& map, const Key& key, const Entry& entry, bool add) {
  if (add) {
    map[key].insert(entry);
    return;
  }
  const auto found = map.find(key);
  if (found == map.end()) return;
  found->second.erase(entry);
  if (found->second.empty()) map.erase(found);
}
template <typename Set, typename Entry>
void keep_in(Set& set, const Entry& entry, bool add) {
  if (add) {
    set.insert(entry);
  } else {
    set.erase(entry);
  }
}

}  // namespace

void MemoryJournal::fail_next_commit(Failing how) {
  const std::scoped_lock lock(mutex_);
  failing_ = how;
}

std::map<JobId, engine::JobRow> MemoryJournal::job_rows() const {
  std::map<JobId, engine::JobRow> rows;
  for_each_job([&rows](const engine::JobRow& row) { rows.emplace_hint(rows.end(), row.id, row); });
  return rows;
}

std::map<std::pair<AccountId, std::string>, engine::PutQueueCount> MemoryJournal::queue_counts() const {
  const std::scoped_lock lock(mutex_);
  return state_.counts;
}

std::size_t MemoryJournal::job_count() const {
  const std::scoped_lock lock(mutex_);
  return state_.jobs.size();
}

std::map<RunId, engine::RunRow> MemoryJournal::run_rows() const {
  const std::scoped_lock lock(mutex_);
  std::map<RunId, engine::RunRow> rows;
  for (const auto& [id, stored] : state_.runs) rows.emplace_hint(rows.end(), id, stored.row);
  return rows;
}

// --- Writing

Result<void> MemoryJournal::commit(const journal::Commit& commit) {
  const std::scoped_lock lock(mutex_);
  if (failed_) return fail(ErrorCode::kIo, "an earlier commit failed: recover first");
  const auto failing = std::exchange(failing_, std::nullopt);
  failed_ = true;  // until everything below went well
  if (failing == Failing::kNothingStored) return fail(ErrorCode::kIo, "the commit was told to fail");
  if (auto checked = check(commit); !checked) return checked;
  Undo undo;
  if (auto applied = apply_jobs(commit, undo); !applied) {
    for (auto it = undo.rbegin(); it != undo.rend(); ++it) {
      drop_job(it->first);
      if (it->second) put_job(it->second->row, it->second->body);
    }
    return applied;
  }
  apply_others(commit);
  if (failing == Failing::kAllStored) return fail(ErrorCode::kIo, "the commit was told to fail");
  failed_ = false;
  return {};
}

// What can be refused before anything is changed.
Result<void> MemoryJournal::check(const journal::Commit& commit) const {
  if (commit.batch != state_.last_batch + 1) {
    return fail(ErrorCode::kInternal, "batch " + std::to_string(commit.batch) + " does not follow batch " +
                                          std::to_string(state_.last_batch));
  }
  if (commit.events.size() > journal::kEventsInBatchMax) {
    return fail(ErrorCode::kInternal, "too many events in one batch");
  }
  std::map<std::string_view, AccountId> users;
  for (const auto& mutation : commit.mutations) {
    if (const auto* run = std::get_if<engine::PutRun>(&mutation);
        run && !run->body && !state_.runs.contains(run->row.id)) {
      return fail(ErrorCode::kInternal, to_string(run->row.id) + " is new and has no body");
    }
    const auto* put = std::get_if<engine::PutAccount>(&mutation);
    if (!put) continue;
    const auto stored = state_.account_by_user.find(put->row.user_id);
    const auto [other, added] = users.emplace(put->row.user_id, put->row.id);
    if ((stored != state_.account_by_user.end() && stored->second != put->row.id) ||
        (!added && other->second != put->row.id)) {
      return fail(ErrorCode::kInternal, "two accounts with user id " + put->row.user_id);
    }
  }
  return {};
}

Result<void> MemoryJournal::apply_jobs(const journal::Commit& commit, Undo& undo) {
  const auto remember = [&](JobId id) {
    const auto found = state_.jobs.find(id);
    undo.emplace_back(id, found == state_.jobs.end() ? std::nullopt : std::optional(found->second));
  };
  for (const auto& mutation : commit.mutations) {
    if (const auto* put = std::get_if<engine::PutJob>(&mutation)) {
      if (!put->body && !state_.jobs.contains(put->row.id)) {
        return fail(ErrorCode::kInternal, to_string(put->row.id) + " is new and has no body");
      }
      remember(put->row.id);
      put_job(put->row, put->body);
    } else if (const auto* drop = std::get_if<engine::DropJob>(&mutation)) {
      remember(drop->id);
      drop_job(drop->id);
    }
  }
  for (const auto& [id, before] : undo) {
    const auto found = state_.jobs.find(id);
    if (found == state_.jobs.end() || found->second.row.dedupe_key.empty()) continue;
    const auto same = state_.by_dedupe_key.find({found->second.row.account, found->second.row.dedupe_key});
    if (same != state_.by_dedupe_key.end() && same->second.size() > 1) {
      return fail(ErrorCode::kInternal, "two live jobs with dedupe key " + found->second.row.dedupe_key);
    }
  }
  return {};
}

void MemoryJournal::apply_others(const journal::Commit& commit) {
  for (const auto& mutation : commit.mutations) {
    if (const auto* account = std::get_if<engine::PutAccount>(&mutation)) {
      auto& row = state_.accounts[account->row.id];
      if (row.user_id != account->row.user_id) state_.account_by_user.erase(row.user_id);
      row = account->row;
      state_.account_by_user[row.user_id] = row.id;
    } else if (const auto* run = std::get_if<engine::PutRun>(&mutation)) {
      auto& stored = state_.runs[run->row.id];
      stored.row = run->row;
      if (run->body) stored.body = run->body;
    } else if (const auto* count = std::get_if<engine::PutQueueCount>(&mutation)) {
      const QueueKey key{count->account, count->pool};
      if (count->queued + count->scheduled > 0) {
        state_.counts[key] = *count;
      } else {
        state_.counts.erase(key);
      }
    } else if (const auto* period = std::get_if<engine::PutPeriod>(&mutation)) {
      const engine::PeriodRow& row = period->row;
      state_.periods[{row.scope, row.account.value, row.team, row.start}] = row;
    } else if (const auto* add = std::get_if<engine::AddEntry>(&mutation)) {
      auto& charged = state_.ledger[commit.batch];
      charged.first = commit.at;
      charged.second.push_back(add->entry);
      journal::add_entry(state_.usage, add->entry);
    }
  }
  for (const auto& record : commit.records) apply(record);
  for (std::size_t i = 0; i < commit.events.size(); ++i) {
    if (journal::is_alert(commit.events[i].type))
      state_.alerts[journal::event_id(commit.batch, i)] = commit.events[i];
  }
  state_.log[commit.batch] = {commit.at, commit.events};
  state_.last_batch = commit.batch;
  state_.last_at = commit.at;
  state_.last_id = std::max(state_.last_id, journal::last_id(commit));
}

void MemoryJournal::apply(const journal::Record& record) {
  if (const auto* key = std::get_if<journal::KeyRow>(&record)) {
    state_.keys[key->id] = *key;
  } else if (const auto* artifact = std::get_if<journal::ArtifactRow>(&record)) {
    const auto id = artifact->ref.id;
    if (const auto old = state_.artifacts.find(id); old != state_.artifacts.end()) {
      keep(state_.artifacts_by_sha, old->second.ref.sha256, id, false);
    }
    state_.artifacts[id] = *artifact;
    keep(state_.artifacts_by_sha, artifact->ref.sha256, id, true);
  } else if (const auto* answer = std::get_if<journal::IdempotencyRow>(&record)) {
    state_.idempotency[answer->scope] = *answer;
  } else if (const auto* policy = std::get_if<journal::PolicyVersionRow>(&record)) {
    state_.policies[policy->version] = *policy;
  } else if (const auto* overlay = std::get_if<journal::OverlayRow>(&record)) {
    state_.overlay = *overlay;
  } else if (const auto* discovery = std::get_if<journal::DiscoveryRow>(&record)) {
    const auto same = [&](const journal::DiscoveryRow& each) {
      const policy::Discovery& a = each.found;
      const policy::Discovery& b = discovery->found;
      return a.provider == b.provider && a.kind == b.kind && a.id == b.id;
    };
    if (std::ranges::none_of(state_.discoveries, same)) state_.discoveries.push_back(*discovery);
  } else if (const auto* webhook = std::get_if<journal::WebhookEndpointRow>(&record)) {
    using Change = journal::WebhookEndpointRow::Change;
    if (webhook->change == Change::kRemoved) {
      state_.webhooks.erase(webhook->id);
      std::erase_if(state_.deliveries, [&](const auto& each) { return each.first.first == webhook->id; });
    } else if (webhook->change == Change::kNew || state_.webhooks.contains(webhook->id)) {
      state_.webhooks[webhook->id] = *webhook;
    }
  } else if (const auto* delivery = std::get_if<journal::WebhookDeliveryRow>(&record)) {
    if (!state_.webhooks.contains(delivery->endpoint)) return;
    const auto [at, added] = state_.deliveries.try_emplace({delivery->endpoint, delivery->event}, *delivery);
    if (added) return;
    std::string payload = delivery->payload.empty() ? at->second.payload : delivery->payload;
    at->second = *delivery;
    at->second.payload = std::move(payload);
  } else if (const auto* cursor = std::get_if<journal::WebhookCursorRow>(&record)) {
    state_.webhook_cursor = std::max(state_.webhook_cursor, cursor->event);
  } else {
    const auto& row = std::get<journal::AuditRow>(record);
    const std::string before = state_.audit.empty() ? std::string() : state_.audit.back().hash;
    const std::uint64_t number = state_.audit.size() + 1;
    state_.audit.push_back({.number = number, .row = row, .hash = journal::audit_hash(before, number, row)});
  }
}

void MemoryJournal::put_job(const engine::JobRow& row, engine::JobBodyPtr body) {
  auto& stored = state_.jobs[row.id];
  if (stored.row.id) index(stored.row, false);
  stored.row = row;
  if (body) stored.body = std::move(body);
  index(stored.row, true);
}

void MemoryJournal::drop_job(JobId id) {
  const auto found = state_.jobs.find(id);
  if (found == state_.jobs.end()) return;
  index(found->second.row, false);
  state_.jobs.erase(found);
}

void MemoryJournal::index(const engine::JobRow& row, bool add) {
  keep(state_.by_account, row.account, row.id, add);
  if (!row.dedupe_key.empty() && !ended(row.state)) {
    keep(state_.by_dedupe_key, std::pair(row.account, row.dedupe_key), row.id, add);
  }
  switch (row.state) {
    case JobState::kScheduled:
      keep_in(state_.scheduled, std::pair(row.due_at, row.id), add);
      break;
    case JobState::kQueued:
      keep(state_.queued, QueueKey(row.account, row.pool), QueueOrder(-std::int64_t{row.priority}, row.id),
           add);
      if (row.expires_at != kNever) keep_in(state_.expiring, std::pair(row.expires_at, row.id), add);
      break;
    case JobState::kProcessing:
      keep_in(state_.processing, row.id, add);
      break;
    case JobState::kCompleted:
    case JobState::kFailed:
    case JobState::kCancelled:
    case JobState::kExpired:
      if (!row.run) keep_in(state_.ended, std::pair(row.finished_at, row.id), add);
      break;
  }
}

// --- Reading

StoredJob MemoryJournal::read(const Stored& stored, bool with_body) const {
  return {stored.row, with_body ? stored.body : nullptr, state_.last_batch};
}

Result<journal::Recovered> MemoryJournal::recover() {
  const std::scoped_lock lock(mutex_);
  failed_ = false;
  journal::Recovered recovered;
  recovered.last_batch = state_.last_batch;
  recovered.last_id = state_.last_id;
  recovered.last_at = state_.last_at;
  for (const auto& [id, row] : state_.accounts) recovered.accounts.push_back(row);
  for (const auto& [key, count] : state_.counts) recovered.queues.push_back(count);
  for (const auto id : state_.processing) recovered.processing.push_back(read(state_.jobs.at(id), false));
  for (const auto& [id, stored] : state_.runs) {
    if (!ended(stored.row.state) || stored.row.live_jobs > 0) recovered.runs.push_back(stored.row);
  }
  for (const auto& [id, row] : state_.keys) recovered.keys.push_back(row);
  if (!state_.policies.empty()) recovered.policy = state_.policies.rbegin()->second;
  recovered.overlay = state_.overlay;
  recovered.discoveries = state_.discoveries;
  for (const auto& [key, row] : state_.periods) {
    if (row.current || row.holds > 0) recovered.periods.push_back(row);
  }
  std::set<std::uint64_t> lived_by;
  for (const auto& [id, row] : state_.accounts) lived_by.insert(row.plan_version);
  for (const auto& [version, row] : state_.policies) {
    if (lived_by.contains(version)) recovered.grandfathered.push_back(row);
  }
  return recovered;
}

Batch MemoryJournal::last_batch() const {
  const std::scoped_lock lock(mutex_);
  return state_.last_batch;
}

Result<std::optional<StoredJob>> MemoryJournal::job(JobId id, bool with_body) {
  const std::scoped_lock lock(mutex_);
  const auto found = state_.jobs.find(id);
  if (found == state_.jobs.end()) return std::nullopt;
  return read(found->second, with_body);
}

Result<journal::JobPage> MemoryJournal::jobs(const journal::JobQuery& query) {
  const std::scoped_lock lock(mutex_);
  std::set<JobId> all;
  const std::set<JobId>* ids = &all;
  if (query.account) {
    const auto found = state_.by_account.find(*query.account);
    if (found != state_.by_account.end()) ids = &found->second;
  } else {
    for (const auto& [id, stored] : state_.jobs) all.insert(all.end(), id);
  }
  const auto limit = std::clamp<std::size_t>(query.limit, 1, 100);
  const auto begin = query.ending_before ? ids->upper_bound(query.ending_before) : ids->begin();
  const auto end = query.starting_after ? ids->lower_bound(query.starting_after) : ids->end();
  journal::JobPage page;
  const auto take = [&](JobId id) {
    const auto& stored = state_.jobs.at(id);
    if (query.state && stored.row.state != *query.state) return true;
    if (!query.task.empty() && stored.row.task != query.task) return true;
    if (query.run && stored.row.run != query.run) return true;
    page.has_more = page.jobs.size() == limit;
    if (!page.has_more) page.jobs.push_back(read(stored, true));
    return !page.has_more;
  };
  if (query.ending_before) {  // the page just before: the oldest of what is newer, shown newest first
    for (auto it = begin; it != ids->end() && (!query.starting_after || *it < query.starting_after); ++it) {
      if (!take(*it)) break;
    }
    std::ranges::reverse(page.jobs);
  } else {
    for (auto it = std::make_reverse_iterator(end); it != ids->rend(); ++it) {
      if (!take(*it)) break;
    }
  }
  return page;
}

std::vector<JobId> MemoryJournal::job_ids_of(RunId run) const {
  std::vector<JobId> ids;
  const auto end = state_.jobs.upper_bound(engine::job_of(run, engine::kRunJobsMax - 1));
  for (auto it = state_.jobs.lower_bound(engine::job_of(run, 0)); it != end; ++it) {
    if (it->second.row.run == run) ids.push_back(it->first);
  }
  return ids;
}

Result<std::optional<journal::StoredRun>> MemoryJournal::run(RunId id, bool with_body) {
  const std::scoped_lock lock(mutex_);
  const auto found = state_.runs.find(id);
  if (found == state_.runs.end()) return std::nullopt;
  return journal::StoredRun{found->second.row, with_body ? found->second.body : nullptr, state_.last_batch};
}

Result<journal::RunPage> MemoryJournal::runs(const journal::RunQuery& query) {
  const std::scoped_lock lock(mutex_);
  std::vector<const StoredWorkflowRun*> matching;  // in the order in which the page takes them
  for (const auto& [id, stored] : state_.runs) {
    const engine::RunRow& row = stored.row;
    if ((query.account && row.account != *query.account) || (query.state && row.state != *query.state) ||
        (!query.workflow.empty() && row.workflow != query.workflow) ||
        (query.starting_after && id >= query.starting_after) ||
        (query.ending_before && id <= query.ending_before)) {
      continue;
    }
    matching.push_back(&stored);
  }
  if (!query.ending_before) std::ranges::reverse(matching);
  const auto limit = std::clamp<std::size_t>(query.limit, 1, 100);
  journal::RunPage page;
  page.has_more = matching.size() > limit;
  if (page.has_more) matching.resize(limit);
  if (query.ending_before) std::ranges::reverse(matching);
  for (const auto* stored : matching) page.runs.push_back({stored->row, stored->body, state_.last_batch});
  return page;
}

Result<std::vector<StoredJob>> MemoryJournal::run_jobs(RunId id) {
  const std::scoped_lock lock(mutex_);
  std::vector<StoredJob> jobs;
  for (const auto job : job_ids_of(id)) jobs.push_back(read(state_.jobs.at(job), false));
  return jobs;
}

Result<std::pair<std::optional<StoredJob>, Batch>> MemoryJournal::job_by_dedupe_key(AccountId account,
                                                                                    std::string_view key) {
  const std::scoped_lock lock(mutex_);
  std::pair<std::optional<StoredJob>, Batch> answer{std::nullopt, state_.last_batch};
  const auto found = state_.by_dedupe_key.find({account, std::string(key)});
  if (found != state_.by_dedupe_key.end()) {
    answer.first = read(state_.jobs.at(*found->second.begin()), true);
  }
  return answer;
}

Result<journal::QueueHeads> MemoryJournal::queue_heads(AccountId account, std::string_view pool,
                                                       std::optional<std::pair<std::int32_t, JobId>> after,
                                                       std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  journal::QueueHeads heads;
  heads.at = state_.last_batch;
  const auto found = state_.queued.find({account, std::string(pool)});
  if (found == state_.queued.end()) return heads;
  const auto& order = found->second;
  auto it = after ? order.upper_bound({-std::int64_t{after->first}, after->second}) : order.begin();
  for (; it != order.end() && heads.jobs.size() < limit; ++it) {
    const auto& stored = state_.jobs.at(it->second);
    heads.jobs.push_back(read(stored, body_bytes(*stored.body) <= journal::kInlineBody));
  }
  return heads;
}

journal::TimedHeads MemoryJournal::timed_heads(const Timed& times, std::pair<Wall, JobId> after,
                                               std::size_t limit) const {
  journal::TimedHeads heads;
  heads.at = state_.last_batch;
  for (auto it = times.upper_bound(after); it != times.end() && heads.jobs.size() < limit; ++it) {
    heads.jobs.push_back(read(state_.jobs.at(it->second), false));
  }
  return heads;
}

Result<journal::TimedHeads> MemoryJournal::scheduled_heads(std::pair<Wall, JobId> after, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  return timed_heads(state_.scheduled, after, limit);
}

Result<journal::TimedHeads> MemoryJournal::expiring_heads(std::pair<Wall, JobId> after, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  return timed_heads(state_.expiring, after, limit);
}

Result<journal::Journal::EventPage> MemoryJournal::events(EventId after, std::optional<AccountId> account,
                                                          std::optional<JobId> job, std::optional<RunId> run,
                                                          std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  EventPage page;
  page.scanned_to = after;
  if (state_.log.empty()) return page;
  const Batch dropped = state_.log.begin()->first - 1;
  page.truncated = dropped > 0 && after < journal::last_event_of(dropped);
  std::size_t scanned = 0;
  for (auto it = state_.log.lower_bound(journal::batch_of(after)); it != state_.log.end(); ++it) {
    if (scanned++ == journal::kEventBatchesScanMax) return page;
    for (std::size_t i = 0; i < it->second.events.size(); ++i) {
      const auto& event = it->second.events[i];
      const auto id = journal::event_id(it->first, i);
      if (id <= after) continue;
      if ((account && event.account != *account) || (job && event.job != *job) ||
          (run && event.run != *run)) {
        continue;
      }
      if (page.events.size() == limit) return page;
      page.events.push_back({id, event});
      page.scanned_to = id;
    }
    page.scanned_to = std::max(after, journal::last_event_of(it->first));
  }
  return page;
}

Result<std::optional<journal::IdempotencyRow>> MemoryJournal::idempotency(std::string_view scope, Wall now) {
  const std::scoped_lock lock(mutex_);
  const auto found = state_.idempotency.find(scope);
  if (found == state_.idempotency.end() || found->second.expires_at <= now) return std::nullopt;
  return found->second;
}

Result<std::optional<journal::ArtifactRow>> MemoryJournal::artifact(ArtifactId id) {
  const std::scoped_lock lock(mutex_);
  const auto found = state_.artifacts.find(id);
  if (found == state_.artifacts.end()) return std::nullopt;
  return found->second;
}

Result<std::vector<journal::ArtifactRow>> MemoryJournal::artifacts_by_sha256(std::string_view sha256) {
  const std::scoped_lock lock(mutex_);
  std::vector<journal::ArtifactRow> rows;
  const auto found = state_.artifacts_by_sha.find(sha256);
  if (found == state_.artifacts_by_sha.end()) return rows;
  for (const auto id : found->second) rows.push_back(state_.artifacts.at(id));
  return rows;
}

Result<std::vector<journal::PolicyVersionRow>> MemoryJournal::policy_versions() {
  const std::scoped_lock lock(mutex_);
  std::vector<journal::PolicyVersionRow> rows;
  for (const auto& [version, row] : state_.policies) rows.push_back(row);
  return rows;
}

Result<std::optional<journal::PolicyVersionRow>> MemoryJournal::policy_version(std::uint64_t version) {
  const std::scoped_lock lock(mutex_);
  const auto found = state_.policies.find(version);
  if (found == state_.policies.end()) return std::nullopt;
  return found->second;
}

Result<std::vector<journal::StoredAudit>> MemoryJournal::audit(std::uint64_t before, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  std::vector<journal::StoredAudit> rows;
  for (auto row = state_.audit.rbegin(); row != state_.audit.rend() && rows.size() < limit; ++row) {
    if (before == 0 || row->number < before) rows.push_back(*row);
  }
  return rows;
}

Result<journal::AuditReport> MemoryJournal::verify_audit() {
  const std::scoped_lock lock(mutex_);
  journal::AuditCheck check;
  for (const auto& row : state_.audit) check.add(row);
  return check.finish();
}

// --- Money

Result<journal::Webhooks> MemoryJournal::webhooks() {
  const std::scoped_lock lock(mutex_);
  journal::Webhooks out;
  for (const auto& [id, row] : state_.webhooks) out.endpoints.push_back(row);
  out.cursor = state_.webhook_cursor;
  for (const auto& [key, row] : state_.deliveries) {
    if (row.state != journal::DeliveryState::kPending) continue;
    if (out.pending.empty() || out.pending.back().first != key.first) out.pending.emplace_back(key.first, 0);
    ++out.pending.back().second;
  }
  return out;
}

Result<std::vector<journal::WebhookDeliveryRow>> MemoryJournal::deliveries(
    const journal::DeliveryQuery& query) {
  const std::scoped_lock lock(mutex_);
  std::vector<journal::WebhookDeliveryRow> rows;
  for (const auto& [key, row] : state_.deliveries) {
    if (key.first != query.endpoint || (query.state && row.state != *query.state)) continue;
    if (query.before ? key.second >= query.before : key.second <= query.after) continue;
    rows.push_back(row);
    rows.back().payload.clear();
  }
  if (query.before) std::ranges::reverse(rows);
  if (rows.size() > query.limit) rows.resize(query.limit);
  return rows;
}

Result<std::optional<journal::WebhookDeliveryRow>> MemoryJournal::delivery(WebhookId endpoint,
                                                                           EventId event) {
  const std::scoped_lock lock(mutex_);
  const auto found = state_.deliveries.find({endpoint, event});
  if (found == state_.deliveries.end()) return std::nullopt;
  return found->second;
}

Result<std::vector<journal::StoredEvent>> MemoryJournal::alerts(EventId before, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  std::vector<journal::StoredEvent> rows;
  for (auto it = state_.alerts.rbegin(); it != state_.alerts.rend() && rows.size() < limit; ++it) {
    if (!before || it->first < before) rows.push_back({it->first, it->second});
  }
  return rows;
}

Result<journal::UsageReport> MemoryJournal::usage(const journal::UsageQuery& query) {
  const std::scoped_lock lock(mutex_);
  std::map<std::tuple<Wall, AccountId, std::string, std::string, std::string, std::string>, journal::UsageRow>
      rows;
  for (const auto& [key, sum] : state_.usage) {
    if (key.grain != query.grain || key.at < query.from || key.at >= query.to) continue;
    if (query.account && key.account != *query.account) continue;
    journal::UsageRow apart{.at = query.by_time ? key.at : kNever,
                            .account = query.by_account ? key.account : AccountId{},
                            .plan = query.by_plan ? key.plan : "",
                            .task = query.by_task ? key.task : "",
                            .model = query.by_model ? key.model : "",
                            .provider = query.by_provider ? key.provider : ""};
    auto& row = rows.try_emplace(
                        {apart.at, apart.account, apart.plan, apart.task, apart.model, apart.provider}, apart)
                    .first->second;
    row.meters += sum.meters;
    row.cost += sum.cost;
    row.completed += static_cast<std::uint64_t>(sum.completed);
    row.failed += static_cast<std::uint64_t>(sum.failed);
  }
  journal::UsageReport report;
  for (auto& [key, row] : rows) {
    if (report.rows.size() == query.limit) {
      report.truncated = true;
      break;
    }
    report.rows.push_back(std::move(row));
  }
  return report;
}

Result<journal::Journal::LedgerPage> MemoryJournal::ledger(std::pair<Batch, std::uint32_t> after,
                                                           std::optional<AccountId> account,
                                                           std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  LedgerPage page;
  page.last = after;
  for (const auto& [batch, charged] : state_.ledger) {
    for (std::uint32_t i = 0; i < charged.second.size(); ++i) {
      if (std::pair(batch, i + 1) <= after) continue;
      if (page.entries.size() == limit) {
        page.more = true;
        return page;
      }
      page.last = {batch, i + 1};
      if (!account || charged.second[i].account == *account) page.entries.push_back(charged.second[i]);
    }
  }
  return page;
}

Result<journal::BooksReport> MemoryJournal::verify_books() {
  const std::scoped_lock lock(mutex_);
  journal::Recount recount;
  for (const auto& [batch, charged] : state_.ledger) {
    for (const auto& entry : charged.second) recount.add(entry);
  }
  for (const auto& [id, stored] : state_.jobs) {
    if (!ended(stored.row.state)) recount.add(stored.row);
  }
  for (const auto& [id, stored] : state_.runs) recount.add(stored.row);
  for (const auto& [key, row] : state_.periods) recount.compare(row);
  for (const auto& [key, sum] : state_.usage) recount.compare(key, sum);
  return recount.finish(state_.ledger_cut);
}

Result<std::vector<engine::PeriodRow>> MemoryJournal::periods(AccountId account, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  std::vector<engine::PeriodRow> rows;
  for (auto it = state_.periods.rbegin(); it != state_.periods.rend() && rows.size() < limit; ++it) {
    if (it->second.scope == engine::Scope::kAccount && it->second.account == account)
      rows.push_back(it->second);
  }
  return rows;
}

std::vector<engine::PeriodRow> MemoryJournal::period_rows() const {
  const std::scoped_lock lock(mutex_);
  std::vector<engine::PeriodRow> rows;
  for (const auto& [key, row] : state_.periods) rows.push_back(row);
  return rows;
}

// --- Retention

void MemoryJournal::retain_ledger(const Retention& retention, Removed& removed) {
  const Wall before = retention.ledger_before;
  bool cut = false;
  while (!state_.ledger.empty() && state_.ledger.begin()->second.first < before) {
    if (removed.rows == retention.rows_max) {
      removed.more = true;
      break;
    }
    state_.ledger.erase(state_.ledger.begin());
    ++removed.rows;
    cut = true;
  }
  if (!cut) return;
  state_.ledger_cut = std::max(state_.ledger_cut, before);
  std::erase_if(state_.usage, [before](const auto& each) {
    return each.first.grain == journal::UsageQuery::Grain::kHour && each.first.at < before;
  });
  std::erase_if(state_.periods, [before](const auto& each) {
    return !each.second.current && each.second.holds == 0 && each.second.end < before;
  });
}

void MemoryJournal::retain_told(const Retention& retention, Removed& removed) {
  for (auto it = state_.deliveries.begin(); it != state_.deliveries.end() && !removed.more;) {
    if (it->second.state == journal::DeliveryState::kPending ||
        it->second.ended_at >= retention.deliveries_before) {
      ++it;
    } else if (removed.rows == retention.rows_max) {
      removed.more = true;
    } else {
      it = state_.deliveries.erase(it);
      ++removed.rows;
    }
  }
  while (!state_.alerts.empty() && state_.alerts.begin()->second.at < retention.ledger_before &&
         !removed.more) {
    if (removed.rows == retention.rows_max) {
      removed.more = true;
    } else {
      state_.alerts.erase(state_.alerts.begin());
      ++removed.rows;
    }
  }
}

void MemoryJournal::retain_jobs(const Retention& retention, Removed& removed) {
  while (!state_.ended.empty() && state_.ended.begin()->first < retention.jobs_before) {
    if (removed.rows == retention.rows_max) {
      removed.more = true;
      return;
    }
    drop_job(state_.ended.begin()->second);
    ++removed.rows;
  }
}

void MemoryJournal::retain_runs(const Retention& retention, Removed& removed) {
  std::set<std::pair<Wall, RunId>> old;
  for (const auto& [id, stored] : state_.runs) {
    const engine::RunRow& row = stored.row;
    if (ended(row.state) && row.live_jobs == 0 && row.finished_at < retention.jobs_before)
      old.emplace(row.finished_at, id);
  }
  for (const auto& [finished, id] : old) {
    bool left = false;
    for (const auto job : job_ids_of(id)) {
      if (!ended(state_.jobs.at(job).row.state)) {
        left = true;
        continue;
      }
      if (removed.rows == retention.rows_max) {
        removed.more = true;
        return;
      }
      drop_job(job);
      ++removed.rows;
    }
    if (left) continue;
    if (removed.rows == retention.rows_max) {
      removed.more = true;
      return;
    }
    state_.runs.erase(id);
    ++removed.rows;
  }
}

void MemoryJournal::retain_artifacts(const Retention& retention, Removed& removed) {
  for (auto it = state_.artifacts.begin(); it != state_.artifacts.end();) {
    const auto& row = it->second;
    if (row.created_at >= retention.artifacts_before || (row.job && state_.jobs.contains(row.job))) {
      ++it;
      continue;
    }
    if (removed.rows == retention.rows_max) {
      removed.more = true;
      return;
    }
    keep(state_.artifacts_by_sha, row.ref.sha256, row.ref.id, false);
    if (!state_.artifacts_by_sha.contains(row.ref.sha256)) {
      removed.files.emplace_back(row.ref.sha256, row.ref.extension);
    }
    it = state_.artifacts.erase(it);
    ++removed.rows;
  }
}

Result<journal::Journal::Removed> MemoryJournal::retain(const Retention& retention) {
  const std::scoped_lock lock(mutex_);
  if (failed_) return fail(ErrorCode::kIo, "an earlier commit failed: recover first");
  Removed removed;
  retain_jobs(retention, removed);
  retain_runs(retention, removed);
  retain_artifacts(retention, removed);
  for (auto it = state_.idempotency.begin(); it != state_.idempotency.end() && !removed.more;) {
    if (it->second.expires_at > retention.now) {
      ++it;
    } else if (removed.rows == retention.rows_max) {
      removed.more = true;
    } else {
      it = state_.idempotency.erase(it);
      ++removed.rows;
    }
  }
  // The last batch stays: it says where the journal is.
  while (state_.log.size() > 1 && state_.log.begin()->second.at < retention.events_before && !removed.more) {
    if (removed.rows == retention.rows_max) {
      removed.more = true;
    } else {
      state_.log.erase(state_.log.begin());
      ++removed.rows;
    }
  }
  retain_told(retention, removed);
  retain_ledger(retention, removed);
  return removed;
}

}  // namespace turnpike::testing
