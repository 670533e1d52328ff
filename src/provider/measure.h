// What a produced file really is, from its own bytes: usage is charged by what was made, not by what was
// asked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>

namespace turnpike::provider {

struct Audio {
  std::int64_t duration_ms = 0;
};
struct Picture {
  std::int64_t width = 0;  // pixels
  std::int64_t height = 0;
};
struct Unmeasured {};  // a kind of file that nothing is known about
struct Measured {
  std::string mime;  // as the bytes say; empty if Unmeasured
  std::variant<Unmeasured, Audio, Picture> facts;
};

// Reads `file` (an open descriptor of a regular file of `size` bytes), from its start. Knows WAV, PNG, JPEG
// and WebP. nullopt: it begins as one of these and is broken.
std::optional<Measured> measure(int file, std::uint64_t size);

// Likewise, of a picture that comes in: knows GIF, too, of which the larger of its screen and its first frame
// counts.
std::optional<Measured> measure_picture(int file, std::uint64_t size);

}  // namespace turnpike::provider
