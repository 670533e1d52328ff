// How much one upstream may be used now: its keys with their limits, the limit of the upstream as a whole,
// what it asked to be left alone for, and whether it only fails. A value; it asks no clock.
//
// Invariants:
//   G1  in any stretch of `limit.per` no more than `limit.requests` tries begin; of a key, in any minute no
//   more
//       than its requests, and no more tokens than it may have, as held and then as used.
//   G2  while the breaker is open nothing begins; when its time is over one try looks whether the upstream is
//   back,
//       and nothing else begins until that has ended.
//   G3  after a restart the logs are full: what the process before began is not known.
#pragma once

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

// The times of the last tries that began: exact, however bursts fall.
class SlidingLog {
 public:
  void reshape(std::uint32_t most, Duration per);
  // As if `most` had begun now.
  void fill(Monotonic now);
  Duration wait(Monotonic now) const;  // until one more may begin; 0: now
  void take(Monotonic now);

 private:
  std::uint32_t most_ = 0;
  Duration per_{0};
  std::deque<Monotonic> times_;  // of the last `most_`, ascending
};

// Amounts begun in the last minute, in slices of a quarter of a second: a slice counts until its youngest
// moment is a minute old, so never more than the limit is passed.
class SlidingSum {
 public:
  void reshape(std::uint64_t most) {
    most_ = static_cast<std::int64_t>(std::min<std::uint64_t>(most, kMost));
  }
  void fill(Monotonic now);
  // Amounts larger than the whole limit may begin when nothing else counts.
  Duration wait(std::int64_t amount, Monotonic now) const;
  std::int64_t take(std::int64_t amount, Monotonic now);  // the slice it stands in
  void correct(std::int64_t slice, std::int64_t by);

 private:
  static constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max() / 4;
  struct Slice {
    std::int64_t number = 0;  // quarters of a second since the epoch of monotonic time
    std::int64_t amount = 0;
  };
  std::int64_t most_ = 0;
  std::deque<Slice> slices_;  // ascending; those that no longer count go with the next take
};

class Gate {
 public:
  // How a try ended, as far as the upstream is concerned.
  enum class Verdict : std::uint8_t {
    kServed,   // it answered; that it blames the request counts as an answer
    kFailed,   // transient, timeout, bad output, lost
    kLimited,  // it says: too fast
    kRefused,  // it does not take the key
    kUnknown,  // cancelled, handed back
  };
  // What a try took, to be given back to end().
  struct Pass {
    std::uint32_t key = 0;    // its number, which no other key will have
    std::int64_t slice = 0;   // of the key's tokens
    std::int64_t tokens = 0;  // taken
    bool probe = false;       // looks whether the upstream is back
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
  // Keeps what is known of keys that keep their names. `full`: G3.
  void reshape(const policy::Provider& provider, bool full, Monotonic now);
  void pause_keys(std::set<std::string> names);

  // Whether a try of the account that may take `tokens` may begin.
  Room room(AccountId account, std::int64_t tokens, Monotonic now) const;
  // It begins: room() was open.
  Pass begin(AccountId account, std::int64_t tokens, Monotonic now);
  // It has ended and has used `tokens`. `retry_after`: what the upstream asked for.
  void end(const Pass& pass, std::int64_t tokens, Verdict verdict, std::optional<Duration> retry_after,
           Monotonic now);
  // Of a key that is there; empty otherwise.
  std::string key_name(std::uint32_t key) const;
  // Another key than this one has room: a try that was refused for its key may go on at once.
  bool has_other_key(std::uint32_t key, AccountId account, std::int64_t tokens, Monotonic now) const;

  // For the operator: what is shut, and since when it is.
  bool breaker_open(Monotonic now) const { return open_until_ && (now < *open_until_ || probing_); }
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
    bool has_requests = false, has_tokens = false;
    SlidingLog requests;
    SlidingSum tokens;
    std::uint32_t running = 0;
    Monotonic cool_until{};
    bool paused = false;
  };
  Duration key_wait(const Key& key, std::int64_t tokens, Monotonic now) const;
  const Key* pick(AccountId account, std::int64_t tokens, Monotonic now,
                  std::optional<std::uint32_t> but) const;

  std::uint32_t next_number_ = 1;
  std::vector<Key> keys_;  // once shaped at least one: a provider without keys has one without a name
  bool has_limit_ = false;
  SlidingLog limit_;
  std::optional<policy::Breaker> breaker_;
  Duration cool_down_{0};                // of a key whose upstream does not say how long
  std::uint32_t failures_ = 0;           // one after another
  std::optional<Monotonic> open_until_;  // the breaker is open, or looks whether to close
  bool probing_ = false;
};

}  // namespace turnpike::engine
