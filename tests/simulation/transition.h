// What may become of a job's row in one command.
#pragma once

#include <span>

#include "engine/engine.h"
#include "simulation/tally.h"

namespace turnpike::simulation {

struct Circumstances {
  bool retried = false;         // the user asked to run it again
  TryId settled;                // the try whose end was reported
  std::span<const TryId> over;  // the tries that ended in this command
};

// `before` null: the job is new. Throws a Violation.
void check_transition(const engine::JobRow* before, const engine::JobRow& after, const Circumstances& why,
                      Timestamp now);
void count_transition(const engine::JobRow* before, const engine::JobRow& after, Tally& tally);

}  // namespace turnpike::simulation
