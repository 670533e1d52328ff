// Answers that are given again: small ones in memory in front of all of them on disk, and identical requests
// in flight that share one upstream. In ten lines, as a call uses it:
//
//   key = cache_key(...)                         nothing: the request is none of the cache's business
//   if (answer = co_await find(key, ...))        a hit
//   seat = flights().join(key)
//     Lead      look once more (peek), for it may have come meanwhile; ask upstream, tell the flight of what
//               comes; keep(key, answer), and only then land(answer)
//     Follower  next() until Landed or Failed; Lead: it is the one who asks now
//     neither   ask upstream, keep what comes
//
// Nothing here says whose answer may be given to whom, or for how long: that is in the key and in the answer.
// Thread-safe.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/time.h"
#include "node/answer_cache_key.h"
#include "node/answer_flights.h"
#include "node/answer_store.h"
#include "node/readers.h"
#include "policy/cache.h"

namespace turnpike::node {

class AnswerCache {
 public:
  static constexpr std::uint64_t kHotBytesMax = 64ULL << 20;
  static constexpr std::uint64_t kHotEntryBytesMax = 256ULL
                                                     << 10;  // a larger one is read from disk each time
  static constexpr std::uint64_t kUnwrittenBytesMax = 64ULL << 20;  // of answers on their way to the disk
  static constexpr std::size_t kTouchedMax = 10'000;
  // How often upkeep() should be called; uses are written down then, so that LRU is exact to about this.
  static constexpr Duration kTouchEvery = std::chrono::minutes(1);

  // Opens the store in `folder` (blocks). Where the disk refuses, that is logged, and what is hot is all
  // there is. `readers` are stopped before this ends.
  AnswerCache(std::filesystem::path folder, const policy::CacheLimits& limits, Readers& readers);

  // The answer, if it is there, has not expired and is not older than `age_max`; else null. Reads the disk on
  // a reader thread, and only where the answer is there.
  boost::asio::awaitable<AnswerPtr> find(CacheKey key, Wall now, Duration age_max);
  // The same of what is in memory alone.
  AnswerPtr peek(const CacheKey& key, Wall now, Duration age_max);
  // It can be found when this returns; a reader thread writes it. False: it is too large, or too much waits
  // to be written.
  bool keep(const CacheKey& key, AnswerPtr answer, Wall now);
  Flights& flights() { return flights_; }

  // Drops what has expired and writes down what was used, on a reader thread.
  void upkeep(Wall now);
  void set_limits(const policy::CacheLimits& limits);
  // Writes what waits for the disk, before an orderly end. Blocks.
  void flush(Wall now);

  struct Totals {
    AnswerStore::Totals stored;
    std::uint64_t hot_entries = 0;
    std::uint64_t hot_bytes = 0;
    std::uint64_t unwritten_bytes = 0;
    std::size_t flights = 0;
  };
  Totals totals() const;

 private:
  using Hot = std::list<std::pair<CacheKey, AnswerPtr>>;  // used last stands first

  // All under mutex_.
  AnswerPtr in_memory(const CacheKey& key);
  void make_hot(const CacheKey& key, AnswerPtr answer);
  void drop_hot(Hot::iterator entry);
  void note_use(const CacheKey& key, Wall now);

  void write(const CacheKey& key, const AnswerPtr& answer, Wall now);  // on a reader thread

  Readers& readers_;
  std::unique_ptr<AnswerStore> store_;  // null: the disk refused
  Flights flights_;

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  policy::CacheLimits limits_;
  Hot hot_;
  std::unordered_map<CacheKey, Hot::iterator, CacheKeyHash> hot_by_key_;
  std::uint64_t hot_bytes_ = 0;
  boost::unordered_flat_map<CacheKey, AnswerPtr, CacheKeyHash> unwritten_;
  std::uint64_t unwritten_bytes_ = 0;
  boost::unordered_flat_map<CacheKey, Wall, CacheKeyHash> touched_;  // since the last upkeep
};

}  // namespace turnpike::node
