#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <spdlog/logger.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <memory>
#include <thread>

#include "journal/sqlite/sqlite_journal.h"
#include "node/artifact_store.h"
#include "node/log.h"
#include "node/log_sink.h"
#include "node/open_batch.h"
#include "node/readers.h"
#include "support.h"

namespace turnpike::node::testing {
namespace {

using engine::JobState;
using ::testing::SizeIs;
namespace fs = std::filesystem;

// --- Log

TEST(Log, ALineIsOneJsonObjectWithItsFieldsEscaped) {
  const std::optional<std::uint32_t> unlimited;
  EXPECT_EQ(
      log_line(1'790'000'000'123'456, LogLevel::kInfo, "job.started",
               {{"text", "a\"b\\c\n\x01"}, {"n", -3}, {"u", 7U}, {"on", true}, {"limit", unlimited}}),
      R"({"ts":"2026-09-21T14:13:20.123456Z","level":"info","event":"job.started","text":"a\"b\\c\n\u0001",)"
      R"("n":-3,"u":7,"on":true,"limit":null})");
}

TEST(Log, BytesThatAreNotUtf8AreReplaced) {
  const auto line = [](std::string_view text) { return log_line(0, LogLevel::kWarn, "e", {{"t", text}}); };
  const std::string head = R"({"ts":"1970-01-01T00:00:00.000000Z","level":"warn","event":"e","t":")";
  EXPECT_EQ(line("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"), head + "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"}");
  EXPECT_EQ(line("\xff|\xc3|\xe0\x80\x80"), head + R"(\ufffd|\ufffd|\ufffd\ufffd\ufffd"})");
  EXPECT_EQ(line("\xed\xa0\x80"), head + R"(\ufffd\ufffd\ufffd"})");  // a surrogate
}

// A descriptor that nobody reads takes what a pipe takes; whoever logs does not wait for it.
TEST(Log, WhoLogsDoesNotWaitForASlowReaderAndWhatIsDroppedIsSaid) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  std::uint64_t written = 0;
  {
    spdlog::logger logger("test", std::make_shared<GatheringSink>(pipe[1]));
    const std::string line(1'000, 'x');
    constexpr std::uint64_t kLines = 3 * GatheringSink::kWaitingBytesMax / 1'000;
    for (std::uint64_t i = 0; i < kLines; ++i) logger.info(line);
    std::thread reader([&pipe, &written] {
      std::array<char, 65'536> bytes{};
      std::string tail;
      for (ssize_t count = 0; (count = ::read(pipe[0], bytes.data(), bytes.size())) > 0;) {
        tail = (tail + std::string(bytes.data(), static_cast<std::size_t>(count)));
        if (tail.size() > 4'000) tail.erase(0, tail.size() - 4'000);
        written += static_cast<std::uint64_t>(count);
        if (tail.contains("the last one")) break;
      }
      EXPECT_THAT(tail, ::testing::HasSubstr("log.dropped"));
    });
    logger.flush();  // returns once the reader has had it all
    logger.info("the last one");
    logger.flush();
    reader.join();
  }
  EXPECT_LE(written, 2 * GatheringSink::kWaitingBytesMax + (1ULL << 20U));
  ::close(pipe[0]);
  ::close(pipe[1]);
}

// --- OpenBatch

engine::PutJob put(std::uint64_t id, JobState state, engine::JobBodyPtr body = {}) {
  engine::PutJob made;
  made.row.id = JobId{id};
  made.row.state = state;
  made.body = std::move(body);
  return made;
}

TEST(OpenBatch, TheLastStateOfAJobWinsAndItsBodyStays) {
  OpenBatch batch;
  batch.begin(7);
  const auto body = std::make_shared<engine::JobBody>();
  engine::Changes changes;
  changes.mutations = {put(1, JobState::kQueued, body), put(2, JobState::kQueued, body)};
  batch.absorb(changes);
  changes.mutations = {put(1, JobState::kProcessing)};
  batch.absorb(changes);
  ASSERT_THAT(batch.commit().mutations, SizeIs(2));
  const auto& first = std::get<engine::PutJob>(batch.commit().mutations[0]);
  EXPECT_EQ(first.row.state, JobState::kProcessing);
  EXPECT_EQ(first.body, body);
  EXPECT_EQ(batch.job(JobId{2})->state, JobState::kQueued);
  EXPECT_EQ(batch.job(JobId{3}), nullptr);
  EXPECT_EQ(batch.number(), 7U);
}

