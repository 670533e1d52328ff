// How much one upstream may be used now: its keys with their limits, the limit of the upstream as a whole,
// what it asked to be left alone for, and whether it only fails. A value; it asks no clock.
//
// Invariants:
//   G1  in any stretch of `limit.per` no more than `limit.requests` tries begin; of a key, in any minute no
//   more
//       than its requests, and no more tokens than it may have, as held and then as used.
//   G2  while the breaker is open nothing begins; when its time is over one try looks whether the upstream
//       is back, and nothing else begins until that has ended.
//   G3  what began and was not seen, before a restart or while nothing was bounded, may have been any
//       number: it counts as full from its last moment until the limit's time has passed, and no longer.
//   G4  limits that change, leave the policy and come back find what they counted before.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "policy/policy.h"

namespace turnpike::engine {

// The times of the tries that began: exact, however bursts fall and however the limit changes.
class SlidingLog {
 public:
  // `longest`: no limit is for more than that.
  explicit SlidingLog(Duration longest) : longest_(longest) {}
  // `most`: 1..kRemembered; nullopt: no limit, and what begins is not logged.
  void limit(std::optional<std::uint32_t> most, Duration per);
  // What began up to then is not known.
  void forget(Monotonic until);
  Duration wait(Monotonic now) const;  // until one more may begin; 0: now
  void take(Monotonic now);

  static constexpr std::size_t kRemembered = 100'000;  // as many as a policy may limit to

 private:
  Duration longest_;
  std::optional<std::uint32_t> most_;
  Duration per_{0};
  std::optional<Monotonic> unknown_;  // all that began later is in times_
  std::deque<Monotonic> times_;       // ascending; at most kRemembered, none older than longest_
};

// Amounts begun in the last minute, in slices of a quarter of a second: a slice counts until its youngest
// moment is a minute old, so never more than the limit is passed.
class SlidingSum {
 public:
  // nullopt: no limit, and what begins is not counted.
  void limit(std::optional<std::uint64_t> most);
  // What began up to then is not known.
  void forget(Monotonic until);
  // Amounts larger than the whole limit may begin when nothing else counts.
  Duration wait(std::int64_t amount, Monotonic now) const;
  std::int64_t take(std::int64_t amount, Monotonic now);  // the slice it stands in; kNoSlice: in none
  void correct(std::int64_t slice, std::int64_t by);

  static constexpr std::int64_t kNoSlice = -1;

 private:
  static constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max() / 4;
  struct Slice {
    std::int64_t number = 0;  // quarters of a second since the epoch of monotonic time
    std::int64_t amount = 0;
  };
  std::optional<std::int64_t> most_;
  std::optional<Monotonic> unknown_;
  std::deque<Slice> slices_;  // ascending; those that no longer count go with the next take
};

class Gate {
 public:
  // How a try ended, as far as the upstream is concerned.
  enum class Verdict : std::uint8_t {
    kServed,   // it answered; that it blames the request counts as an answer
    kFailed,   // transient, timeout, bad output
    kLimited,  // it says: too fast
    kRefused,  // it does not take the key
    kUnknown,  // cancelled, handed back, lost: whoever asked it has gone, and it says nothing of the upstream
  };
  // What a try took, to be given back to end().
  struct Pass {
    std::uint32_t key = 0;                      // its number, which no other key will have
    std::int64_t tokens = 0;                    // taken in all
    std::int64_t slice = SlidingSum::kNoSlice;  // of the key's tokens, where the last of them were taken
    std::int64_t in_slice = 0;                  // of `tokens`: there
    std::uint64_t probe = 0;                    // not 0: looks whether the upstream is back; its number
  };
  struct Room {
    bool open = false;
    bool down = false;    // fails, or has asked to be left alone: another upstream should be asked
    bool broken = false;  // down, and it is no matter of waiting a moment: it fails, or its keys are paused
    Duration wait{0};     // not open: until it may be open again by itself; kNoTime: when a try ends
  };
  static constexpr Duration kNoTime = Duration::max();

  // Whether anything at all is bounded: else no gate is needed.
  static bool bounds(const policy::Provider& provider);
  // `unseen`: when another process may have been asking the upstream for the last time; nullopt: none was.
  explicit Gate(std::optional<Monotonic> unseen = std::nullopt) : unseen_(unseen) {}
  // Keeps what is known of keys that keep their names, or come back.
  void reshape(const policy::Provider& provider, Monotonic now);
  // Tries began without it, the last of them at `last`.
  void began_unseen(Monotonic last);
  // Whether something that it knows may still count.
  bool remembers(Monotonic now) const;
  void pause_keys(std::set<std::string> names);

  // Whether a try of the account that may take `tokens` may begin.
  Room room(AccountId account, std::int64_t tokens, Monotonic now) const;
  // It begins: room() was open.
  Pass begin(AccountId account, std::int64_t tokens, Monotonic now);
  // It may use so much more than begin() was told.
  void raise(Pass& pass, std::int64_t tokens, Monotonic now);
  // It has ended and has used `tokens`. `retry_after`: what the upstream asked for.
  void end(const Pass& pass, std::int64_t tokens, Verdict verdict, std::optional<Duration> retry_after,
           Monotonic now);
  // Of a key that is there; empty otherwise.
  std::string key_name(std::uint32_t key) const;
  // Another key than this one has room: a try that was refused for its key may go on at once.
  bool has_other_key(std::uint32_t key, AccountId account, std::int64_t tokens, Monotonic now) const;

  // For the operator: what is shut, and since when it is.
  bool breaker_open(Monotonic now) const { return broken() && (now < *open_until_ || probe_ != 0); }
  struct KeyState {
    std::string name;
    std::uint32_t running = 0;
    Duration cools_for{0};
    bool paused = false;
  };
  std::vector<KeyState> keys(Monotonic now) const;

 private:
  struct Key {
    std::uint32_t number = 0;
    std::string name;
    std::optional<std::uint32_t> concurrency;
    SlidingLog requests{std::chrono::minutes(1)};
    SlidingSum tokens;
    std::uint32_t running = 0;
    Monotonic last{};  // when one of its tries began
    Monotonic cool_until{};
    bool paused = false;
  };
  Key fresh_key(const std::string& name);
  Key* find(std::uint32_t number);
  void drop_gone(Monotonic now);
  bool broken() const { return breaker_ && open_until_; }
  Duration key_wait(const Key& key, std::int64_t tokens, Monotonic now) const;
  const Key* pick(AccountId account, std::int64_t tokens, Monotonic now,
                  std::optional<std::uint32_t> but) const;

  std::optional<Monotonic> unseen_;
  Monotonic last_{};           // when a try began or ended
  std::uint32_t running_ = 0;  // tries
  std::uint32_t next_number_ = 1;
  std::vector<Key> keys_;  // once shaped at least one: a provider without keys has one without a name
  std::vector<Key> gone_;  // no longer configured, but may come back while they count; last gone last
  SlidingLog limit_{std::chrono::days(1)};
  std::optional<policy::Breaker> breaker_;
  Duration cool_down_{0};                // of a key whose upstream does not say how long
  std::uint32_t failures_ = 0;           // one after another, whether or not there is a breaker
  std::optional<Monotonic> open_until_;  // the breaker is open, or looks whether to close
  std::uint64_t probe_ = 0;              // that looks; 0: none does
  std::uint64_t probes_ = 0;             // so far
};

}  // namespace turnpike::engine
