// multipart/form-data (RFC 7578), taken apart in place.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace turnpike {

constexpr std::size_t kFormPartsMax = 256;

struct FormPart {
  std::string_view name;
  bool is_file = false;           // it has a file's name
  std::string_view content;       // points into the body
  std::size_t content_begin = 0;  // from the body's beginning
};

// The parts of `body` in their order, whose Content-Type header is `content_type`. Nothing: it is no form, is
// broken, or has more than kFormPartsMax parts.
std::optional<std::vector<FormPart>> form_parts(std::string_view content_type, std::string_view body);
// The first of that name; null: there is none.
const FormPart* find_part(const std::vector<FormPart>& parts, std::string_view name);

}  // namespace turnpike
