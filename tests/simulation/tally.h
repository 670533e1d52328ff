// How often each kind of thing occurred over all seeds, so that a green run can be seen not to be vacuous.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace turnpike::simulation {

enum class Seen : std::uint8_t {
  kCommands,
  kSubmits,
  kScheduledSubmits,
  kDedupeHits,
  kQueueFull,
  kStarts,
  kOwedStarts,
  kCompletions,
  kFailures,
  kExpired,
  kTimeouts,
  kCancelsWaiting,
  kCancelsRunning,
  kColdCancels,
  kConflicts,
  kStales,
  kRetriesByUser,
  kRetriesByBackoff,
  kDeadSettles,
  kLostTries,
  kHandedBack,
  kLeaseExtensions,
  kProgress,
  kPlanChanges,
  kApplies,
  kPoolsRemoved,
  kPlansRemoved,
  kDrains,
  kWallJumps,
  kLongPauses,
  kCommits,
  kMergedCommits,
  kCrashes,
  kCrashesLosingABatch,
  kCrashesAfterDurable,
  kRecoveredProcessing,
  kRefills,
  kRefillsStale,
  kTimedRefills,
  kColdExpiries,
  kBodiesReadBack,
  kExactPositions,
  kEstimatedPositions,
  kShareWindows,
  kOverLimit,
  kCharges,
  kReversals,
  kStandstills,
  kCalls,
  kCallsWaiting,
  kFastCalls,
  kDurableCalls,
  kCallsAnswered,
  kCallsFailed,
  kCallsSentAway,
  kCallsLost,
  kCallsToldAtOnce,
  kCallsTaken,
  kRateRefusals,
  kTokenRateRefusals,
  kConcurrencyRefusals,
  kRateDelays,
  kNotInPlan,
  kContentRefusals,
  kTeamRefusals,
  kPlatformRefusals,
  kContentCharged,
  kContentNotCharged,
  kTeamMoves,
  kGrants,
  kGrantsRevoked,
  kGrantsSpent,
  kGrantsExpired,
  kOverrides,
  kGrandfathered,
  kPeriodsClosed,
  kDebts,
  kCrowds,
  kFallbacks,
  kRaises,
  kRaisesRefused,
  kBreakersOpened,
  kProbes,
  kProvidersRemoved,
  kMoves,
  kRuns,
  kRunsRefused,
  kRunsCompleted,
  kRunsFailed,
  kRunsCancelled,
  kRunsRetried,
  kRunsStale,
  kRunsClosedCold,
  kStepsHeld,
  kCount,
};
constexpr std::size_t kSeenCount = static_cast<std::size_t>(Seen::kCount);
const char* seen_name(Seen what);

class Tally {
 public:
  void add(Seen what, std::uint64_t n = 1) { counts_[static_cast<std::size_t>(what)] += n; }
  std::uint64_t of(Seen what) const { return counts_[static_cast<std::size_t>(what)]; }
  void add(const Tally& other) {
    for (std::size_t i = 0; i < kSeenCount; ++i) counts_[i] += other.counts_[i];
    position_error += other.position_error;
  }
  double position_error = 0;  // sum of relative errors of estimated positions

 private:
  std::array<std::uint64_t, kSeenCount> counts_{};
};

}  // namespace turnpike::simulation
