// Answers on disk: one SQLite database of its own, bounded in bytes. It may be lost at any time, so nothing
// waits for the disk (synchronous=OFF), and a database that is damaged, or of another version of the program,
// is begun anew. Everything here but may_have() and totals() blocks: call it on a reader thread. Thread-safe.
//
// Columns of `answers`, a row an answer:
//   key         BLOB     SHA-256 of the request (answer_cache_key.h)
//   created_at  INTEGER  when the answer was whole; microseconds since 1970 UTC, as all times here
//   expires_at  INTEGER  from then on it is none
//   used_at     INTEGER  last use, to within AnswerCache::kTouchEvery: the oldest go first
//   bytes       INTEGER  what the row takes of the bound (footprint())
//   provider, model, version  TEXT  who made it
//   cost        INTEGER  nano-USD that it cost when it was made
//   usage       TEXT     JSON object, meter -> amount, of what it took
//   content_type TEXT    of `body`
//   stream      INTEGER  1: `body` is a stream as it was sent
//   events      BLOB     of a stream: the length of each of its writes, 4 bytes each, little-endian
//   ending      BLOB     of a stream: provider::Success::stream_end
//   checksum    BLOB     SHA-256 over all of the above from `provider` on, and body: a crash may tear a page
//   body        BLOB
#pragma once

#include <array>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/money.h"
#include "base/result.h"
#include "base/time.h"
#include "engine/rows.h"
#include "journal/sqlite/database.h"
#include "node/answer_cache_key.h"

namespace turnpike::node {

// An answer as it was given. Immutable once it is shared.
struct CachedAnswer {
  Wall created_at;
  Wall expires_at;
  std::string provider, model, version;
  Money cost;           // of the first answer; a hit has none
  engine::Usage usage;  // likewise
  std::string content_type;
  bool stream = false;
  std::string body;
  std::vector<std::uint32_t> events;  // of a stream: lengths, together all of `body`
  std::string ending;                 // of a stream: what follows once it is charged
};
using AnswerPtr = std::shared_ptr<const CachedAnswer>;

// What an answer takes of a bound, in memory and on disk: its bytes, and what a row costs beside them.
std::uint64_t footprint(const CachedAnswer& answer);

class AnswerStore {
  using Statement = journal::sqlite::Statement;

 public:
  static constexpr std::size_t kEntriesMax = 1'000'000;  // 8 to 16 MB of memory know which there are
  static constexpr std::size_t kExpiredStep = 1'000;     // rows that one drop_expired() removes at most

  // Opens or makes `folder`/answers.db, and begins it anew where it cannot be used. Errors: kIo (the folder
  // or the disk refuses).
  static Result<std::unique_ptr<AnswerStore>> open(std::filesystem::path folder, std::uint64_t bytes_max);

  // False: certainly not there. Does not block.
  bool may_have(const CacheKey& key) const;
  // Null: not there, or it could not be read whole. Whether it has expired is for the caller to see.
  AnswerPtr get(const CacheKey& key);
  // Keeps it in the place of what was there, and removes what was used least recently as far as the bounds
  // ask for it. An answer larger than the bound is not kept.
  void put(const CacheKey& key, const CachedAnswer& answer, Wall now);
  void touch(const std::vector<std::pair<CacheKey, Wall>>& used);
  // True: there may be more.
  bool drop_expired(Wall now);
  void set_bytes_max(std::uint64_t bytes_max);

  struct Totals {
    std::uint64_t entries = 0;
    std::uint64_t bytes = 0;
    std::uint64_t evicted = 0;  // for want of room, since the start
    std::uint64_t failed = 0;   // operations that the disk or the database refused, since the start
  };
  Totals totals() const;

 private:
  AnswerStore(std::filesystem::path folder, std::uint64_t bytes_max);

  // What a transaction does to what is known, applied once it is committed.
  struct Changed {
    std::vector<CacheKey> removed;
    std::vector<CacheKey> added;
    std::int64_t bytes = 0;
    std::uint64_t evicted = 0;
  };
  struct Failed {};  // thrown and caught in here: the connection knows why

  // Both under writing_ and reading_.
  Result<void> open_files();
  Result<void> begin_anew();  // removes the files first
  Result<void> load_known();

  // Runs `work(Changed&)` in a transaction. False: it failed, which has been logged and counted.
  template <typename Work>
  bool write(Work work);
  // Under writing_, within write():
  Statement& step_all(Statement& statement);
  void remove_rows(Statement& select, std::uint64_t bytes_wanted, std::size_t rows_max, Changed& changed);
  void make_room(std::uint64_t bytes_needed, std::size_t rows_needed, Changed& changed);
  void remove_key(const CacheKey& key, Changed& changed);

  AnswerPtr read_row(const CacheKey& key, bool& torn);  // under reading_
  void apply(const Changed& changed);
  // Under neither lock. `damaged`: the database, which is begun anew.
  void failed(const Error& error, bool damaged);

  const std::filesystem::path folder_;
  // Whoever takes both takes writing_ first.
  std::mutex writing_;
  std::optional<journal::sqlite::Connection> writer_;  // guarded by writing_
  std::mutex reading_;
  std::optional<journal::sqlite::Connection> reader_;  // guarded by reading_

  mutable std::mutex mutex_;  // held for moments; the innermost
  // What is there, by 64 bits of the key: two that have them in common cost a look at the disk.
  boost::unordered_flat_set<std::uint64_t> known_;  // guarded by mutex_
  Totals totals_;                                   // guarded by mutex_
  std::uint64_t bytes_max_;                         // guarded by mutex_
};

}  // namespace turnpike::node
