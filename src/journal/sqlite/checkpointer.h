// Keeps the write-ahead log short: a thread of its own copies committed pages into the database beside the
// writer. As long as the writer writes, it can never copy the last of them, and the log begins anew only when
// all are copied: when the log has grown long, it leaves the rest to the writer (see Writer::bound_wal).
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "journal/sqlite/database.h"
#include "journal/sqlite/options.h"

namespace turnpike::journal::sqlite {

class Checkpointer {
 public:
  Checkpointer(Connection connection, const SqliteOptions& options);
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;
  ~Checkpointer();

  // The log has this many pages after a commit. Called by the writer; cheap.
  void grown_to(std::uint64_t pages);
  // While this is held, the thread does not copy. Owns nothing if it copies now and `wait` is false.
  std::unique_lock<std::mutex> take_turn(bool wait);

 private:
  void run();
  bool due() const { return pages_ >= copied_ + copy_pages_ && pages_ < restart_pages_; }

  Connection connection_;  // used by the thread alone
  const std::uint64_t copy_pages_;
  const std::uint64_t restart_pages_;

  std::mutex turn_;  // held while copying
  std::mutex mutex_;
  std::condition_variable wake_;
  std::uint64_t pages_ = 0;   // guarded by mutex_: length of the log as last told
  std::uint64_t copied_ = 0;  // guarded by mutex_: its length when it was last copied
  bool stopping_ = false;     // guarded by mutex_
  std::thread thread_;        // last: it uses all of the above
};

constexpr std::uint64_t kPageBytes = 4096;

}  // namespace turnpike::journal::sqlite
