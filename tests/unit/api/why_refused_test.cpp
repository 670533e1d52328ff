#include "api/why_refused.h"

#include <gtest/gtest.h>

namespace turnpike::api {
namespace {

node::Refusal refused(std::string scope, std::string meter, std::string limit, std::string used,
                      std::string held) {
  node::Refusal refusal;
  refusal.plan = "free";
  refusal.code = ErrorCode::kQuotaExceeded;
  LimitReached reached;
  reached.scope = std::move(scope);
  reached.meter = std::move(meter);
  reached.limit = std::move(limit);
  reached.used = std::move(used);
  reached.held = std::move(held);
  reached.wanted = "1";
  reached.resets_at = 1'790'000'000;
  refusal.limit = std::make_shared<const LimitReached>(reached);
  return refusal;
}

engine::Holder holder(std::uint64_t id, bool call = false) {
  engine::Holder holder;
  holder.job = JobId{id};
  holder.call = call;
  return holder;
}

TEST(WhyRefused, SaysTheLimitItsUseWhoHoldsItAndWhatToDo) {
  node::Refusal refusal = refused("account", "blog", "5", "4", "1");
  refusal.held_by = {holder(7)};
  refusal.upgrade_to = "basic";
  EXPECT_EQ(
      refusal_summary(refusal),
      "Refused because plan free allows 5 blog in this period; 4 are used, 1 is held by " +
          to_string(JobId{7}) +
          ", and this asked for 1 more. It resets at 2026-09-21T14:13:20.000Z. Plan basic has it, or more of "
          "it.");
}

TEST(WhyRefused, NamesAFewHoldersAndCountsTheRest) {
  node::Refusal refusal = refused("account", "cost_usd", "0.5", "0", "0.5");
  refusal.held_by = {holder(1), holder(2, true), holder(3), holder(4), holder(5)};
  const std::string words = refusal_summary(refusal);
  EXPECT_TRUE(words.contains("allows 0.5 USD in this period; 0 are used, 0.5 are held by ")) << words;
  EXPECT_TRUE(words.contains(", call " + to_string(JobId{2}) + ", " + to_string(JobId{3}) + " and 2 more,"))
      << words;
}

TEST(WhyRefused, DoesNotMakeHoldersUp) {
  node::Refusal refusal = refused("account", "audio_seconds", "60", "60", "0");
  EXPECT_TRUE(refusal_summary(refusal).contains("60 audio seconds in this period; 60 are used, and this"));
  refusal = refused("account", "jobs", "5", "4", "1");
  EXPECT_TRUE(refusal_summary(refusal).contains("1 is held by work that has not ended, and"));
}

TEST(WhyRefused, ATeamsWorkIsNotNamedAsTheAccounts) {
  node::Refusal refusal = refused("team", "jobs", "5", "3", "2");
  refusal.held_by.emplace();
  EXPECT_TRUE(refusal_summary(refusal).contains(
      "because its team allows 5 jobs in this period; 3 are used, 2 are held "
      "by work of its other accounts, and"))
      << refusal_summary(refusal);
  refusal.held_by = {holder(1)};
  EXPECT_TRUE(refusal_summary(refusal).contains("held by work of all its accounts, of this one " +
                                                to_string(JobId{1})));
}

TEST(WhyRefused, RatesAndCallsAtOnceHaveWordsOfTheirOwn) {
  node::Refusal refusal = refused("account", "requests_per_minute", "2", "2", "0");
  LimitReached endless = *refusal.limit;
  endless.resets_at.reset();
  refusal.limit = std::make_shared<const LimitReached>(endless);
  refusal.retry_after = std::chrono::seconds(3);
  EXPECT_EQ(
      refusal_summary(refusal),
      "Refused because plan free allows bursts of 2 (requests_per_minute); 2 are used. Come back after 3 s.");
  endless.meter = "concurrent_calls";
  refusal.limit = std::make_shared<const LimitReached>(endless);
  refusal.held_by = {holder(9, true)};
  EXPECT_EQ(refusal_summary(refusal),
            "Refused because plan free allows 2 calls at once; 2 are being answered (call " +
                to_string(JobId{9}) + "). Come back after 3 s.");
}

TEST(WhyRefused, WithoutFiguresItSaysWhatTheErrorSaid) {
  node::Refusal refusal;
  refusal.code = ErrorCode::kNotInPlan;
  refusal.message = "plan free does not have task video; plans that have it: pro";
  refusal.upgrade_to = "pro";
  EXPECT_EQ(refusal_summary(refusal),
            "Refused: Plan free does not have task video; plans that have it: pro. Plan pro has it, or more "
            "of it.");
}

}  // namespace
}  // namespace turnpike::api
