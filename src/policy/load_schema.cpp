// The key `schema` of an endpoint: a JSON Schema of draft 7, written as YAML. The keywords that are listed
// here are those that are held to; every other is a mistake, for what is ignored would be believed.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <functional>
#include <set>

#include "policy/body_schema.h"
#include "policy/load_parts.h"

namespace turnpike::policy {
namespace {

namespace json = boost::json;

constexpr std::size_t kSchemasMax = 500;  // the schema and those within it
constexpr std::size_t kListMax = 200;     // of names, words, alternatives
constexpr std::size_t kTextBytesMax = 1024;
constexpr std::uint64_t kCountMax = 1'000'000'000;
constexpr double kNumberMax = 9e15;  // up to here a double is exact

struct Refused {
  const char* key;
  const char* why;
};
// std::regex, which the library uses, recurses for each character of a text: a stranger's text ends the
// program. Its `uniqueItems` compares each with each, and its `multipleOf` is wrong for fractions.
constexpr const char* kNoExpression =
    "is not understood here: a regular expression over what strangers send may take for ever. Write `enum`, "
    "`minLength` and `maxLength`";
constexpr const char* kNoReference =
    "is not understood here: write the part where it belongs, or a YAML anchor (&name) and alias (*name)";
constexpr const char* kNotThere = "is not understood here: leave it out";
constexpr std::array kRefused{
    Refused{"pattern", kNoExpression},      Refused{"patternProperties", kNoExpression},
    Refused{"format", kNoExpression},       Refused{"propertyNames", kNoExpression},
    Refused{"$ref", kNoReference},          Refused{"$id", kNoReference},
    Refused{"definitions", kNoReference},   Refused{"uniqueItems", kNotThere},
    Refused{"multipleOf", kNotThere},       Refused{"dependencies", kNotThere},
    Refused{"additionalItems", kNotThere},  Refused{"contentEncoding", kNotThere},
    Refused{"contentMediaType", kNotThere}, Refused{"readOnly", kNotThere},
    Refused{"writeOnly", kNotThere}};

class SchemaReader {
 public:
  // As JSON, and whatever is wrong told.
  json::value read(const Value& value) {
    if (++schemas_ > kSchemasMax) {
      if (schemas_ == kSchemasMax + 1) mistake(value, fmt::format("has more than {} parts", kSchemasMax));
      return true;
    }
    if (const auto plain = value.is_map() ? std::nullopt : value.plain();
        plain && (*plain == "true" || *plain == "false"))
      return *plain == "true";
    json::object out;
    if (!value.is_map()) {
      mistake(value, "must be a JSON Schema: a section such as {type: string}, or true or false");
      return out;
    }
    value.section([&](Map& map) { read_keywords(map, out); });
    return out;
  }
  bool good() const { return good_; }

 private:
  void mistake(const Value& value, std::string message) {
    good_ = false;
    value.mistake(std::move(message));
  }
  // At least one, and not too many; else told, and false.
  bool list(const Value& value, const char* of_what, const std::function<void(const Value&)>& read) {
    std::size_t size = 0;
    const bool is_list = value.list([&](const Value& item) {
      if (++size <= kListMax) read(item);
    });
    if (is_list && size >= 1 && size <= kListMax) return true;
    if (is_list) value.mistake(fmt::format("must have 1 to {} {}", kListMax, of_what));
    good_ = false;
    return false;
  }

