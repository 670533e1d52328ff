// Pictures that an input names, looked at before a program decodes them: what a file is by its first bytes,
// and how large the picture is by its own header. Nothing here decodes anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "provider/provider.h"

namespace turnpike::provider {

struct PictureKind {
  std::string_view mime;       // "image/png"
  std::string_view extension;  // "png", without the dot
};

// So many of a file's first bytes tell what it is.
constexpr std::size_t kPictureHeadBytes = 16;

// PNG, JPEG, WebP and GIF; nullopt: none of these.
std::optional<PictureKind> picture_kind(std::string_view head);

// What begins so, for a person: "a ZIP archive", "a web page", "of no kind that is known here".
std::string_view name_of_bytes(std::string_view head);

struct PictureBounds {
  std::int64_t edge_max = 0;    // pixels
  std::int64_t pixels_max = 0;  // width * height
};

// Whether a picture may be handed to a program: one whose header says more pixels than that, or does not say
// how many, may not. A file of another kind may: what its program makes of it is the program's. `name`: how
// the message calls it ("image"). Blocking. Failure: kInvalidInput, or kTransient where the file cannot be
// read.
std::expected<void, Failure> check_picture(const std::filesystem::path& file, PictureBounds bounds,
                                           std::string_view name);

// The input's field that names a picture to edit, and its sibling that names it by address.
constexpr std::string_view kPictureField = "image";
constexpr std::string_view kPictureUrlField = "image_url";
// Whether an input of this task names a picture in one of these fields.
bool edits_picture(std::string_view task);
// The address from which a picture is to be fetched before the input's task can begin; nullopt: none.
std::optional<std::string> picture_url(std::string_view task, std::string_view input);

}  // namespace turnpike::provider
