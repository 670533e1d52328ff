// Submits jobs to a running Turnpike and measures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace turnpike::bench {

struct Options {
  std::string address = "127.0.0.1:8080";
  std::string key;                 // of an admin
  std::uint64_t jobs = 20'000;     // measured
  std::uint64_t warm_up_jobs = 0;  // submitted before, and not measured
  std::uint32_t in_flight = 64;    // connections, each with at most one request under way
  std::uint32_t accounts = 16;     // that the jobs are spread over
  std::uint32_t input_bytes = 200;
  double per_second = 0;  // how many to submit each second; 0: as fast as answers come
  // Every so many jobs, one is submitted by an account of its own, whose events are watched: from the moment
  // the request is sent to the arrival of `job.started`. 0: none.
  std::uint32_t watch_every = 0;
  // A counter of /metrics, with the labels that its lines must have, e.g. `jobs_total{status="completed"}`.
  // If given, the jobs count as done once it has grown by their number.
  std::string completed_metric;
  std::int64_t patience_seconds = 60;  // without any progress, the measurement is given up
};

// In microseconds.
struct Quantiles {
  std::uint64_t samples = 0;
  std::int64_t p50 = 0, p99 = 0, max = 0;
};
// Nearest rank; zeros where there is no sample.
Quantiles quantiles(std::vector<std::int64_t> samples);

struct Result {
  double submit_seconds = 0;    // from the first request to the last answer
  double complete_seconds = 0;  // from the first request to the last completion; 0 where it was not asked for
  Quantiles answers;            // from a request to its answer
  Quantiles pickups;            // from a request to its job.started
  std::uint64_t late = 0;       // requests sent more than 1 ms after they were due
};

// The sum of the lines of a metrics text that have the name and labels of `metric`; 0 where there is none.
double metric_value(const std::string& text, const std::string& metric);

// Throws where anything but success is met.
Result measure(const Options& options);

}  // namespace turnpike::bench
