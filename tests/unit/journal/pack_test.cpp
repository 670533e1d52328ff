#include "journal/pack.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "journal/bytes.h"
#include "support/journal_samples.h"
#include "support/old_journal.h"

namespace turnpike::journal {
namespace {

using testing::at_second;
using testing::fields_of;
using testing::make_body;
using testing::make_entry;
using testing::make_full_job;
using testing::make_job;
using testing::make_period;
using testing::same;

// What a row has beside its head.
engine::JobRow columns_of(const engine::JobRow& row) {
  engine::JobRow columns;
  columns.id = row.id;
  columns.account = row.account;
  columns.state = row.state;
  columns.pool = row.pool;
  columns.priority = row.priority;
  columns.due_at = row.due_at;
  columns.expires_at = row.expires_at;
  columns.dedupe_key = row.dedupe_key;
  columns.task = row.task;
  columns.finished_at = row.finished_at;
  columns.run = row.run;
  return columns;
}

std::string head_of(const engine::JobRow& row) {
  std::string packed;
  pack_head(row, packed);
  return packed;
}

const std::vector<engine::Event> kEvents{
    {engine::EventType::kJobProgress, testing::at_second(1), {2}, {3}, 4, 50, "half"},
    {engine::EventType::kJobExpired, kNever, {UINT64_MAX}, {1}, UINT32_MAX, 255, std::string("\0", 1)},
    {engine::EventType::kJobCompleted, testing::at_second(2), {2}, {3}, 1, 0, "", {UINT64_MAX}, {}},
    {engine::EventType::kStepQueued, testing::at_second(2), {2}, {}, 0, 0, "split", {}, {UINT64_MAX}},
    {engine::kLastEventType, testing::at_second(2), {2}, {}, 0, 0, "split", {4}, {5}}};

TEST(Pack, AHeadComesBackWithEveryField) {
  for (const auto& row : {make_job(1), make_full_job(2), engine::JobRow{}}) {
    auto read = columns_of(row);
    ASSERT_TRUE(unpack_head(head_of(row), read));
    EXPECT_TRUE(same(read, row));
  }
}

TEST(Pack, AHeadOverwritesWhatTheRowHad) {
  auto read = columns_of(make_job(1));
  read.history = make_full_job(1).history;
  read.artifacts = make_full_job(1).artifacts;
  read.usage = make_full_job(1).usage;
  ASSERT_TRUE(unpack_head(head_of(make_job(1)), read));
  EXPECT_TRUE(same(read, make_job(1)));
}

TEST(Pack, ExtremeTimesComeBack) {
  auto row = make_job(1);
  row.created_at = wall_from_micros(INT64_MIN);
  row.queued_at = wall_from_micros(INT64_MAX);
  row.history = {{engine::HistoryKind::kStarted, wall_from_micros(INT64_MAX), 0, 0, ""}};
  auto read = columns_of(row);
  ASSERT_TRUE(unpack_head(head_of(row), read));
  EXPECT_TRUE(same(read, row));
}

TEST(Pack, APlainHeadIsSmall) {
  EXPECT_LT(head_of(make_job(1)).size(), 48U);
}

TEST(Pack, BodiesEventsAndChangesComeBack) {
  std::string packed;
  pack_body(*make_body("in", "meta", "req"), packed);
  EXPECT_TRUE(same(**unpack_body(packed), *make_body("in", "meta", "req")));

  packed.clear();
  pack_events(kEvents, testing::at_second(9), packed);
  EXPECT_TRUE(same(*unpack_events(packed, testing::at_second(9)), kEvents));

  packed.clear();
  pack_changes({engine::PutJob{make_job(7), nullptr}, engine::PutAccount{{{8}, "u", "p", kNever}},
                engine::PutQueueCount{{9}, "pool", 1, 2}, engine::DropJob{{10}},
                engine::PutRun{testing::make_run(11), nullptr}},
               packed);
  EXPECT_EQ(*unpack_changes(packed), (std::vector<Change>{{ChangeKind::kJob, 7, ""},
                                                          {ChangeKind::kAccount, 8, ""},
                                                          {ChangeKind::kQueueCount, 9, "pool"},
                                                          {ChangeKind::kJobDropped, 10, ""},
                                                          {ChangeKind::kRun, 11, ""}}));
}

TEST(Pack, EveryTruncationIsAnError) {
  const auto head = head_of(make_full_job(1));
  for (std::size_t size = 0; size < head.size(); ++size) {
    engine::JobRow read;
    EXPECT_FALSE(unpack_head(std::string_view(head).substr(0, size), read)) << size;
  }
  std::string body;
  pack_body(*make_body(), body);
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(unpack_body(std::string_view(body).substr(0, size))) << size;
  }
  std::string events;
  pack_events(kEvents, kNever, events);
  for (std::size_t size = 0; size < events.size(); ++size) {
    EXPECT_FALSE(unpack_events(std::string_view(events).substr(0, size), kNever)) << size;
  }
}

TEST(Pack, RunsComeBack) {
  for (const auto& row : {testing::make_run(1), testing::make_full_run(2), engine::RunRow{}}) {
    std::string packed;
    pack_run(row, packed);
    auto read = testing::make_full_run(9);  // all of it is overwritten
    ASSERT_TRUE(unpack_run(packed, read));
    read.id = row.id;
    read.account = row.account;
    read.state = row.state;
    read.live_jobs = row.live_jobs;
    read.workflow = row.workflow;
    read.finished_at = row.finished_at;
    EXPECT_TRUE(same(read, row));
    for (std::size_t size = 0; size < packed.size(); ++size)
      EXPECT_FALSE(unpack_run(std::string_view(packed).substr(0, size), read)) << size;
    EXPECT_FALSE(unpack_run(packed + '\0', read));
  }
  std::string body;
  pack_run_body(*testing::make_run_body(), body);
  EXPECT_TRUE(same(**unpack_run_body(body), *testing::make_run_body()));
  EXPECT_FALSE(unpack_run_body(body.substr(1)));
}

TEST(Pack, BytesTooManyAreAnError) {
  engine::JobRow read;
  EXPECT_FALSE(unpack_head(head_of(make_full_job(1)) + '\0', read));
  std::string body;
  pack_body(*make_body(), body);
  EXPECT_FALSE(unpack_body(body + '\0'));
}

TEST(Pack, AHeadOfVersion2IsAJobWithoutARoute) {
  engine::JobRow read = make_job(1);
  read.created_at = read.queued_at = kNever;
  ASSERT_TRUE(unpack_head(testing::old_head(make_job(1), 2), read));
  EXPECT_TRUE(same(read, make_job(1)));
}

TEST(Pack, AHeadOfVersion1IsAJobWithoutMoney) {
  const std::string head = testing::old_head(make_job(1), 1);
  engine::JobRow read = make_job(1);
  read.created_at = read.queued_at = kNever;
  ASSERT_TRUE(unpack_head(head, read));
  EXPECT_TRUE(same(read, make_job(1)));
  EXPECT_FALSE(read.hold);
}

TEST(Pack, PeriodsTermsAndEntriesComeBack) {
  const auto period = make_period(engine::Scope::kTeam, 0, "acme", at_second(1));
  std::string packed;
  pack_period(period, packed);
  auto read = period;
  read.used = read.held = read.calls_held = read.debt = {};
  read.content.clear();
  read.told.clear();
  read.holds = 0;
  ASSERT_TRUE(unpack_period(packed, read));
  EXPECT_TRUE(same(read, period));

  auto first = make_entry(10, 1, at_second(1));
  auto second = make_entry(20, 2, at_second(-1));
  second.kind = engine::EntryKind::kReversal;
  second.call = true;
  second.cost = {INT64_MIN};
  second.team.clear();
  packed.clear();
  pack_entries({&first, &second}, at_second(0), packed);
  EXPECT_LT(packed.size(), 200U) << "texts stand once";
  const auto entries = unpack_entries(packed, at_second(0));
  ASSERT_TRUE(entries);
  EXPECT_TRUE(same(*entries, {first, second}));
}

TEST(Pack, WholePeriodsComeBack) {
  auto first = make_period(engine::Scope::kAccount, UINT64_MAX >> 1, "", at_second(1));
  first.current = false;
  auto second = make_period(engine::Scope::kTeam, 0, "acme", at_second(-1));
  second.end = kNever;
  second.used[policy::Meter::kTokens] = INT64_MIN;
  std::string packed;
  pack_periods({&first, &second, &first}, packed);
  const auto rows = unpack_periods(packed);
  ASSERT_TRUE(rows);
  EXPECT_TRUE(same(*rows, {first, second, first}));
  EXPECT_FALSE(unpack_periods(packed.substr(0, packed.size() - 1)));
  EXPECT_FALSE(unpack_periods(packed + '\0'));
}

TEST(Pack, AnyEntriesComeBack) {
  Random random(5);
  const auto text = [&random] {
    return std::string(random.below(3), static_cast<char>('a' + random.below(2)));
  };
  const auto number = [&random] { return static_cast<std::int64_t>(random.next() >> random.below(64)); };
  for (int round = 0; round < 200; ++round) {
    std::vector<engine::LedgerEntry> entries(random.below(20));
    std::vector<const engine::LedgerEntry*> pointers;
    for (auto& entry : entries) {
      entry.kind = static_cast<engine::EntryKind>(random.below(6));
      entry.call = random.chance(500);
      entry.at = at_second(random.between(-9, 9));
      entry.account = {random.next()};
      entry.job = {random.next()};
      entry.try_id = {random.next()};
      entry.attempt = static_cast<std::uint32_t>(random.next());
      entry.price_version = random.next();
      for (auto* each : {&entry.team, &entry.plan, &entry.task, &entry.provider, &entry.model,
                         &entry.model_version, &entry.content})
        *each = text();
      for (auto& amount : entry.meters.of) amount = random.chance(500) ? number() : 0;
      entry.cost = {number()};
      entry.debt = {number()};
      entry.account_period = at_second(random.between(-1'000'000, 0));
      entry.team_period = random.chance(500) ? kNever : at_second(random.between(-9, 0));
      pointers.push_back(&entry);
    }
    std::string packed;
    pack_entries(pointers, at_second(0), packed);
    const auto read = unpack_entries(packed, at_second(0));
    ASSERT_TRUE(read);
    EXPECT_TRUE(same(*read, entries));
    if (!entries.empty()) EXPECT_FALSE(unpack_entries(packed.substr(0, packed.size() - 1), at_second(0)));
  }
}

TEST(Pack, EntriesOfAnOlderProgramAreRead) {
  auto first = make_entry(10, 1, at_second(1));
  auto second = make_entry(20, 2, at_second(-1));
  second.call = true;
  const auto packed = testing::pack_entries_v1({&first, &second}, at_second(0));
  const auto read = unpack_entries(packed, at_second(0));
  ASSERT_TRUE(read);
  EXPECT_TRUE(same(*read, {first, second}));
}

// Calls of one second: what tells them apart is most of what is stored.
TEST(Pack, ACallTakesFewBytes) {
  std::vector<engine::LedgerEntry> entries;
  std::vector<const engine::LedgerEntry*> pointers;
  constexpr std::uint64_t kSomeId = 913'000'000'000ULL << 22;
  for (std::uint64_t i = 0; i < 256; ++i) {
    auto& entry = entries.emplace_back(make_entry(kSomeId + (i << 24), kSomeId + i % 64, at_second(1)));
    entry.call = true;
    entry.attempt = 1;
  }
  for (const auto& entry : entries) pointers.push_back(&entry);
  std::string packed;
  pack_entries(pointers, at_second(0), packed);
  EXPECT_LE(packed.size(), entries.size() * 32);
}

TEST(Pack, AUsualHoldIsSmall) {
  auto row = make_job(1);
  const std::size_t without = head_of(row).size();
  row.hold.emplace();
  row.hold->amounts[policy::Meter::kJobs] = 1;
  row.hold->amounts[policy::Meter::kAudioMs] = 12'000;
  row.hold->account_period = row.hold->platform_period = row.created_at - std::chrono::hours(24 * 20);
  row.hold->price_version = 3;
  EXPECT_LE(head_of(row).size() - without, 40U);
}

TEST(Pack, GarbageOfMoneyIsReadWithoutHarm) {
  Random random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(1 + random.below(90), '\0');
    for (char& c : bytes) c = static_cast<char>(random.below(256));
    bytes[0] = '\1';
    engine::PeriodRow period;
    engine::AccountRow account;
    (void)unpack_period(bytes, period);
    (void)unpack_terms(bytes, account);
    (void)unpack_entries(bytes, at_second(0));
    (void)unpack_periods(bytes);
    bytes[0] = '\2';
    (void)unpack_entries(bytes, at_second(0));
    engine::JobRow job;
    (void)unpack_head(bytes, job);
  }
}

