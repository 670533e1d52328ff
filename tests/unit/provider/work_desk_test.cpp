#include "provider/work_desk.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>

#include "provider/provider_kinds.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Worker kAnn{.key = KeyId{1}};
constexpr Worker kBob{.key = KeyId{2}};
constexpr Worker kAdmin{.key = {}, .admin = true};
constexpr ClaimId kClaim{10};

// Tries that run on a context which goes on only as far as the test lets it.
class Desk : public testing::Test {
 protected:
  Desk() {
    policy::Provider config;
    config.name = "own";
    config.kind = policy::ProviderKind::kPull;
    config.lease = milliseconds(20);
    hasty_ = make_pull_provider(config, desk_);
    config.lease = seconds(60);
    patient_ = make_pull_provider(config, desk_);
    desk_->open(kClaim, kAnn, bell());
  }
  ~Desk() override {
    for (auto& [id, outcome] : outcomes_) {
      if (!outcome) desk_->give_back(id);
    }
    desk_->close(kClaim);
    io_.run_for(seconds(10));
  }

  std::shared_ptr<Bell> bell() { return std::make_shared<Bell>(io_.get_executor()); }
  void start(Provider& provider, TryId id, Duration timeout = seconds(60)) {
    Request request;
    request.job = JobId{id.value + 1'000};
    request.try_id = id;
    request.task = "forge";
    request.input = "{}";
    request.timeout = timeout;
    request.claim = kClaim;
    outcomes_.emplace(id, std::nullopt);
    asio::co_spawn(io_, run(provider, std::move(request)), [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
    settle();
  }
  asio::awaitable<void> run(Provider& provider, Request request) {
    const TryId id = request.try_id;
    Progress progress = [this](int percent, std::string_view message) {
      percent_ = percent;
      message_ = message;
    };
    Outcome outcome = co_await provider.run(std::move(request), std::move(progress));
    desk_->settled(kClaim, id);
    outcomes_.at(id) = std::move(outcome);
  }
  // Whatever can go on without time passing.
  void settle() {
    io_.restart();
    io_.poll();
  }
  const Outcome& ended(TryId id) {
    io_.restart();
    while (!outcomes_.at(id) && io_.run_one_for(seconds(10)) > 0) {
    }
    return outcomes_.at(id).value();
  }
  bool runs(TryId id) const { return !outcomes_.at(id); }

  asio::io_context io_{1};
  std::shared_ptr<WorkDesk> desk_ = std::make_shared<WorkDesk>();
  std::unique_ptr<Provider> hasty_, patient_;
  std::map<TryId, std::optional<Outcome>> outcomes_;
  int percent_ = -1;
  std::string message_;
};

TEST_F(Desk, AClaimIsFilledOnceAllItsTriesAreThere) {
  EXPECT_FALSE(desk_->filled(kClaim));
  start(*patient_, TryId{1});
  EXPECT_FALSE(desk_->filled(kClaim)) << "how many come is not known yet";
  desk_->expect(kClaim, 2);
  EXPECT_FALSE(desk_->filled(kClaim));
  start(*patient_, TryId{2});
  EXPECT_TRUE(desk_->filled(kClaim));
  EXPECT_EQ(desk_->take(kClaim).size(), 2U);
  EXPECT_TRUE(desk_->take(kClaim).empty());
}

TEST_F(Desk, ATryThatEndedOnItsWayIsNotWaitedFor) {
  desk_->expect(kClaim, 2);
  start(*patient_, TryId{1});
  desk_->settled(kClaim, TryId{2});
  EXPECT_TRUE(desk_->filled(kClaim));
  EXPECT_EQ(desk_->take(kClaim).size(), 1U);
}

TEST_F(Desk, AReportEndsTheTryAndIsAcceptedOnce) {
  start(*patient_, TryId{1});
  ASSERT_EQ(desk_->take(kClaim).size(), 1U);
  ASSERT_TRUE(desk_->progress(TryId{1}, kAnn, 30, "hot"));
  ASSERT_TRUE(
      desk_->attach(TryId{1}, kAnn, {.name = "a", .path = "/x", .mime = "text/plain", .extension = "txt"}));
  ASSERT_TRUE(desk_->report(TryId{1}, kAnn, Success{.output = R"({"n":1})"}, bell()));
  EXPECT_FALSE(desk_->has_settled(TryId{1}));
  const auto again = desk_->report(TryId{1}, kAnn, Success{}, bell());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kConflict);
  const auto* success = std::get_if<Success>(&ended(TryId{1}));
  ASSERT_NE(success, nullptr);
  EXPECT_EQ(success->output, R"({"n":1})");
  EXPECT_EQ(success->files.size(), 1U);
  EXPECT_EQ(percent_, 30);
  EXPECT_EQ(message_, "hot");
  EXPECT_TRUE(desk_->has_settled(TryId{1}));
  EXPECT_FALSE(desk_->heartbeat(TryId{1}, kAnn));
}

TEST_F(Desk, ProgressNeverFalls) {
  start(*patient_, TryId{1});
  desk_->take(kClaim);
  ASSERT_TRUE(desk_->progress(TryId{1}, kAnn, 50, "half"));
  settle();
  ASSERT_TRUE(desk_->progress(TryId{1}, kAnn, 20, "back"));
  settle();
  EXPECT_EQ(percent_, 50);
  EXPECT_EQ(message_, "back");
}

TEST_F(Desk, AnothersWorkIsNobodyElsesButAnAdmins) {
  start(*patient_, TryId{1});
  EXPECT_FALSE(desk_->heartbeat(TryId{1}, kAnn)) << "it was not handed over yet";
  desk_->take(kClaim);
  EXPECT_TRUE(desk_->heartbeat(TryId{1}, kAnn));
  EXPECT_TRUE(desk_->heartbeat(TryId{1}, kAdmin));
  const auto refused = desk_->heartbeat(TryId{1}, kBob);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, desk_->heartbeat(TryId{99}, kBob).error().message);
  EXPECT_FALSE(desk_->report(TryId{1}, kBob, Success{}, bell()));
  EXPECT_FALSE(desk_->folder(TryId{1}, kBob));
  EXPECT_TRUE(runs(TryId{1}));
}

TEST_F(Desk, SilenceForALeaseLosesTheTry) {
  start(*hasty_, TryId{1});
  desk_->take(kClaim);
  const auto* failure = std::get_if<Failure>(&ended(TryId{1}));
  ASSERT_NE(failure, nullptr);
  EXPECT_TRUE(failure->lost);
  EXPECT_FALSE(failure->billed.has_value());
  const auto late = desk_->report(TryId{1}, kAnn, Success{}, bell());
  ASSERT_FALSE(late);
  EXPECT_TRUE(late.error().message.contains("lease")) << late.error().message;
}

TEST_F(Desk, NotTakenItWaitsLongerThanALease) {
  start(*hasty_, TryId{1}, milliseconds(80));
  const auto* failure = std::get_if<Failure>(&ended(TryId{1}));
  ASSERT_NE(failure, nullptr);
  EXPECT_FALSE(failure->lost);
  EXPECT_EQ(failure->failure, policy::FailureClass::kTimeout);
}

TEST_F(Desk, WhatNobodyTakesGoesBack) {
  start(*patient_, TryId{1});
  desk_->close(kClaim);
  EXPECT_FALSE(std::get<Cancelled>(ended(TryId{1})).why.empty());
  start(*patient_, TryId{2});
  EXPECT_FALSE(std::get<Cancelled>(ended(TryId{2})).why.empty()) << "it came after its claim had gone";
}

TEST_F(Desk, WhatDidNotReachItsWorkerGoesBack) {
  start(*patient_, TryId{1});
  desk_->take(kClaim);
  desk_->give_back(TryId{1});
  EXPECT_FALSE(std::get<Cancelled>(ended(TryId{1})).why.empty());
  EXPECT_FALSE(desk_->heartbeat(TryId{1}, kAnn));
}

TEST_F(Desk, FilesOfATryAreBounded) {
  start(*patient_, TryId{1});
  desk_->take(kClaim);
  for (std::size_t i = 0; i < WorkDesk::kFilesMax; ++i) ASSERT_TRUE(desk_->attach(TryId{1}, kAnn, {}));
  const auto refused = desk_->attach(TryId{1}, kAnn, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnprocessable);
}

}  // namespace
}  // namespace turnpike::provider
