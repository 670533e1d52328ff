// Runs tries of any provider in a test: work folder, cancellation, and a count of what is left behind.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "provider/provider.h"
#include "support/temp_folder.h"

namespace turnpike::provider::test {

using turnpike::support::TempFolder;

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& text);
// A shell script that can be executed.
void write_script(const std::filesystem::path& path, const std::string& body);

enum class CancelAt { kNever, kOnce, kWhenReady };

struct Try {
  CancelAt cancel = CancelAt::kNever;
  std::function<bool()> ready;  // kWhenReady: cancelled as soon as this is true
  Progress progress;
  bool awaits_afterwards = false;  // waits once more in the same coroutine after the outcome
};

// Runs one try to its end on a context of its own. Fails the test if it does not end within 20 s.
Outcome run_try(Provider& provider, Request request, const Try& options = {});
// As many at once, on one thread.
std::vector<Outcome> run_all(std::vector<std::pair<Provider*, Request>> tries);
Result<void> run_probe(Provider& provider, Duration timeout);

// A request with ids that no other has.
Request make_request(const std::string& task, const std::string& input,
                     const std::filesystem::path& work_dir);

// What a process may lose by a leak.
struct Holdings {
  std::size_t descriptors = 0;
  std::size_t children = 0;  // zombies among them
  friend bool operator==(const Holdings&, const Holdings&) = default;
};
Holdings holdings();
void PrintTo(const Holdings& held, std::ostream* out);

// Processes on this machine whose command line has `text` (zombies have none).
std::size_t processes_with(const std::string& text);

const Success* as_success(const Outcome& outcome);
const Failure* as_failure(const Outcome& outcome);
// For messages of failed checks.
std::string describe(const Outcome& outcome);

}  // namespace turnpike::provider::test
