#include "provider/picture.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "provider/json_text.h"
#include "provider/measure.h"
#include "provider/spawn.h"
#include "provider/upstream_failure.h"

namespace turnpike::provider {
namespace {

using namespace std::string_view_literals;
using policy::FailureClass;

struct Magic {
  std::string_view bytes;
  std::size_t at;
  std::string_view name;
};

// What is sent in a picture's place. Where two fit, the first does.
constexpr std::array kOthers{
    Magic{"PK\x03\x04"sv, 0, "a ZIP archive"},
    Magic{"PK\x05\x06"sv, 0, "a ZIP archive"},
    Magic{"Rar!\x1a\x07"sv, 0, "a RAR archive"},
    Magic{"7z\xbc\xaf\x27\x1c"sv, 0, "a 7z archive"},
    Magic{"\x1f\x8b"sv, 0, "gzip data"},
    Magic{"BZh"sv, 0, "bzip2 data"},
    Magic{"\xfd"
          "7zXZ"sv,
          0, "xz data"},
    Magic{"%PDF-"sv, 0, "a PDF document"},
    Magic{"%!PS"sv, 0, "a PostScript document"},
    Magic{"\x7f"
          "ELF"sv,
          0, "a program"},
    Magic{"MZ"sv, 0, "a program"},
    Magic{"#!"sv, 0, "a script"},
    Magic{"II*\0"sv, 0, "a TIFF picture"},
    Magic{"MM\0*"sv, 0, "a TIFF picture"},
    Magic{"BM"sv, 0, "a BMP picture"},
    Magic{"\0\0\1\0"sv, 0, "an icon"},
    Magic{"8BPS"sv, 0, "a Photoshop document"},
    Magic{"ftypavif"sv, 4, "an AVIF picture"},
    Magic{"ftypheic"sv, 4, "a HEIC picture"},
    Magic{"ftypmif1"sv, 4, "a HEIF picture"},
    Magic{"ftyp"sv, 4, "a video"},
    Magic{"\x1a\x45\xdf\xa3"sv, 0, "a video"},
    Magic{"WAVE"sv, 8, "a sound"},
    Magic{"OggS"sv, 0, "a sound"},
    Magic{"ID3"sv, 0, "a sound"},
    Magic{"fLaC"sv, 0, "a sound"},
};

bool begins(std::string_view bytes, std::string_view with, std::size_t at = 0) {
  return bytes.size() >= at && bytes.substr(at).starts_with(with);
}

// Text in angle brackets, whatever stands before it.
std::string_view name_of_markup(std::string_view head) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (head.starts_with(kByteOrderMark)) head.remove_prefix(kByteOrderMark.size());
  while (!head.empty() &&
         (head.front() == ' ' || head.front() == '\t' || head.front() == '\r' || head.front() == '\n')) {
    head.remove_prefix(1);
  }
  std::string lower(head);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  if (begins(lower, "<svg") || begins(lower, "<?xml")) return "an XML or SVG document";
  if (begins(lower, "<")) return "a web page";
  if (begins(lower, "{") || begins(lower, "[")) return "JSON";
  return {};
}

std::expected<void, Failure> invalid(std::string message) {
  return std::unexpected(failure(FailureClass::kInvalidInput, std::move(message)));
}

std::expected<void, Failure> check_edges(Picture size, PictureBounds bounds, std::string_view name) {
  if (size.width > bounds.edge_max || size.height > bounds.edge_max) {
    return invalid(fmt::format("{}: a picture of {}x{} pixels; at most {} are taken on each side", name,
                               size.width, size.height, bounds.edge_max));
  }
  if (size.width * size.height > bounds.pixels_max) {
    return invalid(fmt::format("{}: a picture of {}x{} pixels; at most {} are taken in all", name, size.width,
                               size.height, bounds.pixels_max));
  }
  return {};
}

}  // namespace

std::optional<PictureKind> picture_kind(std::string_view head) {
  if (begins(head, "\x89PNG\r\n\x1a\n")) return PictureKind{.mime = "image/png", .extension = "png"};
  if (begins(head, "\xff\xd8\xff")) return PictureKind{.mime = "image/jpeg", .extension = "jpeg"};
  if (begins(head, "RIFF") && begins(head, "WEBP", 8))
    return PictureKind{.mime = "image/webp", .extension = "webp"};
  if (begins(head, "GIF87a") || begins(head, "GIF89a"))
    return PictureKind{.mime = "image/gif", .extension = "gif"};
  return std::nullopt;
}

std::string_view name_of_bytes(std::string_view head) {
  const auto* const found =
      std::ranges::find_if(kOthers, [head](const Magic& each) { return begins(head, each.bytes, each.at); });
  if (found != kOthers.end()) return found->name;
  const std::string_view markup = name_of_markup(head);
  return markup.empty() ? "of no kind that is known here" : markup;
}

std::expected<void, Failure> check_picture(const std::filesystem::path& file, PictureBounds bounds,
                                           std::string_view name) {
  const Descriptor opened{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  struct stat status{};
  std::array<char, kPictureHeadBytes> first{};
  const bool there = opened && ::fstat(opened.get(), &status) == 0;
  const ssize_t got = there ? ::pread(opened.get(), first.data(), first.size(), 0) : -1;
  if (got < 0)
    return std::unexpected(
        failure(FailureClass::kTransient, fmt::format("{}: the picture could not be read", name)));
  const auto kind = picture_kind({first.data(), static_cast<std::size_t>(got)});
  if (!kind) return {};
  const auto measured = measure_picture(opened.get(), static_cast<std::uint64_t>(status.st_size));
  const auto* size = measured ? std::get_if<Picture>(&measured->facts) : nullptr;
  if (size != nullptr) return check_edges(*size, bounds, name);
  return invalid(fmt::format(
      "{}: it begins as {} and is broken: its header does not say how many pixels it has", name, kind->mime));
}

bool edits_picture(std::string_view task) {
  return task == "image_edit";
}

std::optional<std::string> picture_url(std::string_view task, std::string_view input) {
  if (!edits_picture(task)) return std::nullopt;
  const auto parsed = parse_json(input);
  const auto* fields = parsed ? parsed->if_object() : nullptr;
  if (fields == nullptr) return std::nullopt;
  const auto url = text_in(*fields, kPictureUrlField);
  if (!url) return std::nullopt;
  return std::string(*url);
}

}  // namespace turnpike::provider
