// What a model costs at a provider, and what an amount of use costs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/money.h"
#include "policy/meters.h"

namespace turnpike::policy {

struct TokenRates {
  std::optional<Rate> input;         // a token of input
  std::optional<Rate> cached_input;  // a token read from the provider's cache; nothing: as input
  std::optional<Rate> output;        // a token of output
  friend bool operator==(const TokenRates&, const TokenRates&) = default;
};

struct Price {
  TokenRates tokens;
  // A request with more input tokens than `above` pays these for all of its tokens; what a tier leaves out is
  // as below it. Ascending.
  struct Tier {
    std::int64_t above = 0;
    TokenRates tokens;
    friend bool operator==(const Tier&, const Tier&) = default;
  };
  std::vector<Tier> tiers;
  std::optional<TokenRates> batch;  // in batches of the provider's, all sizes alike
  std::optional<Rate> character;    // of spoken text
  std::optional<Rate> audio;        // a second of audio made (per: 1,000 ms)
  std::optional<Rate> video;        // a second of video made (per: 1,000 ms)
  std::optional<Rate> image;
  std::optional<Rate> pixel;
  std::optional<Rate> request;  // each try that was served
  friend bool operator==(const Price&, const Price&) = default;

  bool free() const;  // no rate, or all zero
};
using PricePtr = std::shared_ptr<const Price>;

// What `used` costs: one rounding up for each line. Nothing on overflow.
std::optional<Money> cost_of(const Price& price, const Amounts& used, bool batch = false);
// The dearest that use up to `most` can be: the dearest tier that `most` reaches, nothing cached. Nothing on
// overflow.
std::optional<Money> cost_at_most(const Price& price, const Amounts& most, bool batch = false);
// The meters that a request of these amounts uses and the price says nothing about ("output_tokens"): under a
// hard cap such a request is refused. Empty: the price covers it. Totals (tokens, jobs, calls) need no price,
// nor do cached tokens; a price per image covers pixels and one per pixel covers images; a price per
// character covers audio and the other way round; a price per request covers all.
std::vector<std::string> unpriced(const Price& price, const Amounts& amounts);

// provider -> model as the provider names it (kAnyModel: any other; `default` in the file) -> price.
inline constexpr const char* kAnyModel = "*";
using PriceTable = std::map<std::string, std::map<std::string, PricePtr, std::less<>>, std::less<>>;

}  // namespace turnpike::policy
