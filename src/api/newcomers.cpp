#include "api/newcomers.h"

#include <algorithm>

namespace turnpike::api {

std::optional<std::chrono::seconds> Newcomers::take(std::uint32_t per_minute, Monotonic now) {
  using std::chrono::seconds;
  constexpr Duration kRoom = std::chrono::minutes(kMinutesAtOnce);
  const Duration each = Duration(std::chrono::minutes(1)) / per_minute;
  const std::scoped_lock lock(mutex_);
  const Monotonic full_at = std::max(full_at_, now) + each;
  if (full_at - now <= kRoom) {
    full_at_ = full_at;
    return std::nullopt;
  }
  return std::max(seconds(1), std::chrono::ceil<seconds>(full_at - now - kRoom));
}

}  // namespace turnpike::api
