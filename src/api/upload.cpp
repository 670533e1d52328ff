#include "api/upload.h"

#include <algorithm>
#include <array>
#include <string>

#include "api/files.h"
#include "api/json.h"

namespace turnpike::api {
namespace {

// What may be uploaded. Nothing here is run by a browser.
constexpr std::array kKinds{
    UploadKind{"image/png", "png", "\x89PNG\r\n\x1a\n"},
    UploadKind{"image/jpeg", "jpeg", "\xff\xd8\xff"},
    UploadKind{"image/webp", "webp", "WEBP", 8},
    UploadKind{"image/gif", "gif", "GIF8"},
    UploadKind{"audio/wav", "wav", "WAVE", 8},
    UploadKind{"audio/x-wav", "wav", "WAVE", 8},
    UploadKind{"audio/mpeg", "mp3", ""},
    UploadKind{"audio/ogg", "ogg", "OggS"},
    UploadKind{"audio/flac", "flac", "fLaC"},
    UploadKind{"video/mp4", "mp4", "ftyp", 4},
    UploadKind{"video/webm", "webm", "\x1a\x45\xdf\xa3"},
    UploadKind{"text/plain", "txt", ""},
    UploadKind{"application/json", "json", ""},
    UploadKind{"application/octet-stream", "bin", ""},
};
constexpr std::size_t kMagicBytes = 16;

}  // namespace

Result<UploadKind> upload_kind(const net::Request& request) {
  const std::string* header = request.header("Content-Type");
  std::string mime = header != nullptr ? header->substr(0, header->find(';')) : std::string();
  std::ranges::transform(mime, mime.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  while (mime.ends_with(' ')) mime.pop_back();
  const auto found = std::ranges::find(kKinds, std::string_view(mime), &UploadKind::mime);
  if (found != kKinds.end()) return *found;
  std::string known;
  for (const auto& kind : kKinds) known += (known.empty() ? "" : ", ") + std::string(kind.mime);
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("send the file itself as the body, with its Content-Type: one of {}", known),
              "Content-Type");
}

Result<void> check_magic(const std::filesystem::path& file, const UploadKind& kind) {
  const auto front = first_bytes(file, kMagicBytes);
  if (!front) return std::unexpected(front.error());
  const bool right = front->size() >= kind.magic_at &&
                     std::string_view(*front).substr(kind.magic_at).starts_with(kind.magic);
  if (right) return {};
  return fail(ErrorCode::kInvalidRequest, fmt::format("what was sent is no {}", kind.mime), "Content-Type");
}

}  // namespace turnpike::api
