#include "policy/import_prices.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/money.h"
#include "policy/contains.h"
#include "policy/nearest.h"
#include "policy/price.h"
#include "policy/reader.h"

namespace turnpike::policy {
namespace {

constexpr std::int64_t kMillion = 1'000'000;
constexpr const char* kInput = "input_cost_per_token";
constexpr const char* kOutput = "output_cost_per_token";
constexpr const char* kCached = "cache_read_input_token_cost";
constexpr const char* kBatches = "_batches";
constexpr double kTokensMax = 1e12;

// What is said once for all models that it concerns.
class Notes {
 public:
  void add(const std::string& what, const std::string& model) {
    auto& [count, example] = of_[what];
    if (count++ == 0) example = model;
  }
  std::vector<std::string> take() const {
    std::vector<std::string> out;
    for (const auto& [what, where] : of_) {
      out.push_back(where.first == 1
                        ? fmt::format("{}: {}", where.second, what)
                        : fmt::format("{} and {} more: {}", where.second, where.first - 1, what));
    }
    return out;
  }

 private:
  std::map<std::string, std::pair<std::size_t, std::string>> of_;
};

bool dearer(const std::optional<Rate>& a, const std::optional<Rate>& b) {  // both a unit (per 1)
  return a && (!b || a->picos > b->picos);
}

// "200k_tokens" and "200k_tokens_batches" behind `prefix`: 200,000 and what follows; nothing where that is
// not the form.
std::optional<std::pair<std::int64_t, std::string>> size_behind(std::string_view key,
                                                                std::string_view prefix) {
  constexpr std::string_view kAbove = "_above_";
  constexpr std::string_view kUnit = "k_tokens";
  if (!key.starts_with(prefix) || !key.substr(prefix.size()).starts_with(kAbove)) return std::nullopt;
  key.remove_prefix(prefix.size() + kAbove.size());
  std::uint32_t thousands = 0;
  const auto [end, ec] = std::from_chars(key.data(), key.data() + key.size(), thousands);
  if (ec != std::errc() || thousands == 0) return std::nullopt;
  key.remove_prefix(static_cast<std::size_t>(end - key.data()));
  if (!key.starts_with(kUnit)) return std::nullopt;
  return std::pair{std::int64_t{thousands} * 1'000, std::string(key.substr(kUnit.size()))};
}

// The numbers of one model; each is taken once, and what nobody took is left over.
class Entry {
 public:
  Entry(std::string model, const YAML::Node& node, Notes& notes);
  Result<Price> read();

 private:
  void note(const std::string& what) { notes_->add(what, model_); }
  void left(const std::string& key) { note(fmt::format("`{}` has no counterpart here", key)); }
  std::optional<Rate> parse(const std::string& key, const std::string& text);
  std::optional<Rate> take(const std::string& key);
  std::optional<Rate> take_first(std::initializer_list<const char*> keys);  // that is not zero, else a zero
  TokenRates take_tokens(const std::string& suffix);
  void read_tier_list(const YAML::Node& list);
  void read_tiers(Price& price);
  void read_batch(Price& price);
  void read_units(Price& price);

  std::string model_;
  std::string mode_;
  std::map<std::string, std::string> texts_;  // the prices that are numbers, as they stand
  std::map<std::int64_t, TokenRates> tiers_;  // by the size of input above which they are paid
  std::string mistake_;                       // the first
  Notes* notes_;
};

Entry::Entry(std::string model, const YAML::Node& node, Notes& notes)
    : model_(std::move(model)), notes_(&notes) {
  for (const auto& field : node) {
    const std::string& key = field.first.Scalar();
    const YAML::Node& value = field.second;
    if (key == "mode" && value.IsScalar()) mode_ = value.Scalar();
    const bool priced = key.find("cost") != std::string::npos || key.find("pric") != std::string::npos;
    if (!priced || value.IsNull()) continue;
    if (key == "tiered_pricing" && value.IsSequence()) {
      read_tier_list(value);
    } else if (value.IsScalar()) {
      texts_[key] = value.Scalar();
    } else {
      left(key);
    }
  }
}

std::optional<Rate> Entry::parse(const std::string& key, const std::string& text) {
  bool rounded_up = false;
  const auto rate = parse_rate(text, 1, 1, &rounded_up);
  if (!rate) {
    if (mistake_.empty()) mistake_ = fmt::format("{}: `{}` {}", model_, key, rate.error().message);
    return std::nullopt;
  }
  if (rounded_up) note(fmt::format("`{}` is rounded up to the pico-USD", key));
  return *rate;
}

std::optional<Rate> Entry::take(const std::string& key) {
  const auto found = texts_.find(key);
  if (found == texts_.end()) return std::nullopt;
  const auto rate = parse(key, found->second);
  texts_.erase(found);
  return rate;
}

std::optional<Rate> Entry::take_first(std::initializer_list<const char*> keys) {
  std::optional<Rate> out;
  for (const char* key : keys) {
    if (out && out->picos > 0) break;
    if (const auto rate = take(key)) out = rate;
  }
  return out;
}

TokenRates Entry::take_tokens(const std::string& suffix) {
  return {.input = take(kInput + suffix),
          .cached_input = take(kCached + suffix),
          .output = take(kOutput + suffix)};
}

void Entry::read_tier_list(const YAML::Node& list) {
  for (const YAML::Node& item : list) {
    const YAML::Node range = item.IsMap() ? item["range"] : YAML::Node();
    double from = -1;
    if (range && range.IsSequence() && range.size() == 2) from = range[0].as<double>(-1);
    if (from < 0 || from > kTokensMax) {
      note("`tiered_pricing` is left out: its ranges are not numbers of tokens");
      tiers_.clear();
      return;
    }
    TokenRates& rates = tiers_[static_cast<std::int64_t>(from)];
    for (const auto& field : item) {
      const std::string& key = field.first.Scalar();
      if (key == "range" || !field.second.IsScalar()) continue;
      auto* rate = key == kInput    ? &rates.input
                   : key == kOutput ? &rates.output
                   : key == kCached ? &rates.cached_input
                                    : nullptr;
      if (rate != nullptr) {
        *rate = parse(key, field.second.Scalar());
      } else {
        left("tiered_pricing." + key);
      }
    }
  }
}

void Entry::read_tiers(Price& price) {
  std::map<std::int64_t, std::string> sizes;
  for (const auto& [key, text] : texts_) {
    for (const char* prefix : {kInput, kOutput, kCached}) {
      const auto size = size_behind(key, prefix);
      if (size && size->second.empty()) sizes[size->first] = key.substr(std::string_view(prefix).size());
    }
  }
  for (const auto& [above, suffix] : sizes) tiers_[above] = take_tokens(suffix);
  for (const auto& [above, rates] : tiers_) {
    if (above == 0) {
      if (!price.tokens.input) price.tokens = rates;
    } else {
      price.tiers.push_back({.above = above, .tokens = rates});
    }
  }
}

void Entry::read_batch(Price& price) {
  TokenRates batch = take_tokens(kBatches);
  std::set<std::string> sizes;
  for (const auto& [key, text] : texts_) {
    for (const char* prefix : {kInput, kOutput, kCached}) {
      const auto size = size_behind(key, prefix);
      if (size && size->second == kBatches) sizes.insert(key.substr(std::string_view(prefix).size()));
    }
  }
  for (const std::string& suffix : sizes) {
    const TokenRates rates = take_tokens(suffix);
    if (dearer(rates.input, batch.input)) batch.input = rates.input;
    if (dearer(rates.output, batch.output)) batch.output = rates.output;
    if (dearer(rates.cached_input, batch.cached_input)) batch.cached_input = rates.cached_input;
    note("batches are priced as those of the longest prompts, which are the dearest");
  }
  if (batch != TokenRates{}) price.batch = batch;
}

void Entry::read_units(Price& price) {
  const bool picture = mode_ == "image_generation" || mode_ == "image_edit";
  price.character = take_first({"input_cost_per_character", "output_cost_per_character"});
  if (mode_ == "video_generation") {
    price.video = take_first({"output_cost_per_video_per_second", "output_cost_per_second"});
  } else if (mode_ == "audio_speech") {
    price.audio = take("output_cost_per_second");
  } else if (mode_ == "audio_transcription") {
    price.audio = take_first({"input_cost_per_second", "output_cost_per_second"});
  }
  if (picture) {
    price.image = take_first({"output_cost_per_image", "input_cost_per_image"});
    price.pixel = take_first({"output_cost_per_pixel", "input_cost_per_pixel"});
  }
  price.request = take_first({"input_cost_per_request", "input_cost_per_query"});
}

Result<Price> Entry::read() {
  Price price;
  price.tokens = take_tokens("");
  if (const auto hit = take("input_cost_per_token_cache_hit"); hit && !price.tokens.cached_input)
    price.tokens.cached_input = hit;
  read_tiers(price);
  read_batch(price);
  read_units(price);
  if (const auto reasoning = take("output_cost_per_reasoning_token");
      dearer(reasoning, price.tokens.output)) {
    price.tokens.output = reasoning;
    for (Price::Tier& tier : price.tiers) {
      if (tier.tokens.output && dearer(reasoning, tier.tokens.output)) tier.tokens.output = reasoning;
    }
    note("all output is priced as reasoning, which is dearer");
  }
  for (const auto& [key, text] : texts_) {
    if (text.find_first_of("123456789") != std::string::npos) left(key);
  }
  if (!mistake_.empty()) return fail(ErrorCode::kInvalidRequest, mistake_);
  return price;
}

// --- As YAML

void append(std::string& out, const char* name, const std::optional<Rate>& rate, std::int64_t for_units) {
  if (!rate) return;
  out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", name, to_string(*rate, for_units));
}

std::string text_of(const TokenRates& rates) {
  std::string out;
  append(out, "input_per_million", rates.input, kMillion);
  append(out, "cached_input_per_million", rates.cached_input, kMillion);
  append(out, "output_per_million", rates.output, kMillion);
  return out;
}

std::string text_of(const Price& price) {
  if (price.free()) return "free";
  std::string out = text_of(price.tokens);
  if (!price.tiers.empty()) {
    std::string tiers;
    for (const Price::Tier& tier : price.tiers) {
      tiers += fmt::format("{}{{above_input_tokens: {}, {}}}", tiers.empty() ? "" : ", ", tier.above,
                           text_of(tier.tokens));
    }
    out += fmt::format("{}tiers: [{}]", out.empty() ? "" : ", ", tiers);
  }
  if (price.batch) out += fmt::format("{}batch: {{{}}}", out.empty() ? "" : ", ", text_of(*price.batch));
  append(out, "characters_per_million", price.character, kMillion);
  append(out, "per_audio_second", price.audio, 1);
  append(out, "per_video_second", price.video, 1);
  append(out, "per_image", price.image, 1);
  append(out, "pixels_per_million", price.pixel, kMillion);
  append(out, "per_request", price.request, 1);
  return "{" + out + "}";
}

std::vector<std::string> names_in(const std::set<std::string>& set) {
  return {set.begin(), set.end()};
}

}  // namespace

Result<ImportedPrices> import_prices(const std::string& text, const PriceImport& wanted) {
  YAML::Node root;
  try {
    root = YAML::Load(text);  // JSON is YAML; numbers stay as they are written
  } catch (const YAML::Exception& error) {
    return fail(ErrorCode::kInvalidRequest, fmt::format("line {}: {}", error.mark.line + 1, error.msg));
  }
  if (!root.IsMap()) {
    return fail(ErrorCode::kInvalidRequest,
                "is not LiteLLM's table of prices: an object of models, each with `litellm_provider`");
  }
  std::map<std::string, std::map<std::string, Price>> prices;  // by our provider, model
  std::set<std::string> providers;
  std::set<std::string> models;
  Notes notes;
  for (const auto& each : root) {
    const std::string& key = each.first.Scalar();
    if (key == "sample_spec" || !each.second.IsMap()) continue;
    const YAML::Node theirs = each.second["litellm_provider"];
    if (!theirs || !theirs.IsScalar()) continue;
    providers.insert(theirs.Scalar());
    const auto ours = wanted.providers.find(theirs.Scalar());
    if (ours == wanted.providers.end()) continue;
    const std::string prefix = theirs.Scalar() + "/";
    const std::string model = key.starts_with(prefix) ? key.substr(prefix.size()) : key;
    models.insert(model);
    if (!wanted.models.empty() && !contains(wanted.models, model)) continue;
    if (!is_name(model) || model == "default") {
      notes.add("is left out: its name is not one for a configuration", key);
      continue;
    }
    Entry entry(model, each.second, notes);
    auto price = entry.read();
    if (!price) return std::unexpected(price.error());
    if (*price == Price{}) {
      notes.add("is left out: it has no price that we know", model);
      continue;
    }
    if (price->free()) notes.add("costs nothing, says the file", model);
    const auto [at, added] = prices[ours->second].emplace(model, *price);
    if (!added && at->second != *price)
      notes.add("stands there twice, with two prices; the first is taken", model);
  }
  for (const auto& [theirs, ours] : wanted.providers) {
    if (!providers.contains(theirs)) {
      return fail(ErrorCode::kInvalidRequest, fmt::format("no model of provider `{}` is in it: {}", theirs,
                                                          suggestion(theirs, names_in(providers))));
    }
  }
  for (const std::string& model : wanted.models) {
    if (!models.contains(model)) {
      return fail(ErrorCode::kInvalidRequest,
                  fmt::format("model `{}` is not in it: {}", model, suggestion(model, names_in(models))));
    }
  }
  ImportedPrices out;
  out.yaml = "prices:\n";
  for (const auto& [provider, of] : prices) {
    out.yaml += fmt::format("  {}:\n", provider);
    for (const auto& [model, price] : of) out.yaml += fmt::format("    \"{}\": {}\n", model, text_of(price));
    out.models += of.size();
  }
  out.notes = notes.take();
  return out;
}

}  // namespace turnpike::policy
