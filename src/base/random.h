// A small deterministic generator (SplitMix64, Steele et al. 2014): the same seed gives the same numbers on
// every machine, which the engine's jitter and the simulation rely on. Not for secrets.
#pragma once

#include <cstdint>

namespace turnpike {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // Uniform in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  // Uniform in [low, high].
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }
  // True with a chance of permille / 1000.
  bool chance(std::uint64_t permille) { return below(1000) < permille; }

 private:
  std::uint64_t state_;
};

}  // namespace turnpike
