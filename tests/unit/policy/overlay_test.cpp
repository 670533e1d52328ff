// What the operator may decide, and what is refused before it is kept.
#include "policy/overlay.h"

#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>

#include "unit/policy/catalogue.h"

namespace turnpike::policy {
namespace {

Canary canary() {
  return {.id = "c1",
          .model = "writer",
          .candidate = "2.2.0",
          .baseline = "2.1.0",
          .plans = {"free", "minor"},
          .share_permille = 100};
}

struct Wrong {
  const char* name;
  std::function<void(Overlay&)> decide;
  const char* param;
  const char* why;  // behind "param: "
};

void PrintTo(const Wrong& wrong, std::ostream* out) {
  *out << wrong.name;
}

class BadOverlay : public testing::TestWithParam<Wrong> {};

TEST_P(BadOverlay, IsRefusedWithWhatWouldBeRight) {
  Overlay overlay;
  GetParam().decide(overlay);
  const auto checked = check_overlay(*catalogue(), overlay);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(checked.error().param, GetParam().param);
  EXPECT_EQ(checked.error().message, std::string(GetParam().param) + ": " + GetParam().why);
}

std::function<void(Overlay&)> with_canary(const std::function<void(Canary&)>& change) {
  return [change](Overlay& overlay) {
    overlay.canaries.push_back(canary());
    change(overlay.canaries.back());
  };
}

INSTANTIATE_TEST_SUITE_P(
    Names, BadOverlay,
    testing::Values(
        Wrong{"Provider", [](Overlay& o) { o.paused_providers = {"clod"}; }, "paused_providers.clod",
              "there is no provider `clod`: did you mean `cloud`?"},
        Wrong{"Model", [](Overlay& o) { o.paused_models = {"writr"}; }, "paused_models.writr",
              "there is no model `writr`: did you mean `writer`?"},
        Wrong{"ProviderOfAKey", [](Overlay& o) { o.paused_keys["clod"] = {"a"}; }, "paused_keys.clod",
              "there is no provider `clod`: did you mean `cloud`?"},
        Wrong{"Key", [](Overlay& o) { o.paused_keys["cloud"] = {"c"}; }, "paused_keys.cloud.c",
              "provider `cloud` has no key `c`: there are a, b"},
        Wrong{"KeyWhereThereAreNone", [](Overlay& o) { o.paused_keys["near"] = {"c"}; }, "paused_keys.near.c",
              "provider `near` has no key `c`: there are none"},
        Wrong{"ModelOfAStatus", [](Overlay& o) { o.statuses["writr"]["2.0.0"] = VersionStatus::kBeta; },
              "statuses.writr", "there is no model `writr`: did you mean `writer`?"},
        Wrong{"VersionOfAStatus", [](Overlay& o) { o.statuses["writer"]["2.0"] = VersionStatus::kBeta; },
              "statuses.writer.2.0",
              "model `writer` has no version `2.0`: it has 3.1.0, 3.0.0, 2.2.0, 2.1.0, 2.0.0, 1.4.0, 1.0.0"},
        Wrong{"PlanOfAPin", [](Overlay& o) { o.pins["fre"]["writer"] = "2.0.0"; }, "pins.fre",
              "there is no plan `fre`: did you mean `free`?"},
        Wrong{"ModelOfAPin", [](Overlay& o) { o.pins["free"]["writr"] = "2.0.0"; }, "pins.free.writr",
              "there is no model `writr`: did you mean `writer`?"},
        Wrong{"VersionOfAPin", [](Overlay& o) { o.pins["free"]["writer"] = "2.0"; }, "pins.free.writer",
              "model `writer` has no version `2.0`: it has 3.1.0, 3.0.0, 2.2.0, 2.1.0, 2.0.0, 1.4.0, 1.0.0"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Statuses, BadOverlay,
    testing::Values(
        Wrong{"TwoBlessed",
              [](Overlay& o) {
                o.statuses["writer"] = {{"2.0.0", VersionStatus::kBlessed},
                                        {"2.1.0", VersionStatus::kBlessed}};
              },
              "statuses.writer.2.1.0",
              "`2.0.0` is blessed already: a model has one version that a freeze falls back to"},
        Wrong{"RetiredUnderAPin", [](Overlay& o) { o.statuses["writer"]["1.4.0"] = VersionStatus::kRetired; },
              "statuses.writer.1.4.0", "plan `pinned` is held at it: pin the plan to another version first"},
        Wrong{"RetiredUnderADefault",
              [](Overlay& o) { o.statuses["voice"]["2025-03-01"] = VersionStatus::kRetired; },
              "statuses.voice.2025-03-01",
              "plan `held` is held at it: pin the plan to another version first"},
        Wrong{"PinnedToARetiredOne", [](Overlay& o) { o.pins["free"]["writer"] = "1.0.0"; },
              "statuses.writer.1.0.0", "plan `free` is held at it: pin the plan to another version first"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Canaries, BadOverlay,
    testing::Values(
        Wrong{"WithoutAName", with_canary([](Canary& c) { c.id = ""; }), "canaries",
              "each needs a name of its own"},
        Wrong{"UnknownModel", with_canary([](Canary& c) { c.model = "writr"; }), "canaries.c1.model",
              "there is no model `writr`: did you mean `writer`?"},
        Wrong{
            "UnknownCandidate", with_canary([](Canary& c) { c.candidate = "2.3.0"; }),
            "canaries.c1.candidate",
            "model `writer` has no version `2.3.0`: it has 3.1.0, 3.0.0, 2.2.0, 2.1.0, 2.0.0, 1.4.0, 1.0.0"},
        Wrong{"RetiredBaseline", with_canary([](Canary& c) { c.baseline = "1.0.0"; }), "canaries.c1.baseline",
              "version `1.0.0` is retired"},
        Wrong{"OfOneVersion", with_canary([](Canary& c) { c.baseline = "2.2.0"; }), "canaries.c1.candidate",
              "is the baseline itself"},
        Wrong{"ShareBeyondAll", with_canary([](Canary& c) { c.share_permille = 1'001; }), "canaries.c1.share",
              "must be at most 100%"},
        Wrong{"WithoutPlans", with_canary([](Canary& c) { c.plans = {}; }), "canaries.c1.plans",
              "needs at least one plan"},
        Wrong{"UnknownPlan", with_canary([](Canary& c) { c.plans = {"fre"}; }), "canaries.c1.plans",
              "there is no plan `fre`: did you mean `free`?"},
        Wrong{"PinnedPlan", with_canary([](Canary& c) { c.plans = {"held"}; }), "canaries.c1.plans",
              "plan `held` is pinned, and pinned plans never move by themselves"},
        Wrong{"PlanThatTheOperatorPinned",
              [](Overlay& o) {
                o.canaries.push_back(canary());
                o.pins["free"]["writer"] = "2.0.0";
              },
              "canaries.c1.plans", "plan `free` is pinned, and pinned plans never move by themselves"},
        Wrong{"MajorWhereMinorsAreAllowed", with_canary([](Canary& c) { c.candidate = "3.0.0"; }),
              "canaries.c1.plans", "plan `minor` allows minor versions of 2.0.0 only, and 3.0.0 is none"},
        Wrong{"TwoOfOneName",
              [](Overlay& o) {
                o.canaries = {canary(), canary()};
                o.canaries[1].plans = {"minor2"};
              },
              "canaries.c1", "there are two of this name"},
        Wrong{"TwoForOnePlan",
              [](Overlay& o) {
                o.canaries = {canary(), canary()};
                o.canaries[1].id = "c2";
              },
              "canaries.c2.plans", "canary `c1` runs for the same model and plan: end it first"}),
    [](const auto& info) { return info.param.name; });

TEST(Overlay, MayDecideAllOfThisAtOnce) {
  Overlay overlay;
  overlay.freeze = true;
  overlay.paused_providers = {"far"};
  overlay.paused_models = {"only"};
  overlay.paused_keys["cloud"] = {"a"};
  overlay.statuses["writer"] = {{"2.1.0", VersionStatus::kBlessed}, {"2.2.0", VersionStatus::kApproved}};
  overlay.canaries = {canary(), canary()};
  overlay.canaries[1].id = "c2";
  overlay.canaries[1].plans = {"minor2"};  // another plan
  overlay.pins["brave"]["writer"] = "2.0.0";
  overlay.pins["pinned"]["writer"] = "2.1.0";
  const auto checked = check_overlay(*catalogue(), overlay);
  EXPECT_TRUE(checked) << checked.error().message;
  EXPECT_TRUE(check_overlay(*catalogue(), no_overlay()));
}

TEST(Overlay, RetiresAPinnedVersionOnceThePlanIsMoved) {
  Overlay overlay;
  overlay.statuses["writer"]["1.4.0"] = VersionStatus::kRetired;
  overlay.pins["pinned"]["writer"] = "2.0.0";
  const auto checked = check_overlay(*catalogue(), overlay);
  EXPECT_TRUE(checked) << checked.error().message;
}

TEST(Overlay, TakesTheBlessingFromTheFilesVersion) {
  const Model& writer = catalogue()->models.at("writer");
  const auto status = [&writer](const Overlay& overlay, const char* version) {
    return overlay.status_of(writer, *writer.version(version));
  };
  Overlay overlay;
  EXPECT_EQ(status(overlay, "2.0.0"), VersionStatus::kBlessed);
  overlay.statuses["writer"]["2.1.0"] = VersionStatus::kBlessed;
  EXPECT_EQ(status(overlay, "2.0.0"), VersionStatus::kApproved);
  EXPECT_EQ(status(overlay, "2.1.0"), VersionStatus::kBlessed);
  EXPECT_EQ(status(overlay, "2.2.0"), VersionStatus::kBeta);
  overlay.statuses["writer"] = {{"9.0.0", VersionStatus::kBlessed}};  // not there any more: blesses nothing
  EXPECT_EQ(status(overlay, "2.0.0"), VersionStatus::kBlessed);
}

TEST(Overlay, KnowsWhatIsPausedAndPinned) {
  Overlay overlay;
  overlay.paused_keys["cloud"] = {"a"};
  overlay.pins["free"]["writer"] = "2.0.0";
  EXPECT_TRUE(overlay.key_paused("cloud", "a"));
  EXPECT_FALSE(overlay.key_paused("cloud", "b"));
  EXPECT_FALSE(overlay.key_paused("near", "a"));
  EXPECT_EQ(overlay.pin_of("free", "writer"), "2.0.0");
  EXPECT_EQ(overlay.pin_of("free", "only"), "");
  EXPECT_EQ(overlay.pin_of("beta", "writer"), "");
}

}  // namespace
}  // namespace turnpike::policy
