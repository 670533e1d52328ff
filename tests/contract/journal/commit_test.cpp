// Commits: all or nothing, in order, and read back as they were put.
#include "contract/journal/suite.h"
#include "journal/audit_chain.h"

namespace turnpike::testing {
namespace {

using engine::DropJob;
using engine::JobState;
using engine::PutAccount;
using engine::PutJob;
using engine::PutQueueCount;
using journal::Commit;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Commits : public JournalContract {};
TURNPIKE_EVERY_JOURNAL(Commits);

TEST_P(Commits, NewJournalIsEmpty) {
  const auto recovered = journal_->recover();
  ASSERT_TRUE(recovered);
  EXPECT_EQ(recovered->last_batch, 0U);
  EXPECT_EQ(recovered->last_id, 0U);
  EXPECT_EQ(recovered->last_at, kNever);
  EXPECT_TRUE(recovered->accounts.empty() && recovered->queues.empty() && recovered->processing.empty() &&
              recovered->keys.empty() && !recovered->policy);
  EXPECT_EQ(journal_->job({1}, true)->has_value(), false);
}

TEST_P(Commits, GivesBackEveryFieldOfAJob) {
  const auto row = make_full_job(41);
  const auto body = make_body(std::string("{\"t\":\"\0\xfe\"}", 10), R"({"m":1})", "req_9");
  commit({PutJob{row, body}});
  const auto read = journal_->job({41}, true);
  ASSERT_TRUE(read && *read);
  EXPECT_TRUE(same((*read)->row, row));
  ASSERT_TRUE((*read)->body);
  EXPECT_TRUE(same(*(*read)->body, *body));
  EXPECT_EQ((*read)->at, 1U);
}

TEST_P(Commits, LeavesTheBodyOutUnlessAsked) {
  commit({PutJob{make_job(1), make_body()}});
  EXPECT_EQ((*journal_->job({1}, false))->body, nullptr);
}

TEST_P(Commits, UpdateKeepsTheBody) {
  const auto small = make_body("small");
  const auto large = make_body(std::string(1 << 20, '\0') + "end");
  commit({PutJob{make_job(1), small}, PutJob{make_job(2), large}});
  for (const std::uint64_t id : {1U, 2U}) {
    auto row = make_job(id);
    row.state = JobState::kCompleted;
    row.output = "{}";
    commit({PutJob{row, nullptr}});
    const auto read = *journal_->job({id}, true);
    EXPECT_TRUE(same(read->row, row));
    EXPECT_TRUE(same(*read->body, id == 1 ? *small : *large));
  }
}

TEST_P(Commits, RefusesABatchOutOfTurn) {
  for (const journal::Batch wrong : {0U, 2U}) {
    journal_.reset();  // the failure before would refuse this one too
    SetUp();
    Commit commit;
    commit.batch = wrong;
    const auto done = journal_->commit(commit);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, ErrorCode::kInternal);
    EXPECT_EQ(journal_->last_batch(), 0U);
  }
}

TEST_P(Commits, NumbersBatchesWithoutAGap) {
  for (journal::Batch batch = 1; batch <= 3; ++batch) {
    commit({}, {}, {}, at_second(static_cast<std::int64_t>(batch)));
    EXPECT_EQ(journal_->last_batch(), batch);
  }
  const auto recovered = journal_->recover();
  EXPECT_EQ(recovered->last_batch, 3U);
  EXPECT_EQ(recovered->last_at, at_second(3));
}

TEST_P(Commits, StoresNothingOfABatchThatIsRefused) {
  auto missing = make_job(9);
  const auto done = try_commit({PutAccount{{{1}, "ann", "tier1", at_second(0)}},
                                PutJob{make_job(1), make_body()}, PutJob{missing, nullptr}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kInternal);
  EXPECT_FALSE(journal_->job({1}, false)->has_value());
  EXPECT_THAT(journal_->recover()->accounts, IsEmpty());
  EXPECT_EQ(journal_->last_batch(), 0U);
}

TEST_P(Commits, RefusesEverythingAfterAFailure) {
  ASSERT_FALSE(try_commit({PutJob{make_job(9), nullptr}}));
  const auto next = try_commit({PutJob{make_job(1), make_body()}});
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().code, ErrorCode::kIo);
  EXPECT_FALSE(journal_->retain({.now = at_second(0)}));
}

TEST_P(Commits, RefusesTwoAccountsOfOneUser) {
  commit({PutAccount{{{1}, "ann", "tier1", at_second(0)}}});
  const auto done = try_commit({PutAccount{{{2}, "ann", "tier1", at_second(0)}}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kInternal);
  EXPECT_EQ(journal_->recover()->accounts.size(), 1U);
}

// --- Dedupe keys

engine::JobRow keyed(std::uint64_t id, JobState state, std::uint64_t account = 1) {
  auto row = make_job(id, account);
  row.state = state;
  row.dedupe_key = "once";
  return row;
}

TEST_P(Commits, ADedupeKeyBelongsToOneLiveJobOfAnAccount) {
  commit({PutJob{keyed(1, JobState::kQueued), make_body()},
          PutJob{keyed(2, JobState::kQueued, 2), make_body()}});
  const auto done = try_commit({PutJob{keyed(3, JobState::kScheduled), make_body()}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kInternal);
  EXPECT_FALSE(journal_->job({3}, false)->has_value());
}

TEST_P(Commits, FindsTheLiveJobOfADedupeKey) {
  commit({PutJob{keyed(1, JobState::kProcessing), make_body("input")}});
  const auto found = journal_->job_by_dedupe_key({1}, "once");
  ASSERT_TRUE(found && found->first);
  EXPECT_TRUE(same(found->first->row, keyed(1, JobState::kProcessing)));
  EXPECT_EQ(found->second, 1U);
  const auto none = journal_->job_by_dedupe_key({1}, "twice");
  EXPECT_FALSE(none->first.has_value());
  EXPECT_EQ(none->second, 1U);
  EXPECT_FALSE(journal_->job_by_dedupe_key({2}, "once")->first.has_value());
}

TEST_P(Commits, AnEndedJobGivesItsDedupeKeyAway) {
  commit({PutJob{keyed(1, JobState::kQueued), make_body()}});
  // Merging may have put the new holder before the end of the old one.
  commit({PutJob{keyed(2, JobState::kQueued), make_body()}, PutJob{keyed(1, JobState::kFailed), nullptr}});
  EXPECT_EQ(journal_->job_by_dedupe_key({1}, "once")->first->row.id, JobId{2});
}

// --- The other rows

TEST_P(Commits, RecoversAccountsQueuesKeysAndThePolicyInForce) {
  const engine::AccountRow ann{{5}, std::string("ann\0 \xff", 6), "tier1", at_second(1)};
  const engine::AccountRow bob{{6}, "bob", "tier2", at_second(2)};
  const PutQueueCount first{{5}, "local", 3, 4};
  const journal::KeyRow key{
      {7},   std::string(31, '\0') + "x", journal::Role::kWorker, {6}, "ci", at_second(1), at_second(9),
      kNever};
  const journal::PolicyVersionRow old_policy{1, "aa", "a: 1", at_second(1), "start"};
  const journal::PolicyVersionRow new_policy{2, "bb", "a: 2", at_second(2), "signal"};
  commit({PutAccount{ann}, PutAccount{bob}, first, PutQueueCount{{6}, "local", 1, 0}},
         {key, old_policy, new_policy});
  commit({PutQueueCount{{6}, "local", 0, 0}});
  const auto recovered = journal_->recover();
  ASSERT_TRUE(recovered);
  EXPECT_TRUE(same(recovered->accounts, {ann, bob}));
  EXPECT_TRUE(same(recovered->queues, {first}));
  EXPECT_TRUE(same(recovered->keys, {key}));
  ASSERT_TRUE(recovered->policy);
  EXPECT_TRUE(same(*recovered->policy, new_policy));
  EXPECT_TRUE(same(*journal_->policy_versions(), {old_policy, new_policy}));
}

TEST_P(Commits, UpdatesAccountsAndKeysInPlace) {
  engine::AccountRow ann{{5}, "ann", "tier1", at_second(1)};
  journal::KeyRow key{{7},   std::string(32, 'k'), journal::Role::kAccount, {5}, "web", at_second(1), kNever,
                      kNever};
  commit({PutAccount{ann}}, {key});
  ann.plan = "tier4";
  key.revoked_at = at_second(3);
  commit({PutAccount{ann}}, {key});
  EXPECT_TRUE(same(journal_->recover()->accounts, {ann}));
  EXPECT_TRUE(same(journal_->recover()->keys, {key}));
}

TEST_P(Commits, RecoversWhatWasRunning) {
  auto running = make_full_job(3);
  running.state = JobState::kProcessing;
  auto ended = make_full_job(4);
  ended.dedupe_key.clear();
  commit({PutJob{running, make_body()}, PutJob{ended, make_body()}, PutJob{make_job(5), make_body()}});
  const auto recovered = journal_->recover();
  ASSERT_THAT(ids_of(recovered->processing), ElementsAre(3));
  EXPECT_TRUE(same(recovered->processing[0].row, running));
  EXPECT_EQ(recovered->processing[0].body, nullptr);
}

TEST_P(Commits, LastIdCoversEveryKindOfRowAndWhatWasDropped) {
  const auto last_id = [&] { return journal_->recover()->last_id; };
  commit({PutJob{make_job(10), make_body()}});
  EXPECT_EQ(last_id(), 10U);
  commit({PutAccount{{{20}, "ann", "tier1", at_second(0)}}});
  EXPECT_EQ(last_id(), 20U);
  commit({}, {journal::KeyRow{.id = {30}, .hash = "h", .account = {}, .name = "n", .created_at = {}}});
  EXPECT_EQ(last_id(), 30U);
  commit({}, {journal::ArtifactRow{{{40}, "aa", "m", 1, "bin"}, {20}, {10}, at_second(0)}});
  EXPECT_EQ(last_id(), 40U);
  auto running = make_job(10);
  running.state = JobState::kProcessing;
  running.current_try = {50};
  commit({PutJob{running, nullptr}});
  EXPECT_EQ(last_id(), 50U);
  commit({PutJob{make_job(60), make_body()}});
  commit({DropJob{{60}}});
  EXPECT_EQ(last_id(), 60U);
}

TEST_P(Commits, DropsAJobWithItsBody) {
  commit({PutJob{make_job(1), make_body(std::string(10'000, 'x'))}, PutJob{make_job(2), make_body()}});
  commit({DropJob{{1}}, DropJob{{2}}});
  EXPECT_FALSE(journal_->job({1}, true)->has_value());
  EXPECT_FALSE(journal_->job({2}, true)->has_value());
  EXPECT_THAT(journal_->queue_heads({1}, "local", std::nullopt, 10)->jobs, IsEmpty());
}

TEST_P(Commits, FindsArtifactsByIdAndByContent) {
  const journal::ArtifactRow mine{{{1}, "abc", "image/png", 9, "png"}, {5}, {6}, at_second(1)};
  const journal::ArtifactRow theirs{{{2}, "abc", "image/png", 9, "png"}, {7}, {}, at_second(2)};
  commit({}, {mine, theirs});
  EXPECT_TRUE(same(**journal_->artifact({1}), mine));
  EXPECT_FALSE(journal_->artifact({3})->has_value());
  EXPECT_TRUE(same(*journal_->artifacts_by_sha256("abc"), {mine, theirs}));
  EXPECT_THAT(*journal_->artifacts_by_sha256("abcd"), IsEmpty());
}

TEST_P(Commits, AnAnswerIsKnownUntilItExpires) {
  const journal::IdempotencyRow row{std::string(31, '\0') + "s", std::string(32, '\xff'), 202,
                                    "application/json",          std::string("a\0b", 3),  at_second(10)};
  commit({}, {row});
  ASSERT_TRUE(*journal_->idempotency(row.scope, at_second(9)));
  EXPECT_TRUE(same(**journal_->idempotency(row.scope, at_second(9)), row));
  EXPECT_FALSE(journal_->idempotency(row.scope, at_second(10))->has_value());
  EXPECT_FALSE(journal_->idempotency("other", at_second(9))->has_value());
}

TEST_P(Commits, ReadsTheAuditNewestFirst) {
  std::vector<journal::Record> records;
  for (int i = 0; i < 3; ++i) {
    records.emplace_back(
        journal::AuditRow{at_second(i), "cli", "account.plan_changed", std::to_string(i), "{}"});
  }
  commit({}, records);
  const auto rows = *journal_->audit(0, 2);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_TRUE(same(rows[0].row, std::get<journal::AuditRow>(records[2])));
  EXPECT_EQ(rows[1].row.subject, "1");
  const auto older = *journal_->audit(rows[1].number, 10);
  ASSERT_EQ(older.size(), 1U);
  EXPECT_EQ(older[0].row.subject, "0");
}

TEST_P(Commits, ChainsTheAuditOverCommits) {
  const journal::AuditRow row{at_second(1), "cli", "key.created", "key_1", "{}"};
  commit({}, {row, row});
  commit({}, {row});
  const auto rows = *journal_->audit(0, 10);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[2].hash, journal::audit_hash({}, 1, row));
  EXPECT_EQ(rows[1].hash, journal::audit_hash(rows[2].hash, 2, row));
  const auto report = *journal_->verify_audit();
  EXPECT_EQ(report.rows, 3U);
  EXPECT_EQ(report.head, rows[0].hash);
  EXPECT_EQ(report.mistake, "");
}

TEST_P(Commits, FindsAVersionOfThePolicy) {
  commit({}, {journal::PolicyVersionRow{.version = 1,
                                        .hash = "a",
                                        .text = "b",
                                        .applied_at = at_second(1),
                                        .applied_by = "cli",
                                        .reason = "c",
                                        .price_version = 1}});
  ASSERT_TRUE(*journal_->policy_version(1));
  EXPECT_EQ((**journal_->policy_version(1)).reason, "c");
  EXPECT_FALSE(*journal_->policy_version(2));
}

}  // namespace
}  // namespace turnpike::testing
