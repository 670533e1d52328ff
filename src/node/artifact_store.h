// Files by the hash of what is in them: data/artifacts/ab/<sha256>.<extension>. A file is durable before a
// row names it, however many rows do, and is deleted when none does any more. Everything here blocks: call it
// on a reader thread (retain() on the committer's). Thread-safe.
#pragma once

#include <cstddef>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"
#include "base/time.h"
#include "engine/rows.h"
#include "journal/journal.h"

namespace turnpike::node {

class ArtifactStore {
 public:
  static constexpr std::size_t kExtensionMax = 16;

  ArtifactStore(std::filesystem::path folder, journal::Journal& journal);

  // Moves `file` (regular, on the same file system) into the store and pins it, so that it stays until a row
  // names it; release() unpins it. The id of the result is not set. Errors: kInvalidRequest (extension), kIo.
  Result<engine::ArtifactRef> put(const std::filesystem::path& file, std::string mime, std::string extension);
  // Ends a pin of put(). `kept`: a durable row names the file; otherwise it is deleted if no other does.
  void release(const engine::ArtifactRef& ref, bool kept);
  // One bounded step of Journal::retain, and the files that it freed. True: there is more to do.
  Result<bool> retain(const journal::Journal::Retention& retention);

  // Deletes the files that came since then and that nothing names: what a crash left between rename and row.
  void sweep(Wall since);

  // Empty where the words are not a hash and an extension: no path can be made to leave the folder.
  std::filesystem::path path_of(std::string_view sha256, std::string_view extension) const;

 private:
  // Under mutex_: deletes the file unless a row names it or that is unknown.
  void remove_unnamed(const std::string& sha256, const std::string& extension);
  Result<void> place(const std::filesystem::path& file, const std::filesystem::path& target,
                     const std::string& name);

  const std::filesystem::path folder_;
  journal::Journal& journal_;
  // Between the rename and the row a file belongs to nobody: whoever deletes holds the mutex and looks at the
  // pins.
  std::mutex mutex_;
  std::unordered_map<std::string, std::size_t> pins_;  // by file name; guarded by mutex_
};

}  // namespace turnpike::node
