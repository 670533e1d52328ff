// Which version of a model a plan is served, and why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "policy/resolve.h"
#include "unit/policy/catalogue.h"

namespace turnpike::policy {
namespace {

using testing::ElementsAre;

Result<Route> ask(const std::string& plan, std::string_view model, const Overlay& overlay = no_overlay(),
                  const std::set<std::string>& unavailable = {}, std::string_view user = "u",
                  std::string_view task = "text") {
  return resolve(*catalogue(), *catalogue()->plan(plan), overlay, user, task, model, unavailable);
}

// "writer@2.1.0 via cloud, near: why", or the error.
std::string told(const Result<Route>& route) {
  if (!route) return std::string(error_code_name(route.error().code)) + ": " + route.error().message;
  const Candidate& first = route->candidates.front();
  std::string text = first.model + "@" + first.model_version + " via ";
  for (const Candidate& candidate : route->candidates) {
    EXPECT_EQ(candidate.model_version, first.model_version);
    text += (&candidate == &first ? "" : ", ") + candidate.provider;
  }
  return text + ": " + route->why;
}

struct Case {
  const char* name;
  const char* plan;
  const char* model;
  const char* expected;
  const char* task = "text";
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.plan << " asks for " << c.model;
}

std::string name_of_case(const testing::TestParamInfo<Case>& info) {
  return info.param.name;
}

class Version : public testing::TestWithParam<Case> {};

TEST_P(Version, IsChosenByThePlansPolicy) {
  const Case& c = GetParam();
  EXPECT_EQ(told(ask(c.plan, c.model, no_overlay(), {}, "u", c.task)), c.expected);
}

INSTANTIATE_TEST_SUITE_P(
    Latest, Version,
    testing::Values(
        Case{"TheNewestApproved", "free", "writer",
             "writer@2.1.0 via cloud, near: latest of writer for plan free"},
        Case{"TheNewestOfTheDefaultModel", "free", "",
             "writer@2.1.0 via cloud, near: latest of writer for plan free"},
        Case{"ABetaWhereThePlanSeesBetas", "beta", "writer",
             "writer@3.0.0 via near: latest of writer for plan beta"},
        Case{"AnUnverifiedOneWhereThePlanSeesThose", "brave", "writer",
             "writer@3.1.0 via near: latest of writer for plan brave"},
        Case{"ByItsFullName", "free", "writer@1.4.0", "writer@1.4.0 via far: named by the request"},
        Case{"ByItsMajor", "free", "writer@2",
             "writer@2.1.0 via cloud, near: newest 2 of writer, named by the request"},
        Case{"ByItsMajorWithBetas", "beta", "writer@2",
             "writer@2.2.0 via near: newest 2 of writer, named by the request"},
        Case{"ByItsMinor", "free", "writer@2.0",
             "writer@2.0.0 via near, far: newest 2.0 of writer, named by the request"},
        Case{"ByAnAlias", "free", "auto",
             "writer@2.1.0 via cloud, near: alias auto: latest of writer for plan free"},
        Case{"ByAnAliasOfAMajor", "free", "fast",
             "writer@2.1.0 via cloud, near: alias fast: newest 2 of writer, named by the request"},
        Case{"NotABetaUnseen", "free", "writer@3.0.0",
             "model_not_allowed: plan free does not have version 3.0.0 of model writer: it has 2.1.0, 2.0.0, "
             "1.4.0"},
        Case{"NotAMajorOfBetasOnly", "free", "writer@3",
             "model_not_allowed: plan free does not have version 3 of model writer: it has 2.1.0, 2.0.0, "
             "1.4.0"},
        Case{"NotARetiredOne", "brave", "writer@1.0.0",
             "model_not_allowed: plan brave does not have version 1.0.0 of model writer: it has 3.1.0, "
             "3.0.0, 2.2.0, 2.1.0, 2.0.0, 1.4.0"},
        Case{"NotOneThatIsNotThere", "free", "writer@2.1.1",
             "invalid_request: model writer has no version of that name: it has 2.1.0, 2.0.0, 1.4.0"},
        Case{"NotAMajorThatIsNotThere", "free", "writer@4",
             "invalid_request: model writer has no version of that name: it has 2.1.0, 2.0.0, 1.4.0"},
        Case{"NotAModelThatIsNotThere", "free", "writr",
             "invalid_request: task text has no model of that name: did you mean `writer`?"},
        Case{"NotAModelOfAnotherTask", "free", "say",
             "invalid_request: task text has no model of that name: there are auto, fast, nightly, only, "
             "writer"},
        Case{"OnlyWhatItsProvidersServe", "distant", "writer",
             "writer@2.1.0 via cloud: latest of writer for plan distant"},
        Case{"NotWhatItsProvidersDoNotServe", "distant", "nightly",
             "model_not_allowed: plan distant has no provider that serves model nightly"},
        Case{"ByTheDayOfItsRelease", "free", "nightly",
             "nightly@b via near: latest of nightly for plan free"},
        Case{"ByDay", "free", "", "voice@2025-06-01 via near: latest of voice for plan free", "speech"},
        Case{"ADayByName", "free", "voice@2025-03-01", "voice@2025-03-01 via far, near: named by the request",
             "speech"}),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    AllowMinor, Version,
    testing::Values(
        Case{"TheNewestMinorOfTheDefault", "minor", "writer",
             "writer@2.1.0 via cloud, near: newest minor of 2.0.0: the default of writer, which plan minor "
             "holds"},
        Case{"TheNewestMinorOfThePin", "minor2", "writer",
             "writer@2.2.0 via near: newest minor of 2.1.0: pinned by plan minor2"},
        Case{"AnOlderMinorByName", "minor2", "writer@2.0.0",
             "writer@2.0.0 via near, far: named by the request"},
        Case{
            "NotAnotherMajor", "minor", "writer@1.4.0",
            "model_not_allowed: plan minor does not have version 1.4.0 of model writer: it has 2.1.0, 2.0.0"},
        Case{
            "NotABetaUnseen", "minor", "writer@2.2.0",
            "model_not_allowed: plan minor does not have version 2.2.0 of model writer: it has 2.1.0, 2.0.0"},
        Case{"TheDefaultWhereNothingIsAMinor", "minor", "nightly",
             "nightly@b via near: the default of nightly, which plan minor holds"},
        Case{"TheDefaultDay", "minor", "voice",
             "voice@2025-03-01 via far, near: the default of voice, which plan minor holds", "speech"},
        Case{"NotAnotherDay", "minor", "voice@2025-06-01",
             "model_not_allowed: plan minor does not have version 2025-06-01 of model voice: it has "
             "2025-03-01",
             "speech"},
        Case{"OtherModelsToo", "minor2", "only",
             "only@1 via far: newest minor of 1: the default of only, which plan minor2 holds"},
        Case{"ThePinnedModelFirst", "minor2", "",
             "writer@2.2.0 via near: newest minor of 2.1.0: pinned by plan minor2"}),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    Pinned, Version,
    testing::Values(
        Case{"ThePin", "pinned", "writer", "writer@1.4.0 via far: pinned by plan pinned"},
        Case{"ThePinWhereNoModelIsNamed", "pinned", "", "writer@1.4.0 via far: pinned by plan pinned"},
        Case{"ThePinByName", "pinned", "writer@1.4.0", "writer@1.4.0 via far: named by the request"},
        Case{"ThePinByItsMajor", "pinned", "writer@1",
             "writer@1.4.0 via far: newest 1 of writer, named by the request"},
        Case{"NothingNewer", "pinned", "writer@2.1.0",
             "model_not_allowed: plan pinned does not have version 2.1.0 of model writer: it has 1.4.0"},
        Case{"NotByAnAliasOfAnotherMajor", "pinned", "fast",
             "model_not_allowed: plan pinned does not have version 2 of model writer: it has 1.4.0"},
        Case{"NoOtherModel", "pinned", "only",
             "model_not_allowed: plan pinned does not have model only: it has writer, auto"},
        Case{"ABetaThatIsPinned", "pinned2", "writer", "writer@3.0.0 via near: pinned by plan pinned2"},
        Case{"TheFirstPin", "pinned2", "", "only@1 via far: pinned by plan pinned2"},
        Case{"TheDefaultWithoutAPin", "held", "writer",
             "writer@2.0.0 via near, far: the default of writer, which plan held holds"},
        Case{"TheOnlyOne", "held", "only", "only@1 via far: the default of only, which plan held holds"},
        Case{"TheDay", "pinned", "", "voice@2025-03-01 via far, near: pinned by plan pinned", "speech"}),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    Models, Version,
    testing::Values(Case{"NotOneThatIsNotAllowed", "few", "writer",
                         "model_not_allowed: plan few does not have model writer: it has only"},
                    Case{"TheFirstThatIsAllowed", "few", "", "only@1 via far: latest of only for plan few"},
                    Case{"NotOneThatDoesNotExist", "few", "writr",
                         "invalid_request: task text has no model of that name: there is only only"},
                    Case{"NotATaskThatThePlanDoesNotHave", "silent", "",
                         "not_in_plan: plan silent does not have task speech; plans that have it: beta, "
                         "brave, distant, few, free, held, minor, minor2, pinned, pinned2",
                         "speech"}),
    name_of_case);

TEST(Route, HasAllProvidersOfTheVersionInOrder) {
  const auto route = ask("free", "writer@2.1.0");
  ASSERT_TRUE(route);
  ASSERT_EQ(route->candidates.size(), 2U);
  const Candidate& cloud = route->candidates[0];
  EXPECT_EQ(cloud.provider, "cloud");
  EXPECT_EQ(cloud.pool, "cloud");
  EXPECT_EQ(cloud.upstream_model, "big");
  EXPECT_EQ(cloud.saturation, Saturation::kSpill);
  EXPECT_TRUE(cloud.remote);
  const Candidate& near = route->candidates[1];
  EXPECT_EQ(near.provider, "near");
  EXPECT_EQ(near.upstream_model, "auto");
  EXPECT_EQ(near.saturation, Saturation::kWait);
  EXPECT_FALSE(near.remote);
  EXPECT_FALSE(route->canary);
  EXPECT_EQ(route->canary_id, "");
}

TEST(Route, GoesToAnOlderVersionWhereThePlanLeavesAChoice) {
  EXPECT_EQ(told(ask("free", "writer", no_overlay(), {"cloud"})),
            "writer@2.1.0 via near: latest of writer for plan free");
  EXPECT_EQ(told(ask("free", "writer", no_overlay(), {"cloud", "near"})),
            "writer@2.0.0 via far: latest of writer for plan free");
  EXPECT_EQ(told(ask("minor", "writer", no_overlay(), {"cloud", "near"})),
            "writer@2.0.0 via far: newest minor of 2.0.0: the default of writer, which plan minor holds");
  EXPECT_EQ(
      told(ask("minor2", "writer", no_overlay(), {"cloud", "near"})),
      "unavailable: no provider of model writer is there (near, cloud not found at start)");  // not below its
                                                                                              // pin
  EXPECT_EQ(told(ask("pinned", "writer", no_overlay(), {"far"})),
            "unavailable: no provider of model writer is there (far not found at start)");
  EXPECT_EQ(told(ask("free", "writer@2.1.0", no_overlay(), {"cloud", "near"})),
            "unavailable: no provider of model writer is there (cloud, near not found at start)");
}

TEST(Route, GoesToAnotherModelWhereNoneIsNamed) {
  EXPECT_EQ(told(ask("pinned2", "", no_overlay(), {"far"})), "writer@3.0.0 via near: pinned by plan pinned2");
  EXPECT_EQ(told(ask("free", "", no_overlay(), {"near", "far", "cloud"})),
            "unavailable: no provider of model writer is there (cloud, near, far not found at start)");
  EXPECT_EQ(told(ask("few", "", no_overlay(), {"far"})),
            "unavailable: no provider of model only is there (far not found at start)");
}

struct Moved {
  const char* name;
  std::function<void(Overlay&)> decide;
  const char* plan;
  const char* model;
  const char* expected;
};

void PrintTo(const Moved& c, std::ostream* out) {
  *out << c.plan << " asks for " << c.model;
}

class Decided : public testing::TestWithParam<Moved> {};

TEST_P(Decided, ByTheOperator) {
  Overlay overlay;
  GetParam().decide(overlay);
  EXPECT_EQ(told(ask(GetParam().plan, GetParam().model, overlay)), GetParam().expected);
}

void freeze(Overlay& overlay) {
  overlay.freeze = true;
}
std::function<void(Overlay&)> status(const char* version, VersionStatus to, bool frozen = false) {
  return [=](Overlay& overlay) {
    overlay.statuses["writer"][version] = to;
    overlay.freeze = frozen;
  };
}
std::function<void(Overlay&)> frozen_without_blessed() {
  return status("2.0.0", VersionStatus::kApproved, true);
}

INSTANTIATE_TEST_SUITE_P(
    Freeze, Decided,
    testing::Values(
        Moved{"LatestIsTheBlessedOne", freeze, "free", "writer",
              "writer@2.0.0 via near, far: frozen at the blessed version of writer"},
        Moved{"SeenBetasAreNot", freeze, "brave", "writer",
              "writer@2.0.0 via near, far: frozen at the blessed version of writer"},
        Moved{"MinorsAreNot", freeze, "minor2", "writer",
              "writer@2.0.0 via near, far: frozen at the blessed version of writer"},
        Moved{"PinsAreNot", freeze, "pinned", "writer",
              "writer@2.0.0 via near, far: frozen at the blessed version of writer"},
        Moved{"TheBlessedOneByName", freeze, "free", "writer@2.0.0",
              "writer@2.0.0 via near, far: named by the request"},
        Moved{"TheBlessedOneByItsMajor", freeze, "pinned", "fast",
              "writer@2.0.0 via near, far: alias fast: newest 2 of writer, named by the request"},
        Moved{"NoOtherByName", freeze, "free", "writer@2.1.0",
              "model_not_allowed: plan free does not have version 2.1.0 of model writer while the operator's "
              "freeze holds: it has 2.0.0"},
        Moved{"WhatTheOperatorBlessed", status("2.1.0", VersionStatus::kBlessed, true), "pinned", "writer",
              "writer@2.1.0 via cloud, near: frozen at the blessed version of writer"},
        Moved{"WithoutABlessedOneLatestIsTheNewestApproved", frozen_without_blessed(), "brave", "writer",
              "writer@2.1.0 via cloud, near: frozen at approved versions: none of writer is blessed"},
        Moved{"WithoutABlessedOneApprovedPinsStay", frozen_without_blessed(), "pinned", "writer",
              "writer@1.4.0 via far: frozen at approved versions: none of writer is blessed"},
        Moved{"WithoutABlessedOnePinnedBetasGo", frozen_without_blessed(), "pinned2", "writer",
              "writer@2.1.0 via cloud, near: frozen at approved versions: none of writer is blessed"},
        Moved{"WithoutABlessedOneMinorsStayMinors", frozen_without_blessed(), "minor2", "writer",
              "writer@2.1.0 via cloud, near: frozen at approved versions: none of writer is blessed"},
        Moved{"ModelsWithOneVersionStay", freeze, "free", "only",
              "only@1 via far: frozen at approved versions: none of only is blessed"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Statuses, Decided,
    testing::Values(
        Moved{"ApprovedIsSeen", status("3.0.0", VersionStatus::kApproved), "free", "writer",
              "writer@3.0.0 via near: latest of writer for plan free"},
        Moved{"RetiredIsGone", status("2.1.0", VersionStatus::kRetired), "free", "writer",
              "writer@2.0.0 via near, far: latest of writer for plan free"},
        Moved{"DemotedIsUnseen", status("2.1.0", VersionStatus::kBeta), "free", "writer",
              "writer@2.0.0 via near, far: latest of writer for plan free"},
        Moved{"PinnedAndRetiredIsGone", status("1.4.0", VersionStatus::kRetired), "pinned", "writer",
              "unavailable: plan pinned is held at version 1.4.0 of model writer, which is retired"},
        Moved{"PinnedAndDemotedStays", status("1.4.0", VersionStatus::kUnverified), "pinned", "writer",
              "writer@1.4.0 via far: pinned by plan pinned"},
        Moved{"DefaultAndDemotedIsUnseen", status("2.0.0", VersionStatus::kBeta), "held", "writer",
              "model_not_allowed: plan held sees no version of model writer"},
        Moved{"PinnedNeverMovesByItself", status("3.0.0", VersionStatus::kApproved), "pinned", "writer",
              "writer@1.4.0 via far: pinned by plan pinned"},
        Moved{"MinorsNeverMoveToAMajor", status("3.0.0", VersionStatus::kApproved), "minor", "writer",
              "writer@2.1.0 via cloud, near: newest minor of 2.0.0: the default of writer, which plan minor "
              "holds"},
        Moved{"UnknownIsPassedOver", status("9.9.9", VersionStatus::kBlessed, true), "free", "writer",
              "writer@2.0.0 via near, far: frozen at the blessed version of writer"}),
    [](const auto& info) { return info.param.name; });

std::function<void(Overlay&)> pin(const char* plan, const char* version) {
  return [=](Overlay& overlay) { overlay.pins[plan]["writer"] = version; };
}

INSTANTIATE_TEST_SUITE_P(
    PinsAndPauses, Decided,
    testing::Values(
        Moved{"APinHoldsLatest", pin("free", "2.0.0"), "free", "writer",
              "writer@2.0.0 via near, far: pinned for plan free by the operator"},
        Moved{"APinHoldsMinors", pin("minor2", "2.0.0"), "minor2", "writer",
              "writer@2.0.0 via near, far: pinned for plan minor2 by the operator"},
        Moved{"APinMovesAPin", pin("pinned", "2.0.0"), "pinned", "writer",
              "writer@2.0.0 via near, far: pinned for plan pinned by the operator"},
        Moved{"APinHoldsOnlyItsPlan", pin("beta", "2.0.0"), "free", "writer",
              "writer@2.1.0 via cloud, near: latest of writer for plan free"},
        Moved{"APinHoldsOnlyItsModel", pin("free", "2.0.0"), "free", "only",
              "only@1 via far: latest of only for plan free"},
        Moved{"APinRefusesOtherNames", pin("free", "2.0.0"), "free", "writer@2.1.0",
              "model_not_allowed: plan free does not have version 2.1.0 of model writer: it has 2.0.0"},
        Moved{"APinThatIsNotThere", pin("free", "9.0.0"), "free", "writer",
              "unavailable: plan free is held at version 9.0.0 of model writer, which is not there any more"},
        Moved{"APausedModel", [](Overlay& o) { o.paused_models = {"writer"}; }, "free", "writer",
              "unavailable: model writer is paused by the operator"},
        Moved{"APausedDefaultModel", [](Overlay& o) { o.paused_models = {"writer"}; }, "free", "",
              "only@1 via far: latest of only for plan free"},
        Moved{"APausedProvider", [](Overlay& o) { o.paused_providers = {"cloud"}; }, "free", "writer",
              "writer@2.1.0 via near: latest of writer for plan free"},
        Moved{"APausedProviderOfAPin", [](Overlay& o) { o.paused_providers = {"far"}; }, "pinned", "writer",
              "unavailable: no provider of model writer is there (far paused by the operator)"},
        Moved{"APausedKey", [](Overlay& o) { o.paused_keys["cloud"] = {"a"}; }, "free", "writer",
              "writer@2.1.0 via cloud, near: latest of writer for plan free"},
        Moved{"AllKeysPaused", [](Overlay& o) { o.paused_keys["cloud"] = {"a", "b"}; }, "free", "writer",
              "writer@2.1.0 via near: latest of writer for plan free"}),
    [](const auto& info) { return info.param.name; });

Overlay with_canary(std::string candidate, std::string baseline, std::vector<std::string> plans,
                    std::uint32_t share) {
  Overlay overlay;
  overlay.canaries.push_back({.id = "c1",
                              .model = "writer",
                              .candidate = std::move(candidate),
                              .baseline = std::move(baseline),
                              .plans = std::move(plans),
                              .share_permille = share});
  return overlay;
}

std::set<std::string> users_on_canary(std::uint32_t share, std::string_view id = "c1") {
  Overlay overlay = with_canary("3.0.0", "2.1.0", {"free"}, share);
  overlay.canaries[0].id = id;
  std::set<std::string> users;
  for (int i = 0; i < 4000; ++i) {
    const std::string user = "user-" + std::to_string(i);
    const auto route = ask("free", "writer", overlay, {}, user);
    EXPECT_TRUE(route);
    if (!route) continue;
    EXPECT_EQ(route->candidates.front().model_version, route->canary ? "3.0.0" : "2.1.0");
    EXPECT_EQ(route->canary_id, id);
    if (route->canary) users.insert(user);
  }
  return users;
}

TEST(Canary, GoesToItsShareAndKeepsWhomItHas) {
  EXPECT_TRUE(users_on_canary(0).empty());
  const auto tenth = users_on_canary(100);
  EXPECT_NEAR(static_cast<double>(tenth.size()), 400, 80);
  const auto half = users_on_canary(500);
  EXPECT_NEAR(static_cast<double>(half.size()), 2000, 160);
  EXPECT_TRUE(std::ranges::includes(half, tenth));
  EXPECT_EQ(users_on_canary(1000).size(), 4000U);
  EXPECT_EQ(users_on_canary(100), tenth);
  EXPECT_NE(users_on_canary(100, "c2"), tenth);  // another canary has other users
}

TEST(Canary, SaysWhichSideItIs) {
  EXPECT_EQ(told(ask("free", "writer", with_canary("3.0.0", "2.1.0", {"free"}, 1000))),
            "writer@3.0.0 via near: candidate of canary c1");
  EXPECT_EQ(told(ask("free", "auto", with_canary("3.0.0", "2.0.0", {"free"}, 0))),
            "writer@2.0.0 via near, far: alias auto: baseline of canary c1");
}

TEST(Canary, TouchesNobodyElse) {
  const Overlay all = with_canary("3.0.0", "2.0.0", {"free", "pinned", "held", "minor", "minor2"}, 1000);
  EXPECT_EQ(told(ask("beta", "writer", all)),
            "writer@3.0.0 via near: latest of writer for plan beta");  // another plan
  EXPECT_EQ(told(ask("free", "writer@2.1.0", all)),
            "writer@2.1.0 via cloud, near: named by the request");  // who names a version
  EXPECT_EQ(told(ask("free", "only", all)), "only@1 via far: latest of only for plan free");  // another model
  EXPECT_EQ(told(ask("pinned", "writer", all)),
            "writer@1.4.0 via far: pinned by plan pinned");  // pinned plans
  EXPECT_EQ(told(ask("held", "writer", all)),
            "writer@2.0.0 via near, far: the default of writer, which plan held holds");
  EXPECT_EQ(told(ask("minor", "writer", all)),
            "writer@2.1.0 via cloud, near: newest minor of 2.0.0: the default of writer, which plan minor "
            "holds");  // another major
  Overlay frozen = all;
  frozen.freeze = true;
  EXPECT_EQ(told(ask("free", "writer", frozen)),
            "writer@2.0.0 via near, far: frozen at the blessed version of writer");
  Overlay held = all;
  held.pins["free"]["writer"] = "1.4.0";
  EXPECT_EQ(told(ask("free", "writer", held)), "writer@1.4.0 via far: pinned for plan free by the operator");
}

TEST(Canary, OfAMinorGoesToPlansThatAllowMinors) {
  EXPECT_EQ(told(ask("minor", "writer", with_canary("2.2.0", "2.1.0", {"minor"}, 1000))),
            "writer@2.2.0 via near: candidate of canary c1");
  EXPECT_EQ(told(ask("minor", "writer", with_canary("2.2.0", "2.0.0", {"minor"}, 0))),
            "writer@2.0.0 via near, far: baseline of canary c1");
}

TEST(Canary, IsPassedOverWhereItCannotServe) {
  const Overlay overlay = with_canary("2.1.0", "1.4.0", {"free"}, 1000);
  EXPECT_EQ(told(ask("free", "writer", overlay, {"cloud", "near"})),
            "writer@1.4.0 via far: baseline of canary c1");  // its baseline
  EXPECT_EQ(told(ask("free", "writer", with_canary("2.1.0", "1.0.0", {"free"}, 0))),
            "writer@2.1.0 via cloud, near: latest of writer for plan free");  // retired
  EXPECT_EQ(told(ask("free", "writer", with_canary("9.0.0", "2.0.0", {"free"}, 1000))),
            "writer@2.1.0 via cloud, near: latest of writer for plan free");
}

// --- What a plan sees

std::vector<std::string> seen(const char* plan, const Overlay& overlay = no_overlay(),
                              const std::set<std::string>& unavailable = {}) {
  std::vector<std::string> lines;
  const Plan* asking = plan == nullptr ? nullptr : catalogue()->plan(plan);
  for (const VisibleModel& each : visible_models(*catalogue(), asking, overlay, unavailable)) {
    std::string line = each.model->id + "@" + each.version->version + " of";
    for (const ModelVersion* version : each.versions) line += " " + version->version;
    for (const std::string& alias : each.aliases) line += " =" + alias;
    lines.push_back(line);
  }
  return lines;
}

TEST(VisibleModels, AreThoseThatThePlanMayName) {
  EXPECT_THAT(seen("free"),
              ElementsAre("writer@2.1.0 of 2.1.0 2.0.0 1.4.0 =auto =fast", "only@1 of 1", "nightly@b of b a",
                          "voice@2025-06-01 of 2025-06-01 2025-03-01 =say"));
  EXPECT_THAT(seen("brave"),
              ElementsAre("writer@3.1.0 of 3.1.0 3.0.0 2.2.0 2.1.0 2.0.0 1.4.0 =auto =fast", "only@1 of 1",
                          "nightly@b of b a", "voice@2025-06-01 of 2025-06-01 2025-03-01 =say"));
  EXPECT_THAT(seen("minor2"), ElementsAre("writer@2.2.0 of 2.2.0 2.1.0 2.0.0 =auto =fast", "only@1 of 1",
                                          "nightly@b of b", "voice@2025-03-01 of 2025-03-01 =say"));
  EXPECT_THAT(seen("pinned"),
              ElementsAre("writer@1.4.0 of 1.4.0 =auto", "voice@2025-03-01 of 2025-03-01 =say"));
  EXPECT_THAT(seen("few"), ElementsAre("only@1 of 1", "voice@2025-06-01 of 2025-06-01 2025-03-01 =say"));
  EXPECT_THAT(seen("silent"), ElementsAre("writer@2.1.0 of 2.1.0 2.0.0 1.4.0 =auto =fast", "only@1 of 1",
                                          "nightly@b of b a"));
  EXPECT_THAT(seen("distant"), ElementsAre("writer@2.1.0 of 2.1.0 2.0.0 1.4.0 =auto =fast", "only@1 of 1",
                                           "voice@2025-06-01 of 2025-06-01 2025-03-01 =say"));
}

TEST(VisibleModels, AreAllForTheOperator) {
  EXPECT_THAT(seen(nullptr),
              ElementsAre("writer@3.1.0 of 3.1.0 3.0.0 2.2.0 2.1.0 2.0.0 1.4.0 =auto =fast", "only@1 of 1",
                          "nightly@b of b a", "voice@2025-06-01 of 2025-06-01 2025-03-01 =say"));
}

TEST(VisibleModels, AreThoseThatCanBeServed) {
  EXPECT_THAT(seen("free", no_overlay(), {"near"}),
              ElementsAre("writer@2.1.0 of 2.1.0 2.0.0 1.4.0 =auto =fast", "only@1 of 1",
                          "voice@2025-03-01 of 2025-03-01 =say"));
  Overlay overlay;
  overlay.freeze = true;
  overlay.paused_models = {"only"};
  EXPECT_THAT(seen("pinned", overlay),
              ElementsAre("writer@2.0.0 of 2.0.0 =auto =fast", "voice@2025-03-01 of 2025-03-01 =say"));
  EXPECT_THAT(seen("free", overlay), ElementsAre("writer@2.0.0 of 2.0.0 =auto =fast", "nightly@b of b a",
                                                 "voice@2025-06-01 of 2025-06-01 2025-03-01 =say"));
}

// Whatever is listed can be had, and nothing else.
TEST(VisibleModels, AgreeWithResolve) {
  std::vector<Overlay> overlays(3);
  overlays[1].freeze = true;
  overlays[2].statuses["writer"] = {{"2.1.0", VersionStatus::kRetired}, {"3.0.0", VersionStatus::kApproved}};
  overlays[2].paused_providers = {"far"};
  for (const Overlay& overlay : overlays) {
    for (const auto& [name, plan] : catalogue()->plans) {
      std::set<std::string> listed;
      for (const VisibleModel& each : visible_models(*catalogue(), &plan, overlay, {})) {
        for (const ModelVersion* version : each.versions)
          listed.insert(each.model->id + "@" + version->version);
        const auto route = ask(name, each.model->id, overlay, {}, "u", each.model->task);
        ASSERT_TRUE(route) << name << " " << each.model->id << ": " << route.error().message;
        EXPECT_EQ(route->candidates.front().model_version, each.version->version);
        for (const std::string& alias : each.aliases)
          EXPECT_TRUE(ask(name, alias, overlay, {}, "u", each.model->task)) << name << " " << alias;
      }
      for (const auto& [id, model] : catalogue()->models) {
        for (const ModelVersion& version : model.versions) {
          const std::string text = id + "@" + version.version;
          EXPECT_EQ(ask(name, text, overlay, {}, "u", model.task).has_value(), listed.contains(text))
              << name << " " << text;
        }
      }
    }
  }
}

TEST(ModelNamed, LooksThroughVersionsAndAliases) {
  const auto id = [](std::string_view text) {
    const Model* model = model_named(*catalogue(), text);
    return model == nullptr ? std::string("none") : model->id;
  };
  EXPECT_EQ(id("writer"), "writer");
  EXPECT_EQ(id("writer@9"), "writer");
  EXPECT_EQ(id("fast"), "writer");
  EXPECT_EQ(id("fast@2"), "none");
  EXPECT_EQ(id("writr"), "none");
}

}  // namespace
}  // namespace turnpike::policy
