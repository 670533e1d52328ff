// Which events operators look for: they are kept beside the log, and longer.
#pragma once

#include "engine/rows.h"

namespace turnpike::journal {

constexpr bool is_alert(engine::EventType type) {
  return type == engine::EventType::kUsageThreshold || type == engine::EventType::kModelDiscovered;
}

}  // namespace turnpike::journal
