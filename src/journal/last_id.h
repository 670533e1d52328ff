// The largest id value that a commit names. Kept with every batch, so that a restart hands out no id twice
// even after rows were dropped.
#pragma once

#include <cstdint>

#include "journal/journal.h"

namespace turnpike::journal {

std::uint64_t last_id(const Commit& commit);

}  // namespace turnpike::journal