TEST(Pack, AnUnknownVersionIsAnError) {
  auto head = head_of(make_job(1));
  head[0] = 4;
  engine::JobRow read;
  const auto done = unpack_head(head, read);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kInternal);
}

// Whatever the bytes, an answer: never a crash, and never memory in proportion to a number that was read.
TEST(Pack, GarbageIsReadWithoutHarm) {
  const auto good = head_of(make_full_job(1));
  Random random(3);
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    auto bad = good;
    for (auto n = random.below(4) + 1; n > 0; --n) {
      bad[1 + random.below(bad.size() - 1)] = static_cast<char>(random.below(256));
    }
    engine::JobRow read;
    if (!unpack_head(bad, read)) ++refused;
    EXPECT_LE(read.usage.size() + read.artifacts.size() + read.history.size(), bad.size());
    bad[0] = 1;
    engine::RunRow run;
    static_cast<void>(unpack_run(bad, run));
    static_cast<void>(unpack_run_body(bad).has_value());
    static_cast<void>(unpack_events(bad, kNever).has_value() || unpack_changes(bad) || unpack_body(bad));
  }
  EXPECT_GT(refused, 1000);
}

TEST(Pack, AHugeCountIsRefusedBeforeItIsBelieved) {
  std::string packed;
  ByteWriter out(packed);
  out.u8(1);
  out.varint(UINT64_MAX);
  EXPECT_FALSE(unpack_events(packed, kNever));
  EXPECT_FALSE(unpack_changes(packed));
}

TEST(Bytes, VarintsOfEveryLengthComeBack) {
  for (unsigned bit = 0; bit < 64; ++bit) {
    const auto value = (std::uint64_t{1} << bit) | 1;
    std::string packed;
    ByteWriter out(packed);
    out.varint(value);
    out.zigzag(static_cast<std::int64_t>(value));
    out.zigzag(-static_cast<std::int64_t>(value >> 1));
    ByteReader in(packed);
    EXPECT_EQ(in.varint(), value);
    EXPECT_EQ(in.zigzag(), static_cast<std::int64_t>(value));
    EXPECT_EQ(in.zigzag(), -static_cast<std::int64_t>(value >> 1));
    EXPECT_TRUE(in.at_end());
  }
}

TEST(Bytes, AVarintOfMoreThan64BitsIsRefused) {
  ByteReader in("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");
  EXPECT_EQ(in.varint(), 0U);
  EXPECT_FALSE(in.ok());
}

}  // namespace
}  // namespace turnpike::journal
