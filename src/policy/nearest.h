// "Did you mean": the known word that is nearest to one that is not known.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace turnpike::policy {

// How many letters must be added, removed, changed or swapped with their neighbour to make `a` of `b`.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The nearest of `known`, the first of several; nothing if none is near (a third of the letters, at least 2).
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& known);

// "did you mean `b`?", else what there is: "there are a, b, c" (sorted, the first 20),
// "there is only a" or "there are none".
std::string suggestion(std::string_view word, std::vector<std::string> known);

// "it has a, b, c": in their own order, the first 20; "it has none". For names that are near to each other
// without one meaning the other, such as versions.
std::string possession(const std::vector<std::string>& names);

}  // namespace turnpike::policy
