#include "policy/body_schema.h"

// Without this the library ends the program where a schema is wrong.
#define VALIJSON_USE_EXCEPTIONS 1

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <charconv>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>
#include <valijson/adapters/boost_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

namespace turnpike::policy {
namespace {

namespace json = boost::json;
using Path = std::vector<std::string>;  // names and indices from the root

constexpr std::size_t kNameShownMax = 64;
constexpr std::size_t kWordsShownMax = 20;

// Whether it has more than `left` values; takes what it has from `left`.
bool has_more(const json::value& value, std::size_t& left) {
  if (left == 0) return true;
  --left;
  if (const auto* list = value.if_array()) {
    return std::ranges::any_of(*list, [&left](const json::value& item) { return has_more(item, left); });
  }
  if (const auto* object = value.if_object()) {
    return std::ranges::any_of(*object, [&left](const auto& entry) { return has_more(entry.value(), left); });
  }
  return false;
}

std::string shown(std::string_view name) {
  if (name.size() <= kNameShownMax) return std::string(name);
  std::size_t cut = kNameShownMax;
  while (cut > 0 && (static_cast<unsigned char>(name[cut]) & 0xC0U) == 0x80U) --cut;  // not in a character
  return std::string(name.substr(0, cut)) + "…";
}

// The library writes {"<root>", "[operations]", "[0]"}.
Path path_of(const std::vector<std::string>& context) {
  Path path;
  for (std::size_t i = 1; i < context.size(); ++i) {
    const std::string_view name = context[i];
    path.emplace_back(name.size() >= 2 ? name.substr(1, name.size() - 2) : name);
  }
  return path;
}

std::string field_of(const Path& path) {
  std::string field;
  for (const std::string& name : path) field += (field.empty() ? "" : ".") + shown(name);
  return field.empty() ? "body" : field;
}

// The part of the schema that speaks of the field by `properties` and `items` alone; null: there is none, or
// it stands within alternatives.
const json::object* part_for(const json::value& schema, const Path& path) {
  const json::value* part = &schema;
  for (const std::string& name : path) {
    const auto* object = part->if_object();
    if (object == nullptr) return nullptr;
    const json::value* next = nullptr;
    if (const auto* properties = object->if_contains("properties"))
      next = properties->get_object().if_contains(name);
    if (next == nullptr) next = object->if_contains("items");
    if (next == nullptr) return nullptr;
    part = next;
  }
  return part->if_object();
}

std::string_view type_word(std::string_view type) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kWords{
      {{"string", "a text"},
       {"number", "a number"},
       {"integer", "a whole number"},
       {"boolean", "true or false"},
       {"object", "an object"},
       {"array", "a list"},
       {"null", "null"}}};
  const auto found = std::ranges::find(kWords, type, [](const auto& pair) { return pair.first; });
  return found == kWords.end() ? type : found->second;
}

// "must be a text", "must be one of a, b": as the schema has it, as far as that is found.
std::string type_rule(const json::object* part) {
  const auto* type = part != nullptr ? part->if_contains("type") : nullptr;
  if (type == nullptr) return "is of another type than the schema allows";
  if (type->is_string()) return fmt::format("must be {}", type_word(std::string_view(type->get_string())));
  std::vector<std::string_view> words;
  for (const json::value& each : type->get_array())
    words.push_back(type_word(std::string_view(each.get_string())));
  return fmt::format("must be {}", fmt::join(words, ", or "));
}

std::string enum_rule(const json::object* part) {
  const auto* all = part != nullptr ? part->if_contains("enum") : nullptr;
  if (all == nullptr) return "is none of the values that the schema allows";
  std::vector<std::string> words;
  for (const json::value& each : all->get_array()) {
    if (words.size() == kWordsShownMax) break;
    words.push_back(each.is_string() ? std::string(std::string_view(each.get_string()))
                                     : json::serialize(each));
  }
  return fmt::format("must be one of {}", fmt::join(words, ", "));
}

// A number as the library writes it: "80", "0.100000".
std::string number_in(std::string_view text) {
  const auto begin = text.find_first_of("-0123456789");
  if (begin == std::string_view::npos) return {};
  std::string_view number = text.substr(begin, text.find_first_not_of("-0123456789.", begin) - begin);
  if (number.ends_with('.')) number.remove_suffix(1);  // of the sentence
  if (number.contains('.')) {
    while (number.ends_with('0')) number.remove_suffix(1);
    if (number.ends_with('.')) number.remove_suffix(1);
  }
  return std::string(number);
}

// The name in quotes at the end of a sentence; `before` ends it off from what stands before.
std::string name_in(std::string_view text, std::string_view before) {
  const auto found = text.find(before);
  const auto end = text.rfind('\'');
  const auto begin = found == std::string_view::npos ? end : found + before.size();
  return begin >= end ? std::string() : std::string(text.substr(begin, end - begin));
}

struct Saying {
  std::string_view begins;  // as valijson 1.0 says it
  std::string_view rule;    // as we do; {} is its number
};
constexpr std::array kSayings{
    Saying{"String should be no more than ", "must have at most {} characters"},
    Saying{"String should be no fewer than ", "must have at least {} characters"},
    Saying{"Array should contain no more than ", "must have at most {} elements"},
    Saying{"Array should contain no fewer than ", "must have at least {} elements"},
    Saying{"Object should have no more than ", "must have at most {} fields"},
    Saying{"Object should have no fewer than ", "must have at least {} fields"},
    Saying{"Expected number less than or equal to ", "must be at most {}"},
    Saying{"Expected number greater than or equal to ", "must be at least {}"},
    Saying{"Expected number less than ", "must be less than {}"},
    Saying{"Expected number greater than ", "must be greater than {}"},
    Saying{"Failed to match expected value", "must be the one value that the schema allows"},
    Saying{"Failed to any values", "has no element such as the schema asks for"},
    Saying{"Target should not validate", "is what the schema excludes"},
    Saying{"Failed to validate against exactly one", "fits more than one of what the schema tells apart"},
};

struct Found {
  Path path;
  BodySchema::Misfit misfit;
};

Found about(Path path, std::string_view rule) {
  std::string field = field_of(path);
  std::string message = fmt::format("`{}` {}", field, rule);
  return {std::move(path), {std::move(field), std::move(message)}};
}

// Nothing: it says only that one of its parts does not fit, and that was said.
std::optional<Found> read(const valijson::ValidationResults::Error& error, const json::value& schema) {
  const std::string_view said = error.description;
  Path path = path_of(error.context);
  if (said.starts_with("Missing required property")) {
    path.push_back(name_in(said, "property '"));
    return about(std::move(path), "is missing");
  }
  if (said.starts_with("Object contains a property")) {
    path.push_back(name_in(said, "constraints: '"));
    return about(std::move(path), "is not a field that is known here");
  }
  if (said.starts_with("Value type not permitted")) {
    const std::string rule = type_rule(part_for(schema, path));
    return about(std::move(path), rule);
  }
  if (said.starts_with("Failed to match against any enum")) {
    const std::string rule = enum_rule(part_for(schema, path));
    return about(std::move(path), rule);
  }
  for (const Saying& saying : kSayings) {
    if (!said.starts_with(saying.begins)) continue;
    return about(std::move(path), fmt::format(fmt::runtime(saying.rule), number_in(said)));
  }
  if (said.starts_with("Failed to validate")) return std::nullopt;
  return about(std::move(path), fmt::format("does not fit: {}", said));
}

bool is_below(const Path& path, const Path& above) {
  return above.size() <= path.size() && std::equal(above.begin(), above.end(), path.begin());
}

// What was found last at `path` and below it are alternatives: any of them would do.
void join_alternatives(std::vector<Found>& found, const Path& path) {
  std::size_t first = found.size();
  while (first > 0 && is_below(found[first - 1].path, path)) --first;
  if (found.size() - first < 2) return;
  std::string& message = found[first].misfit.message;
  for (std::size_t i = first + 1; i < found.size(); ++i) message += ", or " + found[i].misfit.message;
  found.resize(first + 1);
  found.back().path = path;
}

}  // namespace

