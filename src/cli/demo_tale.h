// What the demonstration reads aloud and draws: Lewis Carroll, in the public domain.
#pragma once

#include <cstddef>
#include <string_view>

namespace turnpike::cli {

constexpr std::size_t kTaleParts = 24;

// The opening of "Alice's Adventures in Wonderland" (1865), piece by piece; `part` < kTaleParts.
std::string_view tale_sentence(std::size_t part);
// The chapters of that book and of "Through the Looking-Glass" (1871); `part` < kTaleParts.
std::string_view tale_title(std::size_t part);

}  // namespace turnpike::cli
