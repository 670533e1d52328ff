// Reads JSON text without building it: one strict pass (RFC 8259) that tells a visitor what stands where. For
// bodies that are passed on as they came, of which only a few fields matter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace turnpike {

constexpr int kJsonWalkDepthMax = 64;  // objects and lists within each other

// Where a text stops being JSON, in bytes from its beginning.
struct JsonFault {
  std::size_t at = 0;
};

// How far `text` is free of quotes, backslashes and control characters, from `at`.
std::size_t json_plain_until(std::string_view text, std::size_t at);

// A value of the outermost object, or an element of the outermost list.
struct JsonMember {
  std::string_view name;   // between its quotes, escapes not resolved; empty for an element
  std::string_view value;  // without the space around it
  std::size_t begin = 0;   // of the name's first quote (an element: of the value), from the text's beginning
  std::size_t value_begin = 0;  // likewise
  std::size_t end() const { return value_begin + value.size(); }
  bool is_text() const { return value.starts_with('"'); }
  bool is_object() const { return value.starts_with('{'); }
  bool is_list() const { return value.starts_with('['); }
  bool is_null() const { return value == "null"; }
  // Between the quotes, of a text without escapes; nothing for anything else.
  std::optional<std::string_view> plain_text() const;
  // Of a number that is a whole one and fits.
  std::optional<std::int64_t> whole() const;
};

// What a visitor may be told. A visitor derives from this and hides what it wants to know; nothing is
// virtual. `depth`: 1 in the outermost object or list. `key`: the nearest name around the value, escapes not
// resolved.
struct JsonVisitor {
  void key(int /*depth*/, std::string_view /*raw*/) {}
  void enter(int /*depth*/, std::string_view /*key*/, bool /*object*/) {}
  // `raw`: between the quotes; `bytes`: at least as many as the text has in UTF-8.
  void text(int /*depth*/, std::string_view /*key*/, std::string_view /*raw*/, std::size_t /*bytes*/) {}
  void scalar(int /*depth*/, std::string_view /*key*/, std::string_view /*raw*/) {}
  void member(const JsonMember& /*member*/) {}
};

template <typename Visitor>
class JsonWalk {
 public:
  JsonWalk(std::string_view text, Visitor& visitor) : text_(text), visitor_(visitor) {}

  // Nothing: the text is one value and no more.
  std::optional<JsonFault> run() {
    space();
    if (!value(0, {})) return JsonFault{at_};
    space();
    return at_ == text_.size() ? std::nullopt : std::optional(JsonFault{at_});
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
      ++at_;
    }
  }

  bool value(int depth, std::string_view key) {
    switch (peek()) {
      case '{':
        return container(depth + 1, key, true);
      case '[':
        return container(depth + 1, key, false);
      case '"': {
        std::size_t bytes = 0;
        const std::size_t begin = at_ + 1;
        if (!string(bytes)) return false;
        visitor_.text(depth, key, text_.substr(begin, at_ - 1 - begin), bytes);
        return true;
      }
      case 't':
        return word("true", depth, key);
      case 'f':
        return word("false", depth, key);
      case 'n':
        return word("null", depth, key);
      default:
        return number(depth, key);
    }
  }

  bool container(int depth, std::string_view key, bool object) {
    if (depth > kJsonWalkDepthMax) return false;
    visitor_.enter(depth, key, object);
    ++at_;
    const char close = object ? '}' : ']';
    space();
    if (peek() == close) {
      ++at_;
      return true;
    }
    for (;;) {
      JsonMember member{.name = {}, .value = {}, .begin = at_};
      std::string_view inner = key;
      if (object) {
        std::size_t bytes = 0;
        if (peek() != '"' || !string(bytes)) return false;
        inner = member.name = text_.substr(member.begin + 1, at_ - member.begin - 2);
        visitor_.key(depth, inner);
        space();
        if (peek() != ':') return false;
        ++at_;
        space();
      }
      member.value_begin = at_;
      if (!value(depth, inner)) return false;
      if (depth == 1) {
        member.value = text_.substr(member.value_begin, at_ - member.value_begin);
        visitor_.member(member);
      }
      space();
      if (peek() == close) {
        ++at_;
        return true;
      }
      if (peek() != ',') return false;
      ++at_;
      space();
    }
  }

  bool string(std::size_t& bytes) {
    ++at_;
    for (;;) {
      const std::size_t plain = json_plain_until(text_, at_);
      bytes += plain - at_;
      at_ = plain;
      const char c = peek();
      if (c == '"') {
        ++at_;
        return true;
      }
      if (c != '\\' || !escape(bytes)) return false;
    }
  }

  bool escape(std::size_t& bytes) {
    ++at_;
    const char c = peek();
    if (c == 'u') {
      for (std::size_t i = 1; i <= 4; ++i) {
        const char digit = at_ + i < text_.size() ? text_[at_ + i] : '\0';
        const bool hex = (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f') ||
                         (digit >= 'A' && digit <= 'F');
        if (!hex) return false;
      }
      at_ += 5;
      bytes += 3;
      return true;
    }
    if (c == '\0' || std::string_view("\"\\/bfnrt").find(c) == std::string_view::npos) return false;
    ++at_;
    ++bytes;
    return true;
  }

  bool word(std::string_view expected, int depth, std::string_view key) {
    if (!text_.substr(at_).starts_with(expected)) return false;
    at_ += expected.size();
    visitor_.scalar(depth, key, expected);
    return true;
  }

  std::size_t digits() {
    const std::size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ - begin;
  }

  bool number(int depth, std::string_view key) {
    const std::size_t begin = at_;
    if (peek() == '-') ++at_;
    if (peek() == '0') {
      ++at_;
    } else if (digits() == 0) {
      return false;
    }
    if (peek() == '.') {
      ++at_;
      if (digits() == 0) return false;
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (digits() == 0) return false;
    }
    visitor_.scalar(depth, key, text_.substr(begin, at_ - begin));
    return true;
  }

  const std::string_view text_;
  Visitor& visitor_;
  std::size_t at_ = 0;
};

template <typename Visitor>
std::optional<JsonFault> walk_json(std::string_view text, Visitor& visitor) {
  return JsonWalk<Visitor>(text, visitor).run();
}

// The members of an object in their order; nothing if the text is no JSON object.
std::optional<std::vector<JsonMember>> json_members(std::string_view text);
// The first of that name, which holds no escape; null: there is none.
const JsonMember* find_member(const std::vector<JsonMember>& members, std::string_view name);

}  // namespace turnpike
