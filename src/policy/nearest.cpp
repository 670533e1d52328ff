#include "policy/nearest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace turnpike::policy {
namespace {

constexpr std::size_t kWordBytesMax = 64;  // the table below is quadratic; no key of ours is longer
constexpr std::size_t kListedMax = 20;

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, kWordBytesMax);
  b = b.substr(0, kWordBytesMax);
  // Row i holds the distances of a's first i letters to each prefix of b (optimal string alignment).
  std::vector<std::vector<std::size_t>> row(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) row[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) row[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = row[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[i][j] = std::min({row[i - 1][j] + 1, row[i][j - 1] + 1, change});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[i][j] = std::min(row[i][j], row[i - 2][j - 2] + 1);
    }
  }
  return row[a.size()][b.size()];
}

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& known) {
  // A word of one or two letters is near to everything; it must at least keep one letter.
  std::size_t best =
      std::min(std::max<std::size_t>(2, word.size() / 3) + 1, std::max<std::size_t>(word.size(), 1));
  std::optional<std::string> found;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance >= best) continue;
    best = distance;
    found = candidate;
  }
  return found;
}

std::string suggestion(std::string_view word, std::vector<std::string> known) {
  if (known.empty()) return "there are none";
  if (const auto near = nearest(word, known)) return fmt::format("did you mean `{}`?", *near);
  if (known.size() == 1) return fmt::format("there is only {}", known.front());
  std::ranges::sort(known);
  const bool cut = known.size() > kListedMax;
  if (cut) known.resize(kListedMax);
  return fmt::format("there are {}{}", fmt::join(known, ", "), cut ? ", ..." : "");
}

std::string possession(const std::vector<std::string>& names) {
  if (names.empty()) return "it has none";
  const std::size_t shown = std::min(names.size(), kListedMax);
  return fmt::format("it has {}{}",
                     fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                     shown < names.size() ? ", ..." : "");
}

}  // namespace turnpike::policy
