// Slot time by class and by account, as an onlooker with a stopwatch measures it.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "base/ids.h"
#include "base/time.h"
#include "policy/policy.h"

namespace turnpike::simulation {

class ShareMeter {
 public:
  void start(AccountId account, policy::PriorityClass priority_class, Monotonic now);
  void end(AccountId account, Monotonic now);
  // Forgets what was measured, keeps what runs: the warm-up is over.
  void reset(Monotonic now);

  // Of all slot time, in permille.
  double share_permille(policy::PriorityClass priority_class, Monotonic now) const;
  Duration total(Monotonic now) const;
  // Slot time between the account of the class that got most and the one that got least.
  Duration lag(policy::PriorityClass priority_class, Monotonic now) const;
  std::uint64_t starts() const { return starts_; }

 private:
  struct Used {
    policy::PriorityClass priority_class{};
    Duration done{0};
    std::uint32_t running = 0;
    Monotonic since;  // until when `done` is counted
    Duration at(Monotonic now) const { return done + running * (now - since); }
  };
  std::map<AccountId, Used> accounts_;
  std::uint64_t starts_ = 0;
};

}  // namespace turnpike::simulation
