#include "simulation/broken.h"

#include <algorithm>
#include <array>

namespace turnpike::simulation {

std::span<const Broken> broken_variants() {
  using engine::Fault;
  static constexpr std::array kVariants{
      Broken{.name = "cap-unchecked", .engine = Fault::kCapUnchecked},
      Broken{.name = "try-not-fenced", .engine = Fault::kTryNotFenced},
      Broken{.name = "credit-never-spent", .engine = Fault::kCreditNeverSpent},
      Broken{.name = "window-forgetful", .engine = Fault::kWindowForgetful},
      Broken{.name = "count-drifts", .engine = Fault::kCountDrifts},
      Broken{.name = "checked-not-held", .engine = Fault::kCheckedNotHeld},
      Broken{.name = "settled-twice", .engine = Fault::kSettledTwice},
      Broken{.name = "current-period", .engine = Fault::kCurrentPeriod},
      Broken{.name = "expired-by-pause", .engine = Fault::kExpiredByPause},
      Broken{.name = "rate-not-taken", .engine = Fault::kRateNotTaken},
      Broken{.name = "refusal-takes-rate", .engine = Fault::kRefusalTakesRate},
      Broken{.name = "calls-forgotten", .engine = Fault::kCallsForgotten},
      Broken{.name = "grant-spent-twice", .engine = Fault::kGrantSpentTwice},
      Broken{.name = "grant-there-twice", .engine = Fault::kGrantThereTwice},
      Broken{.name = "content-kept", .engine = Fault::kContentKept},
      Broken{.name = "call-stays-counted", .engine = Fault::kCallStaysCounted},
      Broken{.name = "upstream-forgotten", .engine = Fault::kUpstreamForgotten},
      Broken{.name = "gate-forgotten", .engine = Fault::kGateForgotten},
      Broken{.name = "falls-back-unheld", .engine = Fault::kFallsBackUnheld},
      Broken{.name = "raise-unchecked", .engine = Fault::kRaiseUnchecked},
      Broken{.name = "raise-unwritten", .engine = Fault::kRaiseUnwritten},
      Broken{.name = "cancel-breaks", .engine = Fault::kCancelBreaks},
      Broken{.name = "debt-told-at-once", .engine = Fault::kDebtToldAtOnce},
      Broken{.name = "step-repeated", .engine = Fault::kStepRepeated},
      Broken{.name = "step-forgotten", .engine = Fault::kStepForgotten},
      Broken{.name = "step-unheld", .engine = Fault::kStepUnheld},
      Broken{.name = "run-outlived", .engine = Fault::kRunOutlived},
      Broken{.name = "acknowledges-early", .node = NodeFault::kAcknowledgesEarly},
      Broken{.name = "starts-early", .node = NodeFault::kStartsEarly},
      Broken{.name = "drops-refill-row", .node = NodeFault::kDropsRefillRow},
      Broken{.name = "forges-read-batch", .node = NodeFault::kForgesReadBatch},
      Broken{.name = "forgets-processing", .node = NodeFault::kForgetsProcessing},
      Broken{.name = "forgets-queue", .node = NodeFault::kForgetsQueue},
      Broken{.name = "relabels-dead-try", .node = NodeFault::kRelabelsDeadTry},
      Broken{.name = "writes-twice", .node = NodeFault::kWritesTwice},
      Broken{.name = "loses-mutation", .node = NodeFault::kLosesMutation},
  };
  return kVariants;
}

std::optional<Broken> broken_by_name(std::string_view name) {
  const auto all = broken_variants();
  const auto it = std::ranges::find(all, name, &Broken::name);
  return it == all.end() ? std::nullopt : std::optional(*it);
}

}  // namespace turnpike::simulation
