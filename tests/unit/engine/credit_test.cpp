// What a class is owed, in figures.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

#include "engine/order.h"

namespace turnpike::engine {
namespace {

using policy::PriorityClass;

TEST(Credit, OfAHugePoolAndAVeryLongJobDoesNotOverflow) {
  Order order;
  order.reshape({.slots = std::numeric_limits<std::uint32_t>::max(),
                 .headroom = 0,
                 .share_permille = {50, 100, 200, 0}});
  order.enter(AccountId{1}, PriorityClass::kCritical, 1);
  order.enter(AccountId{2}, PriorityClass::kLow, 1);
  constexpr SlotTime kYear = 365LL * 24 * 3600 * 1'000'000;
  order.started({.account = AccountId{1}, .priority_class = PriorityClass::kCritical}, kYear);
  SlotTime before = 0;
  for (int i = 0; i < 100; ++i) {
    order.consume(kYear * 100'000);
    const SlotTime now = order.credit(PriorityClass::kLow);
    EXPECT_GE(now, before);
    before = now;
  }
  EXPECT_EQ(order.credit(PriorityClass::kCritical), 0);
}

TEST(Credit, IsEarnedBehindAHigherClassOnly) {
  Order order;
  order.reshape({.slots = 1, .headroom = 0, .share_permille = {50, 100, 200, 0}});
  order.enter(AccountId{1}, PriorityClass::kHigh, 1);
  order.consume(1'000'000);
  EXPECT_EQ(order.credit(PriorityClass::kHigh), 0);
  order.enter(AccountId{2}, PriorityClass::kCritical, 1);
  order.consume(1'000'000);
  EXPECT_EQ(order.credit(PriorityClass::kHigh), 200'000);
}

}  // namespace
}  // namespace turnpike::engine
