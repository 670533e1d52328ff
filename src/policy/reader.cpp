#include "policy/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "policy/contains.h"
#include "policy/nearest.h"
#include "policy/numbers.h"

namespace turnpike::policy {
namespace {

constexpr std::size_t kNameBytesMax = 64;
constexpr std::size_t kKeyShownBytesMax = 80;
constexpr std::size_t kValuesMax = 50'000;
constexpr int kDepthMax = 64;

std::string joined(const std::string& path, std::string_view key) {
  return path.empty() ? std::string{key} : fmt::format("{}.{}", path, key);
}

YAML::Mark mark_of(const YAML::Node& node, const YAML::Mark& otherwise) {
  const YAML::Mark mark = node.Mark();
  return mark.is_null() ? otherwise : mark;
}

// A scalar stands where it is written; what is said of a section or list as a whole points to its key.
YAML::Mark mark_of_entry(const YAML::Node& key, const YAML::Node& value, const YAML::Mark& otherwise) {
  const YAML::Mark key_mark = mark_of(key, otherwise);
  return value.IsScalar() ? mark_of(value, key_mark) : key_mark;
}

constexpr const char* kNameRule =
    "must be a name: 1 to 64 letters, digits and _ . : / -, beginning with a letter or a digit";

// Walks the whole document once, aliases followed.
class Inspection {
 public:
  explicit Inspection(Report& report) : report_(report) {}

  void walk(const YAML::Node& node, const YAML::Mark& mark, const std::string& path, int depth) {
    if (stopped_) return;
    if (++values_ > kValuesMax || depth > kDepthMax) {
      stopped_ = true;
      report_.add(mark, path,
                  fmt::format("too much: a configuration has at most {} values (aliases count each time), "
                              "nested at most {} deep",
                              kValuesMax, kDepthMax));
      return;
    }
    check_tag(node, mark, path);
    if (node.IsMap()) {
      walk_map(node, path, depth);
    } else if (node.IsSequence()) {
      std::size_t index = 0;
      for (const YAML::Node& item : node)
        walk(item, mark_of(item, mark), fmt::format("{}[{}]", path, index++), depth + 1);
    }
  }
  bool stopped() const { return stopped_; }

 private:
  void walk_map(const YAML::Node& node, const std::string& path, int depth) {
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const YAML::Mark mark = mark_of(entry.first, node.Mark());
      if (!entry.first.IsScalar()) {
        report_.add(mark, path, "a key must be text");
        continue;
      }
      const std::string& key = entry.first.Scalar();
      if (!seen.insert(key).second) {
        report_.add(mark, path,
                    fmt::format("duplicate key `{}`: keep one", key.substr(0, kKeyShownBytesMax)));
      }
      walk(entry.second, mark_of(entry.second, mark), joined(path, key.substr(0, kKeyShownBytesMax)),
           depth + 1);
    }
  }

  void check_tag(const YAML::Node& node, const YAML::Mark& mark, const std::string& path) {
    const std::string& tag = node.Tag();
    if (tag.empty() || tag == "?" || tag == "!") return;
    report_.add(mark, path, "tags (`!name`) are not understood here: write the value alone");
  }

  Report& report_;
  std::size_t values_ = 0;
  bool stopped_ = false;
};

}  // namespace

bool is_name(std::string_view text) {
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !text.empty() && text.size() <= kNameBytesMax && letter_or_digit(text.front()) &&
         std::ranges::all_of(text, [&](char c) {
           return letter_or_digit(c) || c == '_' || c == '.' || c == ':' || c == '/' || c == '-';
         });
}

// --- Report

void Report::add(const YAML::Mark& mark, std::string path, std::string message) {
  if (mistakes_.size() >= kMistakesMax) {
    cut_ = true;
    return;
  }
  Mistake mistake{.file = file_, .path = std::move(path), .message = std::move(message)};
  if (!mark.is_null()) {
    mistake.line = mark.line + 1;
    mistake.column = mark.column + 1;
  }
  // The file is not read in its own order; what stands at one place stays in the order of its finding.
  const auto place = [](const Mistake& m) { return std::pair(m.line, m.column); };
  const auto behind = std::ranges::upper_bound(mistakes_, place(mistake), {}, place);
  mistakes_.insert(behind, std::move(mistake));
}

void Report::add(std::string message) {
  add(YAML::Mark::null_mark(), {}, std::move(message));
}

std::vector<Mistake> Report::take() {
  if (cut_) {
    mistakes_.push_back({file_, 0, 0, {}, "there are more mistakes than are listed here"});
  }
  return std::move(mistakes_);
}

