#include "base/json_walk.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

namespace turnpike {
namespace {

constexpr std::uint64_t kOnes = 0x0101010101010101ULL;
constexpr std::uint64_t kHighs = 0x8080808080808080ULL;

// The high bit of each byte that is zero (and, above the first such byte, perhaps of others).
constexpr std::uint64_t zeros(std::uint64_t word) {
  return (word - kOnes) & ~word & kHighs;
}

struct Members : JsonVisitor {
  std::vector<JsonMember> found;
  void member(const JsonMember& each) { found.push_back(each); }
};

}  // namespace

std::size_t json_plain_until(std::string_view text, std::size_t at) {
  static_assert(std::endian::native == std::endian::little);
  for (; at + sizeof(std::uint64_t) <= text.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, sizeof word);
    const std::uint64_t control = (word - kOnes * 0x20) & ~word & kHighs;
    const std::uint64_t found = zeros(word ^ (kOnes * '"')) | zeros(word ^ (kOnes * '\\')) | control;
    if (found != 0) return at + static_cast<std::size_t>(std::countr_zero(found)) / 8;
  }
  while (at < text.size() && text[at] != '"' && text[at] != '\\' &&
         static_cast<unsigned char>(text[at]) >= 0x20) {
    ++at;
  }
  return at;
}

std::optional<std::string_view> JsonMember::plain_text() const {
  if (!is_text() || value.find('\\') != std::string_view::npos) return std::nullopt;
  return value.substr(1, value.size() - 2);
}

std::optional<std::int64_t> JsonMember::whole() const {
  std::int64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return number;
}

std::optional<std::vector<JsonMember>> json_members(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \n\r\t");
  if (first == std::string_view::npos || text[first] != '{') return std::nullopt;
  Members members;
  members.found.reserve(16);
  if (walk_json(text, members)) return std::nullopt;
  return std::move(members.found);
}

const JsonMember* find_member(const std::vector<JsonMember>& members, std::string_view name) {
  const auto found = std::ranges::find(members, name, &JsonMember::name);
  return found == members.end() ? nullptr : &*found;
}

}  // namespace turnpike
