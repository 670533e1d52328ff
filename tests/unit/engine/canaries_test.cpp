#include "engine/canaries.h"

#include <gtest/gtest.h>

namespace turnpike::engine {
namespace {

using std::chrono::milliseconds;

class CanariesTest : public ::testing::Test {
 protected:
  CanariesTest() {
    overlay_.canaries = {{.id = "c",
                          .model = "writer",
                          .candidate = "2",
                          .baseline = "1",
                          .plans = {"pro"},
                          .share_permille = 100,
                          .guard = {.tries_min = 10}}};
    canaries_.follow(overlay_);
  }
  void run(bool candidate, int completed, int failed, Duration took = milliseconds(100),
           std::int64_t nanos = 1'000) {
    for (int i = 0; i < completed; ++i) canaries_.completed("c", candidate, took, Money{nanos});
    for (int i = 0; i < failed; ++i) canaries_.failed("c", candidate);
  }

  policy::Overlay overlay_;
  Canaries canaries_;
};

TEST_F(CanariesTest, AreNotJudgedBeforeEnoughIsKnown) {
  run(true, 0, 9);
  EXPECT_FALSE(canaries_.judge("c"));
  run(true, 0, 1);
  EXPECT_EQ(canaries_.judge("c"), "10 of 10 tries of 2 failed, of 1 0 of 0");
  EXPECT_FALSE(canaries_.judge("c")) << "once";
  EXPECT_FALSE(canaries_.judge("another"));
}

TEST_F(CanariesTest, FailAsOftenAsTheirBaselineAndALittleMore) {
  run(false, 80, 20);
  run(true, 80, 20);
  EXPECT_FALSE(canaries_.judge("c"));
  run(true, 0, 10);  // 30 of 110: 272 permille, above 200 + 50
  EXPECT_TRUE(canaries_.judge("c"));
}

TEST_F(CanariesTest, MayNotBeMuchSlowerOrDearer) {
  run(false, 20, 0);
  run(true, 20, 0, milliseconds(150));
  EXPECT_FALSE(canaries_.judge("c"));
  run(true, 40, 0, milliseconds(400));
  EXPECT_TRUE(canaries_.judge("c")->starts_with("nine of ten"));
  overlay_.canaries[0].candidate = "3";
  canaries_.follow(overlay_);
  run(false, 20, 0);
  run(true, 20, 0, milliseconds(100), 2'000);
  EXPECT_FALSE(canaries_.judge("c"));
  run(true, 1, 0, milliseconds(100), 2'021);
  EXPECT_TRUE(canaries_.judge("c"));
}

TEST_F(CanariesTest, KeepTheirBooksWhileTheyCompareTheSame) {
  run(true, 5, 4);
  overlay_.canaries[0].share_permille = 500;
  canaries_.follow(overlay_);
  EXPECT_EQ(canaries_.books().at("c").candidate.tries, 9U);
  overlay_.canaries.clear();
  canaries_.follow(overlay_);
  EXPECT_TRUE(canaries_.books().empty());
  run(true, 5, 4);
  EXPECT_TRUE(canaries_.books().empty());
}

TEST_F(CanariesTest, AreNotJudgedWhereTheirGuardIsOff) {
  overlay_.canaries[0].guard.tries_min = 0;
  canaries_.follow(overlay_);
  run(true, 0, 1'000);
  EXPECT_FALSE(canaries_.judge("c"));
}

}  // namespace
}  // namespace turnpike::engine
