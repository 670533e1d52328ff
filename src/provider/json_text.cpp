#include "provider/json_text.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <charconv>
#include <cmath>

namespace turnpike::provider {
namespace {

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

// Length of the well-formed UTF-8 sequence at the front of `text`, 0 if there is none (RFC 3629, table 3-7 of
// Unicode).
std::size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                             : lead >= 0xE0 && lead <= 0xEF ? 3
                             : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                            : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[i])) return 0;
  }
  const auto second = static_cast<unsigned char>(text[1]);
  const bool good = (lead != 0xE0 || second >= 0xA0) && (lead != 0xED || second < 0xA0) &&
                    (lead != 0xF0 || second >= 0x90) && (lead != 0xF4 || second < 0x90);
  return good ? length : 0;
}

// A number as a person would write it.
std::string number_text(double value) {
  return fmt::format("{}", value);
}

const boost::json::value* child_of(const boost::json::value& value, const std::string& segment) {
  if (const auto* object = value.if_object()) return object->if_contains(segment);
  const auto* array = value.if_array();
  if (array == nullptr) return nullptr;
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(segment.data(), segment.data() + segment.size(), index);
  if (error != std::errc{} || end != segment.data() + segment.size() || index >= array->size())
    return nullptr;
  return &(*array)[index];
}

}  // namespace

Result<boost::json::value> parse_json(std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = kJsonDepthMax;
  boost::json::error_code error;
  boost::json::value value = boost::json::parse(text, error, {}, options);
  if (error) return fail(ErrorCode::kInvalidRequest, fmt::format("not valid JSON: {}", error.message()));
  return value;
}

std::int64_t count_of(const boost::json::object& object, std::string_view key) {
  const boost::json::value* value = object.if_contains(key);
  if (value == nullptr) return 0;
  if (const auto* whole = value->if_int64()) return std::max<std::int64_t>(*whole, 0);
  if (const auto* real = value->if_double(); real != nullptr && *real >= 0 && *real < 1e15)
    return static_cast<std::int64_t>(*real);
  return 0;
}

std::optional<std::string> scalar_text(const boost::json::value& value) {
  switch (value.kind()) {
    case boost::json::kind::null:
      return std::nullopt;
    case boost::json::kind::string:
      return std::string{value.get_string()};
    case boost::json::kind::double_:
      return number_text(value.get_double());
    case boost::json::kind::bool_:
    case boost::json::kind::int64:
    case boost::json::kind::uint64:
    case boost::json::kind::array:
    case boost::json::kind::object:
      return boost::json::serialize(value);
  }
  return std::nullopt;
}

const boost::json::value* value_at(const boost::json::value& value, std::span<const std::string> path) {
  const boost::json::value* at = &value;
  for (const std::string& segment : path) {
    at = child_of(*at, segment);
    if (at == nullptr) return nullptr;
  }
  return at;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0 || text.size() > (1U << 30U)) return std::nullopt;
  // OpenSSL takes padding for zeros wherever it stands.
  const std::string_view unpadded = text.substr(0, text.size() - (text.ends_with("==")  ? 2
                                                                  : text.ends_with('=') ? 1
                                                                                        : 0));
  if (unpadded.contains('=')) return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int count =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (count < 0) return std::nullopt;
  // OpenSSL counts what the padding stands for, too.
  bytes.resize(static_cast<std::size_t>(count) - (text.size() - unpadded.size()));
  return bytes;
}

const boost::json::object* object_in(const boost::json::object& parent, std::string_view key) {
  const boost::json::value* child = parent.if_contains(key);
  return child == nullptr ? nullptr : child->if_object();
}

const boost::json::array* array_in(const boost::json::object& parent, std::string_view key) {
  const boost::json::value* child = parent.if_contains(key);
  return child == nullptr ? nullptr : child->if_array();
}

std::optional<std::string_view> text_in(const boost::json::object& parent, std::string_view key) {
  const boost::json::value* child = parent.if_contains(key);
  const auto* text = child == nullptr ? nullptr : child->if_string();
  return text == nullptr ? std::nullopt : std::optional{std::string_view{*text}};
}

const boost::json::object* first_in(const boost::json::object& parent, std::string_view key) {
  const boost::json::array* list = array_in(parent, key);
  return list == nullptr || list->empty() ? nullptr : list->front().if_object();
}

Result<void> put_output(Success& success, std::string json, const std::filesystem::path& work_dir) {
  if (json.size() <= kOutputBytesMax) {
    success.output = std::move(json);
    return {};
  }
  const std::filesystem::path path = work_dir / "output.json";
  if (auto written = write_new_file(path, json); !written) return written;
  success.output = fmt::format(R"({{"artifact":"output","bytes":{}}})", json.size());
  success.files.push_back({"output", path, "application/json", "json"});
  return {};
}

Result<void> write_new_file(const std::filesystem::path& path, std::string_view bytes) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return fail_errno("could not create a result file", errno);
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int reason = errno;
      ::close(file);
      return fail_errno("could not write a result file", reason);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  ::close(file);
  return {};
}

std::int64_t count_characters(std::string_view text) {
  std::int64_t count = 0;
  for (const char c : text) count += is_continuation(c) ? 0 : 1;
  return count;
}

std::string clean_text(std::string_view text, std::size_t bytes_max, bool keep_end) {
  std::string clean;
  clean.reserve(std::min(text.size(), bytes_max));
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) {
      clean += '?';
    } else if (length == 1 && ((text.front() >= 0 && text.front() <= 0x20) || text.front() == 0x7F)) {
      if (!clean.empty() && clean.back() != ' ') clean += ' ';
    } else {
      clean += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  while (clean.ends_with(' ')) clean.pop_back();
  if (clean.size() <= bytes_max) return clean;
  std::size_t cut = keep_end ? clean.size() - bytes_max : bytes_max;
  if (keep_end) {
    while (cut < clean.size() && is_continuation(clean[cut])) ++cut;
    return clean.substr(cut);
  }
  while (cut > 0 && is_continuation(clean[cut])) --cut;
  return clean.substr(0, cut);
}

}  // namespace turnpike::provider
