// What was asked of each upstream, by the checker's own reckoning: every start with its time and tokens,
// across restarts and policies, and whether its breaker is open. Throws a Violation where a try begins that
// should not have.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "simulation/tally.h"

namespace turnpike::simulation {

class UpstreamModel {
 public:
  // What the end of a try says of its upstream.
  enum class Said : std::uint8_t { kAnswer, kFailure, kTooFast, kNothing };

  explicit UpstreamModel(Tally& tally) : tally_(&tally) {}

  // It begins under this policy and overlay: sliding limits, keys, pauses and the breaker let it.
  void began(const policy::Policy& policy, const policy::Overlay& overlay, const engine::StartTry& start,
             Monotonic now);
  void raised(TryId id, std::int64_t tokens, Monotonic now);
  // `used`: tokens; nothing: as many as it took.
  void ended(TryId id, Said said, std::optional<std::int64_t> used, std::optional<Duration> retry_after,
             Monotonic now);
  // Whether the breaker of a provider is open, or one looks whether to close it.
  bool breaker_open(const std::string& provider, Monotonic now) const;
  // A policy has come into force. A provider that it does not bound keeps the breaker that it had.
  void configured(const policy::Policy& policy);
  // The process died: what ran is gone, and what its upstreams were like is not known. What began has begun.
  void restarted();

 private:
  struct Part {  // tokens of a try, from when they were taken
    TryId id;
    Monotonic at{};
    std::int64_t tokens = 0;
  };
  struct Key {
    std::vector<Monotonic> began;
    std::vector<Part> parts;
    std::uint32_t running = 0;
    Monotonic cool_until{};
  };
  struct Upstream {
    std::vector<Monotonic> began;
    std::map<std::string, Key> keys;
    std::optional<policy::Breaker> breaker;
    std::uint32_t failures = 0;
    std::optional<Monotonic> open_until;
    TryId probe;
  };
  struct Running {
    std::string provider, key;
    std::int64_t tokens = 0;  // taken
    bool bounded = false;
  };
  void check_key(const policy::Provider& provider, const Key& key, const engine::StartTry& start,
                 std::int64_t tokens, Monotonic now) const;

  Tally* tally_;
  std::map<std::string, Upstream> upstreams_;
  std::map<TryId, Running> running_;
};

}  // namespace turnpike::simulation
