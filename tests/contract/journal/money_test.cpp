// Periods, ledger and rollups.
#include <gtest/gtest.h>

#include "journal/usage_sums.h"
#include "suite.h"

namespace turnpike::testing {
namespace {

using engine::AddEntry;
using engine::EntryKind;
using engine::PutAccount;
using engine::PutJob;
using engine::PutPeriod;
using engine::Scope;
using journal::UsageQuery;

class Books : public JournalContract {};

TEST_P(Books, KeepsTheTermsOfAnAccount) {
  engine::AccountRow row{.id = {5}, .user_id = "ada", .plan = "pro", .created_at = at_second(0)};
  row.plan_version = 3;
  row.overrides = R"({"limits":{"concurrent_jobs":9}})";
  row.team = "acme";
  row.time_zone = "Asia/Kathmandu";
  row.anchor_at = at_second(-5);
  row.grants = {
      {.id = {8},
       .meter = policy::Meter::kImages,
       .content = "",
       .amount = 10,
       .spent = 3,
       .granted_at = at_second(1),
       .expires_at = at_second(9),
       .reason = "sorry"},
      {.id = {9}, .meter = {}, .content = "blog", .amount = 1, .granted_at = at_second(1), .reason = ""}};
  commit({PutAccount{row}});
  const auto recovered = journal_->recover();
  ASSERT_TRUE(recovered);
  ASSERT_EQ(recovered->accounts.size(), 1U);
  EXPECT_TRUE(same(recovered->accounts[0], row));
  EXPECT_GE(recovered->last_id, 9U) << "no id of a grant may be given twice";
}

TEST_P(Books, RecoversOnlyPeriodsThatAreCurrentOrHoldSomething) {
  auto over = make_period(Scope::kAccount, 1, "", at_second(0));
  over.current = false;
  over.holds = 0;
  auto held = make_period(Scope::kAccount, 1, "", at_second(1));
  held.current = false;
  const auto current = make_period(Scope::kPlatform, 0, "", at_second(2));
  const auto team = make_period(Scope::kTeam, 0, "acme", at_second(2));
  commit({PutPeriod{over}, PutPeriod{held}, PutPeriod{team}, PutPeriod{current}});
  const auto recovered = journal_->recover();
  ASSERT_TRUE(recovered);
  EXPECT_TRUE(same(recovered->periods, {held, team, current}));
  const auto all = journal_->periods(AccountId{1}, 10);
  ASSERT_TRUE(all);
  EXPECT_TRUE(same(*all, {held, over})) << "newest first";
}

TEST_P(Books, ReplacesThePeriodOfTheSameStart) {
  auto row = make_period(Scope::kAccount, 1, "", at_second(0));
  commit({PutPeriod{row}});
  row.used[policy::Meter::kTokens] = 99;
  row.told.clear();
  commit({PutPeriod{row}});
  EXPECT_TRUE(same(*journal_->periods(AccountId{1}, 10), {row}));
}

TEST_P(Books, GivesTheLedgerBackInOrderAndInPages) {
  std::vector<engine::LedgerEntry> entries;
  for (std::uint64_t i = 1; i <= 5; ++i)
    entries.push_back(make_entry(i * 10, 1 + i % 2, at_second(static_cast<std::int64_t>(i))));
  commit({AddEntry{entries[0]}, AddEntry{entries[1]}});
  commit({});
  commit({AddEntry{entries[2]}, AddEntry{entries[3]}, AddEntry{entries[4]}});
  std::pair<journal::Batch, std::uint32_t> at{};
  std::vector<engine::LedgerEntry> read;
  for (int pages = 0; pages < 10; ++pages) {
    const auto page = journal_->ledger(at, std::nullopt, 2);
    ASSERT_TRUE(page);
    for (const auto& entry : page->entries) read.push_back(entry);
    at = page->last;
    if (!page->more) break;
  }
  EXPECT_TRUE(same(read, entries));
  const auto of_one = journal_->ledger({}, AccountId{2}, 10);
  ASSERT_TRUE(of_one);
  EXPECT_EQ(of_one->entries.size(), 3U);
}

TEST_P(Books, RollsUpByHourAndByDay) {
  const Wall midnight = std::chrono::floor<std::chrono::days>(at_second(0));
  auto first = make_entry(10, 1, midnight + std::chrono::minutes(1));
  auto second = make_entry(20, 1, midnight + std::chrono::minutes(59));
  auto failed = make_entry(30, 1, midnight + std::chrono::minutes(61));
  failed.kind = EntryKind::kFailed;
  failed.meters = {};
  auto other = make_entry(40, 2, midnight + std::chrono::hours(25));
  other.model = "artist";
  commit({AddEntry{first}, AddEntry{second}});
  commit({AddEntry{failed}, AddEntry{other}});

  UsageQuery query{.grain = UsageQuery::Grain::kHour,
                   .from = midnight,
                   .to = midnight + std::chrono::hours(48),
                   .account = {}};
  auto report = journal_->usage(query);
  ASSERT_TRUE(report);
  ASSERT_EQ(report->rows.size(), 3U);
  EXPECT_EQ(report->rows[0].cost, Money{2'000});
  EXPECT_EQ(report->rows[0].completed, 2U);
  EXPECT_EQ(report->rows[0].meters[policy::Meter::kTokens], 200);
  EXPECT_EQ(report->rows[1].failed, 1U);
  EXPECT_EQ(report->rows[1].at, midnight + std::chrono::hours(1));

  query.grain = UsageQuery::Grain::kDay;
  query.by_model = true;
  report = journal_->usage(query);
  ASSERT_TRUE(report);
  ASSERT_EQ(report->rows.size(), 2U);
  EXPECT_EQ(report->rows[0].cost, Money{3'000});
  EXPECT_EQ(report->rows[1].model, "artist");

  query.by_time = query.by_model = false;
  query.limit = 1;
  report = journal_->usage(query);
  ASSERT_EQ(report->rows.size(), 1U);
  EXPECT_EQ(report->rows[0].cost, Money{4'000});
  EXPECT_FALSE(report->truncated);
  query.account = AccountId{2};
  EXPECT_EQ(journal_->usage(query)->rows[0].cost, Money{1'000});
}

// Books of one account, its team and the platform that are in order, and the job that still holds something.
struct InOrder {
  engine::PeriodRow account = make(Scope::kAccount, 1, "", at_second(-100));
  engine::PeriodRow team = make(Scope::kTeam, 0, "acme", at_second(-200));
  engine::PeriodRow platform = make(Scope::kPlatform, 0, "", at_second(-300));
  engine::LedgerEntry entry = make_entry(10, 1, at_second(5));
  engine::JobRow job = make_job(50);

  InOrder() {
    job.hold = make_hold();
    job.hold->account_period = account.start;
    for (auto* row : {&account, &team, &platform}) {
      row->used = entry.meters;
      row->cost_used = entry.cost;
      row->held = job.hold->amounts;
      row->cost_held = job.hold->cost;
      row->holds = 1;
      row->content = {{"blog", 1, 1, 0}};
    }
  }
  static engine::PeriodRow make(Scope scope, std::uint64_t account, const char* team, Wall start) {
    engine::PeriodRow row;
    row.scope = scope;
    row.account = {account};
    row.team = team;
    row.start = start;
    row.end = start + std::chrono::hours(100);
    return row;
  }
  std::vector<engine::Mutation> mutations() const {
    return {PutPeriod{account}, PutPeriod{team}, PutPeriod{platform}, PutJob{job, make_body()},
            AddEntry{entry}};
  }
};

TEST_P(Books, FindsBooksInOrder) {
  commit(InOrder().mutations());
  const auto report = journal_->verify_books();
  ASSERT_TRUE(report);
  EXPECT_THAT(report->mistakes, ::testing::IsEmpty());
  EXPECT_EQ(report->entries, 1U);
  EXPECT_EQ(report->periods, 3U);
  EXPECT_EQ(report->rollups, 2U);
  EXPECT_EQ(report->jobs, 1U);
}

TEST_P(Books, FindsWhatWasUsedAndNotCharged) {
  InOrder books;
  books.team.cost_used = Money{1'001};
  commit(books.mutations());
  const auto report = journal_->verify_books();
  ASSERT_EQ(report->mistakes.size(), 1U);
  EXPECT_THAT(report->mistakes[0], ::testing::HasSubstr("team acme"));
}

TEST_P(Books, FindsAHoldThatNoJobHas) {
  InOrder books;
  books.job.state = engine::JobState::kFailed;
  commit(books.mutations());
  EXPECT_FALSE(journal_->verify_books()->mistakes.empty());
}

TEST_P(Books, FindsATryThatIsChargedTwice) {
  InOrder books;
  auto mutations = books.mutations();
  mutations.emplace_back(AddEntry{books.entry});
  commit(mutations);
  const auto report = journal_->verify_books();
  EXPECT_THAT(report->mistakes,
              ::testing::Contains(::testing::HasSubstr("charged as `completed` where it may not be")));
}

TEST_P(Books, FindsAPeriodWithoutBooks) {
  InOrder books;
  commit({PutPeriod{books.account}, PutPeriod{books.platform}, PutJob{books.job, make_body()},
          AddEntry{books.entry}});
  EXPECT_THAT(journal_->verify_books()->mistakes, ::testing::Contains(::testing::HasSubstr("has no books")));
}

TEST_P(Books, AcceptsALostTryThatIsTakenBackOnce) {
  InOrder books;
  auto lost = books.entry;
  lost.try_id = {70};
  lost.kind = EntryKind::kLost;
  lost.meters = {};
  lost.content.clear();
  auto back = lost;
  back.kind = EntryKind::kReversal;
  back.cost = -lost.cost;
  auto again = lost;
  again.kind = EntryKind::kCorrection;
  again.cost = Money{1};
  for (auto* row : {&books.account, &books.team, &books.platform}) row->cost_used += Money{1};
  auto mutations = books.mutations();
  for (const auto& entry : {lost, back, again}) mutations.emplace_back(AddEntry{entry});
  commit(mutations);
  EXPECT_THAT(journal_->verify_books()->mistakes, ::testing::IsEmpty());
}

TEST_P(Books, RetentionCutsTheLedgerAndVerifiesTheRest) {
  InOrder books;
  commit(books.mutations());
  journal::Journal::Retention retention;
  retention.ledger_before = at_second(10'000);
  const auto removed = journal_->retain(retention);
  ASSERT_TRUE(removed);
  EXPECT_GE(removed->rows, 1U);
  EXPECT_TRUE(journal_->ledger({}, std::nullopt, 10)->entries.empty());
  EXPECT_THAT(journal_->verify_books()->mistakes, ::testing::IsEmpty());
  UsageQuery query{.grain = UsageQuery::Grain::kDay,
                   .from = wall_from_seconds(0),
                   .to = at_second(1'000'000),
                   .account = {}};
  EXPECT_EQ(journal_->usage(query)->rows.size(), 1U) << "daily sums stay";
}

TURNPIKE_EVERY_JOURNAL(Books);

}  // namespace
}  // namespace turnpike::testing
