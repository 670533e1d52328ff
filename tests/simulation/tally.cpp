#include "simulation/tally.h"

namespace turnpike::simulation {

const char* seen_name(Seen what) {
  static constexpr std::array<const char*, kSeenCount> kNames{
      "commands",
      "submits",
      "scheduled submits",
      "dedupe hits",
      "queue full",
      "starts",
      "starts when owed",
      "completions",
      "failures",
      "expired",
      "timeouts",
      "cancels of waiting jobs",
      "cancels of running",
      "cold cancels",
      "conflicts",
      "stales",
      "retries by users",
      "retries by backoff",
      "settles of dead",
      "lost tries",
      "handed back",
      "lease extensions",
      "progress",
      "plan changes",
      "policy applies",
      "pools removed",
      "plans removed",
      "drains",
      "wall clock jumps",
      "long pauses",
      "commits",
      "commits of several",
      "crashes",
      "crashes losing a batch",
      "crashes, durable",
      "recovered processing",
      "refills of queues",
      "stale refills",
      "refills by time",
      "cold expiries",
      "bodies read back",
      "exact positions",
      "guessed positions",
      "share windows",
      "refused by a limit",
      "charges",
      "reversals",
      "standstills",
  };
  return kNames[static_cast<std::size_t>(what)];
}

}  // namespace turnpike::simulation
