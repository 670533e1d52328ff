// The schema, as numbered steps that only go forward. A database newer than the program is refused.
#pragma once

#include "base/result.h"
#include "journal/sqlite/database.h"

namespace turnpike::journal::sqlite {

// Brings the database to the newest version, each step in a transaction of its own. Errors: kConfiguration
// (made by a newer program), kIo.
Result<void> migrate(Connection& connection);
// As far as `version` alone, as an older program would: for tests.
Result<void> migrate_to(Connection& connection, int version);

// That the database is of the newest version, without changing it. Errors: kConfiguration (start the server
// first, or the newer program), kIo.
Result<void> check_version(Connection& connection);

// The newest version this program knows.
int schema_version_max();

}  // namespace turnpike::journal::sqlite
