// What a program has grown to, read from /proc: rlimits bound each process, this bounds all of them together.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace turnpike::provider {

struct TreeSize {
  std::uint32_t processes = 0;
  std::uint64_t memory_bytes = 0;  // resident and their own (not shared with files)
};

// `root` and its descendants; stops counting beyond `processes_max`. Processes that end meanwhile are passed
// over.
TreeSize measure_tree(pid_t root, std::uint32_t processes_max);

// Bytes of all files below `folder` (links are not followed); stops beyond `entries_max` entries and says the
// largest number then.
std::uint64_t measure_folder(const std::filesystem::path& folder, std::size_t entries_max);

// Kills every process of this user whose environment has exactly the variable `marker` ("NAME=value"), and
// collects those that have become our children. Returns how many were still found. For programs that left
// their process group where no sandbox holds them.
std::size_t kill_marked(const std::string& marker);

}  // namespace turnpike::provider
