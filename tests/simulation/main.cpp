// simulate: the engine under virtual time, random seeds and crashes. README.md in this folder says how to
// read it.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "simulation/broken.h"
#include "simulation/chaos.h"
#include "simulation/flood.h"
#include "simulation/tally.h"
#include "simulation/violation.h"

namespace turnpike::simulation {
namespace {

constexpr std::uint64_t kSeedsToExpectEverything = 200;
constexpr std::uint64_t kSeedsToCatch = 300;

struct Arguments {
  std::uint64_t seeds = 0, first = 1, seed = 0, jobs = 0;
  std::uint32_t steps = 0, threads = 1, accounts = 2000;
  bool verbose = false, flood = false, million = false, check_broken = false;
  std::string broken;
};

thread_local std::uint64_t current_seed = 0;

// A CHECK of the engine ends the process: then at least the seed is told.
void tell_seed(int signal_number) {
  char line[96];
  const int length = std::snprintf(
      line, sizeof line, "\nseed %llu: ended by signal %d; replay: simulate --seed %llu --verbose\n",
      static_cast<unsigned long long>(current_seed), signal_number,
      static_cast<unsigned long long>(current_seed));
  if (length > 0 && ::write(STDERR_FILENO, line, static_cast<std::size_t>(length)) < 0) std::_Exit(2);
  std::signal(signal_number, SIG_DFL);
  std::raise(signal_number);
}

std::string replay(const Arguments& arguments, std::uint64_t seed) {
  std::string line = fmt::format("simulate --seed {} --verbose", seed);
  if (arguments.steps > 0) line += fmt::format(" --steps {}", arguments.steps);
  if (!arguments.broken.empty()) line += fmt::format(" --broken {}", arguments.broken);
  return line;
}

// True: every invariant held.
bool live_through(const Arguments& arguments, const Broken& broken, std::uint64_t seed, Tally& tally,
                  bool quiet) {
  current_seed = seed;
  std::uint32_t step = 0;
  try {
    run_seed({.seed = seed, .steps = arguments.steps, .verbose = arguments.verbose, .broken = broken}, tally,
             step);
    return true;
  } catch (const std::exception& violation) {  // a Violation, or whatever the engine let escape
    if (!quiet)
      fmt::print("seed {}, step {}: {}\n  replay: {}\n", seed, step, violation.what(),
                 replay(arguments, seed));
    return false;
  }
}

bool print_summary(const Tally& tally, bool expect_everything) {
  bool good = true;
  for (std::size_t i = 0; i < kSeenCount; ++i) {
    const auto what = static_cast<Seen>(i);
    const bool never = expect_everything && tally.of(what) == 0;
    fmt::print("{:>24}  {:>10}{}\n", seen_name(what), tally.of(what), never ? "  <- never occurred" : "");
    good = good && !never;
  }
  if (const auto guessed = tally.of(Seen::kEstimatedPositions); guessed > 0)
    fmt::print("{:>24}  {:>9.1f} %\n", "mean error of guesses",
               100 * tally.position_error / static_cast<double>(guessed));
  return good;
}

int run_seeds(const Arguments& arguments, const Broken& broken) {
  std::atomic<std::uint64_t> next{arguments.first};
  std::atomic<std::uint64_t> passed{0}, failed{0};
  const std::uint64_t end = arguments.first + arguments.seeds;
  std::mutex mutex;
  Tally total;
  const auto begun = std::chrono::steady_clock::now();
  const auto work = [&] {
    Tally tally;
    for (std::uint64_t seed = next++; seed < end; seed = next++)
      ++(live_through(arguments, broken, seed, tally, false) ? passed : failed);
    const std::scoped_lock lock(mutex);
    total.add(tally);
  };
  std::vector<std::jthread> threads;
  for (std::uint32_t i = 0; i < arguments.threads; ++i) threads.emplace_back(work);
  threads.clear();
  // A failed seed ends early: what it would have seen is missing.
  const bool expect_everything =
      failed == 0 && arguments.seeds >= kSeedsToExpectEverything && arguments.steps == 0;
  const bool everything = print_summary(total, expect_everything);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  fmt::print("{} seeds in {:.1f} s\n", arguments.seeds, seconds);
  if (!everything) fmt::print("some kind of event never occurred: the run shows too little\n");
  const std::uint64_t vacuous = everything ? 0 : 1;
  fmt::print("{} passed, {} failed\n", passed.load(), failed.load() + vacuous);
  return failed.load() + vacuous == 0 && passed.load() > 0 ? 0 : 1;
}

// In a process of its own: a broken engine may also be caught by its own CHECKs, which end the process.
// 0: not caught; else the number of the seed that caught it.
std::uint64_t catch_broken(const Arguments& arguments, const Broken& broken, std::string& how) {
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0) return 0;
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    Tally tally;
    for (std::uint64_t seed = 1; seed <= kSeedsToCatch; ++seed) {
      if (::write(pipe_ends[1], &seed, sizeof seed) != sizeof seed) std::_Exit(2);
      std::uint32_t step = 0;
      try {
        run_seed({.seed = seed, .steps = arguments.steps, .broken = broken}, tally, step);
      } catch (const std::exception& violation) {
        const std::string what = violation.what();
        if (::write(pipe_ends[1], what.data(), std::min<std::size_t>(what.size(), 4000)) < 0) std::_Exit(2);
        std::_Exit(1);
      }
    }
    std::_Exit(0);
  }
  ::close(pipe_ends[1]);
  std::string told;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(pipe_ends[0], buffer, sizeof buffer)) > 0;)
    told.append(buffer, static_cast<std::size_t>(n));
  ::close(pipe_ends[0]);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || told.size() < sizeof(std::uint64_t)) return 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  const bool violated = WIFEXITED(status) && WEXITSTATUS(status) == 1;
  // Seeds are written one after another; what follows the last is the violation.
  std::uint64_t seed = 0, expected = 1;
  std::size_t at = 0;
  for (; at + sizeof seed <= told.size(); at += sizeof seed, ++expected) {
    std::uint64_t number = 0;
    std::memcpy(&number, told.data() + at, sizeof number);
    if (number != expected) break;
    seed = number;
  }
  how = violated ? told.substr(at) : "a CHECK of the engine";
  return seed;
}