TEST(OpenBatch, TheLastStateOfARunWinsAndItsBodyStays) {
  OpenBatch batch;
  batch.begin(7);
  const auto run = [](std::uint64_t id, JobState state, engine::RunBodyPtr body = {}) {
    engine::PutRun put;
    put.row.id = RunId{id};
    put.row.state = state;
    put.body = std::move(body);
    return put;
  };
  const auto body = std::make_shared<engine::RunBody>();
  engine::Changes changes;
  changes.mutations = {run(1, JobState::kQueued, body), run(2, JobState::kQueued, body),
                       put(3, JobState::kQueued)};
  batch.absorb(changes);
  changes.mutations = {run(1, JobState::kProcessing), run(1, JobState::kCompleted)};
  batch.absorb(changes);
  ASSERT_THAT(batch.commit().mutations, SizeIs(3));
  const auto& first = std::get<engine::PutRun>(batch.commit().mutations[0]);
  EXPECT_EQ(first.row.state, JobState::kCompleted);
  EXPECT_EQ(first.body, body);
  EXPECT_EQ(batch.run(RunId{2})->state, JobState::kQueued);
  EXPECT_EQ(batch.run(RunId{3}), nullptr);
  batch.begin(8);
  EXPECT_EQ(batch.run(RunId{1}), nullptr);
}

TEST(OpenBatch, AccountsAreWrittenOnceAndWhatElseComesIsKept) {
  OpenBatch batch;
  batch.begin(1);
  engine::Changes changes;
  const auto count = [](const char* pool, std::uint64_t queued) {
    return engine::PutQueueCount{.account = AccountId{5}, .pool = pool, .queued = queued, .scheduled = 0};
  };
  changes.mutations = {count("a", 2), count("b", 1)};
  changes.mutations.emplace_back(
      engine::PutAccount{{.id = AccountId{5}, .user_id = "u", .plan = "x", .created_at = {}}});
  changes.mutations.emplace_back(
      engine::PutAccount{{.id = AccountId{5}, .user_id = "u", .plan = "y", .created_at = {}}});
  batch.absorb(changes);
  ASSERT_THAT(batch.commit().mutations, SizeIs(3));
  EXPECT_EQ(std::get<engine::PutQueueCount>(batch.commit().mutations[0]).queued, 2U);
  EXPECT_EQ(std::get<engine::PutAccount>(batch.commit().mutations[2]).row.plan, "y");
  EXPECT_TRUE(batch.has_account(AccountId{5}));
}

TEST(OpenBatch, EffectsAloneAreWorkButNothingToWrite) {
  OpenBatch batch;
  batch.begin(1);
  EXPECT_FALSE(batch.has_work());
  engine::Changes changes;
  changes.effects.emplace_back(engine::ExpireCold{JobId{1}});
  batch.absorb(changes);
  EXPECT_TRUE(batch.has_work());
  EXPECT_FALSE(batch.writes());
  batch.begin(1);
  EXPECT_FALSE(batch.has_work());
}

// --- Readers

boost::asio::awaitable<void> ask(Readers& readers, std::atomic<int>& ran,
                                 std::promise<Result<void>> promise) {
  auto work = [&ran] { ++ran; };
  promise.set_value(co_await readers.run(std::move(work)));
}

TEST(Readers, WhatIsBeyondTheBoundIsRefusedAndNotRun) {
  net::IoThreads threads(1);
  net::TaskGroup tasks([](std::string_view what) { ADD_FAILURE() << what; });
  Readers readers(1, 2);
  std::promise<void> gate;
  std::promise<void> entered;
  readers.post_own([&, open = gate.get_future().share()] {
    entered.set_value();
    open.wait();
  });
  entered.get_future().wait();
  std::atomic<int> ran = 0;
  std::vector<std::future<Result<void>>> done;
  for (int i = 0; i < 3; ++i) {
    std::promise<Result<void>> promise;
    done.push_back(promise.get_future());
    tasks.spawn(threads.context(0).get_executor(), ask(readers, ran, std::move(promise)));
  }
  EXPECT_EQ(done[2].get().error().code, ErrorCode::kUnavailable);
  gate.set_value();
  EXPECT_TRUE(done[0].get());
  EXPECT_TRUE(done[1].get());
  EXPECT_EQ(ran, 2);
  EXPECT_TRUE(tasks.stop(std::chrono::seconds(5)));
}

