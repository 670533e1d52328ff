// What lists bring: which entries are versions of a model, where they stand, and that nobody is served them.
#include "policy/discovered.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "policy/event_json.h"
#include "policy/resolve.h"
#include "unit/policy/bad_file.h"

namespace turnpike::policy {
namespace {

using testing::ElementsAre;

constexpr std::string_view kWatched = R"(accounts: {default_plan: newest}
providers:
  cloud: {kind: openai, base_url: "https://api.example.com/v1", watch: {every: 5m, prefix: big-}}
  other: {kind: openai, base_url: "https://other.example.com/v1", watch: {}}
models:
  writer:
    task: text
    versions:
      - {version: 2.1.0, routes: [{provider: cloud, model: big-2.1.0}]}
      - {version: 1.0.0, routes: [{provider: cloud, model: big-1.0.0}]}
    default: 2.1.0
    discover:
      - {provider: cloud, match: "big-{version}"}
      - {provider: other, match: "{version}/big"}
  dated:
    task: text
    versions:
      - {version: 2025-03-01, routes: [{provider: cloud, model: day-2025-03-01}]}
      - {version: main, released: 2025-02-01, routes: [{provider: cloud, model: day-main}]}
    default: main
    discover: [{provider: cloud, match: "day-{version}"}]
plans:
  newest: {}
  brave: {models: {visibility: {beta: true, unverified: true}}}
  minor: {models: {policy: allow_minor}}
  held: {models: {policy: pinned}}
)";

constexpr Wall kFound = wall_from_seconds(1'790'000'000);

Discovery found(std::string id, std::string provider = "cloud") {
  return {.provider = std::move(provider), .id = std::move(id), .name = {}, .found_at = kFound};
}

PolicyPtr watched() {
  const Loaded loaded = load_text(std::string(kWatched), "w.yaml");
  for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
  return loaded.policy;
}

std::vector<std::string> versions(const Policy& policy, const std::string& model) {
  return policy.models.at(model).version_names();
}

std::string served(const Policy& policy, const std::string& plan, const Overlay& overlay = no_overlay(),
                   const std::string& model = "writer") {
  const auto route = resolve(policy, policy.plans.at(plan), overlay, "ada", "text", model, {});
  return route ? route->candidates.front().model_version : route.error().message;
}

TEST(Discovered, AMarkStandsForANumberOrADay) {
  EXPECT_EQ(version_in("gpt-4o-{version}", "gpt-4o-2024-08-06"), "2024-08-06");
  EXPECT_EQ(version_in("gpt-4o-{version}", "gpt-4o-mini-2024-07-18"), std::nullopt);
  EXPECT_EQ(version_in("{version}/big", "2.1.0/big"), "2.1.0");
  EXPECT_EQ(version_in("big-{version}-it", "big-3-it"), "3");
  EXPECT_EQ(version_in("big-{version}", "big-"), std::nullopt);
  EXPECT_EQ(version_in("big-{version}", "small-2"), std::nullopt);
  EXPECT_EQ(version_in("big-{version}", "big-2.0\n"), std::nullopt);
  EXPECT_EQ(version_in("aba{version}aba", "aba"), std::nullopt);
}

TEST(Discovered, VersionsTakeTheirPlaceAmongTheFiles) {
  const std::vector<Discovery> all{found("big-3.0.0"), found("big-2.0.0"), found("big-0.9"),
                                   found("small-9")};
  const PolicyPtr policy = with_discovered(watched(), all);
  EXPECT_THAT(versions(*policy, "writer"), ElementsAre("3.0.0", "2.1.0", "2.0.0", "1.0.0", "0.9"));
  const ModelVersion& made = policy->models.at("writer").versions.front();
  EXPECT_EQ(made.status, VersionStatus::kDiscovered);
  EXPECT_EQ(made.discovered_at, kFound);
  EXPECT_THAT(made.routes, ElementsAre(ModelRoute{.provider = "cloud", .upstream_model = "big-3.0.0"}));
  EXPECT_EQ(policy->hash, watched()->hash);
  EXPECT_EQ(place_of(*policy, all[0])->version, "3.0.0");
  EXPECT_FALSE(place_of(*policy, all[3]));
}

TEST(Discovered, OneThatHasNoPlaceIsNoVersion) {
  const std::vector<Discovery> all{found("big-2025-01-01"),   // a day beside numbers
                                   found("big-2.1"),          // the same number
                                   found("day-4"),            // a number beside days
                                   found("day-2025-02-01")};  // the day of `main`
  const PolicyPtr policy = with_discovered(watched(), all);
  EXPECT_THAT(versions(*policy, "writer"), ElementsAre("2.1.0", "1.0.0"));
  EXPECT_THAT(versions(*policy, "dated"), ElementsAre("2025-03-01", "main"));
}

TEST(Discovered, ANumberBesideDaysStandsByItsRelease) {
  Discovery four = found("day-4");
  four.released = parse_day("2025-02-14");
  const std::vector<Discovery> all{four, found("day-2025-06-01")};
  const PolicyPtr policy = with_discovered(watched(), all);
  EXPECT_THAT(versions(*policy, "dated"), ElementsAre("2025-06-01", "2025-03-01", "4", "main"));
}

TEST(Discovered, OneVersionOfSeveralProvidersHasARouteToEach) {
  const std::vector<Discovery> all{found("big-3.0.0"), found("3.0.0/big", "other"),
                                   found("2.1.0/big", "other"), found("3.0.0/big", "gone")};
  const PolicyPtr policy = with_discovered(watched(), all);
  EXPECT_THAT(versions(*policy, "writer"), ElementsAre("3.0.0", "2.1.0", "1.0.0"));
  EXPECT_EQ(policy->models.at("writer").versions[0].routes.size(), 2U);
  EXPECT_EQ(policy->models.at("writer").versions[1].routes.size(), 1U)
      << "the file's versions stay as they are";
}

TEST(Discovered, IsMadeAnewEachTime) {
  const PolicyPtr once = with_discovered(watched(), std::vector{found("big-3.0.0")});
  const PolicyPtr twice = with_discovered(once, std::vector{found("big-4.0.0"), found("big-3.0.0")});
  EXPECT_THAT(versions(*twice, "writer"), ElementsAre("4.0.0", "3.0.0", "2.1.0", "1.0.0"));
  EXPECT_THAT(versions(*with_discovered(twice, {}), "writer"), ElementsAre("2.1.0", "1.0.0"));
  EXPECT_TRUE(in_file(*twice, "cloud", "big-2.1.0"));
  EXPECT_FALSE(in_file(*twice, "cloud", "big-3.0.0"));
}

TEST(Discovered, VersionsOfOneModelAreBounded) {
  std::vector<Discovery> all;
  for (std::size_t i = 0; i < 2 * kDiscoveredVersionsMax; ++i)
    all.push_back(found("big-3." + std::to_string(i)));
  EXPECT_EQ(versions(*with_discovered(watched(), all), "writer").size(), 2 + kDiscoveredVersionsMax);
}

TEST(Discovered, NobodyIsServedOneUntilItIsApproved) {
  const PolicyPtr policy = with_discovered(watched(), std::vector{found("big-3.0.0"), found("big-2.2.0")});
  for (const char* plan : {"newest", "brave", "minor", "held"})
    EXPECT_EQ(served(*policy, plan), "2.1.0") << plan;
  EXPECT_THAT(served(*policy, "brave", no_overlay(), "writer@3.0.0"), testing::HasSubstr("does not have"));
  Overlay overlay;
  overlay.statuses["writer"] = {{"3.0.0", VersionStatus::kApproved}, {"2.2.0", VersionStatus::kApproved}};
  ASSERT_TRUE(check_overlay(*policy, overlay));
  EXPECT_EQ(served(*policy, "newest", overlay), "3.0.0");
  EXPECT_EQ(served(*policy, "minor", overlay), "2.2.0");
  EXPECT_EQ(served(*policy, "held", overlay), "2.1.0") << "pinned plans never move";
}

TEST(Discovered, ACanaryThatIsRolledBackLeavesItAsItWas) {
  const PolicyPtr policy = with_discovered(watched(), std::vector{found("big-3.0.0")});
  Overlay overlay;
  overlay.canaries.push_back({.id = "c",
                              .model = "writer",
                              .candidate = "3.0.0",
                              .baseline = "2.1.0",
                              .plans = {"newest"},
                              .share_permille = 1'000});
  ASSERT_TRUE(check_overlay(*policy, overlay));
  EXPECT_EQ(served(*policy, "newest", overlay), "3.0.0");
  ASSERT_TRUE(end_canary(*policy, overlay, "c", VersionStatus::kUnverified));
  EXPECT_EQ(served(*policy, "brave", overlay), "2.1.0");
}

TEST(Discovered, EventsSayWhatWasFound) {
  const PolicyPtr policy = with_discovered(watched(), std::vector{found("big-3.0.0")});
  const Discovery big = found("big-3.0.0");
  EXPECT_EQ(discovered_json(big, place_of(*policy, big)),
            R"({"provider":"cloud","kind":"model","id":"big-3.0.0","name":null,"model":"writer",)"
            R"("version":"3.0.0","status":"discovered"})");
  Discovery voice = found("v1");
  voice.kind = DiscoveryKind::kVoice;
  voice.name = "Ada \"the\" Voice";
  EXPECT_EQ(discovered_json(voice, place_of(*policy, voice)),
            R"({"provider":"cloud","kind":"voice","id":"v1","name":"Ada \"the\" Voice","model":null,)"
            R"("version":null,"status":"discovered"})");
  EXPECT_EQ(policy_changed_json(
                {.version = 3, .previous = 2, .hash = "ab", .by = "cli", .reason = "", .rolled_back_to = 1}),
            R"({"version":3,"previous":2,"hash":"ab","by":"cli","reason":null,"rolled_back_to":1})");
}

TEST(Watch, HasDefaultsByItsList) {
  const auto watch_of = [](const std::string& kind, const std::string& url, const std::string& watch) {
    const std::string tasks = kind == "http" ? ", tasks: {speech: {request: {path: /s, json: {}}, response: "
                                               "{file: {name: a, mime: audio/mpeg}}}}"
                                             : "";
    const Loaded loaded =
        load_text("accounts: {default_plan: p}\nproviders:\n  x: {kind: " + kind + ", base_url: \"" + url +
                      "\", watch: " + watch + tasks +
                      "}\nmodels: {m: {task: speech, providers: [{provider: x, model: y}]}}\n"
                      "plans: {p: {}}\n",
                  "w.yaml");
    for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
    return loaded.policy == nullptr ? ListWatch{} : *loaded.policy->providers.at("x").watch;
  };
  const ListWatch openai = watch_of("openai", "http://127.0.0.1:9/v1", "{ids: [a, b], prefix: a}");
  EXPECT_EQ(openai.url, "http://127.0.0.1:9/v1/models");
  EXPECT_TRUE(openai.send_key);
  EXPECT_EQ(openai.every, std::chrono::hours(1));
  EXPECT_TRUE(openai.wants("a"));
  EXPECT_FALSE(openai.wants("b"));
  EXPECT_FALSE(openai.wants("ab"));
  const ListWatch hub = watch_of("openai", "http://127.0.0.1:9/v1", "{list: huggingface, author: acme}");
  EXPECT_EQ(hub.url, "https://huggingface.co/api/models");
  EXPECT_FALSE(hub.send_key) << "no key is sent to a stranger";
  const ListWatch voices = watch_of("http", "https://api.elevenlabs.io", "{list: elevenlabs, every: 2h}");
  EXPECT_EQ(voices.url, "https://api.elevenlabs.io/v1");
  EXPECT_TRUE(voices.send_key);
}

class BadWatch : public testing::TestWithParam<BadFile> {};

TEST_P(BadWatch, IsRefusedWithWhatWouldBeRight) {
  EXPECT_THAT(mistakes_of(sample_with(GetParam().from, GetParam().to)), ElementsAre(GetParam().expected));
}

constexpr const char* kUrl = "base_url: https://api.example.com/v1";
constexpr const char* kWatch = "base_url: https://api.example.com/v1\n    watch: ";
constexpr const char* kModel = "writer: {task: text, providers: [cloud, fake]}";

INSTANTIATE_TEST_SUITE_P(
    Lists, BadWatch,
    testing::Values(
        BadFile{"TooOften", kUrl, std::string(kWatch) + "{every: 10s}",
                "t.yaml:19:20: providers.cloud.watch.every: must be a duration from 1m to 7d"},
        BadFile{"UnknownList", kUrl, std::string(kWatch) + "{list: hugingface}",
                "t.yaml:19:19: providers.cloud.watch.list: must be one of openai, anthropic, huggingface, "
                "elevenlabs: did you mean `huggingface`?"},
        BadFile{"NobodysModels", kUrl, std::string(kWatch) + "{list: huggingface}",
                "t.yaml:19:5: providers.cloud.watch: `author` is missing"},
        BadFile{"AuthorOfAnother", kUrl, std::string(kWatch) + "{author: acme}",
                "t.yaml:19:21: providers.cloud.watch.author: belongs to lists of kind huggingface"},
        BadFile{"NoAddress", kUrl, std::string(kWatch) + "{url: api.example.com}",
                "t.yaml:19:18: providers.cloud.watch.url: must be http://HOST/PATH or https://HOST/PATH "
                "without a "
                "slash at the end, a user, a query or a fragment"},
        BadFile{"NoIds", kUrl, std::string(kWatch) + "{ids: []}",
                "t.yaml:19:13: providers.cloud.watch.ids: needs at least one id; leave it out for all"},
        BadFile{"TooMany", kUrl, std::string(kWatch) + "{entries_max: 20000}",
                "t.yaml:19:26: providers.cloud.watch.entries_max: must be a whole number from 1 to 10000"},
        BadFile{"OfNoUpstream", "kind: sandbox", "kind: sandbox\n    watch: {}",
                "t.yaml:22:5: providers.fake.watch: belongs to providers of kind openai, anthropic and http"},
        BadFile{
            "NotWatched", kModel,
            "writer: {task: text, providers: [cloud], discover: [{provider: cloud, match: \"a-{version}\"}]}",
            "t.yaml:23:66: models.writer.discover[0].provider: the lists of provider `cloud` are not read: "
            "give "
            "it a section `watch`"}),
    name_of);

TEST(Watch, ADiscoverRuleNamesItsVersionOnce) {
  for (const char* match : {"a", "{version}-{version}"}) {
    std::string text = sample_with(kUrl, std::string(kWatch) + "{}");
    const std::size_t at = text.find(kModel);
    text.replace(
        at, std::string(kModel).size(),
        std::string("writer: {task: text, providers: [cloud], discover: [{provider: cloud, match: \"") +
            match + "\"}]}");
    EXPECT_THAT(mistakes_of(text),
                ElementsAre(testing::HasSubstr("must be the id of an entry with {version} once in it")));
  }
}

TEST(Watch, AModelThatDiscoversHasVersionsInOrder) {
  std::string text = sample_with(kUrl, std::string(kWatch) + "{}");
  const std::size_t at = text.find(kModel);
  text.replace(at, std::string(kModel).size(),
               "writer: {task: text, version: main, providers: [cloud], discover: [{provider: cloud, match: "
               "\"a-{version}\"}]}");
  EXPECT_THAT(mistakes_of(text), ElementsAre(testing::HasSubstr("must have an order with the model's own")));
}

}  // namespace
}  // namespace turnpike::policy
