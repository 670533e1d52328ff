// A request body on disk while its request lives.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/result.h"

namespace turnpike::net {

// A new file of its own name in a folder, mode 0600, removed with this object (unless it was moved away by
// then). Not thread-safe.
class SpoolFile {
 public:
  // kIo: what the disk said.
  static Result<SpoolFile> create(const std::filesystem::path& folder);
  SpoolFile(SpoolFile&& other) noexcept;
  SpoolFile& operator=(SpoolFile&& other) noexcept;
  SpoolFile(const SpoolFile&) = delete;
  SpoolFile& operator=(const SpoolFile&) = delete;
  ~SpoolFile();

  Result<void> append(std::string_view bytes);
  // Closes the descriptor; the file stays until this object goes.
  Result<void> close();
  const std::filesystem::path& path() const { return path_; }

 private:
  SpoolFile(int descriptor, std::filesystem::path path) : descriptor_(descriptor), path_(std::move(path)) {}
  void discard() noexcept;

  int descriptor_ = -1;
  std::filesystem::path path_;
};

}  // namespace turnpike::net
