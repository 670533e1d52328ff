// Money and prices, in integers. An amount is nano-USD; a price is pico-USD for one unit, or for a number of
// units. What an amount of units costs at a price is rounded up once, to the nano-USD. No floating point
// anywhere.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace turnpike {

// Nano-USD. Sums stop at +-kMax instead of wrapping: 4 billion USD, which no honest sum reaches.
struct Money {
  static constexpr std::int64_t kMax = 4'000'000'000'000'000'000;

  std::int64_t nanos = 0;

  friend constexpr auto operator<=>(Money, Money) = default;
  friend constexpr Money operator+(Money a, Money b) { return clamped(__int128{a.nanos} + b.nanos); }
  friend constexpr Money operator-(Money a, Money b) { return clamped(__int128{a.nanos} - b.nanos); }
  constexpr Money operator-() const { return {-nanos}; }
  constexpr Money& operator+=(Money other) { return *this = *this + other; }
  constexpr Money& operator-=(Money other) { return *this = *this - other; }

 private:
  static constexpr Money clamped(__int128 nanos) {
    if (nanos > kMax) return {kMax};
    if (nanos < -kMax) return {-kMax};
    return {static_cast<std::int64_t>(nanos)};
  }
};

// What `per` units cost.
struct Rate {
  std::int64_t picos = 0;  // >= 0
  std::int64_t per = 1;    // units, >= 1
  friend bool operator==(const Rate&, const Rate&) = default;
};

// `units` at `rate`, rounded up to the nano-USD. Nothing if units or rate are negative, or the amount is
// above Money::kMax.
std::optional<Money> cost_of(std::int64_t units, Rate rate);

// A decimal amount of USD, e.g. "12.5" or "0.000001": digits, at most one point, at most 9 digits behind it;
// not negative, at most `max`. Errors: kInvalidRequest, saying what would be right.
Result<Money> parse_money(std::string_view text, Money max = {Money::kMax});
// USD as a decimal number: "12.5", "0", "-0.000001". Exact, without an exponent.
std::string to_string(Money money);

// A decimal price in USD, with or without an exponent ("0.15", "1.5e-07"), for `for_units` units (for example
// 1,000,000 tokens), as the pico-USD of `per` units. Exact: a price that is not a whole number of pico-USD is
// an error (kInvalidRequest), as is a negative one or one above a million USD a unit; with `rounded_up` it is
// not: it is rounded up, and that is said there.
Result<Rate> parse_rate(std::string_view text, std::int64_t for_units, std::int64_t per = 1,
                        bool* rounded_up = nullptr);
// The price of `for_units` units in USD as a decimal number; the inverse of parse_rate.
std::string to_string(Rate rate, std::int64_t for_units);

}  // namespace turnpike
