// JSON in and out of the interface: one strict parse of a body, and quick writing of answers.
#pragma once

#include <fmt/format.h>

#include <boost/json/storage_ptr.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace turnpike::api {

constexpr std::size_t kJsonDepthMax = 64;

// Strict: UTF-8 only, no duplicate names in an object, no NUL in a text, at most kJsonDepthMax levels, one
// value and nothing after it. The value lives in `storage`. Errors: kInvalidRequest, which says where.
Result<boost::json::value> parse_json(std::string_view text, const boost::json::storage_ptr& storage);

using Buffer = fmt::memory_buffer;

inline void append(Buffer& out, std::string_view text) {
  out.append(text.data(), text.data() + text.size());
}
// As a JSON text, with its quotes. `text` is UTF-8.
void append_quoted(Buffer& out, std::string_view text);
// "" is written as null.
void append_quoted_or_null(Buffer& out, std::string_view text);
std::string quote(std::string_view text);
// As a list of texts.
template <typename Names>
void append_names(Buffer& out, const Names& names) {
  out.push_back('[');
  bool first = true;
  for (const auto& name : names) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_quoted(out, name);
  }
  out.push_back(']');
}
inline std::string to_text(const Buffer& buffer) {
  return {buffer.data(), buffer.size()};
}

}  // namespace turnpike::api
