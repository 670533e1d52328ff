// One program from its start to its certain end, watched on the caller's executor: output read, limits kept,
// and nothing of it alive afterwards.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "provider/confinement.h"
#include "provider/spawn.h"

namespace turnpike::provider {

struct ProcessPlan {
  Spawn spawn;
  Confinement confinement = Confinement::kNone;
  std::string marker;                                // an entry of spawn.environment that no other try has
  std::filesystem::path work_dir;                    // on the host
  std::chrono::steady_clock::time_point deadline{};  // killed then
  std::uint64_t output_bytes_max = 1 << 20;          // of standard output and of standard error, each
  std::uint64_t memory_bytes_max = 0;                // of all its processes together
  std::uint64_t folder_bytes_max = 0;                // of all files in the work folder together
  std::uint32_t processes_max = 64;
  // A program that stays may say as much as it likes: only the last output_bytes_max of it are kept.
  bool keeps_tail = false;
  std::chrono::milliseconds watch_every{40};  // between two looks at memory, processes and folder
};

enum class ProcessEnd : std::uint8_t {
  kExited,  // by itself
  kTimedOut,
  kCancelled,
  kOutputTooLong,
  kTooMuchMemory,
  kTooManyProcesses,
  kTooMuchDisk,
};

struct ProcessReport {
  ProcessEnd end = ProcessEnd::kExited;
  int status = 0;      // exit status, or 128 + the signal that ended it
  std::string output;  // at most output_bytes_max, or twice that of a tail
  std::string error;
};

// Errors: as spawn(). When it returns, every process of the program is dead: with bubblewrap this is certain,
// for all are in one process namespace; without, the process group is, and whoever left it is found by the
// marker in its environment, unless it wiped that. Terminal cancellation ends the program with kCancelled.
boost::asio::awaitable<Result<ProcessReport>> run_process(ProcessPlan plan);

}  // namespace turnpike::provider
