#include "journal/sqlite/checkpointer.h"

#include <algorithm>
#include <utility>

namespace turnpike::journal::sqlite {

Checkpointer::Checkpointer(Connection connection, const SqliteOptions& options)
    : connection_(std::move(connection)),
      copy_pages_(std::max<std::uint64_t>(1, options.wal_copy_bytes / kPageBytes)),
      restart_pages_(std::max<std::uint64_t>(1, options.wal_restart_bytes / kPageBytes)),
      thread_([this] { run(); }) {}

Checkpointer::~Checkpointer() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Checkpointer::grown_to(std::uint64_t pages) {
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (pages < pages_) copied_ = 0;  // the log was begun anew
    pages_ = pages;
    wake = due();
  }
  if (wake) wake_.notify_one();
}

std::unique_lock<std::mutex> Checkpointer::take_turn(bool wait) {
  if (wait) return std::unique_lock(turn_);
  return {turn_, std::try_to_lock};
}

void Checkpointer::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || due(); });
    if (stopping_) return;
    copied_ = pages_;
    lock.unlock();
    {
      // A failure here loses nothing: the log keeps what was not copied, and a disk that is broken or full
      // shows in the next commit.
      const std::scoped_lock turn(turn_);
      sqlite3_wal_checkpoint_v2(connection_.raw(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    }
    lock.lock();
  }
}

}  // namespace turnpike::journal::sqlite
