// What was found in providers' lists is kept for good, once.
#include <gmock/gmock.h>

#include "contract/journal/suite.h"

namespace turnpike::testing {
namespace {

using journal::DiscoveryRow;
using policy::DiscoveryKind;

class Discoveries : public JournalContract {};
TURNPIKE_EVERY_JOURNAL(Discoveries);

DiscoveryRow row(std::uint64_t number, std::string provider, DiscoveryKind kind, std::string id) {
  return {.number = number,
          .found = {.provider = std::move(provider),
                    .kind = kind,
                    .id = std::move(id),
                    .name = "A name",
                    .released = std::chrono::sys_days(std::chrono::days(20'000)),
                    .found_at = at_second(7)}};
}

TEST_P(Discoveries, ComeBackInTheOrderInWhichTheyWereFound) {
  DiscoveryRow list = row(1, "cloud", DiscoveryKind::kList, "openai");
  list.found.name.clear();
  list.found.released.reset();
  commit({},
         {list, row(2, "cloud", DiscoveryKind::kModel, "b"), row(3, "cloud", DiscoveryKind::kVoice, "b")});
  commit({}, {row(4, "other", DiscoveryKind::kModel, "b")});
  const auto recovered = journal_->recover();
  ASSERT_TRUE(recovered);
  ASSERT_EQ(recovered->discoveries.size(), 4U);
  EXPECT_EQ(recovered->discoveries[0].found, list.found);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(recovered->discoveries[i].number, i + 1);
  EXPECT_EQ(recovered->discoveries[3].found, row(4, "other", DiscoveryKind::kModel, "b").found);
}

TEST_P(Discoveries, OneThatIsThereStaysAsItWas) {
  commit({}, {row(1, "cloud", DiscoveryKind::kModel, "a")});
  DiscoveryRow again = row(2, "cloud", DiscoveryKind::kModel, "a");
  again.found.name = "Another";
  commit({}, {again});
  const auto recovered = journal_->recover();
  ASSERT_TRUE(recovered);
  ASSERT_EQ(recovered->discoveries.size(), 1U);
  EXPECT_EQ(recovered->discoveries[0].found.name, "A name");
}

TEST_P(Discoveries, OutliveRetention) {
  commit({}, {row(1, "cloud", DiscoveryKind::kModel, "a")});
  ASSERT_TRUE(journal_->retain({.jobs_before = at_second(1'000),
                                .artifacts_before = at_second(1'000),
                                .events_before = at_second(1'000),
                                .now = at_second(1'000),
                                .ledger_before = at_second(1'000),
                                .deliveries_before = at_second(1'000)}));
  EXPECT_EQ(journal_->recover()->discoveries.size(), 1U);
}

}  // namespace
}  // namespace turnpike::testing
