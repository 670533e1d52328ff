// How large the SQLite journal may let its parts grow.
#pragma once

#include <cstdint>

namespace turnpike::journal::sqlite {

struct SqliteOptions {
  int writer_cache_kib = 8 * 1024;  // page cache of the one writer
  int reader_cache_kib = 2 * 1024;  // of each reader
  std::size_t readers_max = 4;      // reads at once; more wait for one of these
  // The write-ahead log, in bytes. Each time it has grown by the first, a thread copies it into the database
  // beside the writer. From the second on, the writer copies what is left itself, so that the log begins
  // anew. If readers are in the way of that, it waits for them from the third on.
  std::uint64_t wal_copy_bytes = 4ULL << 20;
  std::uint64_t wal_restart_bytes = 64ULL << 20;
  std::uint64_t wal_bytes_max = 256ULL << 20;
  std::uint64_t pages_max = 0;  // size of the database in pages of 4 KiB; 0: as large as the disk
};

}  // namespace turnpike::journal::sqlite
