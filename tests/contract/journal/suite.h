// What every journal is held to, whatever keeps its rows.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "journal/journal.h"
#include "support/journal_samples.h"
#include "support/temp_folder.h"

namespace turnpike::testing {

struct JournalKind {
  std::string name;
  std::function<std::unique_ptr<journal::Journal>(const std::filesystem::path& folder)> open;
};
inline void PrintTo(const JournalKind& kind, std::ostream* out) {
  *out << kind.name;
}
std::vector<JournalKind> journal_kinds();

class JournalContract : public ::testing::TestWithParam<JournalKind> {
 protected:
  void SetUp() override { journal_ = GetParam().open(folder_.path() / "data"); }

  // Commits as the next batch.
  Result<void> try_commit(std::vector<engine::Mutation> mutations, std::vector<journal::Record> records = {},
                          std::vector<engine::Event> events = {}, Wall at = at_second(0));
  void commit(std::vector<engine::Mutation> mutations, std::vector<journal::Record> records = {},
              std::vector<engine::Event> events = {}, Wall at = at_second(0)) {
    const auto done = try_commit(std::move(mutations), std::move(records), std::move(events), at);
    ASSERT_TRUE(done.has_value()) << done.error().message << " " << done.error().cause;
  }

  support::TempFolder folder_;
  std::unique_ptr<journal::Journal> journal_;
};

std::string kind_name(const ::testing::TestParamInfo<JournalKind>& info);

#define TURNPIKE_EVERY_JOURNAL(suite) \
  INSTANTIATE_TEST_SUITE_P(Journals, suite, ::testing::ValuesIn(journal_kinds()), kind_name)

}  // namespace turnpike::testing
