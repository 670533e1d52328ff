#include "base/money.h"

#include <fmt/format.h>

#include <algorithm>

namespace turnpike {
namespace {

using Wide = __int128;

constexpr int kMoneyDigits = 9;  // behind the point of an amount: nano-USD
constexpr int kDigitsMax = 30;   // of a number's text that are believed
constexpr std::int64_t kRateUsdMax = 1'000'000;
constexpr Wide kPicosInUsd = 1'000'000'000'000;

// digits x 10^exponent.
struct Decimal {
  Wide digits = 0;
  int exponent = 0;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Nothing if the text is not a number: digits, at most one point, and an exponent where that is allowed.
std::optional<Decimal> parse_decimal(std::string_view text, bool with_exponent) {
  Decimal out;
  std::size_t i = 0;
  int digits = 0;
  bool point = false;
  for (; i < text.size() && (is_digit(text[i]) || (text[i] == '.' && !point)); ++i) {
    if (text[i] == '.') {
      point = true;
      continue;
    }
    if (++digits > kDigitsMax) return std::nullopt;
    out.digits = out.digits * 10 + (text[i] - '0');
    if (point) --out.exponent;
  }
  if (digits == 0 || (i > 0 && text[i - 1] == '.')) return std::nullopt;
  if (i < text.size() && with_exponent && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    const bool negative = i < text.size() && text[i] == '-';
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    int exponent = 0;
    const std::size_t first = i;
    for (; i < text.size() && is_digit(text[i]) && i - first < 3; ++i)
      exponent = exponent * 10 + (text[i] - '0');
    if (i == first) return std::nullopt;
    out.exponent += negative ? -exponent : exponent;
  }
  if (i != text.size()) return std::nullopt;
  return out;
}

struct Scaled {
  Wide value = 0;
  bool exact = true;  // false: rounded up
};

// `decimal` x 10^shift as a whole number; nothing where it is above `max`.
std::optional<Scaled> scaled(Decimal decimal, int shift, Wide max) {
  Scaled out{.value = decimal.digits, .exact = true};
  int power = decimal.exponent + shift;
  for (; power > 0 && out.value != 0; --power) {
    if (out.value > max / 10) return std::nullopt;
    out.value *= 10;
  }
  for (; power < 0 && out.value != 0; ++power) {
    if (out.value % 10 != 0) {
      out.exact = false;
      out.value += 10;  // the whole of it is rounded up, once: what is behind is more than nothing
    }
    out.value /= 10;
  }
  if (out.value > max) return std::nullopt;
  return out;
}

std::string digits_of(unsigned __int128 value) {
  std::string text;
  do {
    text.push_back(static_cast<char>('0' + static_cast<int>(value % 10)));
    value /= 10;
  } while (value > 0);
  std::ranges::reverse(text);
  return text;
}

// value / 10^places, without zeros at the end.
std::string decimal_text(unsigned __int128 value, int places) {
  std::string text = digits_of(value);
  if (text.size() <= static_cast<std::size_t>(places))
    text.insert(0, static_cast<std::size_t>(places) + 1 - text.size(), '0');
  text.insert(text.size() - static_cast<std::size_t>(places), ".");
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

std::optional<Money> cost_of(std::int64_t units, Rate rate) {
  if (units < 0 || rate.picos < 0 || rate.per <= 0) return std::nullopt;
  const Wide divisor = Wide{1000} * rate.per;
  const Wide nanos = (Wide{units} * rate.picos + divisor - 1) / divisor;
  if (nanos > Money::kMax) return std::nullopt;
  return Money{static_cast<std::int64_t>(nanos)};
}

Result<Money> parse_money(std::string_view text, Money max) {
  const auto wrong = [&] {
    return fail(
        ErrorCode::kInvalidRequest,
        fmt::format(
            "must be an amount of USD as a decimal number, such as 12.50, with at most {} digits behind "
            "the point, from 0 to {}",
            kMoneyDigits, to_string(max)));
  };
  const auto decimal = parse_decimal(text, false);
  if (!decimal) return wrong();
  const auto nanos = scaled(*decimal, kMoneyDigits, max.nanos);
  if (!nanos || !nanos->exact) return wrong();
  return Money{static_cast<std::int64_t>(nanos->value)};
}

std::string to_string(Money money) {
  const bool negative = money.nanos < 0;
  const auto size = static_cast<unsigned __int128>(negative ? -Wide{money.nanos} : Wide{money.nanos});
  return (negative ? "-" : "") + decimal_text(size, kMoneyDigits);
}

Result<Rate> parse_rate(std::string_view text, std::int64_t for_units, std::int64_t per, bool* rounded_up) {
  const auto wrong = [](const char* why) { return fail(ErrorCode::kInvalidRequest, why); };
  const auto decimal = parse_decimal(text, true);
  if (!decimal || for_units <= 0 || per <= 0) {
    return wrong("must be a price in USD as a decimal number, such as 0.15 or 1.5e-07, and not negative");
  }
  // Pico-USD of `for_units`; then of `per`.
  const auto picos = scaled(*decimal, 12, kPicosInUsd * kRateUsdMax * for_units);
  if (!picos) return wrong("is above a million USD a unit, which no price is");
  const bool exact = picos->exact && picos->value * per % for_units == 0;
  if (!exact && rounded_up == nullptr) {
    return wrong("is finer than a pico-USD (0.000000000001) a unit, which is the finest price");
  }
  if (rounded_up != nullptr) *rounded_up = !exact;
  const Wide value = (picos->value * per + for_units - 1) / for_units;
  if (value > Money::kMax || value > kPicosInUsd * kRateUsdMax * per) {
    return wrong("is above a million USD a unit, which no price is");
  }
  return Rate{.picos = static_cast<std::int64_t>(value), .per = per};
}

std::string to_string(Rate rate, std::int64_t for_units) {
  // Of `per` units, so that nothing is divided that does not divide.
  const Wide picos = Wide{rate.picos} * for_units;
  if (picos % rate.per == 0) return decimal_text(static_cast<unsigned __int128>(picos / rate.per), 12);
  const Wide finer = picos * 1'000'000 / rate.per;
  return decimal_text(static_cast<unsigned __int128>(finer), 18);
}

}  // namespace turnpike
