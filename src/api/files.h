// What the interface asks of files: their hash, their first bytes. Blocking: call it on a reader thread.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace turnpike::api {

// 32 raw bytes. Errors: kIo.
Result<std::string> sha256_of_file(const std::filesystem::path& file);

// At most `bytes_max` bytes from the front. Errors: kIo.
Result<std::string> first_bytes(const std::filesystem::path& file, std::size_t bytes_max);

}  // namespace turnpike::api
