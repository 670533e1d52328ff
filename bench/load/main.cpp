// bench_load: submits jobs to a running Turnpike, and prints what it measured as one JSON object on one line.
// The admin key is read from TURNPIKE_ADMIN_KEY.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>

#include "load/submit.h"

namespace {

std::string json(const turnpike::bench::Quantiles& q) {
  return fmt::format(R"({{"samples":{},"p50_us":{},"p99_us":{},"max_us":{}}})", q.samples, q.p50, q.p99,
                     q.max);
}

}  // namespace

int main(int argc, char** argv) {
  turnpike::bench::Options options;
  CLI::App app{"Submits jobs to a running Turnpike and measures"};
  app.add_option("--address", options.address, "IPv4 address and port")->capture_default_str();
  app.add_option("--jobs", options.jobs, "Jobs to submit and measure")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000'000));
  app.add_option("--warm-up", options.warm_up_jobs, "Jobs to submit before, not measured");
  app.add_option("--in-flight", options.in_flight, "Requests under way at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000));
  app.add_option("--accounts", options.accounts, "Accounts to spread the jobs over")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000));
  app.add_option("--input-bytes", options.input_bytes, "Size of a job's input")
      ->capture_default_str()
      ->check(CLI::Range(14, 1'000'000));
  app.add_option("--per-second", options.per_second,
                 "Jobs to submit each second; 0: as many as are answered");
  app.add_option("--watch-every", options.watch_every, "Watch the start of every so manyth job; 0: of none");
  app.add_option("--completed-metric", options.completed_metric,
                 "Wait until this counter of /metrics has grown by the jobs");
  app.add_option("--patience", options.patience_seconds, "Seconds without progress after which to give up")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread
  if (const char* key = std::getenv("TURNPIKE_ADMIN_KEY")) options.key = key;

  try {
    const auto result = turnpike::bench::measure(options);
    const auto jobs = static_cast<double>(options.jobs);
    fmt::print(
        R"({{"jobs":{},"submit_seconds":{:.6f},"submits_per_second":{:.1f},"complete_seconds":{:.6f},)",
        options.jobs, result.submit_seconds, jobs / result.submit_seconds, result.complete_seconds);
    fmt::print(R"("completes_per_second":{:.1f},"late":{},"answers":{},"pickups":{}}})"
               "\n",
               result.complete_seconds > 0 ? jobs / result.complete_seconds : 0, result.late,
               json(result.answers), json(result.pickups));
    return 0;
  } catch (const std::exception& trouble) {
    fmt::print(stderr, "bench_load: {}\n", trouble.what());
    return 1;
  }
}
