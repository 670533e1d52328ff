#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "base/ids.h"
#include "base/random.h"
#include "base/result.h"

namespace turnpike {
namespace {

using namespace std::chrono_literals;

constexpr Wall kNoon = wall_from_seconds(1'790'000'000);

TEST(Ids, AreReadAsTheyAreWritten) {
  for (const std::uint64_t value : {1ULL, 31ULL, 32ULL, 0x0123'4567'89ab'cdefULL, ~0ULL}) {
    const JobId id{value};
    EXPECT_EQ(to_string(id).size(), 4U + 13U);
    EXPECT_EQ(parse_id<JobTag>(to_string(id)), id);
  }
  EXPECT_EQ(to_string(JobId{1}), "job_0000000000001");
  EXPECT_EQ(to_string(AccountId{~0ULL}), "acct_FZZZZZZZZZZZZ");
}

TEST(Ids, RefuseWhatIsNotOne) {
  for (const char* bad : {"", "job_", "job_0000000000000", "job_000000000001", "job_00000000000001",
                          "job_000000000000I", "job_000000000000l", "job_000000000000a", "job_G000000000001",
                          "acct_0000000000001", "JOB_0000000000001", " job_0000000000001"})
    EXPECT_EQ(parse_id<JobTag>(bad), std::nullopt) << bad;
}

TEST(Ids, SortByTheTimeTheyWereMadeAlsoAsText) {
  IdSource source;
  const std::uint64_t first = source.next(kNoon);
  const std::uint64_t second = source.next(kNoon);
  const std::uint64_t later = source.next(kNoon + 1ms);
  EXPECT_LT(first, second);
  EXPECT_LT(second, later);
  EXPECT_LT(to_string(JobId{second}), to_string(JobId{later}));
  EXPECT_EQ(id_time(first), kNoon);
  EXPECT_LE(id_floor(kNoon), first);
  EXPECT_LT(second, id_floor(kNoon + 1ms));
}

TEST(Ids, NeverRepeatWhenTheClockGoesBackOrRecoveryGivesAFloor) {
  IdSource source;
  const std::uint64_t before = source.next(kNoon);
  EXPECT_GT(source.next(kNoon - 1h), before);
  IdSource recovered(before + 100);
  EXPECT_GT(recovered.next(kNoon - 1h), before + 100);
}

TEST(Ids, OfTimesBeforeTheirEpochAreStillPositive) {
  IdSource source;
  EXPECT_GT(source.next(Wall{}), 0U);
}

TEST(Random, RepeatsItselfForTheSameSeed) {
  // Known answers of SplitMix64 with seed 0.
  Random random(0);
  EXPECT_EQ(random.next(), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(random.next(), 0x6e789e6aa1b965f4ULL);
  EXPECT_EQ(random.next(), 0x06c45d188009454fULL);
}

TEST(Random, StaysWithinItsBounds) {
  Random random(7);
  std::set<std::int64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_LT(random.below(10), 10U);
    const std::int64_t number = random.between(-2, 2);
    seen.insert(number);
    EXPECT_TRUE(number >= -2 && number <= 2);
  }
  EXPECT_EQ(seen.size(), 5U);  // both ends included
  EXPECT_FALSE(random.chance(0));
  EXPECT_TRUE(random.chance(1000));
}

TEST(Result, SaysWhatWentWrongForAPersonAndForTheLog) {
  const Result<int> refused = fail(ErrorCode::kInvalidRequest, "must be text", "input.text");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param, "input.text");
  EXPECT_FALSE(refused.error().retryable);
  const Result<int> failed = fail_errno("cannot open it", ENOENT);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_EQ(failed.error().message, "cannot open it: No such file or directory");
  EXPECT_EQ(failed.error().cause, "No such file or directory");
}

TEST(Result, SpellsCodesAsTheInterfaceDoes) {
  EXPECT_STREQ(error_code_name(ErrorCode::kQueueFull), "queue_full");
  EXPECT_STREQ(error_code_name(ErrorCode::kIdempotencyInFlight), "idempotency_in_flight");
  EXPECT_STREQ(error_code_name(ErrorCode::kInternal), "internal");
}

}  // namespace
}  // namespace turnpike
