#include "api/fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <utility>

#include "policy/nearest.h"

namespace turnpike::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kNameShownMax = 64;  // of what a client calls a field, in a message

std::string shown(std::string_view name) {
  if (name.size() <= kNameShownMax) return std::string(name);
  std::size_t cut = kNameShownMax;
  while (cut > 0 && (static_cast<unsigned char>(name[cut]) & 0xC0) == 0x80) --cut;  // not within a character
  return std::string(name.substr(0, cut)) + "…";
}

std::string_view kind_word(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return "a number";
    case json::kind::double_:
      return "a fraction";
    case json::kind::string:
      return "a text";
    case json::kind::array:
      return "a list";
    case json::kind::object:
      return "an object";
  }
  return "something else";
}

std::optional<std::int64_t> whole(const json::value& value) {
  if (const auto* i = value.if_int64()) return *i;
  if (const auto* u = value.if_uint64()) {
    return static_cast<std::int64_t>(std::min<std::uint64_t>(*u, INT64_MAX));
  }
  if (const auto* d = value.if_double(); d != nullptr && std::trunc(*d) == *d && std::abs(*d) < 9e15) {
    return static_cast<std::int64_t>(*d);
  }
  return std::nullopt;
}

}  // namespace

void Mistakes::add(std::string param, std::string message) {
  found_.push_back({std::move(param), std::move(message)});
}

Error Mistakes::error() const {
  std::string message;
  for (std::size_t i = 0; i < found_.size() && i < kToldMax; ++i) {
    if (i > 0) message += "; ";
    message += found_[i].message;
  }
  if (found_.size() > kToldMax) message += fmt::format("; and {} more", found_.size() - kToldMax);
  return {.code = ErrorCode::kInvalidRequest, .message = std::move(message), .param = found_.front().param};
}

const json::value* Fields::find(std::string_view name) {
  known_.push_back(name);
  const auto* value = object_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void Fields::mistake(std::string_view name, std::string message) {
  mistakes_.add(path_ + std::string(name), std::move(message));
}

void Fields::wrong_type(std::string_view name, std::string_view right) {
  mistake(name, fmt::format("`{}{}` must be {}, not {}", path_, name, right, kind_word(object_.at(name))));
}

std::optional<std::string_view> Fields::text(std::string_view name, std::size_t bytes_min,
                                             std::size_t bytes_max) {
  const auto* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto* string = value->if_string();
  if (string == nullptr) {
    wrong_type(name, "a text");
    return std::nullopt;
  }
  if (string->size() < bytes_min) {
    mistake(name, fmt::format("`{}{}` is empty: write some text", path_, name));
    return std::nullopt;
  }
  if (string->size() > bytes_max) {
    mistake(name, fmt::format("`{}{}` has {} bytes, at most {} are allowed", path_, name, string->size(),
                              bytes_max));
    return std::nullopt;
  }
  return std::string_view(string->data(), string->size());
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t low, std::int64_t high) {
  const auto* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto number = whole(*value);
  if (!number) {
    wrong_type(name, fmt::format("a whole number from {} to {}", low, high));
    return std::nullopt;
  }
  if (*number < low || *number > high) {
    mistake(name, fmt::format("`{}{}` must be from {} to {}", path_, name, low, high));
    return std::nullopt;
  }
  return number;
}

std::optional<double> Fields::number(std::string_view name, double low, double high) {
  const auto* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    wrong_type(name, fmt::format("a number from {} to {}", low, high));
    return std::nullopt;
  }
  const double number = value->to_number<double>();
  if (!(number >= low && number <= high)) {
    mistake(name, fmt::format("`{}{}` must be from {} to {}", path_, name, low, high));
    return std::nullopt;
  }
  return number;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const auto* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = value->if_bool()) return *flag;
  wrong_type(name, "true or false");
  return std::nullopt;
}

const json::object* Fields::object(std::string_view name) {
  const auto* value = find(name);
  if (value == nullptr) return nullptr;
  const auto* object = value->if_object();
  if (object == nullptr) wrong_type(name, "an object");
  return object;
}

const json::array* Fields::array(std::string_view name, std::size_t size_min, std::size_t size_max) {
  const auto* value = find(name);
  if (value == nullptr) return nullptr;
  const auto* array = value->if_array();
  if (array == nullptr) {
    wrong_type(name, "a list");
    return nullptr;
  }
  if (array->size() < size_min || array->size() > size_max) {
    mistake(name, fmt::format("`{}{}` must have {} to {} elements, not {}", path_, name, size_min, size_max,
                              array->size()));
    return nullptr;
  }
  return array;
}

const json::value* Fields::any(std::string_view name) {
  return find(name);
}

std::optional<std::string_view> Fields::word(std::string_view name,
                                             const std::vector<std::string_view>& words) {
  const auto* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto right = fmt::format("one of {}", fmt::join(words, ", "));
  const auto* string = value->if_string();
  if (string == nullptr) {
    wrong_type(name, right);
    return std::nullopt;
  }
  const std::string_view given(string->data(), string->size());
  if (std::ranges::find(words, given) == words.end()) {
    mistake(name, fmt::format("`{}{}` must be {}", path_, name, right));
    return std::nullopt;
  }
  return given;
}

void Fields::not_yet(std::string_view name) {
  if (find(name) != nullptr) {
    mistake(name, fmt::format("`{}{}` is not available yet: leave it out", path_, name));
  }
}

void Fields::require(std::string_view name) {
  const auto* value = object_.if_contains(name);
  if (value == nullptr || value->is_null()) {
    mistake(name, fmt::format("`{}{}` is missing", path_, name));
  }
}

void Fields::finish() {
  for (const auto& member : object_) {
    const std::string_view name(member.key().data(), member.key().size());
    if (std::ranges::find(known_, name) != known_.end()) continue;
    mistakes_.add(path_ + shown(name), fmt::format("unknown field `{}{}`: {}", path_, shown(name),
                                                   policy::suggestion(name, {known_.begin(), known_.end()})));
  }
}

}  // namespace turnpike::api
