#include "node/answer_cache_key.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <limits>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/multipart.h"

namespace turnpike::node {
namespace {

namespace json = boost::json;

constexpr std::size_t kTextInlineMax = 64;  // a longer string stands as its hash
constexpr std::size_t kExponentDigitsMax = 15;

// Whether a member of the whole request makes its answer depend on more than it says: `conversation` goes on
// with what the upstream keeps, and `background: true` is answered later (of a picture it is a colour).
bool is_of_state(std::string_view name, std::string_view value) {
  return (name == "conversation" && value != "z") || (name == "background" && value == "1");
}

bool contains(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

std::array<unsigned char, 32> sha256(std::string_view text) {
  std::array<unsigned char, 32> digest{};
  unsigned int size = digest.size();
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("SHA-256 is not available in this OpenSSL");
  return digest;
}

// Every value is written so that no two different ones can give the same bytes: a letter, and lengths before
// what can be of any length.
void append_text(std::string& out, std::string_view text) {
  if (text.size() <= kTextInlineMax) {
    fmt::format_to(std::back_inserter(out), "s{}:{}", text.size(), text);
    return;
  }
  const auto digest = sha256(text);
  out += 'S';
  out.append(reinterpret_cast<const char*>(digest.data()), digest.size());
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}
std::string lower(std::string_view text) {
  std::string out{text};
  std::ranges::transform(out, out.begin(), [](char c) { return lower(c); });
  return out;
}

// --- JSON

// Builds the canonical bytes of a document while it is parsed: each container when it ends.
class Canonical {
 public:
  // For json::basic_parser. Strings, keys and numbers may come in pieces.
  constexpr static std::size_t max_object_size = std::numeric_limits<std::size_t>::max();
  constexpr static std::size_t max_array_size = max_object_size;
  constexpr static std::size_t max_key_size = max_object_size;
  constexpr static std::size_t max_string_size = max_object_size;

  explicit Canonical(const CacheQuestion& question) : question_(question) {}

  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }
  bool on_object_begin(json::error_code&) {
    open_.emplace_back().object = true;
    return true;
  }
  bool on_array_begin(json::error_code&) {
    open_.emplace_back();
    return true;
  }
  bool on_object_end(std::size_t, json::error_code&) {
    const Members members = std::move(open_.back().members);
    open_.pop_back();
    std::string out = "{";
    for (const auto& [key, value] : members) {
      append_text(out, key);
      out += value;
    }
    add(out += '}');
    return true;
  }
  bool on_array_end(std::size_t, json::error_code&) {
    std::string out = std::move(open_.back().items);
    open_.pop_back();
    out.insert(out.begin(), '[');
    add(out += ']');
    return true;
  }
  bool on_key_part(json::string_view part, std::size_t, json::error_code&) { return gather(part); }
  bool on_key(json::string_view part, std::size_t, json::error_code&) {
    gather(part);
    open_.back().key = std::exchange(text_, {});
    return true;
  }
  bool on_string_part(json::string_view part, std::size_t, json::error_code&) { return gather(part); }
  bool on_string(json::string_view part, std::size_t, json::error_code&) {
    gather(part);
    const std::string text = std::exchange(text_, {});
    std::string out;
    if (const CachedFile* file = file_here()) {
      out = "f";
      append_text(out, file->sha256);
    } else if (at_top() && open_.back().key == question_.topic_field) {
      out = "t";
      append_text(out, canonical_topic(text));
    } else {
      append_text(out, text);
    }
    add(std::move(out));
    return true;
  }
  bool on_number_part(json::string_view part, json::error_code&) { return gather(part); }
  bool on_int64(std::int64_t, json::string_view part, json::error_code&) { return number(part); }
  bool on_uint64(std::uint64_t, json::string_view part, json::error_code&) { return number(part); }
  bool on_double(double, json::string_view part, json::error_code&) { return number(part); }
  bool on_bool(bool on, json::error_code&) {
    add(on ? "1" : "0");
    return true;
  }
  bool on_null(json::error_code&) {
    add("z");
    return true;
  }
  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }

  bool of_state() const { return of_state_; }
  std::string take() { return std::move(whole_); }

 private:
  // By name; those of one name in their order, which matters to who reads them.
  using Members = std::multimap<std::string, std::string>;
  struct Container {
    bool object = false;
    std::string key;  // of the member that is read
    Members members;
    std::string items;
  };

