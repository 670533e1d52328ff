#include "policy/workflow_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <charconv>
#include <span>
#include <utility>
#include <variant>

namespace turnpike::policy {
namespace {

namespace json = boost::json;

constexpr std::size_t kIndexDigitsMax = 6;
constexpr std::size_t kSegmentBytesMax = 128;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '-';
}
bool is_segment(std::string_view segment) {
  return segment == "*" ||
         (!segment.empty() && segment.size() <= kSegmentBytesMax && std::ranges::all_of(segment, is_word));
}

std::optional<std::size_t> item_number(std::string_view segment) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(segment.data(), segment.data() + segment.size(), number);
  if (segment.empty() || segment.size() > kIndexDigitsMax || error != std::errc{} ||
      end != segment.data() + segment.size())
    return std::nullopt;
  return number;
}

std::string member_of(const std::string& where, const std::string& name) {
  return where.empty() ? name : fmt::format("{}.{}", where, name);
}

// About what it takes as JSON; stops counting beyond `most`.
std::size_t weight_of(const json::value& value, std::size_t most) {
  std::size_t weight = 8;
  if (const auto* text = value.if_string()) return weight + text->size();
  if (const auto* list = value.if_array()) {
    for (const json::value& item : *list) {
      if (weight > most) break;
      weight += weight_of(item, most - weight);
    }
  } else if (const auto* object = value.if_object()) {
    for (const auto& member : *object) {
      if (weight > most) break;
      weight += member.key().size() + weight_of(member.value(), most - std::min(most, weight));
    }
  }
  return weight;
}

std::size_t depth_of(const json::value& value) {
  std::size_t depth = 0;
  if (const auto* list = value.if_array()) {
    for (const json::value& item : *list) depth = std::max(depth, depth_of(item));
  } else if (const auto* object = value.if_object()) {
    for (const auto& member : *object) depth = std::max(depth, depth_of(member.value()));
  } else {
    return 0;
  }
  return depth + 1;
}

// Where a path has come to. At most one is set; none: it is not there.
struct Place {
  const json::value* value = nullptr;
  const json::object* object = nullptr;
  const std::vector<const json::value*>* list = nullptr;

  static Place of(const json::value* value) {
    if (value == nullptr || value->is_null()) return {};
    if (value->is_object()) return {.object = &value->get_object()};
    return {.value = value};
  }
  bool there() const { return value != nullptr || object != nullptr || list != nullptr; }
  bool is_list() const { return list != nullptr || (value != nullptr && value->is_array()); }
  std::size_t size() const { return list != nullptr ? list->size() : value->get_array().size(); }
  Place item(std::size_t at) const { return of(list != nullptr ? (*list)[at] : &value->get_array()[at]); }
  Place next(std::string_view segment) const {
    if (object != nullptr) return of(object->if_contains(segment));
    if (!is_list()) return {};
    const auto number = item_number(segment);
    return number && *number < size() ? item(*number) : Place{};
  }
};

}  // namespace

std::optional<std::vector<std::string>> parse_value_path(std::string_view text) {
  std::vector<std::string> path;
  while (true) {
    const std::size_t dot = std::min(text.find('.'), text.size());
    if (!is_segment(text.substr(0, dot)) || path.size() >= WorkflowTemplate::kSegmentsMax)
      return std::nullopt;
    path.emplace_back(text.substr(0, dot));
    if (dot == text.size()) return path;
    text.remove_prefix(dot + 1);
  }
}

const json::value* value_at(const json::object& object, const std::vector<std::string>& path) {
  const json::value* found = nullptr;
  const json::object* in = &object;
  for (const std::string& segment : path) {
    if (found != nullptr && found->is_array()) {
      const auto number = item_number(segment);
      if (!number || *number >= found->get_array().size()) return nullptr;
      found = &found->get_array()[*number];
    } else {
      if (found != nullptr) in = found->if_object();
      found = in != nullptr ? in->if_contains(segment) : nullptr;
      if (found == nullptr) return nullptr;
    }
  }
  return found;
}

std::string WorkflowReference::name() const {
  std::string text;
  switch (root) {
    case WorkflowRoot::kInput:
      text = "input";
      break;
    case WorkflowRoot::kOutput:
      text = fmt::format("steps.{}.output", step);
      break;
    case WorkflowRoot::kArtifacts:
      text = fmt::format("steps.{}.artifacts", step);
      break;
    case WorkflowRoot::kItem:
      text = "item";
      break;
    case WorkflowRoot::kIndex:
      text = "index";
      break;
  }
  for (const std::string& segment : path) text += "." + segment;
  return text;
}

// --- What a template is made of

