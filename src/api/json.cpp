#include "api/json.h"

#include <boost/json/array.hpp>
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value_stack.hpp>
#include <cstdint>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "base/json_escape.h"

namespace turnpike::api {
namespace {

namespace json = boost::json;

// Builds the value as the library's own parser does, and notices what that one lets pass: NUL in a text, and
// (by counting names) an object that gives a name twice, of which the library keeps the last.
class Builder {
 public:
  static constexpr std::size_t max_object_size = json::object::max_size();
  static constexpr std::size_t max_array_size = json::array::max_size();
  static constexpr std::size_t max_key_size = json::string::max_size();
  static constexpr std::size_t max_string_size = json::string::max_size();

  explicit Builder(const json::storage_ptr& storage)
      : stack_(json::storage_ptr(), temporary_, sizeof temporary_) {
    stack_.reset(storage);
  }
  json::value release() { return stack_.release(); }
  std::size_t names() const { return names_; }
  bool has_nul() const { return nul_; }

  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }
  bool on_object_begin(json::error_code&) { return true; }
  bool on_object_end(std::size_t n, json::error_code&) {
    names_ += n;
    stack_.push_object(n);
    return true;
  }
  bool on_array_begin(json::error_code&) { return true; }
  bool on_array_end(std::size_t n, json::error_code&) {
    stack_.push_array(n);
    return true;
  }
  bool on_key_part(json::string_view s, std::size_t, json::error_code&) { return chars(s); }
  bool on_key(json::string_view s, std::size_t, json::error_code&) {
    look(s);
    stack_.push_key(s);
    return true;
  }
  bool on_string_part(json::string_view s, std::size_t, json::error_code&) { return chars(s); }
  bool on_string(json::string_view s, std::size_t, json::error_code&) {
    look(s);
    stack_.push_string(s);
    return true;
  }
  bool on_number_part(json::string_view, json::error_code&) { return true; }
  bool on_int64(std::int64_t i, json::string_view, json::error_code&) {
    stack_.push_int64(i);
    return true;
  }
  bool on_uint64(std::uint64_t u, json::string_view, json::error_code&) {
    stack_.push_uint64(u);
    return true;
  }
  bool on_double(double d, json::string_view, json::error_code&) {
    stack_.push_double(d);
    return true;
  }
  bool on_bool(bool b, json::error_code&) {
    stack_.push_bool(b);
    return true;
  }
  bool on_null(json::error_code&) {
    stack_.push_null();
    return true;
  }
  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }

 private:
  bool chars(json::string_view s) {
    look(s);
    stack_.push_chars(s);
    return true;
  }
  void look(json::string_view s) {
    if (!s.empty() && std::memchr(s.data(), 0, s.size()) != nullptr) nul_ = true;
  }

  unsigned char temporary_[2048];
  json::value_stack stack_;
  std::size_t names_ = 0;
  bool nul_ = false;
};

std::size_t count_names(const json::value& value) {
  std::size_t count = 0;
  if (const auto* object = value.if_object()) {
    count = object->size();
    for (const auto& member : *object) count += count_names(member.value());
  } else if (const auto* array = value.if_array()) {
    for (const auto& element : *array) count += count_names(element);
  }
  return count;
}

// Looks a body over again, once it is known that some object gives a name twice, to say which.
class DuplicateFinder {
 public:
  static constexpr std::size_t max_object_size = Builder::max_object_size;
  static constexpr std::size_t max_array_size = Builder::max_array_size;
  static constexpr std::size_t max_key_size = Builder::max_key_size;
  static constexpr std::size_t max_string_size = Builder::max_string_size;

  const std::string& found() const { return found_; }

  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }
  bool on_object_begin(json::error_code&) {
    open_.emplace_back();
    return true;
  }
  bool on_object_end(std::size_t, json::error_code&) {
    open_.pop_back();
    return true;
  }
  bool on_array_begin(json::error_code&) { return true; }
  bool on_array_end(std::size_t, json::error_code&) { return true; }
  bool on_key_part(json::string_view s, std::size_t, json::error_code&) {
    key_.append(s.data(), s.size());
    return true;
  }
  bool on_key(json::string_view s, std::size_t, json::error_code&) {
    key_.append(s.data(), s.size());
    if (!open_.back().insert(key_).second && found_.empty()) found_ = key_;
    key_.clear();
    return true;
  }
  bool on_string_part(json::string_view, std::size_t, json::error_code&) { return true; }
  bool on_string(json::string_view, std::size_t, json::error_code&) { return true; }
  bool on_number_part(json::string_view, json::error_code&) { return true; }
  bool on_int64(std::int64_t, json::string_view, json::error_code&) { return true; }
  bool on_uint64(std::uint64_t, json::string_view, json::error_code&) { return true; }
  bool on_double(double, json::string_view, json::error_code&) { return true; }
  bool on_bool(bool, json::error_code&) { return true; }
  bool on_null(json::error_code&) { return true; }
  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }

 private:
  std::vector<std::set<std::string, std::less<>>> open_;
  std::string key_, found_;
};

json::parse_options strict() {
  json::parse_options options;
  options.max_depth = kJsonDepthMax;
  return options;
}

std::string duplicated_name(std::string_view text) {
  json::basic_parser<DuplicateFinder> parser(strict());
  json::error_code ec;
  parser.write_some(false, text.data(), text.size(), ec);
  return parser.handler().found();
}

std::unexpected<Error> malformed(json::error_code ec, std::size_t at) {
  if (ec == json::error::too_deep) {
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("the body nests more than {} levels deep", kJsonDepthMax), "body");
  }
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("the body is not valid JSON at byte {}: {}", at + 1, ec.message()), "body");
}

}  // namespace

Result<json::value> parse_json(std::string_view text, const json::storage_ptr& storage) {
  json::basic_parser<Builder> parser(strict(), storage);
  json::error_code ec;
  const std::size_t read = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec && read < text.size()) ec = json::error::extra_data;
  if (ec) return malformed(ec, read);
  Builder& builder = parser.handler();
  if (builder.has_nul()) {
    return fail(ErrorCode::kInvalidRequest, "a text in the body holds a NUL character (\\u0000): remove it",
                "body");
  }
  const std::size_t names = builder.names();
  json::value value = builder.release();
  if (count_names(value) != names) {
    std::string name = duplicated_name(text);
    std::string message = fmt::format("`{}` is given twice in one object: give it once", name);
    return fail(ErrorCode::kInvalidRequest, std::move(message), std::move(name));
  }
  return value;
}

void append_quoted(Buffer& out, std::string_view text) {
  out.push_back('"');
  std::size_t plain = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') [[likely]] {
      continue;
    }
    append(out, text.substr(plain, i - plain));
    plain = i + 1;
    append(out, json_escape(c));
  }
  append(out, text.substr(plain));
  out.push_back('"');
}

void append_quoted_or_null(Buffer& out, std::string_view text) {
  if (text.empty()) {
    append(out, "null");
  } else {
    append_quoted(out, text);
  }
}

std::string quote(std::string_view text) {
  Buffer out;
  append_quoted(out, text);
  return to_text(out);
}

}  // namespace turnpike::api
