// The section prices: provider -> model as the provider names it -> rates in USD.
#include <fmt/format.h>

#include "policy/load_parts.h"
#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

constexpr std::int64_t kMillion = 1'000'000;
constexpr std::int64_t kSecondMs = 1'000;
constexpr std::uint64_t kTokensMax = 1'000'000'000'000;

void read_rate(const Value& value, std::int64_t for_units, std::int64_t per, std::optional<Rate>& out) {
  std::string text;
  if (!value.raw_text(text)) return;
  if (const auto rate = parse_rate(text, for_units, per)) {
    out = *rate;
  } else {
    value.mistake(rate.error().message);
  }
}

void read_token_rates(Map& map, TokenRates& out) {
  read_rate(map.at("input_per_million"), kMillion, 1, out.input);
  read_rate(map.at("cached_input_per_million"), kMillion, 1, out.cached_input);
  read_rate(map.at("output_per_million"), kMillion, 1, out.output);
}

void read_tiers(const Value& value, Price& out) {
  value.list([&](const Value& item) {
    Price::Tier tier;
    item.section([&](Map& map) {
      std::uint64_t above = 0;
      const Value from = map.require("above_input_tokens");
      if (from.whole(above, 1, kTokensMax)) tier.above = static_cast<std::int64_t>(above);
      if (!out.tiers.empty() && tier.above <= out.tiers.back().above)
        from.mistake("must be larger than the one before it");
      read_token_rates(map, tier.tokens);
    });
    out.tiers.push_back(tier);
  });
}

PricePtr read_price(const Value& value) {
  Price price;
  if (value.is_word("free")) {
    price.request = Rate{};
    return std::make_shared<const Price>(std::move(price));
  }
  value.section([&](Map& map) {
    read_token_rates(map, price.tokens);
    read_tiers(map.at("tiers"), price);
    map.at("batch").section([&](Map& batch) {
      price.batch.emplace();
      read_token_rates(batch, *price.batch);
    });
    read_rate(map.at("characters_per_million"), kMillion, 1, price.character);
    read_rate(map.at("per_audio_second"), kSecondMs, kSecondMs, price.audio);
    read_rate(map.at("per_video_second"), kSecondMs, kSecondMs, price.video);
    read_rate(map.at("per_image"), 1, 1, price.image);
    read_rate(map.at("pixels_per_million"), kMillion, 1, price.pixel);
    read_rate(map.at("per_request"), 1, 1, price.request);
  });
  return std::make_shared<const Price>(std::move(price));
}

void print(std::string& out, const char* name, const std::optional<Rate>& rate) {
  if (rate) out += fmt::format(" {}={}/{}", name, rate->picos, rate->per);
}

void print(std::string& out, const char* name, const TokenRates& rates) {
  out += fmt::format(" {}:", name);
  print(out, "input", rates.input);
  print(out, "cached", rates.cached_input);
  print(out, "output", rates.output);
}

}  // namespace

void read_prices(const Value& value, Policy& policy) {
  value.each([&](const std::string& provider, const Value& models) {
    if (!policy.providers.contains(provider)) {
      models.mistake(fmt::format("unknown provider `{}`: {}", provider,
                                 suggestion(provider, keys_of(policy.providers))));
    }
    models.each([&](const std::string& model, const Value& entry) {
      policy.prices[provider][model == "default" ? kAnyModel : model] = read_price(entry);
    });
  });
}

// The values, however they are written: a change of it is a new price version.
std::string canonical_text(const PriceTable& prices) {
  std::string out;
  for (const auto& [provider, models] : prices) {
    for (const auto& [model, price] : models) {
      out += fmt::format("{}\n{}\n", provider, model);
      print(out, "tokens", price->tokens);
      for (const Price::Tier& tier : price->tiers)
        print(out, fmt::format("above{}", tier.above).c_str(), tier.tokens);
      if (price->batch) print(out, "batch", *price->batch);
      print(out, "character", price->character);
      print(out, "audio", price->audio);
      print(out, "video", price->video);
      print(out, "image", price->image);
      print(out, "pixel", price->pixel);
      print(out, "request", price->request);
      out += '\n';
    }
  }
  return out;
}

}  // namespace turnpike::policy