struct WorkflowTemplate::Node {
  using Piece = std::variant<std::string, WorkflowReference>;
  struct Text {
    std::vector<Piece> pieces;  // at least one reference; no two texts in a row
    const WorkflowReference* sole() const {
      return pieces.size() == 1 ? std::get_if<WorkflowReference>(&pieces.front()) : nullptr;
    }
  };
  struct Member {
    std::string name;
    std::unique_ptr<Node> node;
  };
  using Object = std::vector<Member>;
  using List = std::vector<std::unique_ptr<Node>>;

  std::variant<json::value, Text, Object, List> what;  // a value: as it stands

  const WorkflowReference* sole() const {
    const auto* text = std::get_if<Text>(&what);
    return text != nullptr ? text->sole() : nullptr;
  }
};

WorkflowTemplate::WorkflowTemplate() = default;
WorkflowTemplate::~WorkflowTemplate() = default;

// --- Parsing

namespace {

// What stands behind `:-`: JSON, or else a text.
json::value read_fallback(std::string_view text) {
  json::error_code error;
  json::value parsed = json::parse(text, error);
  if (error) return json::value(json::string(text));
  return parsed;
}

// What stands between `${` and `}`.
std::expected<WorkflowReference, std::string> parse_reference(std::string_view text) {
  WorkflowReference reference;
  if (const std::size_t dash = text.find(":-"); dash != std::string_view::npos) {
    reference.fallback = read_fallback(text.substr(dash + 2));
    text = text.substr(0, dash);
  } else if (text.ends_with('?')) {
    reference.optional = true;
    text.remove_suffix(1);
  }
  constexpr const char* kRule =
      "a reference is item, index, or begins with input., item., steps.NAME.output or steps.NAME.artifacts";
  auto path = parse_value_path(text);
  if (!path) {
    return std::unexpected(
        fmt::format("`{}` is no path: 1 to {} names of letters, digits, _ and -, numbers or *, with dots "
                    "between; {}",
                    text.substr(0, kSegmentBytesMax), WorkflowTemplate::kSegmentsMax, kRule));
  }
  const std::string root = path->front();
  std::size_t used = 1;
  if (root == "input") {
    reference.root = WorkflowRoot::kInput;
  } else if (root == "item") {
    reference.root = WorkflowRoot::kItem;
  } else if (root == "index") {
    reference.root = WorkflowRoot::kIndex;
    if (path->size() > 1) return std::unexpected(fmt::format("`{}`: index is a number", text));
  } else if (root == "steps") {
    if (path->size() < 3 || ((*path)[2] != "output" && (*path)[2] != "artifacts")) {
      return std::unexpected(fmt::format(
          "`{}` cannot exist: what a step made is steps.NAME.output and steps.NAME.artifacts", text));
    }
    reference.root = (*path)[2] == "output" ? WorkflowRoot::kOutput : WorkflowRoot::kArtifacts;
    reference.step = (*path)[1];
    used = 3;
  } else {
    return std::unexpected(fmt::format("`{}` is not known: {}", text, kRule));
  }
  reference.path.assign(path->begin() + static_cast<std::ptrdiff_t>(used), path->end());
  return reference;
}

}  // namespace

class WorkflowTemplate::Parser {
 public:
  Parser(WorkflowTemplate& out, const std::function<void(Mistake)>& mistake) : out_(out), mistake_(mistake) {}

  std::unique_ptr<Node> read(const json::value& value, const std::string& where, std::size_t depth) {
    auto node = std::make_unique<Node>();
    if (depth > kDepthMax) {
      tell(where, fmt::format("is nested more than {} deep", kDepthMax));
    } else if (const auto* text = value.if_string()) {
      read_text(std::string_view(text->data(), text->size()), where, *node);
    } else if (const auto* object = value.if_object()) {
      Node::Object members;
      for (const auto& member : *object) {
        const std::string name(member.key());
        members.push_back({name, read(member.value(), member_of(where, name), depth + 1)});
      }
      node->what = std::move(members);
    } else if (const auto* list = value.if_array()) {
      Node::List items;
      for (std::size_t i = 0; i < list->size(); ++i)
        items.push_back(read((*list)[i], fmt::format("{}[{}]", where, i), depth + 1));
      node->what = std::move(items);
    } else {
      node->what = value;
    }
    return node;
  }
  bool good() const { return good_; }

  // In a node that stays where it is.
  void note_uses(const Node& node, const std::string& where) {
    if (const auto* text = std::get_if<Node::Text>(&node.what)) {
      for (const Node::Piece& piece : text->pieces) {
        if (const auto* reference = std::get_if<WorkflowReference>(&piece))
          out_.uses_.push_back({where, reference});
      }
    } else if (const auto* object = std::get_if<Node::Object>(&node.what)) {
      for (const auto& [name, member] : *object) note_uses(*member, member_of(where, name));
    } else if (const auto* list = std::get_if<Node::List>(&node.what)) {
      for (std::size_t i = 0; i < list->size(); ++i) note_uses(*(*list)[i], fmt::format("{}[{}]", where, i));
    }
  }

