// What may be uploaded, and whether it is what it is called.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

#include "base/result.h"
#include "net/http.h"

namespace turnpike::api {

struct UploadKind {
  std::string_view mime;
  std::string_view extension;
  std::string_view magic;  // what such a file begins with; empty: nothing to look for
  std::size_t magic_at = 0;
};

// By the Content-Type. Error: kInvalidRequest, which names those that are taken.
Result<UploadKind> upload_kind(const net::Request& request);
// Blocking: call it on a reader thread. Errors: kInvalidRequest, kIo.
Result<void> check_magic(const std::filesystem::path& file, const UploadKind& kind);

}  // namespace turnpike::api
