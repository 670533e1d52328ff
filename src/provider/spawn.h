// Starts one program: own process group, dies with us, limits set before its first instruction, nothing of
// ours inherited. Blocks only until the program is loaded.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace turnpike::provider {

// Owns a file descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      number_ = std::exchange(other.number_, -1);
    }
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }

  int get() const { return number_; }
  int release() { return std::exchange(number_, -1); }
  explicit operator bool() const { return number_ >= 0; }
  void reset();

 private:
  int number_ = -1;
};

// A handle of a process that stays its own when the number comes to mean another; empty if there is none. It
// can be read from once the process has ended.
Descriptor open_process(pid_t process);
void kill_process(int pidfd);

struct Spawn {
  std::vector<std::string> arguments;    // the first is the program's absolute path
  std::vector<std::string> environment;  // "NAME=value"; nothing else is passed on
  std::string stdin_text;                // whole; the program reads it as a file
  std::filesystem::path work_dir = "/";  // its current folder
  uid_t stream_owner = 0;                // who may open its standard streams again, by name; 0: we
  bool wants_info = false;               // descriptor kInfoDescriptor is a pipe to us (bubblewrap)
  std::uint64_t memory_bytes_max = 0;    // address space of each process; 0: no limit
  std::uint64_t file_bytes_max = 0;      // each file written; 0: no limit
  std::chrono::seconds cpu_max{0};       // of each process; 0: no limit
};

// A started program. Its exit must be collected (waitid on pidfd) by the owner.
struct Child {
  pid_t pid = 0;  // also its process group
  Descriptor pidfd;
  Descriptor output;  // standard output, non-blocking
  Descriptor error;   // standard error, non-blocking
  Descriptor info;    // where wants_info, non-blocking
};

// Errors: kConfiguration (cannot be executed), kInvalidRequest (arguments too long), kIo (no process or
// descriptor to be had). Nothing is left behind then.
Result<Child> spawn(const Spawn& plan);

// Collects a child that has ended or is about to: its exit status, or 128 + the signal that ended it. Blocks.
int collect(const Child& child);

// Runs a program to its end, blocking, and throws away what it says; for start-up only. Returns as collect
// does. Errors: as spawn, kUpstreamTimeout (killed).
Result<int> run_and_wait(const Spawn& plan, std::chrono::milliseconds timeout);

}  // namespace turnpike::provider
