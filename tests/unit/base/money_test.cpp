#include "base/money.h"

#include <gtest/gtest.h>

#include <boost/multiprecision/cpp_int.hpp>

#include "base/random.h"

namespace turnpike {
namespace {

using boost::multiprecision::cpp_int;
using boost::multiprecision::cpp_rational;

std::int64_t any_size(Random& random, std::int64_t most) {
  const std::int64_t top = random.chance(300) ? most : random.between(1, 1'000'000);
  return random.between(0, top);
}

TEST(Money, ALineIsTheExactProductRoundedUpOnce) {
  Random random(1);
  for (int round = 0; round < 20'000; ++round) {
    const std::int64_t units = any_size(random, INT64_MAX);
    const Rate rate{.picos = any_size(random, INT64_MAX),
                    .per = random.chance(500) ? 1 : random.between(1, 100'000)};
    const cpp_rational exact = cpp_rational(cpp_int(units) * rate.picos) / (cpp_int(1000) * rate.per);
    cpp_int up = numerator(exact) / denominator(exact);
    if (cpp_rational(up) < exact) ++up;
    const auto cost = cost_of(units, rate);
    if (up > Money::kMax) {
      EXPECT_FALSE(cost) << units << " x " << rate.picos << "/" << rate.per;
    } else {
      ASSERT_TRUE(cost) << units << " x " << rate.picos << "/" << rate.per;
      EXPECT_EQ(cpp_int(cost->nanos), up);
    }
  }
}

TEST(Money, RefusesWhatIsNegative) {
  EXPECT_FALSE(cost_of(-1, Rate{1, 1}));
  EXPECT_FALSE(cost_of(1, Rate{-1, 1}));
  EXPECT_FALSE(cost_of(1, Rate{1, 0}));
}

TEST(Money, SumsStopInsteadOfWrapping) {
  const Money most{Money::kMax};
  EXPECT_EQ(most + most, most);
  EXPECT_EQ(-most - most, -most);
  EXPECT_EQ(most + Money{-1} + Money{5}, most);
}

TEST(Money, WhatIsPrintedIsReadBack) {
  Random random(2);
  for (int round = 0; round < 20'000; ++round) {
    const Money money{any_size(random, Money::kMax)};
    const auto read = parse_money(to_string(money));
    ASSERT_TRUE(read) << to_string(money);
    EXPECT_EQ(*read, money);
  }
  EXPECT_EQ(to_string(Money{0}), "0");
  EXPECT_EQ(to_string(Money{-1}), "-0.000000001");
  EXPECT_EQ(to_string(Money{12'500'000'000}), "12.5");
}

TEST(Money, ReadsDecimalNumbersAndNothingElse) {
  EXPECT_EQ(parse_money("20.00")->nanos, 20'000'000'000);
  EXPECT_EQ(parse_money("0.000000001")->nanos, 1);
  for (const char* wrong : {"", "-1", "+1", "1.", ".", "1,5", "1e3", "0.0000000001", "4000000001", "0x10",
                            " 1", "1 ", "1.2.3", "99999999999999999999999999999999999999999999"}) {
    EXPECT_FALSE(parse_money(wrong)) << wrong;
  }
  EXPECT_EQ(parse_money("7", Money{7'000'000'000})->nanos, 7'000'000'000);
  EXPECT_FALSE(parse_money("7.000000001", Money{7'000'000'000}));
}

TEST(Money, RatesAreExactWithAndWithoutExponents) {
  EXPECT_EQ(*parse_rate("0.15", 1'000'000), (Rate{150'000, 1}));
  EXPECT_EQ(*parse_rate("1.5e-07", 1), (Rate{150'000, 1}));
  EXPECT_EQ(*parse_rate("15E-8", 1), (Rate{150'000, 1}));
  EXPECT_EQ(*parse_rate("0.0001", 1'000, 1'000), (Rate{100'000'000, 1'000}));
  EXPECT_EQ(*parse_rate("0", 1), (Rate{0, 1}));
  for (const char* wrong : {"1e-13", "-1", "", "e5", "1e", "1e+", "1e9999", "1000001", "nan", "inf"}) {
    EXPECT_FALSE(parse_rate(wrong, 1)) << wrong;
  }
}

TEST(Money, ARateThatIsPrintedIsReadBack) {
  Random random(3);
  for (int round = 0; round < 5'000; ++round) {
    const Rate rate{.picos = random.between(0, 1'000'000'000'000), .per = 1};
    const auto read = parse_rate(to_string(rate, 1'000'000), 1'000'000);
    ASSERT_TRUE(read) << to_string(rate, 1'000'000);
    EXPECT_EQ(*read, rate);
  }
}

}  // namespace
}  // namespace turnpike