  bool at_top() const { return open_.size() == 1 && open_.back().object; }
  const CachedFile* file_here() const {
    if (!at_top()) return nullptr;
    const auto file = std::ranges::find(question_.files, open_.back().key, &CachedFile::field);
    return file == question_.files.end() ? nullptr : &*file;
  }
  bool gather(json::string_view part) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool number(json::string_view part) {
    gather(part);
    add('n' + canonical_number(std::exchange(text_, {})) + ';');
    return true;
  }
  void add(std::string value) {
    if (open_.empty()) {
      whole_ = std::move(value);
      return;
    }
    Container& container = open_.back();
    if (!container.object) {
      container.items += value;
      return;
    }
    if (at_top()) {
      if (contains(kFieldsLeftOut, container.key)) return;
      if (is_of_state(container.key, value)) of_state_ = true;
    }
    container.members.emplace(std::move(container.key), std::move(value));
  }

  const CacheQuestion& question_;
  std::vector<Container> open_;
  std::string text_;  // of the string, key or number that is read
  std::string whole_;
  bool of_state_ = false;
};

std::optional<std::string> canonical_json(const CacheQuestion& question) {
  json::parse_options options;
  options.max_depth = kCacheDepthMax;
  json::basic_parser<Canonical> parser(options, question);
  json::error_code error;
  const std::size_t read = parser.write_some(false, question.body.data(), question.body.size(), error);
  if (error || read != question.body.size() || parser.handler().of_state()) return std::nullopt;
  return parser.handler().take();
}

// --- Forms

std::optional<std::string> canonical_form(const CacheQuestion& question) {
  const auto parts = form_parts(question.content_type, question.body);
  if (!parts) return std::nullopt;
  std::multimap<std::string_view, std::string> by_name;  // those of one name keep their order
  for (const FormPart& part : *parts) {
    if (contains(kFieldsLeftOut, part.name)) continue;
    const bool topic = !part.is_file && part.name == question.topic_field;
    std::string value = part.is_file ? "f" : "p";
    append_text(value, topic ? canonical_topic(part.content) : std::string(part.content));
    by_name.emplace(part.name, std::move(value));
  }
  std::string out = "m";
  for (const auto& [name, value] : by_name) {
    append_text(out, name);
    out += value;
  }
  return out;
}

}  // namespace

std::string canonical_topic(std::string_view text) {
  const auto at_an_end = [](char c) { return is_space(c) || is_punctuation(c); };
  while (!text.empty() && at_an_end(text.front())) text.remove_prefix(1);
  while (!text.empty() && at_an_end(text.back())) text.remove_suffix(1);
  std::string out;
  for (const char c : text) {
    if (!is_space(c)) {
      out += lower(c);
    } else if (out.back() != ' ') {  // never empty: the text does not begin with a space
      out += ' ';
    }
  }
  return out;
}

std::string canonical_number(std::string_view text) {
  const std::size_t exponent_at = text.find_first_of("eE");
  std::string_view mantissa = text.substr(0, exponent_at);
  const bool negative = mantissa.starts_with('-');
  if (negative) mantissa.remove_prefix(1);
  std::int64_t exponent = 0;
  if (exponent_at != std::string_view::npos) {
    std::string_view digits = text.substr(exponent_at + 1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    if (digits.size() > kExponentDigitsMax) return std::string(text);  // no number anyone means
    std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
  }
  std::string digits{mantissa};
  if (const std::size_t point = digits.find('.'); point != std::string::npos) {
    exponent -= static_cast<std::int64_t>(digits.size() - point - 1);
    digits.erase(point, 1);
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  while (digits.ends_with('0')) {
    digits.pop_back();
    ++exponent;
  }
  if (digits.empty()) return "0";
  return fmt::format("{}{}e{}", negative ? "-" : "", digits, exponent);
}

std::optional<CacheKey> cache_key(const CacheQuestion& question) {
  const bool form = lower(question.content_type).starts_with("multipart/form-data");
  auto body = form ? canonical_form(question) : canonical_json(question);
  if (!body) return std::nullopt;
  std::string text = "1";  // of this way to write it
  for (const std::string_view part : {question.scope, question.operation, question.model,
                                      question.model_version, question.upstream_model}) {
    append_text(text, part);
  }
  text += question.stream ? '1' : '0';
  append_text(text, question.topic_field);
  text += *body;
  return CacheKey{sha256(text)};
}

}  // namespace turnpike::node
