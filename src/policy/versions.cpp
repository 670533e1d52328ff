#include "policy/versions.h"

#include <algorithm>

#include "policy/numbers.h"

namespace turnpike::policy {
namespace {

constexpr std::size_t kNumberDigitsMax = 9;  // of a part: it fits 32 bits

bool digits_only(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::uint32_t> parse_part(std::string_view text) {
  if (text.size() > kNumberDigitsMax) return std::nullopt;
  const auto number = parse_whole(text);
  if (!number) return std::nullopt;
  return static_cast<std::uint32_t>(*number);
}

// The text up to the next `mark`, which is taken away with it.
std::string_view take(std::string_view& rest, char mark) {
  const std::size_t at = rest.find(mark);
  const std::string_view piece = rest.substr(0, at);
  rest = at == std::string_view::npos ? std::string_view{} : rest.substr(at + 1);
  return piece;
}

// Identifiers between points: letters, digits and hyphens; those of digits alone without a leading zero.
bool is_pre(std::string_view text) {
  if (text.ends_with('.')) return false;
  do {
    const std::string_view piece = take(text, '.');
    const bool letters = !piece.empty() && std::ranges::all_of(piece, [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
    });
    if (!letters || (digits_only(piece) && !parse_part(piece))) return false;
  } while (!text.empty());
  return true;
}

std::optional<VersionText> parse_number(std::string_view text) {
  VersionText out;
  out.kind = VersionText::Kind::kNumber;
  text = text.substr(0, text.find('+'));  // what names a build has no place in the order
  const std::size_t dash = text.find('-');
  std::string_view numbers = text.substr(0, dash);
  if (numbers.ends_with('.')) return std::nullopt;
  do {
    const auto part = parse_part(take(numbers, '.'));
    if (!part || out.parts == out.number.size()) return std::nullopt;
    out.number[out.parts++] = *part;
  } while (!numbers.empty());
  if (dash == std::string_view::npos) return out;
  out.pre = text.substr(dash + 1);
  if (out.parts != out.number.size() || !is_pre(out.pre)) return std::nullopt;
  return out;
}

std::strong_ordering compare_identifiers(std::string_view a, std::string_view b) {
  const bool a_counts = digits_only(a);
  const bool b_counts = digits_only(b);
  if (a_counts && b_counts) return *parse_part(a) <=> *parse_part(b);
  if (a_counts != b_counts) return a_counts ? std::strong_ordering::less : std::strong_ordering::greater;
  return a <=> b;
}

std::strong_ordering compare_pre(std::string_view a, std::string_view b) {
  // A release is behind all that comes before it.
  if (a.empty() || b.empty()) return a.empty() <=> b.empty();
  while (!a.empty() && !b.empty()) {
    const auto order = compare_identifiers(take(a, '.'), take(b, '.'));
    if (order != std::strong_ordering::equal) return order;
  }
  return b.empty() <=> a.empty();
}

}  // namespace

const char* version_status_name(VersionStatus status) {
  switch (status) {
    case VersionStatus::kUnverified:
      return "unverified";
    case VersionStatus::kBeta:
      return "beta";
    case VersionStatus::kApproved:
      return "approved";
    case VersionStatus::kBlessed:
      return "blessed";
    case VersionStatus::kRetired:
      return "retired";
    case VersionStatus::kDiscovered:
      return "discovered";
  }
  return "unverified";
}

std::optional<std::chrono::sys_days> parse_day(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return std::nullopt;
  const auto part = [text](std::size_t at, std::size_t size) -> std::optional<unsigned> {
    unsigned value = 0;
    for (const char c : text.substr(at, size)) {
      if (c < '0' || c > '9') return std::nullopt;
      value = value * 10 + static_cast<unsigned>(c - '0');
    }
    return value;
  };
  const auto year = part(0, 4);
  const auto month = part(5, 2);
  const auto day = part(8, 2);
  if (!year || !month || !day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                         std::chrono::month(*month), std::chrono::day(*day)};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days(date);
}

VersionText parse_version(std::string_view text) {
  if (const auto day = parse_day(text)) {
    VersionText out;
    out.kind = VersionText::Kind::kDate;
    out.day = *day;
    return out;
  }
  return parse_number(text).value_or(VersionText{});
}

std::strong_ordering compare_numbers(const VersionText& a, const VersionText& b) {
  const auto order = a.number <=> b.number;
  return order != std::strong_ordering::equal ? order : compare_pre(a.pre, b.pre);
}

bool same_major(const VersionText& a, const VersionText& b) {
  if (a.kind != VersionText::Kind::kNumber || b.kind != VersionText::Kind::kNumber) return false;
  return a.number[0] == b.number[0] && (a.number[0] != 0 || a.number[1] == b.number[1]);
}

bool within(const VersionText& version, const VersionText& range) {
  if (version.kind != VersionText::Kind::kNumber || range.kind != VersionText::Kind::kNumber ||
      range.parts >= range.number.size())
    return false;
  return std::equal(range.number.begin(), range.number.begin() + range.parts, version.number.begin());
}

}  // namespace turnpike::policy
