// Mistakes in providers' keys and limits, in models' versions, and in what plans say of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "unit/policy/bad_file.h"

namespace turnpike::policy {
namespace {

class BadCatalogue : public testing::TestWithParam<BadFile> {};

TEST_P(BadCatalogue, IsRefusedWithWhatWouldBeRight) {
  EXPECT_THAT(mistakes_of(sample_with(GetParam().from, GetParam().to)),
              testing::ElementsAre(GetParam().expected));
}

constexpr const char* kKey = "api_key: ${env:CLOUD_KEY}";

INSTANTIATE_TEST_SUITE_P(
    Upstreams, BadCatalogue,
    testing::Values(
        BadFile{"KeysBesideAKey", kKey,
                "api_key: ${env:CLOUD_KEY}\n    keys: [{name: a, key: \"${env:CLOUD_KEY}\"}]",
                "t.yaml:20:5: providers.cloud.keys: stands beside `api_key`, which is short for one key: "
                "keep one of them"},
        BadFile{"NoKeys", kKey, "keys: []", "t.yaml:19:5: providers.cloud.keys: needs at least one key"},
        BadFile{"KeyWithoutAName", kKey, "keys: [{key: \"${env:CLOUD_KEY}\"}]",
                "t.yaml:19:12: providers.cloud.keys[0]: `name` is missing"},
        BadFile{"KeyWithoutItsSecret", kKey, "keys: [{name: a}]",
                "t.yaml:19:12: providers.cloud.keys[0]: `key` is missing"},
        BadFile{"LiteralKey", kKey, "keys: [{name: a, key: sk-very-secret-value}]",
                "t.yaml:19:27: providers.cloud.keys[0].key: write ${env:NAME} or ${file:PATH}: a secret "
                "never stands in the configuration itself"},
        BadFile{"KeyThatIsNotThere", kKey, "keys: [{name: a, key: \"${env:NO_SUCH_KEY}\"}]",
                "t.yaml:19:27: providers.cloud.keys[0].key: environment variable NO_SUCH_KEY is not set"},
        BadFile{"TwoKeysOfOneName", kKey,
                "keys: [{name: a, key: \"${env:CLOUD_KEY}\"}, {name: a, key: \"${file:/run/key}\"}]",
                "t.yaml:19:48: providers.cloud.keys[1]: key `a` is named twice: each has a name of its own"},
        BadFile{"KeyWithoutRequests", kKey,
                "keys: [{name: a, key: \"${env:CLOUD_KEY}\", requests_per_minute: 0}]",
                "t.yaml:19:68: providers.cloud.keys[0].requests_per_minute: must be a whole number from 1 to "
                "100000, or `unlimited`"},
        BadFile{"UnknownKeyOfAKey", kKey, "keys: [{name: a, key: \"${env:CLOUD_KEY}\", rpm: 5}]",
                "t.yaml:19:47: providers.cloud.keys[0]: unknown key `rpm`: there are concurrency, key, name, "
                "requests_per_minute, tokens_per_minute"},
        BadFile{"MoreSlotsThanTheKeysHave", kKey,
                "concurrency: 9\n    keys: [{name: a, key: \"${env:CLOUD_KEY}\", concurrency: 3}]",
                "t.yaml:19:18: providers.cloud.concurrency: must be at most 3, which is what its keys take "
                "together"},
        BadFile{"KeysOfAnotherKind", "kind: sandbox", "kind: sandbox\n    keys: []",
                "t.yaml:22:5: providers.fake.keys: belongs to providers of kind openai, anthropic and http"},
        BadFile{"KeyOfPullAtAnotherKind", "kind: sandbox", "kind: sandbox\n    lease: 5s",
                "t.yaml:22:12: providers.fake.lease: belongs to providers of kind pull"},
        BadFile{
            "PoolOfWorkers", "kind: sandbox", "kind: pull\n    pool: local",
            "t.yaml:22:11: providers.fake.pool: is for work that shares slots of this machine: workers of "
            "kind pull bring their own"},
        BadFile{"ClaimsOfNobody", "kind: sandbox", "kind: pull\n    claims: 0",
                "t.yaml:22:13: providers.fake.claims: must be a whole number from 1 to 10000"},
        BadFile{"SeedOfPull", "kind: sandbox", "kind: pull\n    seed: 3",
                "t.yaml:22:11: providers.fake.seed: belongs to providers of kind sandbox"},
        BadFile{"LimitWithoutItsTime", "kind: sandbox", "kind: sandbox\n    limit: {requests: 15}",
                "t.yaml:22:5: providers.fake.limit: `per` is missing"},
        BadFile{"LimitOfNothing", "kind: sandbox", "kind: sandbox\n    limit: {requests: 0, per: 1m}",
                "t.yaml:22:23: providers.fake.limit.requests: must be a whole number from 1 to 100000"},
        BadFile{"BreakerThatIsNoSection", "kind: sandbox", "kind: sandbox\n    breaker: on",
                "t.yaml:22:14: providers.fake.breaker: must be a section ({failures: 5, cool_down: 30s}), or "
                "`off`"},
        BadFile{"BreakerWithoutFailures", "kind: sandbox", "kind: sandbox\n    breaker: {failures: 0}",
                "t.yaml:22:25: providers.fake.breaker.failures: must be a whole number from 1 to 1000"},
        BadFile{"CoolDownTooShort", "kind: sandbox", "kind: sandbox\n    cool_down: 10ms",
                "t.yaml:22:16: providers.fake.cool_down: must be a duration from 1s to 1h"},
        BadFile{"UnknownSaturation", "kind: sandbox", "kind: sandbox\n    saturation: spil",
                "t.yaml:22:17: providers.fake.saturation: must be one of wait, spill: did you mean `spill`?"},
        BadFile{"TimeoutWithoutAUnit", "kind: sandbox", "kind: sandbox\n    timeout: 30",
                "t.yaml:22:14: providers.fake.timeout: must be a duration such as 500ms, 30s, 5m, 2h or 30d, "
                "from 10ms to 1d"}),
    name_of);

constexpr const char* kWriter = "writer: {task: text, providers: [cloud, fake]}";

std::string versions(const std::string& list, const std::string& more = "") {
  return "writer: {task: text, " + more + "versions: [" + list + "]}";
}

INSTANTIATE_TEST_SUITE_P(
    Versions, BadCatalogue,
    testing::Values(
        BadFile{"ProvidersBesideVersions", kWriter,
                versions("{version: 1.0.0, routes: [fake]}", "providers: [cloud], "),
                "t.yaml:23:24: models.writer.providers: stands beside `versions`: each version in the list "
                "has its own"},
        BadFile{"NoVersions", kWriter, versions(""),
                "t.yaml:23:24: models.writer.versions: needs at least one version"},
        BadFile{"VersionWithoutAName", kWriter, versions("{routes: [fake]}"),
                "t.yaml:23:35: models.writer.versions[0]: `version` is missing"},
        BadFile{"VersionWithoutRoutes", kWriter, versions("{version: 1.0.0}"),
                "t.yaml:23:35: models.writer.versions[0]: `routes` is missing"},
        BadFile{"VersionWithNoRoute", kWriter, versions("{version: 1.0.0, routes: []}"),
                "t.yaml:23:52: models.writer.versions[0].routes: needs at least one provider"},
        BadFile{"NeitherNumberNorDay", kWriter, versions("{version: a1b2c3d4, routes: [fake]}"),
                "t.yaml:23:45: models.writer.versions[0].version: is neither a number such as 2.1.0 nor a "
                "day such as 2025-11-01: write one, or say when it was released (`released: 2025-11-01`)"},
        BadFile{"NoSuchDay", kWriter, versions("{version: 2025-02-30, routes: [fake]}"),
                "t.yaml:23:45: models.writer.versions[0].version: is neither a number such as 2.1.0 nor a "
                "day such as 2025-11-01: write one, or say when it was released (`released: 2025-11-01`)"},
        BadFile{"MixedWithoutDays", kWriter,
                versions("{version: 1.0.0, routes: [fake]}, {version: 2025-11-01, routes: [fake]}"),
                "t.yaml:23:45: models.writer.versions[0].version: stands beside versions of another kind: "
                "say when it was released (`released: 2025-11-01`), so that they have an order"},
        BadFile{"BadDayOfRelease", kWriter, versions("{version: 1.0.0, released: May, routes: [fake]}"),
                "t.yaml:23:62: models.writer.versions[0].released: must be a day such as 2025-11-01"},
        BadFile{"DayOfADay", kWriter, versions("{version: 2025-11-01, released: 2025-11-02, routes: [fake]}"),
                "t.yaml:23:67: models.writer.versions[0].released: is what a dated version says itself: "
                "leave it out"},
        BadFile{"SameVersionTwice", kWriter,
                versions("{version: 1.0.0, routes: [fake]}, {version: 1.0.0, routes: [cloud]}"),
                "t.yaml:23:79: models.writer.versions[1].version: `1.0.0` is there twice: keep one"},
        BadFile{"SameNumberTwice", kWriter,
                versions("{version: 1.0.0, routes: [fake]}, {version: \"1.0\", routes: [cloud]}"),
                "t.yaml:23:79: models.writer.versions[1].version: is the same number as `1.0.0`: keep one"},
        BadFile{
            "SameDayTwice", kWriter,
            versions(
                "{version: 2025-11-01, routes: [fake]}, {version: b, released: 2025-11-01, routes: [fake]}"),
            "t.yaml:23:84: models.writer.versions[1].version: is of the same day as `2025-11-01`: neither is "
            "the newer one"},
        BadFile{"TwoBlessed", kWriter,
                versions("{version: 1.0.0, status: blessed, routes: [fake]}, "
                         "{version: 2.0.0, status: blessed, routes: [fake]}"),
                "t.yaml:23:111: models.writer.versions[1].status: is a second one: `1.0.0` is blessed "
                "already, and a model has one version that a freeze falls back to"},
        BadFile{"UnknownStatus", kWriter, versions("{version: 1.0.0, status: blest, routes: [fake]}"),
                "t.yaml:23:60: models.writer.versions[0].status: must be one of unverified, beta, approved, "
                "blessed, retired"},
        BadFile{"UnknownDefault", kWriter, versions("{version: 1.0.0, routes: [fake]}", "default: 1.0.1, "),
                "t.yaml:23:33: models.writer.default: model `writer` has no version `1.0.1`: it has 1.0.0"},
        BadFile{"BetaAsDefault", kWriter,
                versions("{version: 1.0.0, status: beta, routes: [fake]}", "default: 1.0.0, "),
                "t.yaml:23:33: models.writer.default: is beta: a default is for every plan, so it must be "
                "approved or blessed"},
        BadFile{"DefaultOfTheShortForm", kWriter, "writer: {task: text, default: \"1\", providers: [fake]}",
                "t.yaml:23:33: models.writer.default: belongs to a model with a list of `versions`"},
        BadFile{"RouteToAnUnknownProvider", kWriter, versions("{version: 1.0.0, routes: [fak]}"),
                "t.yaml:23:61: models.writer.versions[0].routes[0]: unknown provider `fak`: did you mean "
                "`fake`?"},
        BadFile{"VersionWithAnAt", kWriter, versions("{version: \"1@0\", routes: [fake]}"),
                "t.yaml:23:45: models.writer.versions[0].version: must be letters, digits and _ . : / - + , "
                "beginning with a letter or a digit"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Aliases, BadCatalogue,
    testing::Values(BadFile{"UnknownModel", "defaults:\n", "aliases: {auto: writr}\ndefaults:\n",
                            "t.yaml:25:17: aliases.auto: must be a model or MODEL@VERSION; there is no model "
                            "`writr`: did you mean `writer`?"},
                    BadFile{"UnknownVersion", "defaults:\n", "aliases: {auto: writer@2}\ndefaults:\n",
                            "t.yaml:25:17: aliases.auto: model `writer` has no version `2`: it has 1"},
                    BadFile{"NameOfAModel", "defaults:\n", "aliases: {writer: narrator}\ndefaults:\n",
                            "t.yaml:25:19: aliases.writer: `writer` is the name of a model: choose another"},
                    BadFile{"AliasOfAnAlias", "defaults:\n",
                            "aliases: {auto: writer, car: auto}\ndefaults:\n",
                            "t.yaml:25:30: aliases.car: must be a model or MODEL@VERSION; there is no model "
                            "`auto`: there are narrator, writer"}),
    name_of);

// The plan's models; the sample's writer has two versions, and no default.
BadFile of_plan(const char* name, const std::string& models, const char* expected) {
  return {
      name,
      "writer: {task: text, providers: [cloud, fake]}\n  narrator: {task: speech, providers: [voice]}\n"
      "defaults:\n  plan:\n    limits: {queue_depth: 100}\nplans:\n  free:\n    priority_class: low\n"
      "    limits: {concurrent_jobs: 2}\n  pro:\n    priority_class: high\n",
      "writer: {task: text, versions: [{version: 1.0.0, routes: [fake]}, {version: 2.0.0, routes: [fake]}, "
      "{version: 0.9.0, status: retired, routes: [fake]}]}\n"
      "  narrator: {task: speech, providers: [voice]}\nplans:\n  free: {priority_class: low}\n  pro:\n    "
      "models: " +
          models + "\n",
      expected};
}

INSTANTIATE_TEST_SUITE_P(
    Plans, BadCatalogue,
    testing::Values(
        of_plan("UnknownPolicy", "{policy: newest}",
                "t.yaml:28:22: plans.pro.models.policy: must be one of latest, allow_minor, pinned"),
        of_plan("UnknownTask", "{tasks: {txt: {policy: latest}}}",
                "t.yaml:28:22: plans.pro.models.tasks.txt: unknown task `txt`: did you mean `text`?"),
        of_plan("PinWithoutAVersion", "{tasks: {text: {policy: pinned, pin: writer}}}",
                "t.yaml:28:50: plans.pro.models.tasks.text.pin: must be MODEL@VERSION, such as writer@2.0.0"),
        of_plan("PinOfAnUnknownModel", "{tasks: {text: {policy: pinned, pin: writr@1.0.0}}}",
                "t.yaml:28:50: plans.pro.models.tasks.text.pin: task `text` has no model `writr`: did you "
                "mean `writer`?"),
        of_plan("PinOfAnotherTask", "{tasks: {text: {policy: pinned, pin: narrator@1}}}",
                "t.yaml:28:50: plans.pro.models.tasks.text.pin: task `text` has no model `narrator`: there "
                "is only writer"),
        of_plan("PinOfAnUnknownVersion", "{tasks: {text: {policy: pinned, pin: writer@3.0.0}}}",
                "t.yaml:28:50: plans.pro.models.tasks.text.pin: model `writer` has no version `3.0.0`: it "
                "has 2.0.0, 1.0.0, 0.9.0"),
        of_plan("PinOfARetiredVersion", "{tasks: {text: {policy: pinned, pin: writer@0.9.0}}}",
                "t.yaml:28:50: plans.pro.models.tasks.text.pin: is retired: nobody would be served"),
        of_plan("TwoPinsOfOneModel", "{tasks: {text: {policy: pinned, pin: [writer@1.0.0, writer@2.0.0]}}}",
                "t.yaml:28:65: plans.pro.models.tasks.text.pin[1]: a second version of model `writer` is "
                "pinned: keep one"),
        of_plan("NoPins", "{tasks: {text: {pin: []}}}",
                "t.yaml:28:29: plans.pro.models.tasks.text.pin: needs at least one MODEL@VERSION"),
        of_plan("PinWithoutEffect", "{tasks: {text: {pin: writer@1.0.0}}}",
                "t.yaml:28:5: plans.pro.models: task `text` pins writer@1.0.0 and takes the latest: write "
                "`policy: pinned` or `allow_minor` for it, or leave the pin out"),
        of_plan(
            "PinOfAModelThatIsNotAllowed",
            "{tasks: {text: {policy: pinned, pin: writer@1.0.0}}, allow: [narrator]}",
            "t.yaml:28:5: plans.pro.models: task `text` pins model `writer`, which `allow` does not name"),
        of_plan("HeldWithoutAVersion", "{policy: pinned}",
                "t.yaml:28:5: plans.pro.models: task `text` follows pinned, but nothing says from which "
                "version of "
                "model `writer`: pin one (tasks.text.pin: writer@2.0.0), or give the model a `default`"),
        of_plan("MinorsOfNoVersion", "{tasks: {text: {policy: allow_minor}}}",
                "t.yaml:28:5: plans.pro.models: task `text` follows allow_minor, but nothing says from which "
                "version of "
                "model `writer`: pin one (tasks.text.pin: writer@2.0.0), or give the model a `default`"),
        of_plan("UnknownModelAllowed", "{allow: [writer, narator]}",
                "t.yaml:28:30: plans.pro.models.allow[1]: unknown model `narator`: did you mean `narrator`?"),
        of_plan("AllowThatIsNoList", "{allow: writer}",
                "t.yaml:28:21: plans.pro.models.allow: must be a list of models, or `all`"),
        of_plan("VisibilityThatIsNoFlag", "{visibility: {beta: yes}}",
                "t.yaml:28:33: plans.pro.models.visibility.beta: must be true or false"),
        of_plan("UnknownVisibility", "{visibility: {betas: true}}",
                "t.yaml:28:27: plans.pro.models.visibility: unknown key `betas`: did you mean `beta`?"),
        of_plan("UnknownProviderOfATask", "{tasks: {text: {providers: [clod]}}}",
                "t.yaml:28:41: plans.pro.models.tasks.text.providers[0]: unknown provider `clod`: did you "
                "mean `cloud`?")),
    name_of);

}  // namespace
}  // namespace turnpike::policy
