#include "base/ids.h"

#include <algorithm>

namespace turnpike {
namespace {

constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::int64_t kEpochMillis = 1'577'836'800'000;  // 2020-01-01T00:00:00Z
constexpr unsigned kUniqueBits = 22;
constexpr std::size_t kDigits = 13;

std::int64_t millis_since_epoch(Wall t) {
  return std::max<std::int64_t>(0, unix_micros(t) / 1000 - kEpochMillis);
}

}  // namespace

std::string encode_id(std::string_view prefix, std::uint64_t value) {
  std::string text(prefix.size() + kDigits, '0');
  std::copy(prefix.begin(), prefix.end(), text.begin());
  for (std::size_t i = 0; i < kDigits; ++i) {
    text[text.size() - 1 - i] = kAlphabet[value & 31];
    value >>= 5;
  }
  return text;
}

std::optional<std::uint64_t> decode_id(std::string_view prefix, std::string_view text) {
  if (text.size() != prefix.size() + kDigits || !text.starts_with(prefix)) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = prefix.size(); i < text.size(); ++i) {
    const auto digit = kAlphabet.find(text[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    if (i == prefix.size() && digit > 15) return std::nullopt;  // 13 digits carry 65 bits; ids have 64
    value = (value << 5) | digit;
  }
  if (value == 0) return std::nullopt;
  return value;
}

std::uint64_t id_floor(Wall t) {
  return static_cast<std::uint64_t>(millis_since_epoch(t)) << kUniqueBits;
}

Wall id_time(std::uint64_t value) {
  return wall_from_micros((static_cast<std::int64_t>(value >> kUniqueBits) + kEpochMillis) * 1000);
}

std::uint64_t IdSource::next(Wall now) {
  last_ = std::max(last_ + 1, id_floor(now) + 1);
  return last_;
}

std::uint64_t IdSource::next_block(Wall now, std::uint64_t count) {
  const std::uint64_t first = next(now);
  last_ += count - 1;
  return first;
}

}  // namespace turnpike
