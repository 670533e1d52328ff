#include "policy/price.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "policy/estimate.h"
#include "policy/load.h"

namespace turnpike::policy {
namespace {

Rate a_token(std::int64_t picos) {
  return {.picos = picos, .per = 1};
}

Amounts tokens(std::int64_t in, std::int64_t cached, std::int64_t out) {
  Amounts amounts;
  amounts[Meter::kInputTokens] = in;
  amounts[Meter::kCachedTokens] = cached;
  amounts[Meter::kOutputTokens] = out;
  amounts[Meter::kTokens] = in + out;
  return amounts;
}

TEST(Price, CachedTokensCostWhatTheyCost) {
  Price price;
  price.tokens = {.input = a_token(2'000), .cached_input = a_token(1'000), .output = a_token(4'000)};
  EXPECT_EQ(cost_of(price, tokens(100, 40, 10)), Money{60 * 2 + 40 + 10 * 4});
  price.tokens.cached_input.reset();
  EXPECT_EQ(cost_of(price, tokens(100, 40, 10)), Money{240});
}

TEST(Price, ATierIsForTheWholeRequest) {
  Price price;
  price.tokens = {.input = a_token(1'000), .cached_input = {}, .output = a_token(1'000)};
  price.tiers = {{.above = 100, .tokens = {.input = a_token(2'000), .cached_input = {}, .output = {}}}};
  EXPECT_EQ(cost_of(price, tokens(100, 0, 0)), Money{100});
  EXPECT_EQ(cost_of(price, tokens(101, 0, 7)), Money{209});
}

TEST(Price, EachLineIsRoundedUpOnce) {
  Price price;
  price.tokens = {.input = a_token(1), .cached_input = {}, .output = a_token(1)};
  EXPECT_EQ(cost_of(price, tokens(1, 0, 1)), Money{2});
  price.audio = Rate{.picos = 1'000, .per = 1'000};  // a nano-USD a second
  Amounts audio;
  audio[Meter::kAudioMs] = 1'500;
  EXPECT_EQ(cost_of(price, audio), Money{2}) << "1.5 nano-USD";
}

TEST(Price, TheMostIsNeverLessThanWhatIsUsed) {
  Random random(5);
  for (int round = 0; round < 20'000; ++round) {
    Price price;
    const auto maybe = [&]() -> std::optional<Rate> {
      if (random.chance(300)) return std::nullopt;
      return Rate{.picos = random.between(0, 50'000), .per = random.chance(800) ? 1 : 1'000};
    };
    price.tokens = {.input = maybe(), .cached_input = maybe(), .output = maybe()};
    std::int64_t above = 0;
    for (std::uint64_t n = random.below(3); n > 0; --n) {
      above += random.between(1, 200);
      price.tiers.push_back(
          {.above = above, .tokens = {.input = maybe(), .cached_input = maybe(), .output = maybe()}});
    }
    price.image = maybe();
    price.character = maybe();
    price.request = maybe();
    Amounts most, used;
    for (std::size_t i = 0; i < kMeterCount; ++i) {
      most.of[i] = random.between(0, 500);
      used.of[i] = random.between(0, most.of[i]);
    }
    used[Meter::kCachedTokens] = random.between(0, used[Meter::kInputTokens]);
    ASSERT_LE(cost_of(price, used)->nanos, cost_at_most(price, most)->nanos) << "round " << round;
  }
}

TEST(Price, OverflowIsNothing) {
  Price price;
  price.tokens.output = Rate{.picos = 1'000'000'000'000'000'000, .per = 1};
  EXPECT_FALSE(cost_of(price, tokens(0, 0, kAmountMax)));
  EXPECT_FALSE(cost_at_most(price, tokens(0, 0, kAmountMax)));
}

TEST(Price, SaysWhatItSaysNothingAbout) {
  Price price;
  price.tokens.input = a_token(1);
  EXPECT_EQ(unpriced(price, tokens(1, 0, 1)), std::vector<std::string>{"output_tokens"});
  price.request = a_token(1);
  EXPECT_TRUE(unpriced(price, tokens(1, 0, 1)).empty());
}

TEST(Estimate, BoundsTokensByBytesAndOutputByItsLimit) {
  Model model;
  model.task = "text";
  Ask ask;
  ask.text_bytes = 100;
  ask.messages = 2;
  Amounts most = estimate(model, ask);
  EXPECT_EQ(most[Meter::kInputTokens], 100 + 2 * kTokensPerMessage);
  EXPECT_EQ(most[Meter::kOutputTokens], model.max_output_tokens);
  ask.max_output_tokens = 5;
  ask.choices = 3;
  EXPECT_EQ(estimate(model, ask)[Meter::kOutputTokens], 15);
  ask.max_output_tokens = INT64_MAX;
  EXPECT_EQ(estimate(model, ask)[Meter::kOutputTokens], kAmountMax) << "saturates";
}

TEST(Estimate, SpeechPicturesAndEmbeddings) {
  Model model;
  model.task = "speech";
  Ask ask;
  ask.characters = 10;
  EXPECT_EQ(estimate(model, ask)[Meter::kAudioMs], 10 * model.audio_ms_per_character);
  model.task = "image";
  ask.width = 64;
  ask.height = 32;
  EXPECT_EQ(estimate(model, ask)[Meter::kPixels], 2048);
  EXPECT_EQ(estimate(model, ask)[Meter::kImages], 1);
  model.task = "embedding";
  ask.text_bytes = 7;
  EXPECT_EQ(estimate(model, ask)[Meter::kOutputTokens], 0);
}

constexpr const char* kFile = R"(
accounts: {default_plan: pro, time_zone: Europe/Berlin}
providers: {stage: {kind: sandbox}, far: {kind: openai, base_url: "http://127.0.0.1:1/v1"}}
models:
  writer: {task: text, max_output_tokens: 100, providers: [stage, {provider: far, model: gpt-4o-mini}]}
content_types: [blog]
platform: {cost_cap: {monthly_usd: 1000}, concurrent_jobs: 50}
teams: {acme: {quotas: {tokens: 5000}, time_zone: Asia/Kathmandu}}
plans:
  free: {priority_class: low, quotas: {jobs: 5}, period: day}
  pro:
    priority_class: high
    quotas: {tokens: 100000, audio_seconds: 1.5, video_minutes: unlimited, blog: 5}
    rates: {rps: 2, burst: 4, tpm: 60000}
    cost_cap: {monthly_usd: "20.00", hard_stop: false}
    period: {anchor_day: 31}
    thresholds: [50%, 99.5%]
    admission: durable
    limits: {concurrent_calls: 3}
prices:
  far:
    gpt-4o-mini: {input_per_million: 0.15, cached_input_per_million: "0.075", output_per_million: 0.60}
rules: [{name: grow, from: free, to: pro, when: {meter: jobs, at_least: 5}}]
flags: {editor: {share: 10%, plans: [pro], accounts: [ada]}}
)";

TEST(MoneyConfiguration, ReadsWhatPlansPromise) {
  const Loaded loaded = load_text(kFile, "t.yaml");
  for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
  ASSERT_NE(loaded.policy, nullptr);
  const Promise& pro = loaded.policy->plan("pro")->promise;
  EXPECT_EQ(pro.quotas.meters[index_of(Meter::kAudioMs)], 1'500);
  EXPECT_FALSE(pro.quotas.meters[index_of(Meter::kVideoMs)]);
  EXPECT_EQ(pro.quotas.content.at("blog"), 5);
  EXPECT_EQ(pro.rates.burst, 4U);
  EXPECT_EQ(pro.cost_cap->monthly, Money{20'000'000'000});
  EXPECT_FALSE(pro.cost_cap->hard_stop);
  EXPECT_EQ(pro.period.day, 31);
  EXPECT_EQ(pro.thresholds, (Thresholds{500, 995}));
  EXPECT_EQ(loaded.policy->teams.at("acme").time_zone, "Asia/Kathmandu");
  EXPECT_EQ(loaded.policy->platform.promise.cost_cap->monthly, Money{1'000'000'000'000});
  EXPECT_EQ(*loaded.policy->price("far", "gpt-4o-mini")->tokens.input, a_token(150'000));
  EXPECT_EQ(loaded.policy->price("far", "another"), nullptr) << "an upstream without a price has none";
  EXPECT_TRUE(loaded.policy->price("stage", "writer")->free()) << "the sandbox bills nobody";
  EXPECT_EQ(loaded.policy->rules.at(0).amount, 5);
}

TEST(MoneyConfiguration, APriceHashIsOfValuesAndNotOfWords) {
  const std::string file = kFile;
  const std::string before = load_text(file, "t.yaml").policy->prices_hash;
  std::string same = file;
  same.replace(same.find("0.15"), 4, "0.1500");
  EXPECT_EQ(load_text(same, "t.yaml").policy->prices_hash, before);
  std::string dearer = file;
  dearer.replace(dearer.find("0.15"), 4, "0.16");
  EXPECT_NE(load_text(dearer, "t.yaml").policy->prices_hash, before);
}

TEST(MoneyConfiguration, MistakesNameTheirPlace) {
  const auto mistake = [](const char* from, const char* to) {
    std::string file = kFile;
    file.replace(file.find(from), std::string(from).size(), to);
    const Loaded loaded = load_text(file, "t.yaml");
    return loaded.mistakes.empty() ? std::string("none") : to_string(loaded.mistakes.front());
  };
  const auto says = [&](const char* from, const char* to, const char* words) {
    const std::string said = mistake(from, to);
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  says("tokens: 100000", "tokens: -1", "plans.pro.quotas.tokens: must be a whole number");
  says("tokens: 100000", "tokens: 1.5", "plans.pro.quotas.tokens: must be a whole number");
  says("tokens: 100000", "tokens: 99999999999999999999", "must be a whole number");
  says("tokens: 100000", "tokenz: 1", "did you mean `tokens`");
  says("\"20.00\"", "-5", "plans.pro.cost_cap.monthly_usd: must be an amount of USD");
  says("\"20.00\"", "0.0000000001", "must be an amount of USD");
  says("anchor_day: 31", "anchor_day: 32", "from 1 to 31");
  says("Asia/Kathmandu", "Asia/Kathmandoo", "did you mean `Asia/Kathmandu`");
  says("  far:\n    gpt", "  fax:\n    gpt", "unknown provider `fax`");
  says("0.15", "1e-20", "finer than a pico-USD");
  says("to: pro", "to: free", "is the plan that the rule moves from");
  says("rps: 2, ", "", "needs `rps` or `rpm`");
  says("[50%, 99.5%]", "[80%, 50%]", "must be larger than the one before it");
  says("[blog]", "[blog, jobs]", "is the name of a meter");
}

TEST(MoneyConfiguration, OverridesReplaceWhatTheyName) {
  const PolicyPtr policy = load_text(kFile, "t.yaml").policy;
  const Plan& pro = *policy->plan("pro");
  const auto own = overridden(*policy, pro, R"({"quotas":{"tokens":null},"limits":{"concurrent_jobs":9}})");
  ASSERT_TRUE(own);
  EXPECT_FALSE(own->promise.quotas.meters[index_of(Meter::kTokens)]);
  EXPECT_EQ(own->promise.quotas.content, pro.promise.quotas.content);
  EXPECT_EQ(own->limits.concurrent_jobs, 9U);
  EXPECT_EQ(*overridden(*policy, pro, ""), pro);
  const auto wrong = overridden(*policy, pro, R"({"limits":{"concurrent_jobs":-1}})");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().param, "overrides.limits.concurrent_jobs");
  EXPECT_FALSE(overridden(*policy, pro, "{"));
  EXPECT_FALSE(overridden(*policy, pro, std::string(20'000, ' ')));
  EXPECT_FALSE(overridden(*policy, pro, R"({"name":"x"})"));
}

TEST(Flags, AShareIsOfAccountsAndOnlyGrows) {
  Flag flag{.name = "editor", .share_permille = 100, .plans = {"pro"}, .accounts = {"ada"}};
  EXPECT_TRUE(flag_on(flag, "ada", "free"));
  EXPECT_TRUE(flag_on(flag, "ben", "pro"));
  int on = 0;
  std::vector<std::string> before;
  for (int i = 0; i < 10'000; ++i) {
    const std::string user = "user" + std::to_string(i);
    if (flag_on(flag, user, "free")) {
      ++on;
      before.push_back(user);
    }
  }
  EXPECT_NEAR(on, 1'000, 150);
  flag.share_permille = 300;
  for (const std::string& user : before) EXPECT_TRUE(flag_on(flag, user, "free"));
}

}  // namespace
}  // namespace turnpike::policy
