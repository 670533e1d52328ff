#include "policy/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

namespace turnpike::policy {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t size;
};
// Largest first, so that the text of a quantity takes the largest unit that divides it.
constexpr std::array kTimeUnits = {Unit{"d", 86'400'000'000}, Unit{"h", 3'600'000'000}, Unit{"m", 60'000'000},
                                   Unit{"s", 1'000'000}, Unit{"ms", 1'000}};
constexpr std::array kByteUnits = {Unit{"GiB", 1ULL << 30}, Unit{"GB", 1'000'000'000},
                                   Unit{"MiB", 1ULL << 20}, Unit{"MB", 1'000'000},
                                   Unit{"KiB", 1ULL << 10}, Unit{"KB", 1'000}};
constexpr std::uint64_t kQuantityMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Splits "30s" into 30 and "s".
std::optional<std::pair<std::uint64_t, std::string_view>> split_quantity(std::string_view text) {
  const auto* const unit = std::ranges::find_if_not(text, is_digit);
  const auto digits = static_cast<std::size_t>(unit - text.begin());
  const auto number = parse_whole(text.substr(0, digits));
  if (!number) return std::nullopt;
  return std::pair{*number, text.substr(digits)};
}

template <std::size_t N>
std::optional<std::uint64_t> in_units(std::string_view text, const std::array<Unit, N>& units) {
  const auto parts = split_quantity(text);
  if (!parts) return std::nullopt;
  const auto* const unit = std::ranges::find(units, parts->second, &Unit::name);
  if (unit == units.end() || parts->first > kQuantityMax / unit->size) return std::nullopt;
  return parts->first * unit->size;
}

// A decimal with at most `decimals` digits behind the point, scaled to a whole number.
std::optional<std::uint32_t> parse_scaled(std::string_view text, std::size_t decimals) {
  const std::size_t dot = std::min(text.find('.'), text.size());
  const auto whole = parse_whole(text.substr(0, dot));
  std::string fraction{dot < text.size() ? text.substr(dot + 1) : std::string_view{"0"}};
  if (!whole || *whole > 1'000'000 || fraction.empty() || !std::ranges::all_of(fraction, is_digit))
    return std::nullopt;
  while (fraction.size() > decimals && fraction.back() == '0') fraction.pop_back();
  if (fraction.size() > decimals) return std::nullopt;
  std::uint64_t scaled = *whole;
  for (std::size_t i = 0; i < decimals; ++i)
    scaled = scaled * 10 + (i < fraction.size() ? static_cast<std::uint64_t>(fraction[i] - '0') : 0);
  return static_cast<std::uint32_t>(scaled);
}

// Thousandths of `unit` with `decimals` digits, without zeros at the end.
std::string scaled_text(std::uint32_t value, std::uint32_t scale, std::size_t decimals) {
  std::string text = fmt::format("{}.{:0{}}", value / scale, value % scale, decimals);
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return text;
}

template <std::size_t N>
std::optional<std::string> exact_text(std::uint64_t value, const std::array<Unit, N>& units) {
  const auto* const unit =
      std::ranges::find_if(units, [value](const Unit& u) { return value >= u.size && value % u.size == 0; });
  if (unit == units.end()) return std::nullopt;
  return fmt::format("{}{}", value / unit->size, unit->name);
}

}  // namespace

std::optional<std::uint64_t> parse_whole(std::string_view text) {
  if (text.empty() || !std::ranges::all_of(text, is_digit) || (text.size() > 1 && text.front() == '0'))
    return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<Duration> parse_duration(std::string_view text) {
  const auto micros = in_units(text, kTimeUnits);
  if (!micros) return std::nullopt;
  return Duration{static_cast<std::int64_t>(*micros)};
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  if (const auto bare = parse_whole(text); bare && *bare <= kQuantityMax) return bare;
  return in_units(text, kByteUnits);
}

std::optional<std::uint32_t> parse_percent(std::string_view text) {
  if (!text.ends_with('%')) return std::nullopt;
  return parse_scaled(text.substr(0, text.size() - 1), 1);
}

std::optional<std::uint32_t> parse_factor(std::string_view text) {
  return parse_scaled(text, 3);
}

std::string duration_text(Duration duration) {
  if (duration.count() == 0) return "0s";
  const auto micros = static_cast<std::uint64_t>(duration.count());
  return exact_text(micros, kTimeUnits).value_or(fmt::format("{}us", micros));
}

std::string bytes_text(std::uint64_t bytes) {
  return exact_text(bytes, kByteUnits).value_or(fmt::format("{} {}", bytes, bytes == 1 ? "byte" : "bytes"));
}

std::string percent_text(std::uint32_t permille) {
  return scaled_text(permille, 10, 1) + "%";
}

std::string factor_text(std::uint32_t permille) {
  return scaled_text(permille, 1000, 3);
}

}  // namespace turnpike::policy
