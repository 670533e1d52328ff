#include "policy/diff.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"

namespace turnpike::policy {
namespace {

TEST(Diff, IsEmptyWhereNothingDiffers) {
  EXPECT_EQ(unified_diff("", ""), "");
  EXPECT_EQ(unified_diff("a\nb\n", "a\nb\n"), "");
}

TEST(Diff, TellsAChangeWithThreeLinesAroundIt) {
  EXPECT_EQ(unified_diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n"),
            "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
}

TEST(Diff, TellsWhatIsAddedToNothingAndRemovedToNothing) {
  EXPECT_EQ(unified_diff("", "a\n"), "@@ -0,0 +1,1 @@\n+a\n");
  EXPECT_EQ(unified_diff("a\n", ""), "@@ -1,1 +0,0 @@\n-a\n");
}

TEST(Diff, TellsChangesFarApartApart) {
  std::string before;
  for (int i = 0; i < 40; ++i) before += std::to_string(i) + "\n";
  std::string after = before;
  after.replace(after.find("\n5\n"), 3, "\nfive\n");
  after.replace(after.find("\n30\n"), 4, "\n");
  EXPECT_EQ(unified_diff(before, after),
            "@@ -3,7 +3,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
            "@@ -28,7 +28,6 @@\n 27\n 28\n 29\n-30\n 31\n 32\n 33\n");
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// What `patch` would make of it, with every line of context compared.
std::string patched(const std::string& before, const std::string& diff) {
  const auto old_lines = lines_of(before);
  std::string after;
  std::size_t at = 0;
  for (const std::string& line : lines_of(diff)) {
    if (line.starts_with("@@ -")) {
      const std::size_t first = std::stoul(line.substr(4));
      const bool empty = line.substr(line.find(',') + 1, 2) == "0 ";
      const std::size_t start = empty ? first : first - 1;
      while (at < start) after += old_lines.at(at++) + "\n";
    } else if (line[0] == '+') {
      after += line.substr(1) + "\n";
    } else {
      EXPECT_EQ(old_lines.at(at), line.substr(1));
      if (line[0] == ' ') after += old_lines[at] + "\n";
      ++at;
    }
  }
  while (at < old_lines.size()) after += old_lines[at++] + "\n";
  return after;
}

TEST(Diff, AppliedGivesTheNewText) {
  Random random(7);
  for (int round = 0; round < 500; ++round) {
    std::string before;
    std::string after;
    for (std::int64_t i = random.between(0, 60); i > 0; --i) {
      const std::string line = std::to_string(random.between(0, 9)) + "\n";
      const auto fate = random.between(0, 9);
      if (fate != 0) before += line;
      if (fate != 1) after += line;
    }
    EXPECT_EQ(patched(before, unified_diff(before, after)), after) << before << "--\n" << after;
  }
}

TEST(Diff, OfTextsThatShareNothingIsBounded) {
  std::string before;
  std::string after;
  for (int i = 0; i < 3 * kDiffEditsMax; ++i) {
    before += "a" + std::to_string(i) + "\n";
    after += "b" + std::to_string(i) + "\n";
  }
  EXPECT_EQ(patched(before, unified_diff(before, after)), after);
}

}  // namespace
}  // namespace turnpike::policy