int check_broken(const Arguments& arguments) {
  std::size_t caught = 0, missed = 0;
  for (const Broken& broken : broken_variants()) {
    std::string how;
    const std::uint64_t seed = catch_broken(arguments, broken, how);
    ++(seed > 0 ? caught : missed);
    if (seed > 0) {
      fmt::print("{:>20}  caught by seed {}: {}\n", broken.name, seed, how);
    } else {
      fmt::print("{:>20}  NOT CAUGHT within {} seeds\n", broken.name, kSeedsToCatch);
    }
    std::fflush(stdout);
  }
  fmt::print("{} passed, {} failed\n", caught, missed);
  return missed == 0 && caught > 0 ? 0 : 1;
}

int run(const Arguments& arguments) {
  if (arguments.flood) return run_flood(arguments.jobs > 0 ? arguments.jobs : 200'000) ? 0 : 1;
  if (arguments.million)
    return run_million(arguments.jobs > 0 ? arguments.jobs : 1'000'000, arguments.accounts) ? 0 : 1;
  if (arguments.check_broken) return check_broken(arguments);
  Broken broken{.name = "none"};
  if (!arguments.broken.empty()) {
    const auto named = broken_by_name(arguments.broken);
    if (!named) {
      fmt::print(stderr, "no broken variant is called {}\n", arguments.broken);
      return 2;
    }
    broken = *named;
  }
  if (arguments.seed == 0) return run_seeds(arguments, broken);
  Arguments single = arguments;
  single.first = arguments.seed;
  single.seeds = 1;
  single.threads = 1;
  return run_seeds(single, broken);
}

}  // namespace
}  // namespace turnpike::simulation

int main(int argc, char** argv) {
  turnpike::simulation::Arguments arguments;
  CLI::App app{"The engine under virtual time, random seeds and crashes"};
  app.add_option("--seeds", arguments.seeds, "How many seeds to live through");
  app.add_option("--first", arguments.first, "The first of them");
  app.add_option("--seed", arguments.seed, "This seed alone");
  app.add_option("--steps", arguments.steps, "Random actions in a seed (default: as the seed says)");
  app.add_option("--jobs", arguments.jobs, "How many jobs, with --flood and --million");
  app.add_option("--accounts", arguments.accounts, "How many accounts, with --million");
  app.add_option("--threads", arguments.threads, "Seeds lived through at once")->check(CLI::Range(1, 64));
  app.add_option("--broken", arguments.broken, "A variant that is wrong on purpose");
  app.add_flag("--verbose", arguments.verbose, "Tell every command");
  app.add_flag("--flood", arguments.flood, "All classes flood one pool: prints their shares");
  app.add_flag("--million", arguments.million, "A million jobs of many accounts");
  app.add_flag("--check-broken", arguments.check_broken, "Every broken variant must be caught");
  CLI11_PARSE(app, argc, argv);
  if (arguments.seeds == 0 && arguments.seed == 0 && !arguments.flood && !arguments.million &&
      !arguments.check_broken) {
    arguments.seeds = 1000;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // nothing told is lost when a CHECK ends the process
  std::signal(SIGABRT, turnpike::simulation::tell_seed);
  return turnpike::simulation::run(arguments);
}