  void read_keywords(Map& map, json::object& out) {
    read_notes(map);
    read_type(map.at("type"), out);
    read_values(map, out);
    for (const char* key :
         {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
      read_count(map.at(key), key, out);
    for (const char* key : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
      read_number(map.at(key), key, out);
    read_object(map, out);
    for (const char* key : {"items", "contains", "not"}) read_part(map.at(key), key, out);
    for (const char* key : {"allOf", "anyOf", "oneOf"}) read_parts(map.at(key), key, out);
    read_condition(map, out);
    for (const Refused& refused : kRefused) map.refuse(refused.key, refused.why);
  }

  // For whoever reads the file.
  void read_notes(Map& map) {
    std::string text;
    for (const char* key : {"title", "description", "$comment"}) {
      (void)map.at(key).raw_text(text);
    }
    (void)map.at("default");
    (void)map.at("examples");
    const Value draft = map.at("$schema");
    if (draft.present() && !draft.is_word("http://json-schema.org/draft-07/schema#") &&
        !draft.is_word("http://json-schema.org/draft-07/schema"))
      mistake(draft, "must be http://json-schema.org/draft-07/schema#, which is what is understood here");
  }

  static bool is_type(std::string_view word) {
    constexpr std::array<std::string_view, 7> kTypes{"string", "number", "integer", "boolean",
                                                     "object", "array",  "null"};
    return std::ranges::find(kTypes, word) != kTypes.end();
  }

  void read_type(const Value& value, json::object& out) {
    if (!value.present()) return;
    json::array types;
    const auto take = [&](const Value& item) {
      std::string word = item.is_null() ? "null" : "";
      if (word.empty() && !item.is_map() && !item.is_list()) (void)item.raw_text(word);
      if (!is_type(word)) {
        mistake(item, "must be string, number, integer, boolean, object, array or null");
      } else {
        types.emplace_back(word);
      }
    };
    if (!value.is_list()) {
      take(value);
      if (!types.empty()) out["type"] = types.front();
    } else if (list(value, "types", take)) {
      out["type"] = std::move(types);
    }
  }

  void read_values(Map& map, json::object& out) {
    const Value only = map.at("const");
    if (only.present()) out["const"] = to_json(only);
    const Value words = map.at("enum");
    json::array values;
    if (words.present() && list(words, "values", [&](const Value& item) { values.push_back(to_json(item)); }))
      out["enum"] = std::move(values);
  }

  void read_count(const Value& value, const char* key, json::object& out) {
    std::uint64_t count = 0;
    if (value.whole(count, 0, kCountMax)) out[key] = static_cast<std::int64_t>(count);
  }

  void read_number(const Value& value, const char* key, json::object& out) {
    if (!value.present()) return;
    const json::value number = to_json(value);
    if (!number.is_number() || std::abs(number.to_number<double>()) > kNumberMax) {
      mistake(value, "must be a number");
    } else {
      out[key] = number.to_number<double>();
    }
  }

  void read_object(Map& map, json::object& out) {
    json::object parts;
    if (map.at("properties").each([&](const std::string& name, const Value& entry) {
          parts[name] = read(entry);
        }))
      out["properties"] = std::move(parts);
    read_part(map.at("additionalProperties"), "additionalProperties", out);
    const Value required = map.at("required");
    json::array names;
    std::set<std::string> seen;
    const auto take = [&](const Value& item) {
      std::string name;
      if (!item.text(name, kTextBytesMax)) return;
      if (!seen.insert(name).second) item.mistake("is there twice: keep one");
      names.emplace_back(name);
    };
    if (required.present() && list(required, "names", take)) out["required"] = std::move(names);
  }

  void read_part(const Value& value, const char* key, json::object& out) {
    if (value.present()) out[key] = read(value);
  }

  void read_parts(const Value& value, const char* key, json::object& out) {
    json::array parts;
    if (value.present() && list(value, "schemas", [&](const Value& item) { parts.push_back(read(item)); }))
      out[key] = std::move(parts);
  }

  void read_condition(Map& map, json::object& out) {
    const Value condition = map.at("if");
    read_part(condition, "if", out);
    for (const char* key : {"then", "else"}) {
      const Value part = map.at(key);
      if (part.present() && !condition.present()) mistake(part, "stands without `if`");
      read_part(part, key, out);
    }
  }

  std::size_t schemas_ = 0;
  bool good_ = true;
};

}  // namespace

json::value to_json(const Value& value, const std::function<void(const Value&)>& seen) {
  if (seen) seen(value);
  if (value.is_map()) {
    json::object fields;
    value.fields([&](const std::string& name, const Value& entry) { fields[name] = to_json(entry, seen); });
    return fields;
  }
  if (value.is_list()) {
    json::array items;
    value.list([&](const Value& item) { items.push_back(to_json(item, seen)); });
    return items;
  }
  if (value.is_null()) return nullptr;
  if (const auto plain = value.plain()) {
    json::error_code error;
    json::value parsed = json::parse(*plain, error);
    if (!error && (parsed.is_number() || parsed.is_bool())) return parsed;
  }
  std::string text;
  (void)value.raw_text(text);
  return json::value(text);
}

std::shared_ptr<const BodySchema> read_schema(const Value& value) {
  if (!value.present()) return nullptr;
  SchemaReader reader;
  const json::value schema = reader.read(value);
  if (!reader.good()) return nullptr;
  auto compiled = BodySchema::compile(schema);
  if (!compiled) {
    value.mistake(compiled.error().message);
    return nullptr;
  }
  return *std::move(compiled);
}

}  // namespace turnpike::policy
