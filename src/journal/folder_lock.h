// One server for each data folder: an exclusive lock on FOLDER/lock, held until destruction or the end of the
// process, however it ends.
#pragma once

#include <filesystem>

#include "base/result.h"

namespace turnpike::journal {

class FolderLock {
 public:
  // Makes the folder (mode 0700) if it is missing, takes the lock and writes this process's id into the file.
  // Errors: kConfiguration if another holds it (names its process id); kIo.
  static Result<FolderLock> take(const std::filesystem::path& folder);

  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace turnpike::journal
