#include "engine/order.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace turnpike::engine {
namespace {

using policy::class_index;
using policy::PriorityClass;
using Wide = __int128;

constexpr bool below_high(PriorityClass c) {
  return c < PriorityClass::kHigh;
}

}  // namespace

void Order::reshape(const Shape& shape) {
  shape_ = shape;
}

void Order::enter(AccountId account, PriorityClass priority_class, std::uint32_t turn) {
  Entry& entry = entries_.try_emplace(account, Entry{.priority_class = priority_class}).first->second;
  if (entry.priority_class != priority_class) {
    // What it is ahead by in its old class it stays ahead by in the new one.
    Ring& old = ring(entry.priority_class);
    old.waiting.erase({entry.tag, account});
    old.idle.erase({entry.tag, account});
    entry.in_ring = false;
    entry.tag = ring(priority_class).virtual_time + std::max<SlotTime>(0, entry.tag - old.virtual_time);
    entry.priority_class = priority_class;
  }
  entry.turn = turn;
  if (entry.in_ring) return;
  Ring& own = ring(priority_class);
  own.idle.erase({entry.tag, account});
  entry.tag = std::max(entry.tag, own.virtual_time);
  entry.in_ring = true;
  own.waiting.insert({entry.tag, account});
}

void Order::leave(AccountId account) {
  const auto it = entries_.find(account);
  if (it == entries_.end() || !it->second.in_ring) return;
  Entry& entry = it->second;
  Ring& own = ring(entry.priority_class);
  own.waiting.erase({entry.tag, account});
  entry.in_ring = false;
  rest(account);
}

bool Order::contains(AccountId account) const {
  const auto it = entries_.find(account);
  return it != entries_.end() && it->second.in_ring;
}

std::size_t Order::size() const {
  std::size_t count = 0;
  for (const Ring& each : rings_) count += each.waiting.size();
  return count;
}

bool Order::has_room(std::size_t index) const {
  if (running() >= shape_.slots) return false;
  if (!below_high(static_cast<PriorityClass>(index + 1))) return true;
  return running_low_ + shape_.headroom < shape_.slots;
}

AccountId Order::head(const Ring& own) const {
  if (own.turn_left > 0) {
    const auto it = entries_.find(own.turn_of);
    if (it != entries_.end() && it->second.in_ring && &ring(it->second.priority_class) == &own)
      return own.turn_of;
  }
  return own.waiting.begin()->second;
}

std::optional<Order::Pick> Order::next(const Estimate& estimate) const {
  std::optional<Pick> first;
  for (std::size_t i = policy::kClassCount; i-- > 0;) {
    const Ring& own = rings_[i];
    if (own.waiting.empty() || !has_room(i)) continue;
    const AccountId account = head(own);
    const auto priority_class = static_cast<PriorityClass>(i + 1);
    if (!first) {
      first = Pick{account, priority_class, false};
    } else if (own.credit_milli > 0 && own.credit_milli >= estimate(account) * 1000) {
      return Pick{account, priority_class, true};
    }
  }
  return first;
}

std::optional<Order::Pick> Order::pick(AccountId account) const {
  const auto it = entries_.find(account);
  if (it == entries_.end() || !it->second.in_ring) return std::nullopt;
  const PriorityClass priority_class = it->second.priority_class;
  if (!has_room(class_index(priority_class))) return std::nullopt;
  return Pick{account, priority_class, false};
}

void Order::started(const Pick& pick, SlotTime cost) {
  Entry& entry = entries_.at(pick.account);
  CHECK(entry.in_ring && entry.priority_class == pick.priority_class);
  Ring& own = ring(pick.priority_class);
  pass(own, own.waiting.begin()->first);
  if (own.turn_left > 0 && own.turn_of == pick.account) {
    --own.turn_left;
  } else {
    own.turn_of = pick.account;
    own.turn_left = entry.turn - 1;
  }
  ++entry.running;
  ++(below_high(pick.priority_class) ? running_low_ : running_high_);
  longest_ = std::max(longest_, cost);
  charge(pick, cost);
}

void Order::charge(const Pick& pick, SlotTime delta) {
  if (pick.owed) ring(pick.priority_class).credit_milli -= delta * 1000;
  Entry& entry = entries_.at(pick.account);
  // In the class it stands in now: after a change of plan its lead moved along. A refund may take the tag
  // below virtual time: clipped there, whoever is often overestimated would fall behind without end.
  retag(pick.account, entry, entry.tag + delta);
}

void Order::ended(const Pick& pick, SlotTime took) {
  longest_ = std::max(longest_, took);
  Entry& entry = entries_.at(pick.account);
  CHECK(entry.running > 0);
  --entry.running;
  --(below_high(pick.priority_class) ? running_low_ : running_high_);
  if (!entry.in_ring) rest(pick.account);
}

void Order::consume(SlotTime amount) {
  bool someone_before = false;
  // Wide, for a pool may have many slots and a job may take weeks; what is kept is far from the end of 64
  // bits.
  constexpr Wide kCreditMilliMax = std::numeric_limits<std::int64_t>::max() / 4;
  const Wide bound =
      std::min(kCreditMilliMax, Wide{2} * longest_ * 1000 * std::max<std::int64_t>(1, shape_.slots));
  for (std::size_t i = policy::kClassCount; i-- > 0;) {
    Ring& own = rings_[i];
    // Kept from running by headroom is blocked, and credit of the blocked freezes.
    const bool blocked = below_high(static_cast<PriorityClass>(i + 1)) &&
                         running_low_ + shape_.headroom >= shape_.slots && shape_.headroom > 0;
    if (own.waiting.empty() || blocked) continue;
    if (someone_before) {
      const Wide grown = own.credit_milli + Wide{amount} * shape_.share_permille[i];
      own.credit_milli = static_cast<std::int64_t>(std::min(bound, grown));
    }
    someone_before = true;
  }
}

void Order::clear_credit(PriorityClass priority_class) {
  ring(priority_class).credit_milli = 0;
}

SlotTime Order::credit(PriorityClass priority_class) const {
  return ring(priority_class).credit_milli / 1000;
}

void Order::retag(AccountId account, Entry& entry, SlotTime tag) {
  Ring& own = ring(entry.priority_class);
  auto& place = entry.in_ring ? own.waiting : own.idle;
  const bool stood = place.erase({entry.tag, account}) > 0;
  entry.tag = tag;
  if (entry.in_ring || stood) place.insert({tag, account});
}

// An entry out of the ring with nothing running is remembered until virtual time has passed its tag.
void Order::rest(AccountId account) {
  const auto it = entries_.find(account);
  Entry& entry = it->second;
  if (entry.running > 0) return;
  Ring& own = ring(entry.priority_class);
  if (entry.tag <= own.virtual_time) {
    entries_.erase(it);
  } else {
    own.idle.insert({entry.tag, account});
  }
}

void Order::pass(Ring& own, SlotTime to) {
  if (to <= own.virtual_time) return;
  own.virtual_time = to;
  while (!own.idle.empty() && own.idle.begin()->first <= to) {
    entries_.erase(own.idle.begin()->second);
    own.idle.erase(own.idle.begin());
  }
}

}  // namespace turnpike::engine
