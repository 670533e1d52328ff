#include "simulation/share_meter.h"

#include <algorithm>

namespace turnpike::simulation {

void ShareMeter::start(AccountId account, policy::PriorityClass priority_class, Monotonic now) {
  Used& used = accounts_[account];
  used.done = used.at(now);
  used.since = now;
  used.priority_class = priority_class;
  ++used.running;
  ++starts_;
}

void ShareMeter::end(AccountId account, Monotonic now) {
  Used& used = accounts_[account];
  used.done = used.at(now);
  used.since = now;
  --used.running;
}

void ShareMeter::reset(Monotonic now) {
  starts_ = 0;
  for (auto& [account, used] : accounts_) {
    used.done = Duration{0};
    used.since = now;
  }
}

Duration ShareMeter::total(Monotonic now) const {
  Duration sum{0};
  for (const auto& [account, used] : accounts_) sum += used.at(now);
  return sum;
}

double ShareMeter::share_permille(policy::PriorityClass priority_class, Monotonic now) const {
  Duration own{0};
  for (const auto& [account, used] : accounts_)
    if (used.priority_class == priority_class) own += used.at(now);
  const Duration all = total(now);
  return all.count() == 0 ? 0 : 1000.0 * static_cast<double>(own.count()) / static_cast<double>(all.count());
}

Duration ShareMeter::lag(policy::PriorityClass priority_class, Monotonic now) const {
  Duration least = Duration::max();
  Duration most{0};
  for (const auto& [account, used] : accounts_) {
    if (used.priority_class != priority_class) continue;
    least = std::min(least, used.at(now));
    most = std::max(most, used.at(now));
  }
  return least == Duration::max() ? Duration{0} : most - least;
}

}  // namespace turnpike::simulation
