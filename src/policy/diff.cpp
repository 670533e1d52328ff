#include "policy/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <span>
#include <vector>

namespace turnpike::policy {
namespace {

using Lines = std::vector<std::string_view>;

constexpr std::size_t kContext = 3;  // lines around a change

struct Edit {
  char kind = ' ';  // ' ', '-' or '+'
  std::string_view line;
};
using Edits = std::vector<Edit>;

Lines lines_of(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

void take(Edits& edits, char kind, std::span<const std::string_view> lines) {
  for (const std::string_view line : lines) edits.push_back({kind, line});
}

// E. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986: the furthest line of `a` that each
// diagonal k = x - y reaches with d edits, kept for every d so that the way can be walked back.
class Myers {
 public:
  Myers(std::span<const std::string_view> a, std::span<const std::string_view> b)
      : a_(a), b_(b), a_size_(static_cast<int>(a.size())), b_size_(static_cast<int>(b.size())) {}

  // False: more than kDiffEditsMax edits.
  bool find() {
    for (int d = 0; d <= kDiffEditsMax; ++d) {
      rounds_.emplace_back(static_cast<std::size_t>(2 * d + 1), 0);
      for (int k = -d; k <= d; k += 2) {
        int x = d == 0 ? 0 : start(d, k);
        while (x < a_size_ && x - k < b_size_ && x - k >= 0 && a_[at(x)] == b_[at(x - k)]) ++x;
        reached(d, k) = x;
        if (x >= a_size_ && x - k >= b_size_) return true;
      }
    }
    return false;
  }

  Edits edits() const {
    Edits found;
    int x = a_size_;
    int y = b_size_;
    for (int d = static_cast<int>(rounds_.size()) - 1; d > 0; --d) {
      const bool added = goes_down(d, x - y);
      const int k = x - y + (added ? 1 : -1);
      const int from_x = reached(d - 1, k);
      const int from_y = from_x - k;
      const int turn_x = added ? from_x : from_x + 1;
      while (x > turn_x) found.push_back({' ', a_[at(--x)]}), --y;
      found.push_back(added ? Edit{'+', b_[at(from_y)]} : Edit{'-', a_[at(from_x)]});
      x = from_x;
      y = from_y;
    }
    while (x > 0) found.push_back({' ', a_[at(--x)]});
    std::ranges::reverse(found);
    return found;
  }

 private:
  static std::size_t at(int index) { return static_cast<std::size_t>(index); }
  int& reached(int d, int k) { return rounds_[at(d)][at(k + d)]; }
  int reached(int d, int k) const { return rounds_[at(d)][at(k + d)]; }
  // Whether the way to diagonal k with d edits comes from the diagonal above it, by a line of `b`.
  bool goes_down(int d, int k) const {
    return k == -d || (k != d && reached(d - 1, k - 1) < reached(d - 1, k + 1));
  }
  int start(int d, int k) const {
    return goes_down(d, k) ? reached(d - 1, k + 1) : reached(d - 1, k - 1) + 1;
  }

  std::span<const std::string_view> a_, b_;
  int a_size_, b_size_;
  std::vector<std::vector<int>> rounds_;
};

Edits edits_between(const Lines& before, const Lines& after) {
  const auto shorter = std::min(before.size(), after.size());
  std::size_t head = 0;
  while (head < shorter && before[head] == after[head]) ++head;
  std::size_t tail = 0;
  while (tail < shorter - head && before[before.size() - 1 - tail] == after[after.size() - 1 - tail]) ++tail;
  const auto a = std::span(before).subspan(head, before.size() - head - tail);
  const auto b = std::span(after).subspan(head, after.size() - head - tail);
  Edits edits;
  take(edits, ' ', std::span(before).first(head));
  Myers myers(a, b);
  if (myers.find()) {
    std::ranges::copy(myers.edits(), std::back_inserter(edits));
  } else {
    take(edits, '-', a);
    take(edits, '+', b);
  }
  take(edits, ' ', std::span(before).last(tail));
  return edits;
}

// One stretch of changes with its context; counts lines from where `before` and `after` stand.
std::string hunk(std::span<const Edit> edits, std::size_t before, std::size_t after) {
  std::string body;
  std::size_t removed = 0;
  std::size_t added = 0;
  for (const Edit& edit : edits) {
    if (edit.kind != '+') ++removed;
    if (edit.kind != '-') ++added;
    fmt::format_to(std::back_inserter(body), "{}{}\n", edit.kind, edit.line);
  }
  return fmt::format("@@ -{},{} +{},{} @@\n{}", removed == 0 ? before : before + 1, removed,
                     added == 0 ? after : after + 1, added, body);
}

}  // namespace

std::string unified_diff(std::string_view before, std::string_view after) {
  const Lines old_lines = lines_of(before);
  const Lines new_lines = lines_of(after);
  const Edits edits = edits_between(old_lines, new_lines);
  std::string text;
  std::size_t old_at = 0;  // lines before `begin`
  std::size_t new_at = 0;
  std::size_t begin = 0;
  const auto pass = [&](std::size_t to) {
    for (; begin < to; ++begin) {
      if (edits[begin].kind != '+') ++old_at;
      if (edits[begin].kind != '-') ++new_at;
    }
  };
  for (std::size_t i = 0; i < edits.size();) {
    if (edits[i].kind == ' ') {
      ++i;
      continue;
    }
    std::size_t last = i;  // the last change that is at most twice the context after the one before
    for (std::size_t j = i; j < edits.size() && j <= last + 2 * kContext + 1; ++j) {
      if (edits[j].kind != ' ') last = j;
    }
    pass(std::max(begin, i - std::min(i, kContext)));
    const std::size_t end = std::min(edits.size(), last + 1 + kContext);
    text += hunk(std::span(edits).subspan(begin, end - begin), old_at, new_at);
    pass(end);
    i = end;
  }
  return text;
}

}  // namespace turnpike::policy
