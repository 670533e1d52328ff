// Providers with keys and limits, models with versions, and what plans say of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "policy/load.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

PolicyPtr good(std::string text) {
  Loaded loaded = load_sample(std::move(text));
  for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
  return loaded.policy != nullptr ? loaded.policy : std::make_shared<const Policy>();
}

// The sample's provider `cloud` with these lines in place of its key.
PolicyPtr with_cloud(const std::string& lines) {
  return good(sample_with("api_key: ${env:CLOUD_KEY}", lines));
}

constexpr const char* kTwoKeys = R"(keys:
      - name: first
        key: ${env:CLOUD_KEY}
        requests_per_minute: 60
        tokens_per_minute: 30000
        concurrency: 3
      - name: second
        key: ${file:/run/key}
        concurrency: 2)";

TEST(LoadProvider, WorkersOfItsOwnClaim) {
  const PolicyPtr plain = good(sample_with("kind: sandbox", "kind: pull"));
  const Provider& fake = plain->providers.at("fake");
  EXPECT_EQ(fake.kind, ProviderKind::kPull);
  EXPECT_EQ(fake.lease, 30s);
  EXPECT_EQ(fake.claims_max, 1'000U);
  EXPECT_EQ(fake.file_bytes_max, 64U << 20U);
  EXPECT_EQ(plain->pools.at("fake").slots, 1'000U) << "the workers bound it";
  EXPECT_FALSE(fake.breaker);
  const PolicyPtr told = good(sample_with(
      "kind: sandbox", "kind: pull\n    lease: 2s\n    claims: 7\n    file_size: 1MiB\n    concurrency: 5"));
  EXPECT_EQ(told->providers.at("fake").lease, 2s);
  EXPECT_EQ(told->providers.at("fake").claims_max, 7U);
  EXPECT_EQ(told->providers.at("fake").file_bytes_max, 1U << 20U);
  EXPECT_EQ(told->pools.at("fake").slots, 5U);
}

TEST(LoadProvider, HasDefaultsForItsUse) {
  const PolicyPtr policy = good(std::string{kSample});
  const Provider& cloud = policy->providers.at("cloud");
  EXPECT_TRUE(cloud.keys.empty());
  EXPECT_TRUE(cloud.has_key());
  EXPECT_EQ(cloud.secret("")->reveal(), kSecret);
  EXPECT_EQ(cloud.secret("first"), nullptr);
  EXPECT_EQ(cloud.limit, std::nullopt);
  EXPECT_EQ(cloud.breaker, Breaker{});
  EXPECT_EQ(cloud.breaker->failures, 5U);
  EXPECT_EQ(cloud.breaker->cool_down, 30s);
  EXPECT_EQ(cloud.cool_down, 15s);
  EXPECT_EQ(cloud.saturation, Saturation::kWait);
  EXPECT_EQ(cloud.timeout, std::nullopt);
  EXPECT_EQ(cloud.concurrency, 4U);
  EXPECT_EQ(policy->providers.at("fake").breaker, std::nullopt);  // nothing that is here is cut off unasked
  EXPECT_FALSE(policy->providers.at("fake").has_key());
}

TEST(LoadProvider, ReadsAPoolOfKeys) {
  const PolicyPtr policy = with_cloud(kTwoKeys);
  const Provider& cloud = policy->providers.at("cloud");
  ASSERT_EQ(cloud.keys.size(), 2U);
  EXPECT_EQ(cloud.keys[0].name, "first");
  EXPECT_EQ(cloud.keys[0].requests_per_minute, 60U);
  EXPECT_EQ(cloud.keys[0].tokens_per_minute, 30'000U);
  EXPECT_EQ(cloud.keys[0].concurrency, 3U);
  EXPECT_EQ(cloud.keys[1].requests_per_minute, std::nullopt);
  EXPECT_EQ(cloud.secret("second")->reveal(), kSecret);
  EXPECT_TRUE(cloud.secret("")->empty());
}

TEST(LoadProvider, HasTheSlotsOfItsKeysUnlessItSaysLess) {
  EXPECT_EQ(with_cloud(kTwoKeys)->pools.at("cloud").slots, 5U);
  EXPECT_EQ(with_cloud(kTwoKeys + std::string("\n    concurrency: 3"))->pools.at("cloud").slots, 3U);
  const std::string one_open =
      "keys:\n      - {name: a, key: \"${env:CLOUD_KEY}\", concurrency: 9}\n"
      "      - {name: b, key: \"${env:CLOUD_KEY}\"}";
  EXPECT_EQ(with_cloud(one_open)->pools.at("cloud").slots, 4U);  // one of them says nothing: the default
  EXPECT_EQ(with_cloud(one_open + "\n    concurrency: 20")->pools.at("cloud").slots, 20U);
}

TEST(LoadProvider, LeavesOutKeysThatAreNotThereWhereThatIsAllowed) {
  const std::string keys =
      "use: if_key\n    keys:\n      - {name: a, key: \"${env:NO_SUCH_KEY}\", concurrency: 9}\n";
  const PolicyPtr one = with_cloud(keys + "      - {name: b, key: \"${env:CLOUD_KEY}\", concurrency: 2}");
  EXPECT_THAT(one->providers.at("cloud").keys, ElementsAre(testing::Field(&ProviderKey::name, "b")));
  EXPECT_EQ(one->pools.at("cloud").slots, 2U);
  const PolicyPtr none = with_cloud(keys);
  EXPECT_FALSE(none->providers.at("cloud").has_key());
  EXPECT_EQ(none->pools.at("cloud").slots, 1U);
}

TEST(LoadProvider, ReadsWhatBoundsItsUse) {
  const PolicyPtr policy = good(sample_with("kind: sandbox", R"(kind: sandbox
    limit: {requests: 15, per: 1m}
    breaker: {failures: 3}
    cool_down: 5s
    saturation: spill
    timeout: 90s)"));
  const Provider& fake = policy->providers.at("fake");
  EXPECT_EQ(fake.limit, (UpstreamLimit{.requests = 15, .per = 60s}));
  EXPECT_EQ(fake.breaker, (Breaker{.failures = 3, .cool_down = 30s}));
  EXPECT_EQ(fake.cool_down, 5s);
  EXPECT_EQ(fake.saturation, Saturation::kSpill);
  EXPECT_EQ(fake.timeout, 90s);
  EXPECT_EQ(with_cloud("breaker: off")->providers.at("cloud").breaker, std::nullopt);
}

// The sample's writer with these versions, each with a route.
PolicyPtr with_versions(const std::vector<std::string>& versions, const std::string& more = "") {
  std::string text = "writer:\n    task: text\n" + more + "    versions:\n";
  for (const std::string& version : versions) text += "      - {" + version + ", routes: [fake]}\n";
  return good(sample_with("writer: {task: text, providers: [cloud, fake]}\n", text));
}

struct Ordered {
  const char* name;
  std::vector<std::string> written;
  std::vector<std::string> newest_first;
};

void PrintTo(const Ordered& ordered, std::ostream* out) {
  *out << ordered.name;
}

class VersionOrder : public testing::TestWithParam<Ordered> {};

TEST_P(VersionOrder, IsByNumberElseByDay) {
  EXPECT_EQ(with_versions(GetParam().written)->models.at("writer").version_names(), GetParam().newest_first);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, VersionOrder,
    testing::Values(Ordered{"Numbers",
                            {"version: 1.9.0", "version: 1.10.0", "version: 2.0.0-rc.1", "version: 2"},
                            {"2", "2.0.0-rc.1", "1.10.0", "1.9.0"}},
                    Ordered{"NumbersWhateverTheDay",
                            {"version: 1.0.1, released: 2025-11-01", "version: 2.0.0, released: 2025-10-01"},
                            {"2.0.0", "1.0.1"}},
                    Ordered{"Days",
                            {"version: 2025-01-31", "version: 2025-11-01", "version: 2024-12-31"},
                            {"2025-11-01", "2025-01-31", "2024-12-31"}},
                    Ordered{"Mixed",
                            {"version: a1b2c3d4, released: 2025-03-01",
                             "version: 2.0.0, released: 2025-04-01", "version: 2025-03-15"},
                            {"2.0.0", "2025-03-15", "a1b2c3d4"}},
                    Ordered{"One", {"version: a1b2c3d4, released: 2025-03-01"}, {"a1b2c3d4"}}),
    [](const auto& info) { return info.param.name; });

TEST(LoadModel, ReadsItsVersions) {
  const PolicyPtr policy = good(sample_with("writer: {task: text, providers: [cloud, fake]}\n", R"(writer:
    task: text
    max_output_tokens: 100
    versions:
      - version: "2.10"
        status: beta
        routes: [{provider: cloud, model: big}, fake]
      - {version: 2.9, status: blessed, routes: [{provider: cloud, model: small}]}
)"));
  const Model& writer = policy->models.at("writer");
  EXPECT_EQ(writer.max_output_tokens, 100);
  ASSERT_EQ(writer.versions.size(), 2U);
  EXPECT_EQ(writer.versions[0].version, "2.10");  // as it is written: YAML would make a number of it
  EXPECT_EQ(writer.versions[0].status, VersionStatus::kBeta);
  EXPECT_THAT(writer.versions[0].routes, ElementsAre(ModelRoute{"cloud", "big"}, ModelRoute{"fake", "auto"}));
  EXPECT_EQ(writer.versions[1].status, VersionStatus::kBlessed);
  EXPECT_EQ(writer.version("2.9"), &writer.versions[1]);
  EXPECT_EQ(writer.version("2.90"), nullptr);
  EXPECT_TRUE(writer.served_by("fake"));
  EXPECT_FALSE(writer.served_by("voice"));
}

TEST(LoadModel, HasADefaultVersionWhereOneIsMeant) {
  const auto chosen = [](const std::vector<std::string>& versions, const std::string& more = "") {
    return with_versions(versions, more)->models.at("writer").default_version;
  };
  EXPECT_EQ(chosen({"version: 1.0.0", "version: 2.0.0"}), "");
  EXPECT_EQ(chosen({"version: 1.0.0"}), "1.0.0");
  EXPECT_EQ(chosen({"version: 1.0.0, status: blessed", "version: 2.0.0"}), "1.0.0");
  EXPECT_EQ(chosen({"version: 1.0.0, status: blessed", "version: 2.0.0"}, "    default: 2.0.0\n"), "2.0.0");
}

TEST(LoadModel, IsShortForOneVersionWithoutAList) {
  const PolicyPtr policy =
      good(sample_with("writer: {task: text,", "writer: {task: text, version: nightly, status: beta,"));
  const Model& writer = policy->models.at("writer");
  ASSERT_EQ(writer.versions.size(), 1U);
  EXPECT_EQ(writer.versions[0].version, "nightly");
  EXPECT_EQ(writer.versions[0].status, VersionStatus::kBeta);
  EXPECT_EQ(writer.default_version, "nightly");
}

TEST(LoadModel, HasAliases) {
  const PolicyPtr policy =
      good(sample_with("defaults:\n", "aliases: {auto: writer, fast: writer@1}\ndefaults:\n"));
  EXPECT_EQ(policy->aliases.at("auto"), "writer");
  EXPECT_EQ(policy->aliases.at("fast"), "writer@1");
}

TEST(LoadPlan, SaysWhatItMayUse) {
  const PolicyPtr policy = good(sample_with("priority_class: high", R"(models:
      policy: allow_minor
      tasks:
        text: {policy: pinned, pin: writer@1, providers: [fake, cloud]}
        speech: {pin: [narrator@1]}
      visibility: {beta: true}
      allow: [narrator, writer])"));
  const Plan& plan = *policy->plan("pro");
  EXPECT_EQ(plan.models.policy_of("text"), VersionPolicy::kPinned);
  EXPECT_EQ(plan.models.policy_of("speech"), VersionPolicy::kAllowMinor);
  EXPECT_THAT(plan.models.pins_of("text"), ElementsAre(Pin{"writer", "1"}));
  EXPECT_THAT(plan.models.pins_of("speech"), ElementsAre(Pin{"narrator", "1"}));
  EXPECT_THAT(plan.models.pins_of("image"), ElementsAre());
  EXPECT_THAT(plan.providers.at("text"), ElementsAre("fake", "cloud"));
  EXPECT_TRUE(plan.models.beta);
  EXPECT_FALSE(plan.models.unverified);
  EXPECT_TRUE(plan.models.allows("writer"));
  EXPECT_FALSE(plan.models.allows("other"));
  const Plan& free = *policy->plan("free");
  EXPECT_EQ(free.models, ModelPolicy{});
  EXPECT_EQ(free.models.policy_of("text"), VersionPolicy::kLatest);
  EXPECT_TRUE(free.models.allows("other"));
}

TEST(LoadPlan, StartsFromTheDefaultPlansModels) {
  const PolicyPtr policy =
      good(sample_with("limits: {queue_depth: 100}",
                       "limits: {queue_depth: 100}\n    models: {policy: pinned, tasks: {text: "
                       "{policy: allow_minor}}, visibility: {unverified: true}}"));
  EXPECT_EQ(policy->plan("pro")->models.policy_of("speech"), VersionPolicy::kPinned);
  EXPECT_EQ(policy->plan("pro")->models.policy_of("text"), VersionPolicy::kAllowMinor);
  EXPECT_TRUE(policy->plan("pro")->models.unverified);
}

TEST(LoadPlan, CanBeOverriddenForAnAccount) {
  const PolicyPtr policy = good(std::string{kSample});
  const auto own = overridden(*policy, *policy->plan("free"),
                              R"({"models": {"policy": "pinned", "tasks": {"text": {"pin": "writer@1"}}}})");
  ASSERT_TRUE(own) << own.error().message;
  EXPECT_EQ(own->models.policy_of("text"), VersionPolicy::kPinned);
  EXPECT_THAT(own->models.pins_of("text"), ElementsAre(Pin{"writer", "1"}));
  const auto wrong =
      overridden(*policy, *policy->plan("free"), R"({"models": {"tasks": {"text": {"pin": "writer@1"}}}})");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().param, "overrides.models");
}

}  // namespace
}  // namespace turnpike::policy
