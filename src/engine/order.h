// The order of one pool: which account's job starts next. A value: copying it gives an order to play forward,
// which is how positions are told.
//
// Three levels, no scans (architecture.md, "Order"):
//   1. Classes: the highest class with something to run goes first, unless a lower one is owed. A class earns
//   credit,
//      share x slot time consumed in the pool, while it has something to run and a higher class goes before
//      it; only starts made because it was owed spend credit; owed means credit for a whole job. The class
//      that is first by rank is not kept waiting by anyone and so earns nothing: otherwise an hour alone in
//      the pool would be paid out against the classes above it later.
//   2. Accounts within a class: start-time fair queueing (Goyal, Vin, Cheng 1996) on slot time. Tags survive
//   idleness
//      until the ring has passed them.
//   3. Within an account: `turn` jobs in one turn; which ones is the account's queue's affair.
//
// Invariants:
//   O1  an account stands in at most one ring, that of its class.
//   O2  virtual time of a class never falls.
//   O3  an entry outside the ring is kept only while its tag is ahead of virtual time or it has running jobs.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "base/ids.h"
#include "engine/account_map.h"
#include "engine/durations.h"
#include "policy/policy.h"

namespace turnpike::engine {

using SlotTime = std::int64_t;  // microseconds of one slot
constexpr SlotTime kCostMin =
    1'000;  // what the shortest job is charged: so that jobs of no length still take turns

class Order {
 public:
  struct Shape {
    std::uint32_t slots = 0;
    std::uint32_t headroom = 0;  // classes below `high` together occupy at most slots - headroom
    std::array<std::uint32_t, policy::kClassCount> share_permille{};
  };
  struct Pick {
    AccountId account;
    policy::PriorityClass priority_class{};
    bool owed = false;  // a higher class had something to run, and this one had credit
  };
  // Cost that the account's next job is expected to have.
  using Estimate = std::function<SlotTime(AccountId)>;

  void reshape(const Shape& shape);

  // The account has something that may run now; `turn` jobs of it may start in one turn. Entering again
  // updates class and turn.
  void enter(AccountId account, policy::PriorityClass priority_class, std::uint32_t turn);
  // The account has nothing that may run now.
  void leave(AccountId account);
  bool contains(AccountId account) const;
  std::size_t size() const;  // accounts that have something to run

  // Who starts next, if a slot is free; nobody if nothing may run.
  std::optional<Pick> next(const Estimate& estimate) const;
  // The account, whoever is before it; nobody if it has nothing to run or its class no room.
  std::optional<Pick> pick(AccountId account) const;
  // A job of the pick has started and is charged `cost`.
  void started(const Pick& pick, SlotTime cost);
  // A running job has taken `delta` more (or less) than it was charged so far.
  void charge(const Pick& pick, SlotTime delta);
  // A job of the pick has ended after `took` of slot time; its charges are final.
  void ended(const Pick& pick, SlotTime took);

  // `amount` of slot time was consumed in the pool by all jobs since the last call.
  void consume(SlotTime amount);
  // Nothing of the class waits any more: what it was owed is void.
  void clear_credit(policy::PriorityClass priority_class);
  SlotTime credit(policy::PriorityClass priority_class) const;
  std::uint32_t running() const { return running_low_ + running_high_; }

 private:
  struct Entry {
    policy::PriorityClass priority_class{};
    SlotTime tag = 0;  // where its next job starts in virtual time
    std::uint32_t turn = 1;
    std::uint32_t running = 0;
    bool in_ring = false;
  };
  struct Ring {
    std::set<std::pair<SlotTime, AccountId>> waiting;
    std::set<std::pair<SlotTime, AccountId>>
        idle;  // out of the ring, nothing running, tag ahead of virtual time
    SlotTime virtual_time = 0;
    AccountId turn_of;  // who is within a turn
    std::uint32_t turn_left = 0;
    std::int64_t credit_milli = 0;  // thousandths of SlotTime: share is in permille, so nothing is rounded
  };

  Ring& ring(policy::PriorityClass c) { return rings_[policy::class_index(c)]; }
  const Ring& ring(policy::PriorityClass c) const { return rings_[policy::class_index(c)]; }
  bool has_room(std::size_t class_index) const;
  AccountId head(const Ring& ring) const;
  void retag(AccountId account, Entry& entry, SlotTime tag);
  void rest(AccountId account);
  void pass(Ring& ring, SlotTime to);

  Shape shape_;
  std::array<Ring, policy::kClassCount> rings_;
  AccountMap<Entry> entries_;
  std::uint32_t running_low_ = 0;   // classes low and standard
  std::uint32_t running_high_ = 0;  // classes high and critical
  // The dearest job that was or could be expected: bounds what credit may pile up, and is never below an
  // estimate.
  SlotTime longest_ = Durations::kUnknown.count();
};

}  // namespace turnpike::engine
