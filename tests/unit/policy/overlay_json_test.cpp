#include "policy/overlay_json.h"

#include <gtest/gtest.h>

namespace turnpike::policy {
namespace {

TEST(OverlayJson, ReadsBackWhatItWrote) {
  Overlay overlay;
  EXPECT_EQ(*overlay_from_json(overlay_json(overlay)), overlay);
  overlay.freeze = true;
  overlay.paused_providers = {"a", "b"};
  overlay.paused_models = {"writer"};
  overlay.paused_keys["a"] = {"k\"1", "k2"};
  overlay.statuses["writer"]["2.0"] = VersionStatus::kBlessed;
  overlay.statuses["writer"]["1.0"] = VersionStatus::kRetired;
  overlay.canaries = {
      {.id = "c1",
       .model = "writer",
       .candidate = "2.0",
       .baseline = "1.0",
       .plans = {"free", "pro"},
       .share_permille = 125,
       .guard = {.tries_min = 7, .errors_permille = 1, .latency_permille = 0, .cost_permille = 9}}};
  overlay.pins["pro"]["writer"] = "1.0";
  EXPECT_EQ(*overlay_from_json(overlay_json(overlay)), overlay);
}

TEST(OverlayJson, NamesTheFieldThatIsWrong) {
  const auto param = [](const char* text) {
    const auto read = overlay_from_json(text);
    return read ? std::string("(read)") : read.error().param;
  };
  EXPECT_EQ(param(R"({"freeze":1})"), "freeze");
  EXPECT_EQ(param(R"({"paused_models":"writer"})"), "paused_models");
  EXPECT_EQ(param(R"({"paused_keys":{"a":[1]}})"), "paused_keys.a");
  EXPECT_EQ(param(R"({"statuses":{"writer":{"2.0":"good"}}})"), "statuses.writer.2.0");
  EXPECT_EQ(param(R"({"pins":{"pro":[]}})"), "pins");
  EXPECT_EQ(param(R"({"canaries":[{"id":"c"}]})"), "canaries.model");
  EXPECT_EQ(overlay_from_json("[]").error().code, ErrorCode::kInvalidRequest);
}

}  // namespace
}  // namespace turnpike::policy
