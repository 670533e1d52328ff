// The journal in SQLite: FOLDER/journal.db with a write-ahead log, one writer, a few readers, and a thread
// that keeps the log short.
#pragma once

#include <filesystem>
#include <memory>

#include "journal/journal.h"
#include "journal/sqlite/options.h"

namespace turnpike::journal {

using sqlite::SqliteOptions;

// Opens the journal in `folder`, making both if they are missing, and holds the folder's lock (folder_lock.h)
// as long as the journal lives. Errors: kConfiguration (the folder is in use, the database is newer than the
// program), kIo.
Result<std::unique_ptr<Journal>> open_sqlite(const std::filesystem::path& folder, SqliteOptions options = {});

// Journal::verify_books of the journal in `folder`, which may be in use by a server: nothing is locked or
// changed. Errors: kIo (no journal there), kConfiguration (of another version).
Result<BooksReport> verify_books(const std::filesystem::path& folder);

// Journal::verify_audit, likewise.
Result<AuditReport> verify_audit(const std::filesystem::path& folder);

}  // namespace turnpike::journal
