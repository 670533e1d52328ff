#include "net/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>

namespace turnpike::net {

Result<SpoolFile> SpoolFile::create(const std::filesystem::path& folder) {
  std::string name = (folder / "body-XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);  // creates with mode 0600
  if (descriptor < 0) return fail_errno("cannot make a file in " + folder.string(), errno);
  return SpoolFile(descriptor, std::filesystem::path(std::move(name)));
}

SpoolFile::SpoolFile(SpoolFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::exchange(other.path_, {})) {}

SpoolFile& SpoolFile::operator=(SpoolFile&& other) noexcept {
  if (this != &other) {
    discard();
    descriptor_ = std::exchange(other.descriptor_, -1);
    path_ = std::exchange(other.path_, {});
  }
  return *this;
}

SpoolFile::~SpoolFile() {
  discard();
}

void SpoolFile::discard() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!path_.empty()) ::unlink(path_.c_str());
}

Result<void> SpoolFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno("cannot write " + path_.string(), errno);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> SpoolFile::close() {
  if (::close(std::exchange(descriptor_, -1)) != 0)
    return fail_errno("cannot close " + path_.string(), errno);
  return {};
}

}  // namespace turnpike::net
