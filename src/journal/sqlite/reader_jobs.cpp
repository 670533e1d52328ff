// The part of the reader that reads jobs.
#include <algorithm>

#include "journal/pack.h"
#include "journal/sqlite/reader.h"
#include "journal/sqlite/snapshot.h"

namespace turnpike::journal::sqlite {
namespace {

#define TURNPIKE_JOB_COLUMNS                                                                               \
  "SELECT id, account, state, priority, due, expires, finished, pool, task, dedupe, head, run, body FROM " \
  "jobs "
constexpr int kHead = 10;
constexpr int kRun = 11;
constexpr int kBody = 12;

// Indexes are named: without statistics the planner has been seen to take one that then needs a sort.
constexpr const char* kJob = TURNPIKE_JOB_COLUMNS "WHERE id=?1";
// Jobs of a run: its ids follow each other (engine::job_of).
constexpr const char* kOfRun = TURNPIKE_JOB_COLUMNS "WHERE id>?1 AND id<=?1+?2 AND run=?1 ORDER BY id";
constexpr const char* kProcessing =
    TURNPIKE_JOB_COLUMNS "INDEXED BY jobs_listing WHERE state=2 ORDER BY account, task, id";
constexpr const char* kByDedupeKey = TURNPIKE_JOB_COLUMNS
    "INDEXED BY jobs_dedupe WHERE account=?1 AND dedupe=?2 AND dedupe IS NOT NULL AND state<3";
// A queue after a head: what has its priority and is younger, then what has less.
constexpr const char* kQueue = TURNPIKE_JOB_COLUMNS
    "INDEXED BY jobs_queue WHERE state=1 AND account=?1 AND pool=?2 ORDER BY priority DESC, id LIMIT ?3";
constexpr const char* kQueueSamePriority = TURNPIKE_JOB_COLUMNS
    "INDEXED BY jobs_queue WHERE state=1 AND account=?1 AND pool=?2 AND priority=?4 AND id>?5 ORDER BY id "
    "LIMIT ?3";
constexpr const char* kQueueLessPriority = TURNPIKE_JOB_COLUMNS
    "INDEXED BY jobs_queue WHERE state=1 AND account=?1 AND pool=?2 AND priority<?4 ORDER BY priority DESC, "
    "id LIMIT ?3";
constexpr const char* kDueSameTime =
    TURNPIKE_JOB_COLUMNS "INDEXED BY jobs_due WHERE state=0 AND due=?1 AND id>?2 ORDER BY id LIMIT ?3";
constexpr const char* kDueLater =
    TURNPIKE_JOB_COLUMNS "INDEXED BY jobs_due WHERE state=0 AND due>?1 ORDER BY due, id LIMIT ?3";
constexpr const char* kExpiringSameTime = TURNPIKE_JOB_COLUMNS
    "INDEXED BY jobs_expiring WHERE state=1 AND expires>0 AND expires=?1 AND id>?2 ORDER BY id LIMIT ?3";
constexpr const char* kExpiringLater = TURNPIKE_JOB_COLUMNS
    "INDEXED BY jobs_expiring WHERE state=1 AND expires>0 AND expires>?1 ORDER BY expires, id LIMIT ?3";
constexpr std::size_t kHeadsMax = 10'000;

std::int64_t bounded(std::size_t limit) {
  return static_cast<std::int64_t>(std::min(limit, kHeadsMax));
}

}  // namespace

StoredJob Reader::stored(Statement& row, Batch at) {
  StoredJob job;
  job.at = at;
  auto& to = job.row;
  to.id = {row.id(0)};
  to.account = {row.id(1)};
  const auto state = row.integer(2);
  if (state < 0 || state > static_cast<std::int64_t>(engine::JobState::kExpired)) {
    throw Failed{damaged(to_string(to.id) + " has an unknown state")};
  }
  to.state = static_cast<engine::JobState>(state);
  to.priority = static_cast<std::int32_t>(row.integer(3));
  to.due_at = wall_from_micros(row.integer(4));
  to.expires_at = wall_from_micros(row.integer(5));
  to.finished_at = wall_from_micros(row.integer(6));
  to.pool = row.text(7);
  to.task = row.text(8);
  to.dedupe_key = row.text(9);
  to.run = {row.id(kRun)};
  if (auto unpacked = unpack_head(row.bytes(kHead), to); !unpacked) {
    unpacked.error().cause = to_string(to.id);
    throw Failed{unpacked.error()};
  }
  return job;
}

engine::JobBodyPtr Reader::body(Statement& row, int column, JobId id, bool large_too) {
  const auto unpack = [&](std::string_view packed) {
    auto body = unpack_body(packed);
    if (!body) {
      body.error().cause = to_string(id);
      throw Failed{body.error()};
    }
    return std::move(*body);
  };
  if (!row.is_null(column)) return unpack(row.bytes(column));
  if (!large_too) return nullptr;
  StatementScope large(db_.statement("SELECT body FROM bodies WHERE id=?1"));
  large->bind_id(1, id.value);
  if (!next(*large)) {
    throw Failed{damaged(to_string(id) + " has lost its input")};
  }
  return unpack(large->bytes(0));
}

std::optional<StoredJob> Reader::find(JobId id, bool with_body, Batch at) {
  auto& statement = db_.statement(kJob);
  const StatementScope scope(statement);
  statement.bind_id(1, id.value);
  if (!next(statement)) return std::nullopt;
  auto job = stored(statement, at);
  if (with_body) job.body = body(statement, kBody, id, true);
  return job;
}

Result<std::optional<StoredJob>> Reader::job(JobId id, bool with_body) {
  return in_snapshot([&] { return find(id, with_body, snapshot_batch()); });
}

Result<std::pair<std::optional<StoredJob>, Batch>> Reader::job_by_dedupe_key(AccountId account,
                                                                             std::string_view key) {
  return in_snapshot([&] {
    std::pair<std::optional<StoredJob>, Batch> answer{std::nullopt, snapshot_batch()};
    auto& statement = db_.statement(kByDedupeKey);
    const StatementScope scope(statement);
    statement.bind_id(1, account.value);
    statement.bind_text(2, key);
    if (next(statement)) {
      answer.first = stored(statement, answer.second);
      answer.first->body = body(statement, kBody, answer.first->row.id, true);
    }
    return answer;
  });
}

// --- Heads

std::vector<StoredJob> Reader::heads(Statement& query, Batch at) {
  const StatementScope scope(query);
  std::vector<StoredJob> jobs;
  while (next(query)) jobs.push_back(stored(query, at));
  return jobs;
}

std::vector<StoredJob> Reader::processing(Batch at) {
  auto jobs = heads(db_.statement(kProcessing), at);
  std::ranges::sort(jobs, {}, [](const StoredJob& job) { return job.row.id; });
  return jobs;
}

Result<QueueHeads> Reader::queue_heads(AccountId account, std::string_view pool,
                                       std::optional<std::pair<std::int32_t, JobId>> after,
                                       std::size_t limit) {
  return in_snapshot([&] {
    QueueHeads heads;
    heads.at = snapshot_batch();
    const auto read = [&](const char* sql) {
      auto& query = db_.statement(sql);
      const StatementScope scope(query);
      query.bind_id(1, account.value);
      query.bind_text(2, pool);
      query.bind(3, bounded(limit) - static_cast<std::int64_t>(heads.jobs.size()));
      if (after) query.bind(4, after->first);
      if (after && sql == kQueueSamePriority) query.bind_id(5, after->second.value);
      while (next(query)) {
        auto& job = heads.jobs.emplace_back(stored(query, heads.at));
        job.body = body(query, kBody, job.row.id, false);
      }
    };
    if (after) {
      read(kQueueSamePriority);
      read(kQueueLessPriority);
    } else {
      read(kQueue);
    }
    return heads;
  });
}

TimedHeads Reader::timed_heads(const char* same_time, const char* later, std::pair<Wall, JobId> after,
                               std::size_t limit) {
  TimedHeads found;
  found.at = snapshot_batch();
  for (const char* sql : {same_time, later}) {
    auto& query = db_.statement(sql);
    query.bind(1, unix_micros(after.first));
    if (sql == same_time) query.bind_id(2, after.second.value);
    query.bind(3, bounded(limit) - static_cast<std::int64_t>(found.jobs.size()));
    auto more = heads(query, found.at);
    std::ranges::move(more, std::back_inserter(found.jobs));
  }
  return found;
}

Result<TimedHeads> Reader::scheduled_heads(std::pair<Wall, JobId> after, std::size_t limit) {
  return in_snapshot([&] { return timed_heads(kDueSameTime, kDueLater, after, limit); });
}

Result<TimedHeads> Reader::expiring_heads(std::pair<Wall, JobId> after, std::size_t limit) {
  return in_snapshot([&] { return timed_heads(kExpiringSameTime, kExpiringLater, after, limit); });
}

// --- Lists

namespace {

constexpr ListStatements kJobList{
    .all_newest = "SELECT id FROM jobs WHERE id>?1 AND id<?2 ORDER BY id DESC LIMIT ?3",
    .all_oldest = "SELECT id FROM jobs WHERE id>?1 AND id<?2 ORDER BY id LIMIT ?3",
    .group_newest =
        "SELECT id FROM jobs INDEXED BY jobs_listing WHERE state=?4 AND account=?5 AND task=?6 "
        "AND id>?1 AND id<?2 ORDER BY id DESC LIMIT ?3",
    .group_oldest =
        "SELECT id FROM jobs INDEXED BY jobs_listing WHERE state=?4 AND account=?5 AND task=?6 "
        "AND id>?1 AND id<?2 ORDER BY id LIMIT ?3",
    .next_name =
        "SELECT account, task FROM jobs INDEXED BY jobs_listing WHERE state=?1 AND account=?2 AND task>?3 "
        "ORDER BY task LIMIT 1",
    .next_account =
        "SELECT account, task FROM jobs INDEXED BY jobs_listing WHERE state=?1 AND account>?2 "
        "ORDER BY account, task LIMIT 1"};

Reader::ListQuery list_query(const JobQuery& query) {
  return {.account = query.account,
          .state = query.state,
          .name = query.task,
          .above = query.ending_before.value,
          .below = query.starting_after.value,
          .count = std::clamp<std::size_t>(query.limit, 1, Reader::kPageMax) + 1};
}

// `job` is one that a list of one run's jobs shows.
bool matches(const JobQuery& query, const engine::JobRow& job) {
  return (!query.account || job.account == *query.account) && (!query.state || job.state == *query.state) &&
         (query.task.empty() || job.task == query.task) &&
         (!query.starting_after || job.id < query.starting_after) &&
         (!query.ending_before || job.id > query.ending_before);
}

}  // namespace

std::vector<StoredJob> Reader::jobs_of(RunId run, Batch at) {
  auto& query = db_.statement(kOfRun);
  query.bind_id(1, run.value);
  query.bind(2, engine::kRunJobsMax);
  return heads(query, at);
}

Result<std::vector<StoredJob>> Reader::run_jobs(RunId id) {
  return in_snapshot([&] { return jobs_of(id, snapshot_batch()); });
}

// Of one run there are few: all are looked at.
std::vector<JobId> Reader::ids_of_run(const JobQuery& query, std::size_t count, Batch at) {
  std::vector<JobId> ids;
  for (const auto& job : jobs_of(query.run, at)) {
    if (matches(query, job.row)) ids.push_back(job.row.id);
  }
  if (!query.ending_before) std::ranges::reverse(ids);
  if (ids.size() > count) ids.resize(count);
  return ids;
}

Result<JobPage> Reader::jobs(const JobQuery& query) {
  return in_snapshot([&] {
    const auto list = list_query(query);
    const auto at = snapshot_batch();
    std::vector<JobId> ids;
    if (query.run) {
      ids = ids_of_run(query, list.count, at);
    } else {
      for (const auto id : list_ids(kJobList, list)) ids.push_back({id});
    }
    JobPage page;
    page.has_more = ids.size() == list.count;
    if (page.has_more) ids.pop_back();
    std::ranges::sort(ids, std::greater<>());
    for (const auto id : ids) page.jobs.push_back(*find(id, true, at));
    return page;
  });
}

}  // namespace turnpike::journal::sqlite