// --- ArtifactStore

struct Artifacts : ::testing::Test {
  Artifacts()
      : journal(std::move(*journal::open_sqlite(folder.path()))), store(folder.path() / "files", *journal) {
    fs::create_directory(folder.path() / "files");
  }
  Result<engine::ArtifactRef> put(const std::string& text, const std::string& extension = "txt") {
    const fs::path path = folder.path() / "upload";
    std::ofstream(path) << text;
    return store.put(path, "text/plain", extension);
  }
  void name(const engine::ArtifactRef& ref, std::uint64_t id, Wall created_at) {
    journal::ArtifactRow row{.ref = ref, .account = AccountId{9}, .job = {}, .created_at = created_at};
    row.ref.id = ArtifactId{id};
    journal::Commit commit{.batch = journal->last_batch() + 1,
                           .at = created_at,
                           .mutations = {},
                           .records = {row},
                           .events = {}};
    ASSERT_TRUE(journal->commit(commit));
  }
  bool stands(const engine::ArtifactRef& ref) const {
    return fs::exists(store.path_of(ref.sha256, ref.extension));
  }

  TempFolder folder;
  std::unique_ptr<journal::Journal> journal;
  ArtifactStore store;
};

TEST_F(Artifacts, TheSameContentIsKeptOnce) {
  const auto first = put("same");
  const auto second = put("same");
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->sha256, second->sha256);
  EXPECT_FALSE(fs::exists(folder.path() / "upload"));
  EXPECT_TRUE(stands(*first));
}

TEST_F(Artifacts, AFileThatNoRowNamesIsDeletedWithItsLastPin) {
  const auto first = put("mine");
  const auto second = put("mine");
  store.release(*first, false);
  EXPECT_TRUE(stands(*first));
  store.release(*second, false);
  EXPECT_FALSE(stands(*first));
}

TEST_F(Artifacts, AFileThatARowNamesStaysWhenAnotherUseOfItIsGivenUp) {
  const auto first = put("shared");
  name(*first, 1, wall_from_seconds(1'000));
  store.release(*first, true);
  const auto second = put("shared");
  store.release(*second, false);
  EXPECT_TRUE(stands(*first));
}

TEST_F(Artifacts, RetentionDeletesWhatIsOldButNotWhatIsPinned) {
  const auto old = put("old");
  const auto pinned = put("pinned");
  name(*old, 1, wall_from_seconds(1'000));
  name(*pinned, 2, wall_from_seconds(1'000));
  store.release(*old, true);
  const Wall now = wall_from_seconds(5'000);
  const auto more =
      store.retain({.jobs_before = now, .artifacts_before = now, .events_before = now, .now = now});
  ASSERT_TRUE(more);
  EXPECT_FALSE(stands(*old));
  EXPECT_TRUE(stands(*pinned));
}

TEST_F(Artifacts, ASweepDeletesWhatACrashLeftWithoutARow) {
  const auto named = put("named");
  name(*named, 1, wall_from_seconds(1'000));
  const auto orphan = put("orphan");
  const auto pinned = put("pinned");
  ArtifactStore next(folder.path() / "files", *journal);  // of the next process, which has no pins yet
  const fs::path path = folder.path() / "again";
  std::ofstream(path) << "pinned";
  ASSERT_TRUE(next.put(path, "text/plain", "txt"));
  next.sweep(wall_from_seconds(4'000'000'000));  // all are older than that
  EXPECT_TRUE(stands(*orphan));
  next.sweep(kNever);
  EXPECT_FALSE(stands(*orphan));
  EXPECT_TRUE(stands(*named));
  EXPECT_TRUE(stands(*pinned));
}

TEST_F(Artifacts, NoPathLeavesTheFolder) {
  EXPECT_TRUE(store.path_of("../../etc/passwd", "txt").empty());
  EXPECT_TRUE(store.path_of(std::string(64, 'a'), "../x").empty());
  EXPECT_FALSE(store.path_of(std::string(64, 'a'), "png").empty());
  EXPECT_EQ(put("x", "p/ng").error().code, ErrorCode::kInvalidRequest);
}

TEST_F(Artifacts, ALinkIsNotTaken) {
  const fs::path link = folder.path() / "link";
  fs::create_symlink("/etc/hostname", link);
  EXPECT_FALSE(store.put(link, "text/plain", "txt"));
}

}  // namespace
}  // namespace turnpike::node::testing
