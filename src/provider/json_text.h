// JSON that comes from outside, with bounds, and results that may be too large to stand inline.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "provider/provider.h"

namespace turnpike::provider {

constexpr std::size_t kJsonDepthMax = 64;

// One whole JSON value, at most kJsonDepthMax deep. Errors: kInvalidRequest with the parser's words.
Result<boost::json::value> parse_json(std::string_view text);

// What stands at a path of names and indices; null where nothing does. Borrowed from `value`.
const boost::json::value* value_at(const boost::json::value& value, std::span<const std::string> path);
// A text is itself, a number and a boolean as JSON writes them, a list or an object its JSON; null is absent.
std::optional<std::string> scalar_text(const boost::json::value& value);

// The bytes of a base64 text (RFC 4648, padded, of any length up to 1 GiB); nullopt where it is none.
std::optional<std::string> decode_base64(std::string_view text);

// The value of object `object` under `key` if it is an integer >= 0 (or a float that is one); else 0.
std::int64_t count_of(const boost::json::object& object, std::string_view key);

// What stands in `parent` under `key`, where it is that; else null or nullopt. Borrowed from `parent`.
const boost::json::object* object_in(const boost::json::object& parent, std::string_view key);
const boost::json::array* array_in(const boost::json::object& parent, std::string_view key);
std::optional<std::string_view> text_in(const boost::json::object& parent, std::string_view key);
// The first element of the list under `key`, if it is an object.
const boost::json::object* first_in(const boost::json::object& parent, std::string_view key);

// Puts `json` into success.output; beyond kOutputBytesMax writes it to `output.json` in the work folder
// instead, as a produced file "output", and output says {"artifact":"output","bytes":N}. Errors: kIo.
Result<void> put_output(Success& success, std::string json, const std::filesystem::path& work_dir);

// Writes a new file of ours in the work folder; fails where one of that name is there. Errors: kIo.
Result<void> write_new_file(const std::filesystem::path& path, std::string_view bytes);

// How many characters (code points) a UTF-8 text has.
std::int64_t count_characters(std::string_view text);

// What a foreign program or server said, made fit for a user: valid UTF-8, one line, no control characters,
// at most `bytes_max` bytes (cut at the front, where `keep_end`, else at the end).
std::string clean_text(std::string_view text, std::size_t bytes_max, bool keep_end);

}  // namespace turnpike::provider
