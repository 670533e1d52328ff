// A thin layer over a YAML document that makes reading it declarative: functions that read a section are the
// list of its keys. It knows where each value stands, collects every mistake instead of stopping at the
// first, and reports the keys that nobody asked for. Values are never repeated in a mistake, since one may be
// a secret in the wrong place; names (keys, and references to them) are.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "policy/load.h"

namespace turnpike::policy {

// Collects the mistakes of one file.
class Report {
 public:
  static constexpr std::size_t kMistakesMax = 200;

  explicit Report(std::string file) : file_(std::move(file)) {}
  void add(const YAML::Mark& mark, std::string path, std::string message);
  void add(std::string message);  // of the file as a whole
  bool clean() const { return mistakes_.empty(); }
  // In the order of the file; beyond kMistakesMax one says that there are more.
  std::vector<Mistake> take();

 private:
  std::string file_;
  std::vector<Mistake> mistakes_;
  bool cut_ = false;
};

// A name that others refer to: letters, digits and _ . : / - , at most 64, beginning with a letter or digit.
bool is_name(std::string_view text);

class Map;

// A value at a place in the document, or the absence of one. Each reading function leaves `out` alone and
// returns false if the value is absent, and also reports if it is wrong.
class Value {
 public:
  Value(Report& report, const YAML::Node& node, YAML::Mark mark, std::string path)
      : report_(&report), node_(node), mark_(mark), path_(std::move(path)) {}
  static Value absent(Report& report, YAML::Mark mark, std::string path) {
    Value value(report, {}, mark, std::move(path));
    value.present_ = false;
    return value;
  }
  Value(const Value&) = default;
  // Assigning a YAML::Node changes the document that it points into, not the variable.
  Value& operator=(const Value&) = delete;

  bool present() const { return present_; }
  const std::string& path() const { return path_; }
  void mistake(std::string message) const { report_->add(mark_, path_, std::move(message)); }

  // Plain text of 1 to bytes_max bytes.
  bool text(std::string& out, std::size_t bytes_max = 1024) const;
  // Text as it stands, templates and references included; may be empty.
  bool raw_text(std::string& out) const;
  bool name(std::string& out) const;
  bool flag(bool& out) const;
  bool whole(std::uint64_t& out, std::uint64_t low, std::uint64_t high) const;
  bool whole(std::uint32_t& out, std::uint32_t low, std::uint32_t high) const;
  bool duration(Duration& out, Duration low, Duration high) const;
  bool bytes(std::uint64_t& out, std::uint64_t low, std::uint64_t high) const;
  bool percent(std::uint32_t& out_permille, std::uint32_t low, std::uint32_t high) const;
  bool factor(std::uint32_t& out_permille, std::uint32_t low, std::uint32_t high) const;
  // A whole number, or `unlimited` or null: nullopt.
  bool limit(std::optional<std::uint32_t>& out, std::uint32_t low, std::uint32_t high) const;
  // True (and nothing reported) if the value is `word` or, where that is allowed, null.
  bool is_word(std::string_view word) const;
  bool is_null() const { return present() && node_.IsNull(); }
  // The text of a scalar that is not in quotes: a number, true, or a word.
  std::optional<std::string> plain() const;
  bool is_list() const { return present() && node_.IsSequence(); }
  bool is_map() const { return present() && node_.IsMap(); }
  bool is_empty() const { return present() && node_.size() == 0; }

  // One of the words of `table`.
  template <typename E>
  bool word(E& out, std::initializer_list<std::pair<const char*, E>> table) const {
    std::vector<std::string> known;
    for (const auto& [text, value] : table) {
      if (is_word(text)) {
        out = value;
        return true;
      }
      known.emplace_back(text);
    }
    if (present()) unknown_word(known);
    return false;
  }

  // A section: `read` asks for the keys it knows; whatever is left over is reported. An empty section (null)
  // is read as one without keys. False if absent or not a section.
  bool section(const std::function<void(Map&)>& read) const;
  // A map whose keys are names of the operator's: `read` gets each with its value, in the order of the file.
  bool each(const std::function<void(const std::string& name, const Value& value)>& read) const;
  // Likewise, whatever the keys are: fields of somebody else's.
  bool fields(const std::function<void(const std::string& name, const Value& value)>& read) const;
  bool list(const std::function<void(const Value& value)>& read) const;

 private:
  bool wrong(const std::string& expected) const;
  bool wrong_plain(const std::string& expected) const;  // where quotes may be what is wrong
  void unknown_word(const std::vector<std::string>& known) const;

  Report* report_;
  YAML::Node node_;
  bool present_ = true;
  YAML::Mark mark_;
  std::string path_;
};

// A section while it is read.
class Map {
 public:
  Map(Report& report, const YAML::Node& node, YAML::Mark mark, std::string path)
      : report_(&report), node_(node), mark_(mark), path_(std::move(path)) {}

  Value at(std::string_view key);
  Value require(std::string_view key);  // its absence is a mistake
  // The key would be understood elsewhere or later: it is a mistake here, and `why` says so.
  void refuse(std::string_view key, const std::string& why);
  void mistake(std::string message) const { report_->add(mark_, path_, std::move(message)); }
  const std::string& path() const { return path_; }
  void report_unknown() const;

 private:
  Report* report_;
  YAML::Node node_;
  YAML::Mark mark_;
  std::string path_;
  std::vector<std::string> asked_;
  std::vector<std::string> refused_;
};

// What no section sees by itself: duplicate keys, keys that are not text, tags, and more values than any
// configuration has (aliases can multiply a small file). False: there are too many of them to read on.
bool inspect_document(const YAML::Node& root, Report& report);

}  // namespace turnpike::policy
