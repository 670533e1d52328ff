#include "base/multipart.h"

#include <algorithm>
#include <string>

namespace turnpike {
namespace {

constexpr std::size_t kBoundaryMax = 70;  // RFC 2046, 5.1.1

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// The value of parameter `name` in `word; name=value; name="value"`. Escaped quotes are not resolved: who
// needs them in a field's name is refused, for no such name is ours.
std::optional<std::string_view> parameter(std::string_view header, std::string_view name) {
  std::size_t at = header.find(';');
  while (at != std::string_view::npos) {
    header = trimmed(header.substr(at + 1));
    const std::size_t equals = header.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const std::string_view key = trimmed(header.substr(0, equals));
    std::string_view value = header.substr(equals + 1);
    if (value.starts_with('"')) {
      const std::size_t close = value.find('"', 1);
      if (close == std::string_view::npos) return std::nullopt;
      at = header.find(';', equals + 1 + close + 1);
      value = value.substr(1, close - 1);
    } else {
      at = header.find(';', equals);
      value = trimmed(value.substr(0, value.find(';')));
    }
    if (same(key, name)) return value;
  }
  return std::nullopt;
}

// Name and kind, from the part's own header lines. False: it has no name.
bool read_head(std::string_view head, FormPart& part) {
  while (!head.empty()) {
    const std::size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    head = end == std::string_view::npos ? std::string_view() : head.substr(end + 2);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !same(trimmed(line.substr(0, colon)), "content-disposition"))
      continue;
    const auto name = parameter(line, "name");
    if (!name) return false;
    part.name = *name;
    part.is_file = parameter(line, "filename").has_value() || parameter(line, "filename*").has_value();
    return true;
  }
  return false;
}

}  // namespace

std::optional<std::vector<FormPart>> form_parts(std::string_view content_type, std::string_view body) {
  if (!same(trimmed(content_type.substr(0, content_type.find(';'))), "multipart/form-data"))
    return std::nullopt;
  const auto boundary = parameter(content_type, "boundary");
  if (!boundary || boundary->empty() || boundary->size() > kBoundaryMax) return std::nullopt;
  const std::string first = "--" + std::string(*boundary);
  const std::string next = "\r\n" + first;
  if (!body.starts_with(first)) return std::nullopt;
  std::vector<FormPart> parts;
  std::size_t at = first.size();
  for (;;) {
    if (body.substr(at).starts_with("--")) return parts;
    if (!body.substr(at).starts_with("\r\n") || parts.size() == kFormPartsMax) return std::nullopt;
    at += 2;
    const std::size_t head_end = body.find("\r\n\r\n", at);
    if (head_end == std::string_view::npos) return std::nullopt;
    FormPart part;
    if (!read_head(body.substr(at, head_end - at), part)) return std::nullopt;
    part.content_begin = head_end + 4;
    const std::size_t end = body.find(next, part.content_begin);
    if (end == std::string_view::npos) return std::nullopt;
    part.content = body.substr(part.content_begin, end - part.content_begin);
    parts.push_back(part);
    at = end + next.size();
  }
}

const FormPart* find_part(const std::vector<FormPart>& parts, std::string_view name) {
  const auto found = std::ranges::find(parts, name, &FormPart::name);
  return found == parts.end() ? nullptr : &*found;
}

}  // namespace turnpike
