// The difference between two texts, line by line.
#pragma once

#include <string>
#include <string_view>

namespace turnpike::policy {

// In the unified format (POSIX diff -u, without its two lines of file names), three lines of context; empty
// where the texts are equal. Shortest for up to kDiffEditsMax changed lines; beyond, everything between the
// first and the last line that differ is told as removed and added.
constexpr int kDiffEditsMax = 1000;
std::string unified_diff(std::string_view before, std::string_view after);

}  // namespace turnpike::policy
