#include "base/time.h"

namespace turnpike {

Timestamp SystemClock::now() const {
  const auto mono = std::chrono::steady_clock::now().time_since_epoch();
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  return {Monotonic{std::chrono::duration_cast<Duration>(mono)},
          Wall{std::chrono::duration_cast<Duration>(wall)}};
}

}  // namespace turnpike
