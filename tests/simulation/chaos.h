// Worlds in which everything happens: the seeds of `simulate`.
#pragma once

#include <cstdint>

#include "simulation/broken.h"
#include "simulation/tally.h"

namespace turnpike::simulation {

struct SeedOptions {
  std::uint64_t seed = 1;
  std::uint32_t steps = 0;  // random actions; 0: as the seed says
  bool verbose = false;
  Broken broken{};
};

// Lives through one seed; throws a Violation, whose step is in `step`.
void run_seed(const SeedOptions& options, Tally& tally, std::uint32_t& step);

// The kinds of worlds that seeds make: each by its own rules.
void run_chaos(const SeedOptions& options, Tally& tally, std::uint32_t& step);
void run_positions(const SeedOptions& options, Tally& tally, std::uint32_t& step);
void run_crowd(const SeedOptions& options, Tally& tally, std::uint32_t& step);
void run_shares(const SeedOptions& options, Tally& tally, std::uint32_t& step);
void run_gateway(const SeedOptions& options, Tally& tally, std::uint32_t& step);

}  // namespace turnpike::simulation
