// What a configuration says about answers that are kept.
#include "policy/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "policy/load.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

Loaded with_plan(const std::string& cache) {
  return load_sample(sample_with("priority_class: high", "priority_class: high\n    cache: " + cache));
}

std::vector<std::string> mistakes_of(const Loaded& loaded) {
  std::vector<std::string> texts;
  for (const Mistake& mistake : loaded.mistakes) texts.push_back(to_string(mistake));
  return texts;
}

std::optional<PlanCache> cache_of(const Loaded& loaded, const char* plan) {
  EXPECT_THAT(mistakes_of(loaded), ElementsAre());
  return loaded.policy == nullptr ? std::nullopt : loaded.policy->plan(plan)->cache;
}

TEST(Cache, NoPlanHasOneUnlessItSaysSo) {
  const Loaded loaded = load_sample(std::string{kSample});
  EXPECT_EQ(cache_of(loaded, "free"), std::nullopt);
  EXPECT_EQ(loaded.policy->cache, CacheLimits{});
}

TEST(Cache, IsTheAccountsOwnAndFreeUnlessThePlanSaysMore) {
  const auto cache = cache_of(with_plan("{}"), "pro");
  ASSERT_TRUE(cache);
  EXPECT_EQ(cache->scope, PlanCache::Scope::kAccount);
  EXPECT_EQ(cache->charge, PlanCache::Charge::kNone);
  EXPECT_EQ(cache->ttl, 1h);
  EXPECT_TRUE(cache->has_task("speech"));
  EXPECT_TRUE(cache->topic_field.empty());
}

TEST(Cache, ReadsAllOfIt) {
  const auto cache = cache_of(with_plan("{scope: shared, group: news, ttl: 2d, tasks: [text], charge: full, "
                                        "normalise: {field: topic}}"),
                              "pro");
  ASSERT_TRUE(cache);
  EXPECT_EQ(cache->scope, PlanCache::Scope::kShared);
  EXPECT_EQ(cache->group, "news");
  EXPECT_EQ(cache->ttl, 48h);
  EXPECT_TRUE(cache->has_task("text"));
  EXPECT_FALSE(cache->has_task("speech"));
  EXPECT_EQ(cache->charge, PlanCache::Charge::kFull);
  EXPECT_EQ(cache->topic_field, "topic");
}

TEST(Cache, APlanStartsFromTheDefaultPlansAndMayHaveNone) {
  std::string text = sample_with("limits: {queue_depth: 100}", "cache: {ttl: 5m, tasks: [text]}");
  const Loaded all = load_sample(text);
  EXPECT_EQ(cache_of(all, "free")->ttl, 5min);
  text.replace(text.find("priority_class: high"), 20, "cache: none");
  EXPECT_EQ(cache_of(load_sample(text), "pro"), std::nullopt);
  text.replace(text.find("cache: none"), 11, "cache: {tasks: all}");
  const auto pro = cache_of(load_sample(text), "pro");
  ASSERT_TRUE(pro);
  EXPECT_EQ(pro->ttl, 5min);
  EXPECT_TRUE(pro->has_task("speech"));
}

TEST(Cache, AnAccountMayHaveItsOwn) {
  const Loaded loaded = with_plan("{ttl: 5m}");
  const auto own = overridden(*loaded.policy, *loaded.policy->plan("pro"), R"({"cache":{"charge":"full"}})");
  ASSERT_TRUE(own);
  EXPECT_EQ(own->cache->ttl, 5min);
  EXPECT_EQ(own->cache->charge, PlanCache::Charge::kFull);
  const auto none = overridden(*loaded.policy, *loaded.policy->plan("pro"), R"({"cache":null})");
  ASSERT_TRUE(none);
  EXPECT_EQ(none->cache, std::nullopt);
}

TEST(Cache, ReadsTheServersBounds) {
  const Loaded loaded =
      load_sample(sample_with("store: {kind: sqlite}", "cache: {bytes_max: 64MiB, entry_bytes_max: 1MiB}"));
  EXPECT_THAT(mistakes_of(loaded), ElementsAre());
  EXPECT_EQ(loaded.policy->cache.bytes_max, 64U << 20);
  EXPECT_EQ(loaded.policy->cache.entry_bytes_max, 1U << 20);
}

TEST(Cache, SaysWhatIsWrong) {
  EXPECT_THAT(mistakes_of(with_plan("{scope: everyone}")), ElementsAre(HasSubstr("plans.pro.cache.scope: ")));
  EXPECT_THAT(mistakes_of(with_plan("{ttl: 0s}")),
              ElementsAre(HasSubstr("plans.pro.cache.ttl: must be a duration from 1s to 365d")));
  EXPECT_THAT(mistakes_of(with_plan("{tasks: [texts]}")),
              ElementsAre(HasSubstr("plans.pro.cache.tasks[0]: ")));
  EXPECT_THAT(mistakes_of(with_plan("{group: news}")), ElementsAre(HasSubstr("it needs `scope: shared`")));
  EXPECT_THAT(mistakes_of(with_plan("{normalise: {fields: topic}}")),
              ElementsAre(HasSubstr("plans.pro.cache.normalise"), HasSubstr("plans.pro.cache.normalise")));
  EXPECT_THAT(mistakes_of(load_sample(
                  sample_with("store: {kind: sqlite}", "cache: {bytes_max: 2MiB, entry_bytes_max: 4MiB}"))),
              ElementsAre(HasSubstr("cache.entry_bytes_max: must be at most cache.bytes_max (2MiB)")));
}

}  // namespace
}  // namespace turnpike::policy