struct BodySchema::Compiled {
  valijson::Schema schema;
  json::value text;  // as it was given
};

BodySchema::BodySchema(std::unique_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}
BodySchema::~BodySchema() = default;

Result<std::shared_ptr<const BodySchema>> BodySchema::compile(const json::value& schema) {
  auto compiled = std::make_unique<Compiled>();
  compiled->text = schema;
  try {
    valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
    parser.populateSchema(valijson::adapters::BoostJsonAdapter(compiled->text), compiled->schema);
  } catch (const std::exception& error) {
    return fail(ErrorCode::kConfiguration, fmt::format("is no JSON Schema of draft 7: {}", error.what()));
  }
  return std::shared_ptr<const BodySchema>(new BodySchema(std::move(compiled)));
}

std::vector<BodySchema::Misfit> BodySchema::misfits(const json::value& body) const {
  std::size_t left = kBodyValuesMax;
  if (has_more(body, left)) {
    return {{"body", fmt::format("the body has more than {} values, which is what is taken here at most",
                                 kBodyValuesMax)}};
  }
  const valijson::adapters::BoostJsonAdapter target(body);
  valijson::ValidationResults results;
  try {
    valijson::Validator validator;
    if (validator.validate(compiled_->schema, target, nullptr)) return {};  // the quick way
    validator.validate(compiled_->schema, target, &results);
  } catch (const std::exception& error) {
    return {{"body", fmt::format("the body cannot be held against its schema: {}", error.what())}};
  }
  std::vector<Found> found;
  for (const auto& error : results) {
    if (error.description.starts_with("Failed to validate against any")) {
      join_alternatives(found, path_of(error.context));
    } else if (auto one = read(error, compiled_->text)) {
      found.push_back(std::move(*one));
    }
  }
  std::vector<Misfit> misfits;
  for (Found& each : found) {
    if (misfits.size() == kMisfitsMax) break;
    misfits.push_back(std::move(each.misfit));
  }
  if (misfits.empty()) misfits.push_back({"body", "the body does not fit the schema of this endpoint"});
  return misfits;
}

}  // namespace turnpike::policy
