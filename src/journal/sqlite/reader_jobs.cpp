// The part of the reader that reads jobs.
#include <algorithm>

#include "journal/pack.h"
#include "journal/sqlite/reader.h"
#include "journal/sqlite/snapshot.h"

namespace turnpike::journal::sqlite {
namespace {

#define TURNPIKE_JOB_COLUMNS \
  "SELECT id, account, state, priority, due, expires, finished, pool, task, dedupe, head, body FROM jobs "
constexpr int kHead = 10;
constexpr int kBody = 11;

// Indexes are named: without statistics the planner has been seen to take one that then needs a sort.
constexpr const char* kJob = TURNPIKE_JOB_COLUMNS "WHERE id=?1";
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
// Lists. A list of some account, status or task is merged from groups of the same (state, account, task),
// which the index holds in order; groups are found by jumping from one to the next.
constexpr const char* kAllNewest = "SELECT id FROM jobs WHERE id>?1 AND id<?2 ORDER BY id DESC LIMIT ?3";
constexpr const char* kAllOldest = "SELECT id FROM jobs WHERE id>?1 AND id<?2 ORDER BY id LIMIT ?3";
constexpr const char* kGroupNewest =
    "SELECT id FROM jobs INDEXED BY jobs_listing WHERE state=?4 AND account=?5 AND task=?6 "
    "AND id>?1 AND id<?2 ORDER BY id DESC LIMIT ?3";
constexpr const char* kGroupOldest =
    "SELECT id FROM jobs INDEXED BY jobs_listing WHERE state=?4 AND account=?5 AND task=?6 "
    "AND id>?1 AND id<?2 ORDER BY id LIMIT ?3";
constexpr const char* kNextTask =
    "SELECT account, task FROM jobs INDEXED BY jobs_listing WHERE state=?1 AND account=?2 AND task>?3 "
    "ORDER BY task LIMIT 1";
constexpr const char* kNextAccount =
    "SELECT account, task FROM jobs INDEXED BY jobs_listing WHERE state=?1 AND account>?2 "
    "ORDER BY account, task LIMIT 1";

constexpr std::size_t kPageMax = 100;
constexpr std::size_t kHeadsMax = 10'000;

std::int64_t bounded(std::size_t limit) {
  return static_cast<std::int64_t>(std::min(limit, kHeadsMax));
}

// Keeps those `count` ids that the page shows.
void keep_page(std::vector<JobId>& ids, std::size_t count, bool newest) {
  std::ranges::sort(ids);
  if (newest) std::ranges::reverse(ids);
  if (ids.size() > count) ids.resize(count);
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

struct Bounds {
  bool newest;                 // else: the oldest first
  std::uint64_t above, below;  // both exclusive
};
Bounds bounds_of(const JobQuery& query) {
  return {.newest = !query.ending_before,
          .above = query.ending_before.value,
          .below = query.starting_after ? query.starting_after.value : static_cast<std::uint64_t>(INT64_MAX)};
}

void bind_bounds(Statement& statement, const Bounds& bounds, std::size_t count) {
  statement.bind_id(1, bounds.above);
  statement.bind_id(2, bounds.below);
  statement.bind(3, static_cast<std::int64_t>(count));
}

}  // namespace

// Adds the first `count` ids of each group in `state` that the query means.
void Reader::group_ids(const JobQuery& query, engine::JobState state, std::size_t count,
                       std::vector<JobId>& ids) {
  const auto bounds = bounds_of(query);
  std::int64_t account = query.account ? static_cast<std::int64_t>(query.account->value) : -1;
  std::string task;
  const auto jump = [&](const char* sql) {  // to the next group; false: none
    auto& statement = db_.statement(sql);
    const StatementScope scope(statement);
    statement.bind(1, static_cast<std::int64_t>(state));
    statement.bind(2, account);
    if (sql == kNextTask) statement.bind_text(3, task);
    if (!next(statement)) return false;
    account = statement.integer(0);
    task = statement.text(1);
    return true;
  };
  const auto take = [&](std::string_view of_task) {
    auto& statement = db_.statement(bounds.newest ? kGroupNewest : kGroupOldest);
    const StatementScope scope(statement);
    bind_bounds(statement, bounds, count);
    statement.bind(4, static_cast<std::int64_t>(state));
    statement.bind(5, account);
    statement.bind_text(6, of_task);
    while (next(statement)) ids.push_back({statement.id(0)});
    if (ids.size() > 100 * kPageMax) keep_page(ids, count, bounds.newest);
  };
  if (!query.task.empty()) {
    if (query.account) return take(query.task);
    while (jump(kNextAccount)) take(query.task);
    return;
  }
  if (!query.account && !jump(kNextAccount)) return;
  if (!query.account) take(task);
  while (jump(kNextTask) || (!query.account && jump(kNextAccount))) take(task);
}

std::vector<JobId> Reader::page_ids(const JobQuery& query, std::size_t count) {
  const auto bounds = bounds_of(query);
  std::vector<JobId> ids;
  if (!query.account && !query.state && query.task.empty()) {
    auto& statement = db_.statement(bounds.newest ? kAllNewest : kAllOldest);
    const StatementScope scope(statement);
    bind_bounds(statement, bounds, count);
    while (next(statement)) ids.push_back({statement.id(0)});
    return ids;
  }
  constexpr auto kLast = static_cast<int>(engine::JobState::kExpired);
  for (int i = 0; i <= kLast; ++i) {
    const auto state = static_cast<engine::JobState>(i);
    if (!query.state || *query.state == state) group_ids(query, state, count, ids);
  }
  keep_page(ids, count, bounds.newest);
  return ids;
}

Result<JobPage> Reader::jobs(const JobQuery& query) {
  return in_snapshot([&] {
    const auto limit = std::clamp<std::size_t>(query.limit, 1, kPageMax);
    const auto at = snapshot_batch();
    auto ids = page_ids(query, limit + 1);
    JobPage page;
    page.has_more = ids.size() > limit;
    if (page.has_more) ids.pop_back();
    std::ranges::sort(ids, std::greater<>());
    for (const auto id : ids) page.jobs.push_back(*find(id, true, at));
    return page;
  });
}

}  // namespace turnpike::journal::sqlite
