// A thin hold on the C interface of SQLite: a connection and its statements. A connection is used by one
// thread at a time; whoever owns it sees to that.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace turnpike::journal::sqlite {

// One prepared statement. What is bound must stay where it is until reset().
class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  // Parameters are numbered from 1, columns from 0.
  void bind(int index, std::int64_t value) { sqlite3_bind_int64(get(), index, value); }
  // Ids stay below 2^63 until the year 2089 (base/ids.h).
  void bind_id(int index, std::uint64_t value) { bind(index, static_cast<std::int64_t>(value)); }
  void bind_text(int index, std::string_view value) {
    // An empty view may point nowhere, which SQLite would take for NULL.
    sqlite3_bind_text64(get(), index, value.empty() ? "" : value.data(), value.size(), SQLITE_STATIC,
                        SQLITE_UTF8);
  }
  void bind_blob(int index, std::string_view value) {
    sqlite3_bind_blob64(get(), index, value.empty() ? "" : value.data(), value.size(), SQLITE_STATIC);
  }
  void bind_null(int index) { sqlite3_bind_null(get(), index); }

  std::int64_t integer(int column) const { return sqlite3_column_int64(get(), column); }
  std::uint64_t id(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  bool is_null(int column) const { return sqlite3_column_type(get(), column) == SQLITE_NULL; }
  // Valid until the next step() or reset().
  std::string_view bytes(int column) const {
    const void* data = sqlite3_column_blob(get(), column);
    if (data == nullptr) return {};
    return {static_cast<const char*>(data), static_cast<std::size_t>(sqlite3_column_bytes(get(), column))};
  }
  std::string text(int column) const { return std::string(bytes(column)); }

  int step() { return sqlite3_step(get()); }  // SQLITE_ROW, SQLITE_DONE or an error
  void reset() { sqlite3_reset(get()); }
  // Runs to the end and resets; SQLITE_OK or an error.
  int run() {
    int code = SQLITE_ROW;
    while (code == SQLITE_ROW) code = step();
    reset();
    return code == SQLITE_DONE ? SQLITE_OK : code;
  }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  sqlite3_stmt* get() const { return statement_.get(); }
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

// Resets a statement at the end of a scope, so that it holds no snapshot.
class StatementScope {
 public:
  explicit StatementScope(Statement& statement) : statement_(statement) {}
  StatementScope(const StatementScope&) = delete;
  StatementScope& operator=(const StatementScope&) = delete;
  ~StatementScope() { statement_.reset(); }
  Statement* operator->() { return &statement_; }
  Statement& operator*() { return statement_; }

 private:
  Statement& statement_;
};

class Connection {
 public:
  // Opens, and makes if `create`, the database at `path`. `cache_kib` bounds its page cache. Errors: kIo.
  static Result<Connection> open(const std::filesystem::path& path, bool create, int cache_kib);

  int exec(const char* sql) { return sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr); }
  Result<void> run(const char* sql, const char* what);  // exec, with its failure as an Error
  // The statement of `sql` (a literal: it is known by its address), prepared at first use. Throws
  // std::runtime_error if it does not compile, which is a bug, or memory is out.
  Statement& statement(const char* sql);

  // The last failure on this connection: kInternal for a broken constraint (a bug of ours), else kIo.
  Error error(std::string_view what) const;
  sqlite3* raw() const { return db_.get(); }

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };
  std::string folder_;  // for messages
  std::unique_ptr<sqlite3, Close> db_;
  std::map<const char*, Statement> statements_;
};

}  // namespace turnpike::journal::sqlite
