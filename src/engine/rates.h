// How often work may begin: for each rate a GCRA (ITU-T I.371: a bucket that fills steadily, kept as one
// time), in exact integers, rounded so that never more than promised begins. A value: asking changes nothing.
#pragma once

#include <cstdint>
#include <optional>

#include "base/time.h"
#include "engine/engine.h"
#include "policy/policy.h"

namespace turnpike::engine {

class RateState {
 public:
  // How long until one piece of work that takes `tokens` may begin; 0: now. Work larger than the whole bucket
  // of tokens begins when the bucket is full.
  Duration wait(const policy::Rates& rates, std::int64_t tokens, Monotonic now) const;
  // It begins now: wait() was 0. Returns the time in which the tokens it takes fill again; 0: it took none.
  Duration take(const policy::Rates& rates, std::int64_t tokens, Monotonic now);
  // What was `taken` turned out to be `tokens`. Never gives back more than was taken, even where the rate has
  // changed since. True: something was given back.
  bool correct(const policy::Rates& rates, std::int64_t tokens, Duration taken, Monotonic now);
  RateView view(const policy::Rates& rates, Monotonic now) const;
  // Which of them makes work wait longest: "requests_per_second", "requests_per_minute", "tokens_per_minute".
  const char* tightest(const policy::Rates& rates, std::int64_t tokens, Monotonic now) const;

 private:
  // When each bucket would be full again, from its theoretical arrival time.
  Monotonic rps_{}, rpm_{}, tpm_{};
};

}  // namespace turnpike::engine
