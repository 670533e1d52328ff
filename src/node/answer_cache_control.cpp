#include "node/answer_cache_control.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <string>

namespace turnpike::node {
namespace {

constexpr std::int64_t kMaxAgeSeconds = 1LL << 31;  // as RFC 9111 lets larger ones be read

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool same_word(std::string_view text, std::string_view lower_word) {
  return std::ranges::equal(text, lower_word, [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
  });
}

std::optional<Duration> seconds_of(std::string_view text) {
  if (text.size() >= 2 && text.starts_with('"') && text.ends_with('"'))
    text = text.substr(1, text.size() - 2);
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  std::int64_t seconds = kMaxAgeSeconds;
  if (std::from_chars(text.data(), text.data() + text.size(), seconds).ec != std::errc{})
    seconds = kMaxAgeSeconds;
  return std::chrono::seconds(std::min(seconds, kMaxAgeSeconds));
}

// Up to the next comma that is not in quotes.
std::string_view next_directive(std::string_view& rest) {
  bool quoted = false;
  std::size_t end = 0;
  for (; end < rest.size() && (quoted || rest[end] != ','); ++end) {
    if (quoted && rest[end] == '\\')
      ++end;
    else if (rest[end] == '"')
      quoted = !quoted;
  }
  end = std::min(end, rest.size());
  const std::string_view directive = trimmed(rest.substr(0, end));
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return directive;
}

}  // namespace

CacheControl parse_cache_control(std::string_view header) {
  CacheControl out;
  while (!header.empty()) {
    const std::string_view directive = next_directive(header);
    const std::size_t equals = directive.find('=');
    const std::string_view name = trimmed(directive.substr(0, equals));
    if (same_word(name, "no-cache")) out.no_cache = true;
    if (same_word(name, "no-store")) out.no_store = true;
    if (!same_word(name, "max-age") || equals == std::string_view::npos) continue;
    // Of two the stricter one.
    const auto age = seconds_of(trimmed(directive.substr(equals + 1)));
    if (age) out.max_age = std::min(out.max_age.value_or(*age), *age);
  }
  return out;
}

const char* cache_result_name(CacheResult result) {
  switch (result) {
    case CacheResult::kNone:
      return "none";
    case CacheResult::kHit:
      return "hit";
    case CacheResult::kShared:
      return "shared";
    case CacheResult::kMiss:
      return "miss";
    case CacheResult::kBypass:
      return "bypass";
  }
  return "none";
}

}  // namespace turnpike::node
