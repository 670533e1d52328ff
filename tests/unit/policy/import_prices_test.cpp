#include "policy/import_prices.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "policy/load.h"
#include "policy/price.h"

namespace turnpike::policy {
namespace {

constexpr const char* kTable = R"({
  "sample_spec": {"litellm_provider": "one of ...", "input_cost_per_token": 0.0, "mode": "one of: chat"},
  "small": {"litellm_provider": "far", "mode": "chat", "max_tokens": 16384, "input_cost_per_token": 1.5e-07,
            "cache_read_input_token_cost": 7.5e-08, "output_cost_per_token": 6e-07,
            "input_cost_per_token_batches": 7.5e-08, "output_cost_per_token_batches": 3e-07,
            "input_cost_per_token_priority": 2.5e-07, "supports_vision": true},
  "far/long": {"litellm_provider": "far", "mode": "chat", "input_cost_per_token": 1.25e-06,
               "output_cost_per_token": 1e-05, "output_cost_per_reasoning_token": 1.2e-05,
               "input_cost_per_token_above_200k_tokens": 2.5e-06,
               "output_cost_per_token_above_200k_tokens": 1.5e-05,
               "input_cost_per_token_batches": 6.25e-07,
               "input_cost_per_token_above_200k_tokens_batches": 1.25e-06,
               "search_context_cost_per_query": {"search_context_size_low": 0.035}},
  "far/listed": {"litellm_provider": "far", "mode": "chat", "tiered_pricing": [
      {"input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07, "range": [0, 256000.0]},
      {"input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06, "range": [256000.0, 1000000.0]}]},
  "far/voice": {"litellm_provider": "far", "mode": "audio_speech", "input_cost_per_character": 1.5e-05},
  "far/ear": {"litellm_provider": "far", "mode": "audio_transcription",
              "input_cost_per_second": 0.0005666666666666667, "output_cost_per_second": 0.0},
  "far/film": {"litellm_provider": "far", "mode": "video_generation", "output_cost_per_video_per_second": 0.1},
  "far/brush": {"litellm_provider": "far", "mode": "image_generation", "output_cost_per_image": 0.04,
                "input_cost_per_pixel": 1.9e-08, "output_cost_per_pixel": 0.0},
  "far/order": {"litellm_provider": "far", "mode": "rerank", "input_cost_per_query": 0.001,
                "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
  "far/gift": {"litellm_provider": "far", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0},
  "far/*/one month": {"litellm_provider": "far", "mode": "chat", "input_cost_per_token": 1e-06},
  "far/silent": {"litellm_provider": "far", "mode": "chat"},
  "elsewhere/other": {"litellm_provider": "elsewhere", "mode": "chat", "input_cost_per_token": 1e-06}
})";

constexpr const char* kConfiguration = R"(
accounts: {default_plan: free}
providers: {ours: {kind: sandbox}}
models: {writer: {task: text, providers: [ours]}}
plans: {free: {}}
)";

PriceImport from_far(std::vector<std::string> models = {}) {
  return {.providers = {{"far", "ours"}}, .models = std::move(models)};
}

bool noted(const ImportedPrices& imported, const std::string& words) {
  return std::ranges::any_of(imported.notes,
                             [&](const auto& note) { return note.find(words) != std::string::npos; });
}

TEST(ImportPrices, IsReadByTheConfigurationAsItIs) {
  const auto imported = import_prices(kTable, from_far());
  ASSERT_TRUE(imported) << imported.error().message;
  EXPECT_EQ(imported->models, 9);
  const Loaded loaded = load_text(kConfiguration + imported->yaml, "t.yaml");
  for (const Mistake& mistake : loaded.mistakes)
    ADD_FAILURE() << to_string(mistake) << "\n" << imported->yaml;
  ASSERT_NE(loaded.policy, nullptr);
  const auto& ours = loaded.policy->prices.at("ours");
  ASSERT_EQ(ours.size(), 9);

  const Price& small = *ours.at("small");
  EXPECT_EQ(small.tokens.input, (Rate{150'000, 1}));
  EXPECT_EQ(small.tokens.cached_input, (Rate{75'000, 1}));
  EXPECT_EQ(small.tokens.output, (Rate{600'000, 1}));
  ASSERT_TRUE(small.batch);
  EXPECT_EQ(small.batch->input, (Rate{75'000, 1}));
  EXPECT_EQ(small.batch->output, (Rate{300'000, 1}));

  const Price& listed = *ours.at("listed");
  EXPECT_EQ(listed.tokens.input, (Rate{50'000, 1}));
  ASSERT_EQ(listed.tiers.size(), 1);
  EXPECT_EQ(listed.tiers[0].above, 256'000);
  EXPECT_EQ(listed.tiers[0].tokens.output, (Rate{2'000'000, 1}));

  EXPECT_EQ(ours.at("voice")->character, (Rate{15'000'000, 1}));
  EXPECT_EQ(ours.at("film")->video, (Rate{100'000'000'000, 1'000}));
  EXPECT_EQ(ours.at("brush")->image, (Rate{40'000'000'000, 1}));
  EXPECT_EQ(ours.at("brush")->pixel, (Rate{19'000, 1}));
  EXPECT_EQ(ours.at("order")->request, (Rate{1'000'000'000, 1}));
  EXPECT_TRUE(ours.at("gift")->free());
}

TEST(ImportPrices, TakesTheDearestOfWhatWeDoNotTellApart) {
  const auto imported = import_prices(kTable, from_far({"long", "ear"}));
  ASSERT_TRUE(imported);
  const Loaded loaded = load_text(kConfiguration + imported->yaml, "t.yaml");
  ASSERT_NE(loaded.policy, nullptr);
  const Price& price = *loaded.policy->prices.at("ours").at("long");
  EXPECT_EQ(price.tokens.output, (Rate{12'000'000, 1})) << "reasoning";
  ASSERT_EQ(price.tiers.size(), 1);
  EXPECT_EQ(price.tiers[0].above, 200'000);
  EXPECT_EQ(price.tiers[0].tokens.input, (Rate{2'500'000, 1}));
  EXPECT_EQ(price.batch->input, (Rate{1'250'000, 1})) << "batches of long prompts";
  EXPECT_EQ(loaded.policy->prices.at("ours").at("ear")->audio, (Rate{566'666'667, 1'000})) << "rounded up";
  EXPECT_TRUE(noted(*imported, "long: all output is priced as reasoning"));
  EXPECT_TRUE(noted(*imported, "ear: `input_cost_per_second` is rounded up"));
  EXPECT_TRUE(noted(*imported, "`search_context_cost_per_query` has no counterpart"));
}

TEST(ImportPrices, SaysWhatIsLeftOut) {
  const auto imported = import_prices(kTable, from_far());
  ASSERT_TRUE(imported);
  EXPECT_TRUE(noted(*imported, "small: `input_cost_per_token_priority` has no counterpart here"));
  EXPECT_TRUE(noted(*imported, "far/*/one month: is left out: its name"));
  EXPECT_TRUE(noted(*imported, "silent: is left out: it has no price"));
  EXPECT_TRUE(noted(*imported, "gift: costs nothing"));
  EXPECT_FALSE(noted(*imported, "order: costs nothing"));
}

TEST(ImportPrices, ReasoningIsDearerAboveATierToo) {
  const auto imported = import_prices(
      R"({"m": {"litellm_provider": "far", "output_cost_per_token": 1e-06, "output_cost_per_reasoning_token": 5e-06,
          "input_cost_per_token": 1e-06, "output_cost_per_token_above_128k_tokens": 2e-06}})",
      from_far());
  ASSERT_TRUE(imported);
  EXPECT_NE(imported->yaml.find("above_input_tokens: 128000, output_per_million: 5"), std::string::npos)
      << imported->yaml;
}

TEST(ImportPrices, RefusesWhatIsNotThere) {
  const auto message = [](const std::string& text, const PriceImport& wanted) {
    const auto imported = import_prices(text, wanted);
    return imported ? std::string() : imported.error().message;
  };
  EXPECT_NE(message(kTable, {.providers = {{"fra", "ours"}}, .models = {}}).find("did you mean `far`?"),
            std::string::npos);
  EXPECT_NE(message(kTable, from_far({"smal"})).find("did you mean `small`?"), std::string::npos);
  EXPECT_NE(message("[1, 2]", from_far()).find("litellm_provider"), std::string::npos);
  EXPECT_NE(message("{\n\"a\": [", from_far()).find("line "), std::string::npos);
  EXPECT_NE(message(R"({"m": {"litellm_provider": "far", "input_cost_per_token": -1e-06}})", from_far())
                .find("m: `input_cost_per_token` must be a price"),
            std::string::npos);
  EXPECT_NE(message(R"({"m": {"litellm_provider": "far", "input_cost_per_token": "much"}})", from_far())
                .find("must be a price"),
            std::string::npos);
  EXPECT_NE(message(R"({"m": {"litellm_provider": "far", "input_cost_per_token": 1e12}})", from_far())
                .find("above a million"),
            std::string::npos);
}

}  // namespace
}  // namespace turnpike::policy