 private:
  void tell(const std::string& where, std::string message) {
    good_ = false;
    mistake_({where, std::move(message)});
  }

  void read_text(std::string_view text, const std::string& where, Node& node) {
    if (text.size() > kTextBytesMax)
      return tell(where, fmt::format("a text with references may be at most {} bytes", kTextBytesMax));
    Node::Text out;
    std::string literal;
    for (std::size_t at = 0; at < text.size();) {
      if (text.substr(at).starts_with("$${")) {
        literal += "${";
        at += 3;
        continue;
      }
      if (!text.substr(at).starts_with("${")) {
        literal += text[at++];
        continue;
      }
      const std::size_t end = text.find('}', at);
      if (end == std::string_view::npos)
        return tell(where, fmt::format("`${{` at character {} has no `}}`", at + 1));
      auto reference = parse_reference(text.substr(at + 2, end - at - 2));
      if (!reference) return tell(where, fmt::format("{} (at character {})", reference.error(), at + 1));
      if (++references_ > kReferencesMax)
        return tell(where, fmt::format("has more than {} references", kReferencesMax));
      if (reference->optional && (at > 0 || end + 1 < text.size())) {
        return tell(where, fmt::format("`?` at character {} leaves the whole field out, so it must be all of "
                                       "its text: write `:-` and a default instead",
                                       at + 1));
      }
      if (!literal.empty()) out.pieces.emplace_back(std::exchange(literal, {}));
      out.pieces.emplace_back(std::move(*reference));
      at = end + 1;
    }
    if (out.pieces.empty()) {
      node.what = json::value(json::string(literal));
      return;
    }
    if (!literal.empty()) out.pieces.emplace_back(std::move(literal));
    node.what = std::move(out);
  }

  WorkflowTemplate& out_;
  const std::function<void(Mistake)>& mistake_;
  std::size_t references_ = 0;
  bool good_ = true;
};

std::shared_ptr<const WorkflowTemplate> WorkflowTemplate::parse(const json::value& value,
                                                                const std::function<void(Mistake)>& mistake) {
  std::shared_ptr<WorkflowTemplate> out(new WorkflowTemplate);
  Parser parser(*out, mistake);
  out->root_ = parser.read(value, {}, 1);
  if (!parser.good()) return nullptr;
  parser.note_uses(*out->root_, {});
  return out;
}

const WorkflowReference* WorkflowTemplate::sole_reference() const {
  return root_->sole();
}

std::optional<std::vector<std::string>> WorkflowTemplate::names_of_references() const {
  const auto* object = std::get_if<Node::Object>(&root_->what);
  if (object == nullptr || object->empty()) return std::nullopt;
  std::vector<std::string> names;
  for (const auto& [name, member] : *object) {
    if (member->sole() == nullptr) return std::nullopt;
    names.push_back(name);
  }
  return names;
}

// --- Expanding

class WorkflowTemplate::Expansion {
 public:
  using Expanded = Result<std::optional<json::value>>;

  Expansion(const WorkflowScope& scope, std::size_t& bytes_left) : scope_(scope), bytes_left_(bytes_left) {}

  Expanded expand(const Node& node) {
    if (const auto* value = std::get_if<json::value>(&node.what)) return copy(*value);
    if (const auto* text = std::get_if<Node::Text>(&node.what)) return expand_text(*text);
    if (const auto* object = std::get_if<Node::Object>(&node.what)) return expand_object(*object);
    return expand_list(std::get<Node::List>(node.what));
  }

 private:
  static std::unexpected<Error> too_much() {
    return fail(ErrorCode::kUnprocessable,
                fmt::format("what is made of the templates is more than {} bytes", kExpandedBytesMax));
  }
  Result<void> charge(std::size_t bytes) {
    if (bytes > bytes_left_) return too_much();
    bytes_left_ -= bytes;
    return {};
  }
  Expanded copy(const json::value& value) {
    if (auto charged = charge(weight_of(value, bytes_left_)); !charged)
      return std::unexpected(std::move(charged.error()));
    return value;
  }

  Expanded expand_object(const Node::Object& object) {
    json::object out;
    for (const auto& [name, member] : object) {
      if (auto charged = charge(name.size() + 8); !charged)
        return std::unexpected(std::move(charged.error()));
      auto value = expand(*member);
      if (!value) return value;
      if (*value) out[name] = std::move(**value);
    }
    return out;
  }

  Expanded expand_list(const Node::List& list) {
    json::array out;
    for (const auto& item : list) {
      auto value = expand(*item);
      if (!value) return value;
      if (*value) out.push_back(std::move(**value));
    }
    return out;
  }

