// What the journal costs. A group is one commit, one fdatasync; items are jobs.
#include <benchmark/benchmark.h>
#include <unistd.h>
#include <cstdlib>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "base/random.h"
#include "journal/sqlite/sqlite_journal.h"

namespace turnpike::journal {
namespace {

using engine::JobState;

// On the disk of the working folder: a temporary folder may be in memory, where a commit costs nothing.
class Folder {
 public:
  Folder() {
    auto pattern = (std::filesystem::current_path() / "journal-bench-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make " + pattern);
    path_ = pattern;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

constexpr std::uint64_t kAccounts = 1000;

engine::JobRow job(std::uint64_t id, JobState state) {
  const auto now = wall_from_seconds(1'800'000'000);
  engine::JobRow row;
  row.id = {id};
  row.account = {1 + id * 7919 % kAccounts};
  row.state = state;
  row.pool = "sandbox";
  row.task = "text";
  row.plan = "tier2";
  row.provider = "sandbox";
  row.model = "sandbox-text";
  row.model_version = "1";
  row.upstream_model = "sandbox-text";
  row.created_at = row.queued_at = now;
  row.history = {{engine::HistoryKind::kSubmitted, now, 0, 0, "turn"}};
  if (state != JobState::kQueued) {
    row.attempt = 1;
    row.current_try = {id + 1};
    row.first_started_at = row.started_at = now;
    row.history.push_back({engine::HistoryKind::kStarted, now, 3, 5, "sandbox"});
  }
  if (state == JobState::kCompleted) {
    row.current_try = {};
    row.finished_at = now;
    row.usage = {{"input_tokens", 50}, {"output_tokens", 120}};
    row.output = R"({"text":")" + std::string(200, 'y') + R"("})";
    row.history.push_back({engine::HistoryKind::kCompleted, now, 0, 0, {}});
  }
  return row;
}

engine::JobBodyPtr body() {
  return std::make_shared<engine::JobBody>(
      engine::JobBody{.input = std::string(200, 'x'), .metadata = "{}", .request_id = "req_0123456789ABC"});
}

engine::Event event(const engine::JobRow& row, engine::EventType type) {
  return {.type = type, .at = row.created_at, .account = row.account, .job = row.id, .text = {}};
}

struct Group {
  Commit commit;
  void put(engine::JobRow row, engine::JobBodyPtr with, engine::EventType type) {
    commit.events.push_back(event(row, type));
    commit.mutations.emplace_back(engine::PutJob{std::move(row), std::move(with)});
  }
  void store(Journal& journal) {
    commit.batch = journal.last_batch() + 1;
    commit.at = wall_from_seconds(1'800'000'000);
    if (auto done = journal.commit(commit); !done) throw std::runtime_error(done.error().message);
    commit = {};
  }
};

std::uint64_t next_id() {
  static std::uint64_t id = 1'000'000;
  return id += 3;
}

// Submits: jobs that wait in queues.
void Submit(benchmark::State& state) {
  const Folder folder;
  const auto journal = std::move(*open_sqlite(folder.path()));
  const auto input = body();
  Group group;
  for (auto _ : state) {
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      group.put(job(next_id(), JobState::kQueued), input, engine::EventType::kJobQueued);
    }
    group.store(*journal);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Submit)->Arg(1)->Arg(16)->Arg(64)->Arg(256)->Arg(1000)->UseRealTime()->MinTime(3);

// A job's life under load: one group begins the jobs (already running) and ends those of the group before.
void Life(benchmark::State& state) {
  const Folder folder;
  const auto journal = std::move(*open_sqlite(folder.path()));
  const auto input = body();
  Group group;
  std::vector<std::uint64_t> running;
  for (auto _ : state) {
    for (const auto id : running) {
      group.put(job(id, JobState::kCompleted), nullptr, engine::EventType::kJobCompleted);
    }
    running.clear();
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      running.push_back(next_id());
      group.put(job(running.back(), JobState::kProcessing), input, engine::EventType::kJobStarted);
    }
    group.store(*journal);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Life)->Arg(1)->Arg(16)->Arg(64)->Arg(256)->UseRealTime()->MinTime(3);

std::size_t resident_kib() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

// With a million queued jobs: to open and recover, a refill, a page of a list; and the process's memory.
class Million : public benchmark::Fixture {
 public:
  void SetUp(const benchmark::State&) override {
    if (folder_) return;
    folder_ = std::make_unique<Folder>();
    const auto journal = std::move(*open_sqlite(folder_->path()));
    const auto input = body();
    Group group;
    for (int i = 0; i < 1'000'000; ++i) {
      group.put(job(next_id(), JobState::kQueued), input, engine::EventType::kJobQueued);
      if (group.commit.mutations.size() == 1000) group.store(*journal);
    }
  }

  static std::unique_ptr<Folder> folder_;
};
std::unique_ptr<Folder> Million::folder_;

BENCHMARK_F(Million, OpenAndRecover)(benchmark::State& state) {
  for (auto _ : state) {
    const auto journal = std::move(*open_sqlite(folder_->path()));
    benchmark::DoNotOptimize(journal->recover());
  }
  state.counters["resident_kib"] = static_cast<double>(resident_kib());
}

BENCHMARK_F(Million, Refill64)(benchmark::State& state) {
  const auto journal = std::move(*open_sqlite(folder_->path()));
  Random random(1);
  for (auto _ : state) {
    const AccountId account{1 + random.below(kAccounts)};
    const std::pair<std::int32_t, JobId> after{0, {1'000'000 + random.below(2'800'000)}};
    benchmark::DoNotOptimize(journal->queue_heads(account, "sandbox", after, 64));
  }
  state.counters["resident_kib"] = static_cast<double>(resident_kib());
}

BENCHMARK_F(Million, PageOfAnAccount)(benchmark::State& state) {
  const auto journal = std::move(*open_sqlite(folder_->path()));
  Random random(1);
  for (auto _ : state) {
    benchmark::DoNotOptimize(journal->jobs({.account = AccountId{1 + random.below(kAccounts)}}));
  }
}

BENCHMARK_F(Million, PageOfAStatusOfAllAccounts)(benchmark::State& state) {
  const auto journal = std::move(*open_sqlite(folder_->path()));
  for (auto _ : state) benchmark::DoNotOptimize(journal->jobs({.state = JobState::kQueued}));
}

BENCHMARK_F(Million, JobById)(benchmark::State& state) {
  const auto journal = std::move(*open_sqlite(folder_->path()));
  const auto newest = journal->jobs({.limit = 1})->jobs.at(0).row.id.value;
  Random random(1);
  for (auto _ : state) {
    benchmark::DoNotOptimize(journal->job({newest - 3 * random.below(999'999)}, true));
  }
}

// What calls add: in each group 256 entries over some accounts, and the period rows of these accounts and of
// the platform. The batch is built beforehand, but for its numbers: what the journal does is measured alone.
constexpr std::uint64_t kCalls = 256;

engine::LedgerEntry call_entry(std::uint64_t account, Wall at) {
  engine::LedgerEntry entry;
  entry.at = at;
  entry.account = {account};
  entry.plan = "pro";
  entry.attempt = 1;
  entry.call = true;
  entry.task = "text";
  entry.provider = entry.model = "sandbox";
  entry.meters[policy::Meter::kTokens] = 150;
  entry.meters[policy::Meter::kInputTokens] = 100;
  entry.meters[policy::Meter::kOutputTokens] = 50;
  entry.meters[policy::Meter::kCalls] = 1;
  entry.cost = {45'000};
  entry.account_period = entry.platform_period = at;
  return entry;
}

engine::PeriodRow period_of(std::uint64_t account, Wall at) {
  engine::PeriodRow row;
  row.scope = account == 0 ? engine::Scope::kPlatform : engine::Scope::kAccount;
  row.account = {account};
  row.start = at;
  row.end = at + std::chrono::hours(24 * 30);
  return row;
}

// A batch of the next `callers` of `accounts`, in turn, but not in the order of their ids.
struct Calls {
  Commit commit;
  std::uint64_t accounts, callers, first = 0;
  std::uint64_t id = 0;

  explicit Calls(std::uint64_t of) : accounts(of), callers(std::min(of, kCalls)) {
    commit.at = wall_from_seconds(1'800'000'000);
    for (std::uint64_t i = 0; i < kCalls; ++i)
      commit.mutations.emplace_back(engine::AddEntry{call_entry(1, commit.at)});
    for (std::uint64_t i = 0; i <= callers; ++i)
      commit.mutations.emplace_back(engine::PutPeriod{period_of(i, commit.at)});
  }
  AccountId caller(std::uint64_t i) const { return {1 + (first + i) * 7919 % accounts}; }
  void next(Batch batch) {
    commit.batch = batch;
    for (std::uint64_t i = 0; i < kCalls; ++i) {
      auto& entry = std::get<engine::AddEntry>(commit.mutations[i]).entry;
      entry.account = caller(i % callers);
      entry.job = {++id};
      entry.try_id = {++id};
    }
    for (std::uint64_t i = 0; i <= callers; ++i) {
      auto& row = std::get<engine::PutPeriod>(commit.mutations[kCalls + i]).row;
      if (i > 0) row.account = caller(i - 1);
      row.used[policy::Meter::kTokens] = static_cast<std::int64_t>(id);
      row.cost_used = {static_cast<std::int64_t>(id)};
    }
    first = (first + callers) % accounts;
  }
};

void calls(benchmark::State& state) {
  const Folder folder;
  auto journal = open_sqlite(folder.path(), {});
  if (!journal) throw std::runtime_error(journal.error().message);
  Calls group(static_cast<std::uint64_t>(state.range(0)));
  for (auto _ : state) {
    group.next((*journal)->last_batch() + 1);
    if (auto done = (*journal)->commit(group.commit); !done) throw std::runtime_error(done.error().message);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kCalls));
}
BENCHMARK(calls)->Arg(64)->Arg(1'000)->Arg(100'000)->UseRealTime();

// The page of costs, asked while the most is gathered: 31 groups of calls of 64 accounts.
void usage_while_gathering(benchmark::State& state) {
  const Folder folder;
  auto journal = open_sqlite(folder.path(), {});
  if (!journal) throw std::runtime_error(journal.error().message);
  Calls group(64);
  for (Batch batch = 1; batch <= 31; ++batch) {
    group.next(batch);
    if (auto done = (*journal)->commit(group.commit); !done) throw std::runtime_error(done.error().message);
  }
  const UsageQuery query{.from = wall_from_seconds(0), .to = wall_from_seconds(2'000'000'000), .account = {}};
  for (auto _ : state) benchmark::DoNotOptimize((*journal)->usage(query));
}
BENCHMARK(usage_while_gathering)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace turnpike::journal
