// The most that a request can use, from its input and the parameters that bind its output. It is held before
// anything is sent: B1.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/meters.h"
#include "policy/policy.h"

namespace turnpike::policy {

// What an input says about its size, as counted where it is parsed. Absent: the input does not say.
struct Ask {
  std::int64_t text_bytes = 0;  // UTF-8 of all text that a model reads: an upper bound of its tokens
  std::int64_t messages = 0;    // each costs a few tokens of its own
  std::int64_t characters = 0;  // of text that is spoken
  std::optional<std::int64_t> max_output_tokens;  // max_tokens and its synonyms
  std::int64_t choices = 1;                       // `n`: answers or images
  std::int64_t pictures = 0;                      // read by the model, in messages
  std::optional<std::int64_t> width, height;
  std::optional<std::int64_t> duration_ms;  // of the video or audio asked for
  std::int64_t scenes = 0;
  // Fields that providers charge for and that no price here knows ("web_search_options"): under a hard cap
  // they are refused.
  std::vector<std::string> extras;
};

// The most that `ask` can use on `model`; saturates at kAmountMax. Counts `tokens` as input + output; neither
// jobs nor calls.
Amounts estimate(const Model& model, const Ask& ask);
// The output limit to send upstream where the request names none: what was held is then the truth. 0: the
// task has none.
std::int64_t output_limit(const Model& model, const Ask& ask);

constexpr std::int64_t kTokensPerMessage = 16;    // role, separators, name
constexpr std::int64_t kTokensPerPicture = 2048;  // of a picture in a message, at full detail

}  // namespace turnpike::policy
