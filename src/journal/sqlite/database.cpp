#include "journal/sqlite/database.h"

#include <mutex>
#include <stdexcept>

namespace turnpike::journal::sqlite {
namespace {

constexpr int kBusyMillis = 10'000;  // the longest that a writer waits for a checkpoint that truncates

// What to do about it, for whoever runs the server.
const char* advice(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return "the disk (or the configured size of the database) is full: free space and start again";
    case SQLITE_IOERR:
      return "the disk failed to read or write: check it, and start again";
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
      return "check the owner and the permissions of the folder and its files";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "the database is damaged: restore it from a backup";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "another program holds the database: close it";
    default:
      return "start again";
  }
}

}  // namespace

Result<Connection> Connection::open(const std::filesystem::path& path, bool create, int cache_kib) {
  static std::once_flag configured;
  // Without statistics SQLite takes no global lock at each allocation.
  std::call_once(configured, [] { sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); });
  sqlite3* raw = nullptr;
  const int flags =
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (create ? SQLITE_OPEN_CREATE : 0);
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  Connection connection;
  connection.db_.reset(raw);
  connection.folder_ = path.parent_path().string();
  if (code != SQLITE_OK) return std::unexpected(connection.error("cannot open the database"));
  sqlite3_busy_timeout(raw, kBusyMillis);
  const auto cache = "PRAGMA cache_size=-" + std::to_string(cache_kib);
  if (auto set = connection.run(cache.c_str(), "cannot open the database"); !set) {
    return std::unexpected(set.error());
  }
  return connection;
}

Result<void> Connection::run(const char* sql, const char* what) {
  if (exec(sql) != SQLITE_OK) return std::unexpected(error(what));
  return {};
}

Statement& Connection::statement(const char* sql) {
  const auto found = statements_.find(sql);
  if (found != statements_.end()) return found->second;
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr) != SQLITE_OK) {
    throw std::runtime_error(std::string(sqlite3_errmsg(db_.get())) + " in: " + sql);
  }
  return statements_.emplace(sql, Statement(raw)).first->second;
}

Error Connection::error(std::string_view what) const {
  const int code = db_ ? sqlite3_extended_errcode(db_.get()) : SQLITE_NOMEM;
  Error error;
  error.code = (code & 0xff) == SQLITE_CONSTRAINT ? ErrorCode::kInternal : ErrorCode::kIo;
  error.message = std::string(what) + " in " + folder_ + ": " + advice(code);
  error.cause =
      db_ ? std::string(sqlite3_errmsg(db_.get())) + " (" + std::to_string(code) + ")" : "out of memory";
  return error;
}

}  // namespace turnpike::journal::sqlite
