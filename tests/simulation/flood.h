// The order at scale: the engine alone (no journal, no checker) under far more work than it has slots.
#pragma once

#include <cstdint>

namespace turnpike::simulation {

// All four classes flood one pool, low jobs take ten times as long as critical ones. True: every share of
// slot time is within two points of what is promised (65/20/10/5).
bool run_flood(std::uint64_t jobs);
// Many accounts; prints shares, the worst lag of an account and the time it took. True: shares and lags are
// in bounds.
bool run_million(std::uint64_t jobs, std::uint32_t accounts);

}  // namespace turnpike::simulation
