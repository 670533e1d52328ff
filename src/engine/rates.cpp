#include "engine/rates.h"

#include <algorithm>
#include <limits>

namespace turnpike::engine {
namespace {

using Wide = __int128;

constexpr std::int64_t kSecond = 1'000'000;  // microseconds
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kFarAhead =
    400LL * 24 * 60 * kMinute;  // a bucket is never fuller than that, whatever is taken

// One bucket: filled by `rate` in `window`, with room for `room`.
struct Bucket {
  std::int64_t rate = 1;
  std::int64_t window = kSecond;
  std::int64_t room = 1;

  // The time it takes to fill by `amount`, rounded up.
  std::int64_t time_of(std::int64_t amount) const {
    const Wide micros = (Wide{amount} * window + rate - 1) / rate;
    return static_cast<std::int64_t>(std::min<Wide>(micros, kFarAhead));
  }
  // One unit takes a whole number of microseconds, so that sums of units do.
  std::int64_t unit() const { return (window + rate - 1) / rate; }
};

Bucket of_seconds(const policy::Rates& rates) {
  return {.rate = std::max<std::int64_t>(1, *rates.rps),
          .window = kSecond,
          .room = rates.burst.value_or(*rates.rps)};
}
Bucket of_minutes(const policy::Rates& rates) {
  return {.rate = std::max<std::int64_t>(1, *rates.rpm),
          .window = kMinute,
          .room = rates.burst.value_or(*rates.rpm)};
}
Bucket of_tokens(const policy::Rates& rates) {
  const auto rate = static_cast<std::int64_t>(
      std::min<std::uint64_t>(*rates.tpm, std::numeric_limits<std::int64_t>::max() / 2));
  return {.rate = std::max<std::int64_t>(1, rate), .window = kMinute, .room = rate};
}

Duration wait_for_one(const Bucket& bucket, Monotonic tat, Monotonic now) {
  const Duration unit{bucket.unit()};
  const Duration room{unit * std::max<std::int64_t>(1, bucket.room)};
  return std::max(Duration{0}, std::max(tat, now) + unit - room - now);
}

Duration wait_for_tokens(const Bucket& bucket, std::int64_t tokens, Monotonic tat, Monotonic now) {
  if (tokens <= 0) return Duration{0};
  const std::int64_t time = std::min(bucket.time_of(tokens), bucket.time_of(bucket.room));
  return std::max(Duration{0},
                  std::max(tat, now) + Duration{time} - Duration{bucket.time_of(bucket.room)} - now);
}

RateView::Window window_of(const Bucket& bucket, std::int64_t unit_micros, std::int64_t room_micros,
                           Monotonic tat, Monotonic now) {
  const std::int64_t ahead = std::max(Duration{0}, tat - now).count();
  const std::int64_t left = std::max<std::int64_t>(0, room_micros - ahead);
  std::int64_t remaining = unit_micros > 0 ? left / unit_micros : 0;
  if (unit_micros == 0) {  // tokens: finer than a microsecond
    remaining = static_cast<std::int64_t>(Wide{left} * bucket.rate / bucket.window);
  }
  return {.limit = static_cast<std::uint64_t>(bucket.room),
          .remaining = static_cast<std::uint64_t>(std::min(remaining, bucket.room)),
          .resets_in = Duration{ahead},
          .window = Duration{bucket.window}};
}

}  // namespace

Duration RateState::wait(const policy::Rates& rates, std::int64_t tokens, Monotonic now) const {
  Duration longest{0};
  if (rates.rps) longest = std::max(longest, wait_for_one(of_seconds(rates), rps_, now));
  if (rates.rpm) longest = std::max(longest, wait_for_one(of_minutes(rates), rpm_, now));
  if (rates.tpm) longest = std::max(longest, wait_for_tokens(of_tokens(rates), tokens, tpm_, now));
  return longest;
}

Duration RateState::take(const policy::Rates& rates, std::int64_t tokens, Monotonic now) {
  if (rates.rps) rps_ = std::max(rps_, now) + Duration{of_seconds(rates).unit()};
  if (rates.rpm) rpm_ = std::max(rpm_, now) + Duration{of_minutes(rates).unit()};
  if (!rates.tpm || tokens <= 0) return Duration{0};
  const Duration taken{of_tokens(rates).time_of(tokens)};
  tpm_ = std::max(tpm_, now) + taken;
  return taken;
}

bool RateState::correct(const policy::Rates& rates, std::int64_t tokens, Duration taken, Monotonic now) {
  if (!rates.tpm || taken == Duration{0}) return false;
  const Duration used{of_tokens(rates).time_of(std::max<std::int64_t>(0, tokens))};
  if (used > taken) {
    tpm_ = std::max(tpm_, now) + (used - taken);
  } else {
    tpm_ -= taken - used;
  }
  return used < taken;
}

RateView RateState::view(const policy::Rates& rates, Monotonic now) const {
  RateView view;
  const auto requests = [now](const Bucket& bucket, Monotonic tat) {
    return window_of(bucket, bucket.unit(), bucket.unit() * bucket.room, tat, now);
  };
  if (rates.rps) view.requests = requests(of_seconds(rates), rps_);
  if (rates.rpm) {
    // Of the two the one that is nearer to its end is what the caller should know.
    const auto minutes = requests(of_minutes(rates), rpm_);
    if (!view.requests || minutes.remaining <= view.requests->remaining) view.requests = minutes;
  }
  if (rates.tpm) {
    const Bucket bucket = of_tokens(rates);
    view.tokens = window_of(bucket, 0, bucket.time_of(bucket.room), tpm_, now);
  }
  return view;
}

const char* RateState::tightest(const policy::Rates& rates, std::int64_t tokens, Monotonic now) const {
  const char* name = "requests_per_minute";
  Duration longest{-1};
  const auto consider = [&](const char* which, Duration wait) {
    if (wait > longest) {
      longest = wait;
      name = which;
    }
  };
  if (rates.rps) consider("requests_per_second", wait_for_one(of_seconds(rates), rps_, now));
  if (rates.rpm) consider("requests_per_minute", wait_for_one(of_minutes(rates), rpm_, now));
  if (rates.tpm) consider("tokens_per_minute", wait_for_tokens(of_tokens(rates), tokens, tpm_, now));
  return name;
}

}  // namespace turnpike::engine
