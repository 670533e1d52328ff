#include "node/artifact_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

#include "node/log.h"

namespace turnpike::node {
namespace fs = std::filesystem;
namespace {

class File {
 public:
  File(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

bool is_extension(std::string_view text) {
  return !text.empty() && text.size() <= ArtifactStore::kExtensionMax &&
         std::ranges::all_of(text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 &&
         std::ranges::all_of(text, [](char c) { return (c >= 'a' && c <= 'f') || (c >= '0' && c <= '9'); });
}

std::string file_name(std::string_view sha256, std::string_view extension) {
  return fmt::format("{}.{}", sha256, extension);
}

std::string extension_of(const fs::path& path) {
  const std::string dotted = path.extension();
  return dotted.empty() ? dotted : dotted.substr(1);
}

// SHA-256 of what is in the file, hex.
Result<std::string> hash_of(int fd) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    return fail(ErrorCode::kInternal, "SHA-256 is not available");
  }
  std::array<char, 64 * 1024> buffer{};
  while (true) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("reading an artifact", errno);
    if (count == 0) break;
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<std::size_t>(count));
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

Result<void> sync_folder(const fs::path& folder) {
  const File file(folder, O_RDONLY | O_DIRECTORY);
  if (!file.ok() || ::fsync(file.fd()) != 0) return fail_errno("writing the artifact folder", errno);
  return {};
}

// Reads, hashes and syncs a file that is still outside of the store.
Result<engine::ArtifactRef> inspect(const fs::path& path, std::string mime, std::string extension) {
  const File file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file.ok()) return fail_errno("opening an artifact", errno);
  struct stat status{};
  if (::fstat(file.fd(), &status) != 0) return fail_errno("opening an artifact", errno);
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kIo, "an artifact is not a regular file");
  Result<std::string> hash = hash_of(file.fd());
  if (!hash) return std::unexpected(std::move(hash.error()));
  if (::fchmod(file.fd(), 0640) != 0 || ::fsync(file.fd()) != 0)
    return fail_errno("writing an artifact", errno);
  return engine::ArtifactRef{.id = {},
                             .sha256 = std::move(*hash),
                             .mime = std::move(mime),
                             .bytes = static_cast<std::uint64_t>(status.st_size),
                             .extension = std::move(extension)};
}

}  // namespace

ArtifactStore::ArtifactStore(fs::path folder, journal::Journal& journal)
    : folder_(std::move(folder)), journal_(journal) {}

fs::path ArtifactStore::path_of(std::string_view sha256, std::string_view extension) const {
  if (!is_sha256(sha256) || !is_extension(extension)) return {};
  return folder_ / sha256.substr(0, 2) / file_name(sha256, extension);
}

Result<void> ArtifactStore::place(const fs::path& file, const fs::path& target, const std::string& name) {
  std::error_code error;
  const bool made = fs::create_directory(target.parent_path(), error);
  if (error) return fail_errno("making an artifact folder", error.value());
  {
    const std::scoped_lock lock(mutex_);
    if (fs::exists(target, error)) {  // the same bytes: a file that stands here is whole
      fs::remove(file, error);
    } else if (::rename(file.c_str(), target.c_str()) != 0) {
      return fail_errno("moving an artifact into the store", errno);
    }
    ++pins_[name];
  }
  if (auto synced = sync_folder(target.parent_path()); !synced) return synced;
  return made ? sync_folder(folder_) : Result<void>{};
}

Result<engine::ArtifactRef> ArtifactStore::put(const fs::path& file, std::string mime,
                                               std::string extension) {
  if (!is_extension(extension)) {
    return fail(ErrorCode::kInvalidRequest, "a file extension is 1 to 16 of a-z and 0-9");
  }
  Result<engine::ArtifactRef> ref = inspect(file, std::move(mime), std::move(extension));
  if (!ref) return ref;
  const std::string name = file_name(ref->sha256, ref->extension);
  if (auto placed = place(file, path_of(ref->sha256, ref->extension), name); !placed) {
    return std::unexpected(std::move(placed.error()));
  }
  return ref;
}

void ArtifactStore::release(const engine::ArtifactRef& ref, bool kept) {
  const std::scoped_lock lock(mutex_);
  const auto pin = pins_.find(file_name(ref.sha256, ref.extension));
  if (pin == pins_.end()) return;
  if (--pin->second > 0) return;
  pins_.erase(pin);
  if (kept) return;
  remove_unnamed(ref.sha256, ref.extension);
}

void ArtifactStore::remove_unnamed(const std::string& sha256, const std::string& extension) {
  const auto rows = journal_.artifacts_by_sha256(sha256);
  if (!rows) return;  // unknown: a file too many is better than one too few
  const bool named = std::ranges::any_of(
      *rows, [&](const journal::ArtifactRow& row) { return row.ref.extension == extension; });
  std::error_code error;
  if (!named) fs::remove(path_of(sha256, extension), error);
}

void ArtifactStore::sweep(Wall since) {
  std::error_code error;
  for (fs::recursive_directory_iterator file(folder_, error), end; !error && file != end;
       file.increment(error)) {
    struct stat status{};
    if (::lstat(file->path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if (status.st_ctim.tv_sec < unix_seconds(since)) continue;  // ctime: of the rename
    const std::string sha256 = file->path().stem();
    const std::string extension = extension_of(file->path());
    if (path_of(sha256, extension) != file->path()) continue;
    const std::scoped_lock lock(mutex_);
    if (!pins_.contains(file_name(sha256, extension))) remove_unnamed(sha256, extension);
  }
}

Result<bool> ArtifactStore::retain(const journal::Journal::Retention& retention) {
  const std::scoped_lock lock(mutex_);
  const auto removed = journal_.retain(retention);
  if (!removed) return std::unexpected(removed.error());
  for (const auto& [sha256, extension] : removed->files) {
    if (pins_.contains(file_name(sha256, extension))) continue;
    std::error_code error;
    fs::remove(path_of(sha256, extension), error);
    if (error)
      log_event(LogLevel::kWarn, "artifact.not_removed", {{"sha256", sha256}, {"cause", error.message()}});
  }
  return removed->more;
}

}  // namespace turnpike::node
