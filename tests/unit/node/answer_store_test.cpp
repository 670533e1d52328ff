// Answers on disk and in memory: kept, bounded, and never given damaged or too old.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "node/answer_cache.h"
#include "node/answer_store.h"
#include "support.h"

namespace turnpike::node::testing {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace fs = std::filesystem;

constexpr Wall kStart = wall_from_seconds(1'790'000'000);
constexpr Duration kAnyAge = 24h;

CacheKey key(int n) {
  CacheKey made;
  const std::string text = fmt::format("{:08}", n);
  for (std::size_t i = 0; i < made.bytes.size(); ++i)
    made.bytes[i] = static_cast<unsigned char>(text[i % text.size()] * (i + 1));
  return made;
}

std::shared_ptr<CachedAnswer> answer(std::size_t size = 100, Wall created = kStart, Duration ttl = 1h) {
  auto made = std::make_shared<CachedAnswer>();
  made->created_at = created;
  made->expires_at = created + ttl;
  made->provider = "cloud";
  made->model = "writer";
  made->version = "2";
  made->cost = Money{1'250};
  made->usage = {{"tokens_in", 12}, {"tokens_out", 30}};
  made->content_type = "application/json";
  made->body = std::string(size, 'x');
  return made;
}

void expect_same(const AnswerPtr& got, const CachedAnswer& put) {
  ASSERT_NE(got, nullptr);
  EXPECT_EQ(got->created_at, put.created_at);
  EXPECT_EQ(got->expires_at, put.expires_at);
  EXPECT_EQ(got->provider, put.provider);
  EXPECT_EQ(got->model, put.model);
  EXPECT_EQ(got->version, put.version);
  EXPECT_EQ(got->cost, put.cost);
  EXPECT_EQ(got->usage, put.usage);
  EXPECT_EQ(got->content_type, put.content_type);
  EXPECT_EQ(got->stream, put.stream);
  EXPECT_EQ(got->body, put.body);
  EXPECT_EQ(got->events, put.events);
  EXPECT_EQ(got->ending, put.ending);
}

struct Store : ::testing::Test {
  void open(std::uint64_t bytes_max = 1 << 20) {
    store.reset();
    auto opened = AnswerStore::open(folder.path() / "cache", bytes_max);
    ASSERT_TRUE(opened) << opened.error().message << opened.error().cause;
    store = std::move(*opened);
  }
  fs::path file() const { return folder.path() / "cache" / "answers.db"; }

  TempFolder folder;
  std::unique_ptr<AnswerStore> store;
};

TEST_F(Store, GivesBackAllOfAnAnswerAlsoAfterARestart) {
  open();
  auto whole = answer();
  auto stream = answer();
  stream->stream = true;
  stream->content_type = "text/event-stream";
  stream->body = std::string("data: a\n\ndata: \0b\n\n", 19);
  stream->events = {9, 10};
  stream->ending = "data: {\"usage\":{}}\n\n";
  auto empty = answer(0);
  empty->usage.clear();
  store->put(key(1), *whole, kStart);
  store->put(key(2), *stream, kStart);
  store->put(key(3), *empty, kStart);
  for (int round = 0; round < 2; ++round) {
    expect_same(store->get(key(1)), *whole);
    expect_same(store->get(key(2)), *stream);
    expect_same(store->get(key(3)), *empty);
    EXPECT_TRUE(store->may_have(key(1)));
    EXPECT_FALSE(store->may_have(key(4)));
    EXPECT_EQ(store->get(key(4)), nullptr);
    EXPECT_EQ(store->totals().entries, 3U);
    EXPECT_EQ(store->totals().bytes, footprint(*whole) + footprint(*stream) + footprint(*empty));
    open();
  }
}

TEST_F(Store, TheLastAnswerOfARequestTakesThePlaceOfTheOneBefore) {
  open();
  store->put(key(1), *answer(100), kStart);
  store->put(key(1), *answer(200), kStart);
  EXPECT_EQ(store->get(key(1))->body.size(), 200U);
  EXPECT_EQ(store->totals().entries, 1U);
  EXPECT_EQ(store->totals().bytes, footprint(*answer(200)));
  EXPECT_EQ(store->totals().evicted, 0U);
}

TEST_F(Store, WhatWasUsedLeastRecentlyMakesRoom) {
  const std::uint64_t each = footprint(*answer(10'000));
  open(4 * each);
  for (int i = 0; i < 4; ++i) store->put(key(i), *answer(10'000), kStart + i * 1s);
  store->touch({{key(0), kStart + 10s}});
  store->put(key(4), *answer(10'000), kStart + 11s);
  EXPECT_TRUE(store->may_have(key(0)));
  EXPECT_FALSE(store->may_have(key(1)));
  EXPECT_EQ(store->get(key(1)), nullptr);
  EXPECT_EQ(store->totals().bytes, 4 * each);
  EXPECT_EQ(store->totals().evicted, 1U);
  store->put(key(5), *answer(20'000), kStart + 12s);  // asks for the room of two
  EXPECT_LE(store->totals().bytes, 4 * each);
  EXPECT_TRUE(store->may_have(key(0)));
  EXPECT_TRUE(store->may_have(key(5)));
  store->set_bytes_max(footprint(*answer(20'000)));
  EXPECT_EQ(store->totals().entries, 1U);
  EXPECT_TRUE(store->may_have(key(5)));
}

TEST_F(Store, TheBoundHoldsForTheFileToo) {
  constexpr std::uint64_t kBound = 2 << 20;
  open(kBound);
  for (int i = 0; i < 400; ++i) store->put(key(i), *answer(i % 2 == 0 ? 300 : 40'000), kStart + i * 1s);
  EXPECT_LE(store->totals().bytes, kBound);
  EXPECT_GT(store->totals().bytes, kBound / 2);
  store.reset();  // with the last connection the log is copied into the file
  EXPECT_LT(fs::file_size(file()), kBound + kBound / 4);
}

TEST_F(Store, AnAnswerLargerThanTheBoundIsNotKept) {
  open(1 << 20);
  store->put(key(1), *answer(100), kStart);
  store->put(key(2), *answer(2 << 20), kStart);
  EXPECT_TRUE(store->may_have(key(1)));
  EXPECT_FALSE(store->may_have(key(2)));
}

TEST_F(Store, WhatHasExpiredIsDroppedInSteps) {
  open();
  for (int i = 0; i < 1'500; ++i) store->put(key(i), *answer(10, kStart, i < 1'200 ? 1h : 2h), kStart);
  EXPECT_FALSE(store->drop_expired(kStart + 1h - 1us));
  EXPECT_EQ(store->totals().entries, 1'500U);
  EXPECT_TRUE(store->drop_expired(kStart + 1h));
  EXPECT_EQ(store->totals().entries, 500U);
  EXPECT_FALSE(store->drop_expired(kStart + 1h));
  EXPECT_EQ(store->totals().entries, 300U);
  EXPECT_EQ(store->totals().evicted, 0U);
}

TEST_F(Store, AFileThatIsNoDatabaseIsBegunAnew) {
  fs::create_directories(folder.path() / "cache");
  std::ofstream(file()) << std::string(20'000, 'j');
  open();
  EXPECT_EQ(store->totals().entries, 0U);
  store->put(key(1), *answer(), kStart);
  EXPECT_NE(store->get(key(1)), nullptr);
}

TEST_F(Store, ADatabaseOfAnotherVersionIsBegunAnew) {
  open();
  store->put(key(1), *answer(), kStart);
  store.reset();
  auto database = journal::sqlite::Connection::open(file(), false, 100);
  ASSERT_TRUE(database);
  ASSERT_TRUE(database->run("PRAGMA user_version=99", "test"));
  database = std::unexpected(Error{});
  open();
  EXPECT_EQ(store->totals().entries, 0U);
}

TEST_F(Store, ADatabaseThatIsDamagedWhileItRunsIsBegunAnew) {
  open(32 << 20);
  for (int i = 0; i < 500; ++i) store->put(key(i), *answer(6'000), kStart);
  store.reset();
  open(32 << 20);  // nothing of it is in a page cache yet
  {
    std::fstream damage(file(), std::ios::in | std::ios::out | std::ios::binary);
    const auto size = static_cast<std::streamoff>(fs::file_size(file()));
    damage.seekp(4096);
    const std::string garbage(static_cast<std::size_t>(size - 4096), '\x5a');
    damage.write(garbage.data(), size - 4096);
  }
  for (int i = 0; i < 500; ++i) EXPECT_EQ(store->get(key(i)), nullptr);
  EXPECT_GT(store->totals().failed, 0U);
  EXPECT_EQ(store->totals().entries, 0U);
  store->put(key(1), *answer(), kStart);
  EXPECT_NE(store->get(key(1)), nullptr);
}

TEST_F(Store, AnAnswerWhoseBytesChangedIsNoneAndIsDropped) {
  open();
  auto marked = answer(50'000);
  marked->body.replace(25'000, 9, "MARKED-IT");
  store->put(key(1), *marked, kStart);
  store->put(key(2), *answer(), kStart);
  store.reset();
  std::string bytes;
  {
    std::ifstream in(file(), std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const std::size_t at = bytes.find("MARKED-IT");
  ASSERT_NE(at, std::string::npos);
  bytes[at] = 'm';
  std::ofstream(file(), std::ios::binary) << bytes;
  open();
  EXPECT_TRUE(store->may_have(key(1)));
  EXPECT_EQ(store->get(key(1)), nullptr);
  EXPECT_FALSE(store->may_have(key(1)));
  EXPECT_NE(store->get(key(2)), nullptr);
}

TEST_F(Store, AFolderThatCannotBeMadeIsAnError) {
  std::ofstream(folder.path() / "cache") << "a file";
  EXPECT_FALSE(AnswerStore::open(folder.path() / "cache", 1 << 20));
}

TEST_F(Store, IsUsedByManyThreadsAtOnce) {
  const std::uint64_t bound = 20 * footprint(*answer(3'000));
  open(bound);
  std::atomic<int> found = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) {
          const int n = (i * 7 + t) % 40;
          if (i % 3 == 0) store->put(key(n), *answer(3'000), kStart + i * 1s);
          if (const AnswerPtr got = store->get(key(n))) found += got->body.size() == 3'000 ? 1 : 10'000;
          if (i % 50 == 0) store->touch({{key(n), kStart + 1h}});
        }
      });
    }
  }
  EXPECT_GT(found, 0);
  EXPECT_LE(found, 800);  // each was whole
  EXPECT_LE(store->totals().bytes, bound);
  EXPECT_EQ(store->totals().failed, 0U);
}

// --- With memory in front

struct Cache : ::testing::Test {
  ~Cache() override {
    readers.stop();
    cache.reset();
    tasks.stop(5s);
    threads.stop();
  }
  void open(policy::CacheLimits limits = {}) {
    cache = std::make_unique<AnswerCache>(folder.path() / "cache", limits, readers);
  }
  template <typename T>
  T run(asio::awaitable<T> task) {
    std::promise<T> promise;
    auto future = promise.get_future();
    tasks.spawn(threads.context(0).get_executor(), fulfil(std::move(task), std::move(promise)));
    if (future.wait_for(10s) != std::future_status::ready) throw std::runtime_error("did not end");
    return future.get();
  }
  template <typename T>
  static asio::awaitable<void> fulfil(asio::awaitable<T> task, std::promise<T> promise) {
    promise.set_value(co_await std::move(task));
  }
  AnswerPtr find(int n, Wall now = kStart, Duration age_max = kAnyAge) {
    return run(cache->find(key(n), now, age_max));
  }
  // What was posted to the readers has been done.
  void settle() {
    for (int i = 0; i < 2; ++i) {
      std::promise<void> done;
      readers.post_own([&done] { done.set_value(); });
      done.get_future().wait();
    }
  }

  TempFolder folder;
  net::IoThreads threads{1};
  net::TaskGroup tasks{[](std::string_view what) { ADD_FAILURE() << what; }};
  Readers readers{1, 16};  // one: what was posted is done in order
  std::unique_ptr<AnswerCache> cache;
};

TEST_F(Cache, FindsAnAnswerAtOnceAndAfterARestart) {
  open();
  EXPECT_EQ(find(1), nullptr);
  EXPECT_TRUE(cache->keep(key(1), answer(), kStart));
  EXPECT_TRUE(cache->keep(key(2), answer(AnswerCache::kHotEntryBytesMax), kStart));  // too large to be hot
  EXPECT_NE(cache->peek(key(1), kStart, kAnyAge), nullptr);
  EXPECT_NE(find(2), nullptr);
  EXPECT_EQ(cache->totals().hot_entries, 1U);
  settle();
  EXPECT_EQ(cache->totals().unwritten_bytes, 0U);
  EXPECT_EQ(cache->totals().stored.entries, 2U);
  EXPECT_NE(find(2), nullptr);
  open();
  EXPECT_EQ(cache->peek(key(1), kStart, kAnyAge), nullptr);
  EXPECT_NE(find(1), nullptr);
  EXPECT_NE(cache->peek(key(1), kStart, kAnyAge), nullptr);  // hot now
  EXPECT_NE(find(2), nullptr);
}

TEST_F(Cache, GivesNothingThatHasExpiredOrIsOlderThanAsked) {
  open();
  cache->keep(key(1), answer(100, kStart, 1h), kStart);
  settle();
  for (int round = 0; round < 2; ++round) {
    EXPECT_NE(find(1, kStart + 1h - 1us), nullptr);
    EXPECT_EQ(find(1, kStart + 1h), nullptr);
    EXPECT_EQ(find(1, kStart + 2s, 1s), nullptr);
    EXPECT_EQ(find(1, kStart + 2s, Duration::zero()), nullptr);
    EXPECT_NE(find(1, kStart + 2s, 2s), nullptr);
    open();  // and from disk
  }
  cache->keep(key(2), answer(100, kStart, 2h), kStart);
  cache->upkeep(kStart + 1h);
  settle();
  EXPECT_EQ(cache->totals().stored.entries, 1U);
  EXPECT_EQ(cache->totals().hot_entries, 1U);
}

TEST_F(Cache, UsesAreWrittenDownByUpkeepAndDecideWhatGoes) {
  const std::uint64_t each = footprint(*answer(10'000));
  open({.bytes_max = 2 * each, .entry_bytes_max = each});
  cache->keep(key(1), answer(10'000), kStart);
  cache->keep(key(2), answer(10'000), kStart + 1s);
  EXPECT_NE(find(1, kStart + 10s), nullptr);  // in memory alone
  cache->upkeep(kStart + 60s);
  cache->keep(key(3), answer(10'000, kStart + 61s), kStart + 61s);
  settle();
  open({.bytes_max = 2 * each, .entry_bytes_max = each});
  EXPECT_NE(find(1, kStart + 62s), nullptr);
  EXPECT_EQ(find(2, kStart + 62s), nullptr);
  EXPECT_NE(find(3, kStart + 62s), nullptr);
}

TEST_F(Cache, HotAnswersAreBounded) {
  open();
  const std::size_t size = AnswerCache::kHotEntryBytesMax - 4096;
  const auto many = static_cast<int>(AnswerCache::kHotBytesMax / size) + 20;
  const AnswerPtr same = answer(size);
  for (int i = 0; i < many; ++i) {
    cache->keep(key(i), same, kStart);
    settle();
  }
  EXPECT_LE(cache->totals().hot_bytes, AnswerCache::kHotBytesMax);
  EXPECT_EQ(cache->peek(key(0), kStart, kAnyAge), nullptr);
  EXPECT_NE(cache->peek(key(many - 1), kStart, kAnyAge), nullptr);
  EXPECT_NE(find(0), nullptr);  // from disk
}

TEST_F(Cache, LargeAnswersAreNotKeptAndTheBoundMayChange) {
  open({.bytes_max = 1 << 20, .entry_bytes_max = 1'000});
  EXPECT_FALSE(cache->keep(key(1), answer(1'001), kStart));
  EXPECT_EQ(find(1), nullptr);
  cache->set_limits({.bytes_max = 1 << 20, .entry_bytes_max = 2'000});
  EXPECT_TRUE(cache->keep(key(1), answer(1'001), kStart));
}

TEST_F(Cache, WhatWaitsForTheDiskIsBounded) {
  open();
  std::promise<void> gate;
  readers.post_own([open = gate.get_future().share()] { open.wait(); });
  const AnswerPtr large = answer(8 << 20);
  int kept = 0;
  for (int i = 0; i < 20; ++i) kept += cache->keep(key(i), large, kStart) ? 1 : 0;
  EXPECT_EQ(kept, 7);
  EXPECT_LE(cache->totals().unwritten_bytes, AnswerCache::kUnwrittenBytesMax);
  gate.set_value();
  settle();
  EXPECT_EQ(cache->totals().unwritten_bytes, 0U);
  EXPECT_EQ(cache->totals().stored.entries, 7U);
}

TEST_F(Cache, AnOrderlyEndWritesWhatWaits) {
  open();
  std::promise<void> gate;
  readers.post_own([open = gate.get_future().share()] { open.wait(); });
  cache->keep(key(1), answer(), kStart);
  EXPECT_EQ(cache->totals().stored.entries, 0U);
  cache->flush(kStart);
  EXPECT_EQ(cache->totals().stored.entries, 1U);
  gate.set_value();
  settle();
  EXPECT_EQ(cache->totals().stored.entries, 1U);
  EXPECT_EQ(cache->totals().unwritten_bytes, 0U);
}

TEST_F(Cache, WithoutADiskWhatIsHotIsAllThereIs) {
  std::ofstream(folder.path() / "cache") << "a file";
  open();
  EXPECT_TRUE(cache->keep(key(1), answer(), kStart));
  EXPECT_NE(find(1), nullptr);
  EXPECT_EQ(find(2), nullptr);
  cache->upkeep(kStart + 1h);
  EXPECT_EQ(find(1), nullptr);
}

}  // namespace
}  // namespace turnpike::node::testing
