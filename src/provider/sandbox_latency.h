// How long a pretended upstream takes.
#pragma once

#include "base/random.h"
#include "base/time.h"

namespace turnpike::provider {

// A latency whose quantiles follow a log-normal distribution with the given median and 99th percentile
// (raised to the median where it is below), in integers, so that it is the same everywhere. Both are taken as
// at most an hour. From p50 * p50 /
// p99 to 1.5 * p99.
Duration draw_latency(Random& random, Duration p50, Duration p99);

}  // namespace turnpike::provider
