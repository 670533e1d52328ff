// How the lists of one provider do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/time.h"

namespace turnpike::node {

// Since the start.
struct WatchState {
  std::string provider;
  Wall looked_at = kNever;   // when the last look ended
  Wall read_at = kNever;     // likewise, of one that succeeded
  std::string error;         // of the last look; empty: it succeeded, or there was none
  std::size_t entries = 0;   // that the last list had and the watch wants
  std::size_t left_out = 0;  // that it had and could not be taken (provider::ListAnswer)
  std::uint64_t looks = 0, failed = 0;
  std::uint64_t found = 0;  // entries that were new
};

}  // namespace turnpike::node