  Expanded expand_text(const Node::Text& text) {
    if (const WorkflowReference* sole = text.sole()) return find(*sole);
    std::string out;
    for (const Node::Piece& piece : text.pieces) {
      if (const auto* literal = std::get_if<std::string>(&piece)) {
        if (auto charged = charge(literal->size()); !charged)
          return std::unexpected(std::move(charged.error()));
        out += *literal;
        continue;
      }
      auto value = find(std::get<WorkflowReference>(piece));  // never optional
      if (!value) return value;
      if (const auto* words = (*value)->if_string()) {
        out.append(words->data(), words->size());
      } else {
        out += json::serialize(**value);
      }
    }
    return json::value(json::string(out));
  }

  // What a reference stands for.
  Expanded find(const WorkflowReference& reference) {
    switch (reference.root) {
      case WorkflowRoot::kInput:
        return follow(reference, {.object = scope_.input});
      case WorkflowRoot::kOutput: {
        const WorkflowScope::Step* step = scope_.step(reference.step);
        if (step == nullptr) return absent(reference, reference.name());
        if (step->list) return follow(reference, {.list = &step->outputs});
        return follow(reference, Place::of(step->outputs.empty() ? nullptr : step->outputs.front()));
      }
      case WorkflowRoot::kArtifacts: {
        const WorkflowScope::Step* step = scope_.step(reference.step);
        if (step == nullptr) return absent(reference, reference.name());
        return follow(reference, {.list = &step->artifacts});
      }
      case WorkflowRoot::kItem:
        return follow(reference, Place::of(scope_.item));
      case WorkflowRoot::kIndex:
        if (!scope_.index) return absent(reference, reference.name());
        return json::value(*scope_.index);
    }
    return absent(reference, reference.name());
  }

  Expanded absent(const WorkflowReference& reference, const std::string& name) {
    if (reference.fallback) return copy(*reference.fallback);
    if (reference.optional) return std::optional<json::value>{};
    return fail(ErrorCode::kUnprocessable, fmt::format("`{}` is not there", name));
  }

  Expanded value_of(const Place& place) {
    if (place.value != nullptr) return copy(*place.value);
    if (place.object != nullptr) return copy(json::value(*place.object));
    json::array items;
    for (const json::value* item : *place.list) {
      auto value = copy(*item);
      if (!value) return value;
      items.push_back(std::move(**value));
    }
    return items;
  }

  Expanded follow(const WorkflowReference& reference, Place place) {
    const std::span<const std::string> path(reference.path);
    const auto star = std::ranges::find(path, "*");
    for (auto at = path.begin(); at != star; ++at) place = place.next(*at);
    if (!place.there() || (star != path.end() && !place.is_list()))
      return absent(reference, reference.name());
    if (star == path.end()) return value_of(place);
    json::array items;
    const auto depth = static_cast<std::size_t>(star - path.begin());
    if (auto done = gather(reference, place, depth, items); !done)
      return std::unexpected(std::move(done.error()));
    return items;
  }

  // `at` is a `*` of the path, and `place` a list. Lists within lists become one.
  Result<void> gather(const WorkflowReference& reference, const Place& place, std::size_t at,
                      json::array& out) {
    const std::span<const std::string> rest = std::span(reference.path).subspan(at + 1);
    const auto star = std::ranges::find(rest, "*");
    for (std::size_t i = 0; i < place.size(); ++i) {
      Place item = place.item(i);
      for (auto segment = rest.begin(); segment != star; ++segment) item = item.next(*segment);
      const bool deeper = star != rest.end();
      if (item.there() && deeper && item.is_list()) {
        const std::size_t next = at + 1 + static_cast<std::size_t>(star - rest.begin());
        if (auto done = gather(reference, item, next, out); !done) return done;
        continue;
      }
      auto value =
          item.there() && !deeper ? value_of(item) : absent(reference, name_of_item(reference, at, i));
      if (!value) return std::unexpected(std::move(value.error()));
      if (*value) out.push_back(std::move(**value));
    }
    return {};
  }

  static std::string name_of_item(WorkflowReference reference, std::size_t at, std::size_t item) {
    reference.path[at] = fmt::to_string(item);
    return reference.name();
  }

  const WorkflowScope& scope_;
  std::size_t& bytes_left_;
};

Result<std::optional<json::value>> WorkflowTemplate::expand(const WorkflowScope& scope,
                                                            std::size_t& bytes_left) const {
  std::size_t left = std::min(bytes_left, kExpandedBytesMax);
  const std::size_t before = left;
  auto expanded = Expansion(scope, left).expand(*root_);
  bytes_left -= before - left;
  if (expanded && *expanded && depth_of(**expanded) > kExpandedDepthMax) {
    return fail(ErrorCode::kUnprocessable,
                fmt::format("what is made of the templates is nested more than {} deep", kExpandedDepthMax));
  }
  return expanded;
}

}  // namespace turnpike::policy
