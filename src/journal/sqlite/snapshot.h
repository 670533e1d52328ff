// How the reader's parts read: one snapshot around a read, failures thrown inside it. Included by reader*.cpp
// alone.
#pragma once

#include "journal/sqlite/reader.h"

namespace turnpike::journal::sqlite {

// Thrown and caught within in_snapshot: a read that fails is rare and deep, and what it holds resets itself.
struct Reader::Failed {
  Error error;
};

// A row that we cannot have written.
inline Error damaged(std::string what) {
  return fail(ErrorCode::kInternal, std::move(what) + ": the database is damaged, restore it from a backup")
      .error();
}

template <typename Read>
auto Reader::in_snapshot(Read&& read) -> Result<decltype(read())> {
  if (db_.statement("BEGIN").run() != SQLITE_OK) return std::unexpected(db_.error("cannot read"));
  // A read changes nothing: whether its transaction ends by commit or by rollback is the same.
  const auto end = [this](Connection*) { db_.statement("COMMIT").run(); };
  const std::unique_ptr<Connection, decltype(end)> transaction(&db_, end);
  try {
    return read();
  } catch (const Failed& failed) {
    return std::unexpected(failed.error);
  }
}

template <typename Value>
Value Reader::take(Result<Value> result) {
  if (!result) throw Failed{std::move(result.error())};
  return std::move(*result);
}

inline bool Reader::next(Statement& statement) {
  const int code = statement.step();
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) throw Failed{db_.error("cannot read")};
  return false;
}

}  // namespace turnpike::journal::sqlite
