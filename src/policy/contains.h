// std::ranges::contains, which libstdc++ 12 does not have yet.
#pragma once

#include <algorithm>
#include <functional>
#include <ranges>

namespace turnpike::policy {

template <std::ranges::input_range R, typename T, typename Projection = std::identity>
bool contains(const R& range, const T& value, Projection projection = {}) {
  return std::ranges::find(range, value, std::move(projection)) != std::ranges::end(range);
}

}  // namespace turnpike::policy