// --- Value

bool Value::wrong(const std::string& expected) const {
  mistake("must be " + expected);
  return false;
}

bool Value::wrong_plain(const std::string& expected) const {
  const bool quoted = node_.IsScalar() && node_.Tag() == "!";
  return wrong(quoted ? expected + ", without quotes" : expected);
}

void Value::unknown_word(const std::vector<std::string>& known) const {
  // The word itself may be anything, a secret included: only what would be right is said.
  std::string text;
  if (node_.IsScalar()) text = node_.Scalar();
  const auto near = nearest(text, known);
  std::string message = fmt::format("must be one of {}", fmt::join(known, ", "));
  if (near) message += fmt::format(": did you mean `{}`?", *near);
  mistake(std::move(message));
}

std::optional<std::string> Value::plain() const {
  if (!node_.IsScalar() || node_.Tag() == "!") return std::nullopt;
  return node_.Scalar();
}

bool Value::text(std::string& out, std::size_t bytes_max) const {
  if (!present()) return false;
  if (!node_.IsScalar() || node_.Scalar().empty() || node_.Scalar().size() > bytes_max)
    return wrong(fmt::format("text of 1 to {} bytes", bytes_max));
  const std::string& value = node_.Scalar();
  if (value.contains("${env:") || value.contains("${file:")) {
    mistake("${env:NAME} and ${file:PATH} are for secrets (api_key) and are not looked up here");
    return false;
  }
  if (std::ranges::any_of(value, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
    return wrong("one line of text without control characters");
  out = value;
  return true;
}

bool Value::raw_text(std::string& out) const {
  if (!present()) return false;
  if (!node_.IsScalar()) return wrong("text");
  out = node_.Scalar();
  return true;
}

bool Value::name(std::string& out) const {
  if (!present()) return false;
  if (!node_.IsScalar() || !is_name(node_.Scalar())) {
    mistake(kNameRule);
    return false;
  }
  out = node_.Scalar();
  return true;
}

bool Value::flag(bool& out) const {
  if (!present()) return false;
  const auto text = plain();
  if (!text || (*text != "true" && *text != "false")) return wrong_plain("true or false");
  out = *text == "true";
  return true;
}

bool Value::whole(std::uint64_t& out, std::uint64_t low, std::uint64_t high) const {
  if (!present()) return false;
  const auto text = plain();
  const auto number = text ? parse_whole(*text) : std::nullopt;
  if (!number || *number < low || *number > high)
    return wrong_plain(fmt::format("a whole number from {} to {}", low, high));
  out = *number;
  return true;
}

bool Value::whole(std::uint32_t& out, std::uint32_t low, std::uint32_t high) const {
  std::uint64_t wide = 0;
  if (!whole(wide, low, high)) return false;
  out = static_cast<std::uint32_t>(wide);
  return true;
}

bool Value::duration(Duration& out, Duration low, Duration high) const {
  if (!present()) return false;
  const auto parsed = node_.IsScalar() ? parse_duration(node_.Scalar()) : std::nullopt;
  if (!parsed) {
    return wrong(fmt::format("a duration such as 500ms, 30s, 5m, 2h or 30d, from {} to {}",
                             duration_text(low), duration_text(high)));
  }
  if (*parsed < low || *parsed > high)
    return wrong(fmt::format("a duration from {} to {}", duration_text(low), duration_text(high)));
  out = *parsed;
  return true;
}

bool Value::bytes(std::uint64_t& out, std::uint64_t low, std::uint64_t high) const {
  if (!present()) return false;
  const auto parsed = node_.IsScalar() ? parse_bytes(node_.Scalar()) : std::nullopt;
  if (!parsed || *parsed < low || *parsed > high) {
    return wrong(fmt::format("a size such as 512KiB, 25MB or 64MiB, from {} to {}", bytes_text(low),
                             bytes_text(high)));
  }
  out = *parsed;
  return true;
}

bool Value::percent(std::uint32_t& out_permille, std::uint32_t low, std::uint32_t high) const {
  if (!present()) return false;
  const auto parsed = node_.IsScalar() ? parse_percent(node_.Scalar()) : std::nullopt;
  if (!parsed || *parsed < low || *parsed > high) {
    return wrong(
        fmt::format("a share such as 20% or 0.5%, from {} to {}", percent_text(low), percent_text(high)));
  }
  out_permille = *parsed;
  return true;
}

bool Value::factor(std::uint32_t& out_permille, std::uint32_t low, std::uint32_t high) const {
  if (!present()) return false;
  const auto text = plain();
  const auto parsed = text ? parse_factor(*text) : std::nullopt;
  if (!parsed || *parsed < low || *parsed > high) {
    return wrong_plain(fmt::format("a number such as 2 or 1.5, from {} to {}, with at most 3 decimals",
                                   factor_text(low), factor_text(high)));
  }
  out_permille = *parsed;
  return true;
}

bool Value::limit(std::optional<std::uint32_t>& out, std::uint32_t low, std::uint32_t high) const {
  if (!present()) return false;
  if (is_null() || is_word("unlimited")) {
    out.reset();
    return true;
  }
  const auto text = plain();
  const auto number = text ? parse_whole(*text) : std::nullopt;
  if (!number || *number < low || *number > high)
    return wrong_plain(fmt::format("a whole number from {} to {}, or `unlimited`", low, high));
  out = static_cast<std::uint32_t>(*number);
  return true;
}

bool Value::is_word(std::string_view word) const {
  return present() && node_.IsScalar() && node_.Scalar() == word;
}

bool Value::section(const std::function<void(Map&)>& read) const {
  if (!present()) return false;
  if (!node_.IsMap() && !node_.IsNull()) return wrong("a section (key: value)");
  Map map(*report_, node_, mark_, path_);
  read(map);
  map.report_unknown();
  return true;
}

bool Value::each(const std::function<void(const std::string&, const Value&)>& read) const {
  if (!present()) return false;
  if (!node_.IsMap() && !node_.IsNull()) return wrong("a section (name: value)");
  if (node_.IsNull()) return true;
  for (const auto& entry : node_) {
    if (!entry.first.IsScalar()) continue;  // reported by inspect_document
    const std::string& key = entry.first.Scalar();
    if (!is_name(key)) {
      report_->add(mark_of(entry.first, mark_), path_,
                   fmt::format("`{}` {}", key.substr(0, kKeyShownBytesMax), kNameRule));
      continue;
    }
    read(key,
         Value(*report_, entry.second, mark_of_entry(entry.first, entry.second, mark_), joined(path_, key)));
  }
  return true;
}

bool Value::fields(const std::function<void(const std::string&, const Value&)>& read) const {
  if (!present()) return false;
  if (!node_.IsMap()) return wrong("a section (name: value)");
  for (const auto& entry : node_) {
    if (!entry.first.IsScalar()) continue;  // reported by inspect_document
    const std::string& key = entry.first.Scalar();
    read(key,
         Value(*report_, entry.second, mark_of_entry(entry.first, entry.second, mark_), joined(path_, key)));
  }
  return true;
}

bool Value::list(const std::function<void(const Value&)>& read) const {
  if (!present()) return false;
  if (!node_.IsSequence()) return wrong("a list ([a, b] or lines beginning with -)");
  std::size_t index = 0;
  for (const YAML::Node& item : node_) {
    read(Value(*report_, item, mark_of(item, mark_), fmt::format("{}[{}]", path_, index)));
    ++index;
  }
  return true;
}

// --- Map

Value Map::at(std::string_view key) {
  asked_.emplace_back(key);
  if (node_.IsMap()) {
    for (const auto& entry : node_) {
      if (!entry.first.IsScalar() || entry.first.Scalar() != key) continue;
      return {*report_, entry.second, mark_of_entry(entry.first, entry.second, mark_), joined(path_, key)};
    }
  }
  return Value::absent(*report_, mark_, joined(path_, key));
}

Value Map::require(std::string_view key) {
  Value value = at(key);
  if (!value.present()) mistake(fmt::format("`{}` is missing", key));
  return value;
}

void Map::refuse(std::string_view key, const std::string& why) {
  const Value value = at(key);
  asked_.pop_back();  // not worth suggesting
  refused_.emplace_back(key);
  if (value.present()) value.mistake(why);
}

void Map::report_unknown() const {
  if (!node_.IsMap()) return;
  for (const auto& entry : node_) {
    if (!entry.first.IsScalar()) continue;  // reported by inspect_document
    const std::string& key = entry.first.Scalar();
    if (contains(asked_, key) || contains(refused_, key)) continue;
    report_->add(
        mark_of(entry.first, mark_), path_,
        fmt::format("unknown key `{}`: {}", key.substr(0, kKeyShownBytesMax), suggestion(key, asked_)));
  }
}

bool inspect_document(const YAML::Node& root, Report& report) {
  Inspection inspection(report);
  inspection.walk(root, root.Mark(), {}, 0);
  return !inspection.stopped();
}

}  // namespace turnpike::policy
