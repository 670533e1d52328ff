#include "contract/journal/suite.h"

#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "journal/sqlite/sqlite_journal.h"
#include "support/memory_journal.h"

namespace turnpike::testing {

std::vector<JournalKind> journal_kinds() {
  const auto sqlite = [](const std::filesystem::path& folder) {
    auto journal = journal::open_sqlite(folder);
    if (!journal) throw std::runtime_error(journal.error().message);
    return std::move(*journal);
  };
  const auto memory = [](const std::filesystem::path&) { return std::make_unique<MemoryJournal>(); };
  return {{"Sqlite", sqlite}, {"Memory", memory}};
}

std::string kind_name(const ::testing::TestParamInfo<JournalKind>& info) {
  return info.param.name;
}

Result<void> JournalContract::try_commit(std::vector<engine::Mutation> mutations,
                                         std::vector<journal::Record> records,
                                         std::vector<engine::Event> events, Wall at) {
  const journal::Commit commit{.batch = journal_->last_batch() + 1,
                               .at = at,
                               .mutations = std::move(mutations),
                               .records = std::move(records),
                               .events = std::move(events)};
  return journal_->commit(commit);
}

}  // namespace turnpike::testing
