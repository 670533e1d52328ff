// Which events operators look for: they are kept beside the log, and longer.
#pragma once

#include "engine/rows.h"

namespace turnpike::journal {

constexpr bool is_alert(engine::EventType type) {
  using engine::EventType;
  return type == EventType::kUsageThreshold || type == EventType::kModelDiscovered ||
         type == EventType::kAlertRaised || type == EventType::kAlertCleared;
}

}  // namespace turnpike::journal
