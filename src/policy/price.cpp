#include "policy/price.h"

#include <algorithm>

namespace turnpike::policy {
namespace {

bool costs(const std::optional<Rate>& rate) {
  return rate && rate->picos > 0;
}

bool costs(const TokenRates& rates) {
  return costs(rates.input) || costs(rates.cached_input) || costs(rates.output);
}

// Adds a line; false on overflow.
bool add(Money& sum, std::int64_t units, const std::optional<Rate>& rate) {
  if (!rate || units == 0) return true;
  const auto line = cost_of(units, *rate);
  if (!line || line->nanos > Money::kMax - sum.nanos) return false;
  sum += *line;
  return true;
}

// What a tier says over what it leaves out.
TokenRates over(const TokenRates& below, const TokenRates& tier) {
  return {.input = tier.input ? tier.input : below.input,
          .cached_input = tier.cached_input ? tier.cached_input : below.cached_input,
          .output = tier.output ? tier.output : below.output};
}

std::optional<Money> tokens_cost(const TokenRates& rates, const Amounts& used) {
  Money sum;
  const std::int64_t cached = std::min(used[Meter::kCachedTokens], used[Meter::kInputTokens]);
  const bool fits = add(sum, used[Meter::kInputTokens] - cached, rates.input) &&
                    add(sum, cached, rates.cached_input ? rates.cached_input : rates.input) &&
                    add(sum, used[Meter::kOutputTokens], rates.output);
  return fits ? std::optional(sum) : std::nullopt;
}

// All lines but tokens.
bool add_rest(Money& sum, const Price& price, const Amounts& used) {
  return add(sum, used[Meter::kCharacters], price.character) &&
         add(sum, used[Meter::kAudioMs], price.audio) && add(sum, used[Meter::kVideoMs], price.video) &&
         add(sum, used[Meter::kImages], price.image) && add(sum, used[Meter::kPixels], price.pixel) &&
         add(sum, 1, price.request);
}

std::optional<Rate> dearer(const std::optional<Rate>& a, const std::optional<Rate>& b) {
  if (!a || !b) return a ? a : b;
  return __int128{a->picos} * b->per >= __int128{b->picos} * a->per ? a : b;
}

}  // namespace

bool Price::free() const {
  return !costs(tokens) && std::ranges::none_of(tiers, [](const Tier& tier) { return costs(tier.tokens); }) &&
         !(batch && costs(*batch)) && !costs(character) && !costs(audio) && !costs(video) && !costs(image) &&
         !costs(pixel) && !costs(request);
}

std::optional<Money> cost_of(const Price& price, const Amounts& used, bool batch) {
  TokenRates rates = price.tokens;
  if (batch && price.batch) {
    rates = over(rates, *price.batch);
  } else {
    for (const Price::Tier& tier : price.tiers) {
      if (used[Meter::kInputTokens] > tier.above) rates = over(rates, tier.tokens);
    }
  }
  auto sum = tokens_cost(rates, used);
  if (!sum || !add_rest(*sum, price, used)) return std::nullopt;
  return sum;
}

std::optional<Money> cost_at_most(const Price& price, const Amounts& most, bool batch) {
  TokenRates reached = price.tokens;
  if (batch && price.batch) reached = over(reached, *price.batch);
  TokenRates dearest = reached;
  const auto consider = [&dearest](const TokenRates& rates) {
    dearest.input = dearer(dearest.input, rates.input);
    dearest.input = dearer(dearest.input, rates.cached_input);
    dearest.output = dearer(dearest.output, rates.output);
  };
  consider(reached);
  if (!batch || !price.batch) {
    for (const Price::Tier& tier : price.tiers) {
      if (most[Meter::kInputTokens] <= tier.above) break;
      reached = over(reached, tier.tokens);
      consider(reached);
    }
  }
  Amounts uncached = most;
  uncached[Meter::kCachedTokens] = 0;
  auto sum = tokens_cost(dearest, uncached);
  // Cached and uncached tokens are two lines, each rounded up for itself.
  if (!sum || !add_rest(*sum, price, most)) return std::nullopt;
  if (most[Meter::kInputTokens] > 0 && dearest.input) *sum += Money{1};
  return sum;
}

std::vector<std::string> unpriced(const Price& price, const Amounts& amounts) {
  std::vector<std::string> missing;
  if (price.request || price.free()) return missing;
  const auto look = [&](Meter meter, bool priced) {
    if (amounts[meter] > 0 && !priced) missing.emplace_back(meter_name(meter).name);
  };
  const bool spoken = price.character || price.audio;
  const bool pictured = price.image || price.pixel;
  look(Meter::kInputTokens, price.tokens.input.has_value());
  look(Meter::kOutputTokens, price.tokens.output.has_value());
  look(Meter::kCharacters, spoken);
  look(Meter::kAudioMs, spoken);
  look(Meter::kVideoMs, price.video.has_value());
  look(Meter::kImages, pictured);
  look(Meter::kPixels, pictured);
  return missing;
}

}  // namespace turnpike::policy
