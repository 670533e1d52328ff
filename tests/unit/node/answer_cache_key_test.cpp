// Requests that are the same have one key, whatever their spelling; all others have their own.
#include "node/answer_cache_key.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/multipart.h"
#include "node/answer_cache_control.h"

namespace turnpike::node::testing {
namespace {

using namespace std::chrono_literals;

CacheQuestion question(std::string_view body) {
  return {.scope = "account:acct_1",
          .operation = "chat",
          .model = "writer",
          .model_version = "2",
          .upstream_model = "w-2",
          .content_type = "application/json",
          .body = body};
}

CacheKey key(std::string_view body) {
  const auto made = cache_key(question(body));
  EXPECT_TRUE(made) << body;
  return made.value_or(CacheKey{});
}

// --- Values of JSON, and ways to spell each

struct Value {
  enum class Kind { kWord, kNumber, kString, kArray, kObject } kind = Kind::kWord;
  std::string text{};          // of a word, number (as one way to spell it) or string (unescaped)
  std::vector<Value> items{};  // of an array or object
  std::vector<std::string> names{};
};

class Make {
 public:
  explicit Make(std::uint32_t seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  Value value(int depth) {
    using enum Value::Kind;
    switch (below(depth > 0 ? 5 : 3)) {
      case 0:
        return {.kind = kWord, .text = std::array{"true", "false", "null"}[below(3)]};
      case 1:
        return {.kind = kNumber,
                .text = std::array{"0", "1", "-1", "10", "0.5", "1e-7", "18446744073709551617",
                                   "12.25"}[below(8)]};
      case 2:
        return string();
      case 3: {
        Value array{.kind = kArray, .text = {}};
        for (std::size_t i = below(4); i > 0; --i) array.items.push_back(value(depth - 1));
        return array;
      }
      default:
        return object(depth);
    }
  }
  Value object(int depth) {
    Value made{.kind = Value::Kind::kObject, .text = {}};
    std::set<std::string> names;
    for (std::size_t i = below(5); i > 0; --i)
      names.insert(std::string("field") + static_cast<char>('a' + below(8)));
    for (const std::string& name : names) {
      made.names.push_back(name);
      made.items.push_back(value(depth - 1));
    }
    return made;
  }

  // One of the ways to write it.
  std::string spell(const Value& value) {
    using enum Value::Kind;
    switch (value.kind) {
      case kWord:
        return value.text;
      case kNumber:
        return number(value.text);
      case kString:
        return quoted(value.text);
      case kArray: {
        std::string out = "[" + space();
        for (std::size_t i = 0; i < value.items.size(); ++i)
          out += (i == 0 ? "" : ",") + space() + spell(value.items[i]) + space();
        return out + "]";
      }
      case kObject:
        return spell_object(value);
    }
    return {};
  }

 private:
  Value string() {
    std::string text;
    for (std::size_t i = below(3) == 0 ? 200 : below(6); i > 0; --i)
      text += std::array{"a", "B", " ", "\"", "\\", "\n", "\xc3\xa9", "{", "7"}[below(9)];
    return {.kind = Value::Kind::kString, .text = std::move(text)};
  }
  std::string space() { return std::array{"", " ", "\n\t", "\r\n  "}[below(4)]; }
  std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
      const bool escaped = c == '"' || c == '\\' || c == '\n';
      if (escaped || (static_cast<unsigned char>(c) < 0x80 && below(4) == 0)) {
        out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
      } else {
        out += c;
      }
    }
    return out + "\"";
  }
  // "12.25" as 1225e-2, 12.250, 0.1225E+2, ...
  std::string number(const std::string& text) {
    const std::string plain = text.starts_with('-') ? text.substr(1) : text;
    const std::string sign = text.starts_with('-') ? "-" : "";
    const bool exponent = plain.contains('e');
    const bool point = plain.contains('.');
    switch (below(4)) {
      case 0:
        return exponent ? text : text + (point ? "00" : ".0");
      case 1:
        return exponent ? sign + "0.1E-6" : text + "e0";
      case 2: {
        if (exponent || !point) return text;
        std::string digits = plain;
        const std::size_t behind = digits.size() - digits.find('.') - 1;
        digits.erase(digits.find('.'), 1);
        digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
        return fmt::format("{}{}e-{}", sign, digits, behind);
      }
      default:
        return text;
    }
  }
  std::string spell_object(const Value& value) {
    std::vector<std::size_t> order(value.items.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::shuffle(order, random_);
    std::string out = "{" + space();
    bool first = true;
    for (const std::size_t i : order) {
      out += (first ? "" : ",") + space() + quoted(value.names[i]) + space() + ":" + space() +
             spell(value.items[i]) + space();
      first = false;
    }
    return out + "}";
  }

  std::mt19937 random_;
};

// A text that is the same for equal values only: what the keys are compared with.
std::string identity(const Value& value) {
  std::string out = fmt::format("{}:{}:{}", static_cast<int>(value.kind), value.text.size(), value.text);
  for (std::size_t i = 0; i < value.items.size(); ++i) {
    out += i < value.names.size() ? "(" + value.names[i] + "=" : "(";
    out += identity(value.items[i]) + ")";
  }
  return out;
}

TEST(CacheKey, HasOneKeyForAllSpellingsOfAValueAndAnotherForEveryOther) {
  std::map<std::string, CacheKey> by_value;
  std::map<CacheKey, std::string> by_key;
  for (std::uint32_t seed = 1; seed <= 600; ++seed) {
    Make make(seed);
    const Value value = make.object(4);
    const std::string same = identity(value);
    for (int spelling = 0; spelling < 4; ++spelling) {
      const std::string text = make.spell(value);
      const CacheKey made = key(text);
      const auto known = by_value.emplace(same, made).first;
      ASSERT_EQ(known->second, made) << "seed " << seed << ": " << text;
      const auto owner = by_key.emplace(made, same).first;
      ASSERT_EQ(owner->second, same) << "seed " << seed << ": " << text;
    }
  }
  EXPECT_GT(by_value.size(), 400U);
}

TEST(CacheKey, NumbersAreComparedByValueExactly) {
  EXPECT_EQ(canonical_number("1"), canonical_number("1.0"));
  EXPECT_EQ(canonical_number("1"), canonical_number("1e0"));
  EXPECT_EQ(canonical_number("100"), canonical_number("1E+2"));
  EXPECT_EQ(canonical_number("0.7"), canonical_number("7e-1"));
  EXPECT_EQ(canonical_number("-0.0"), canonical_number("0"));
  EXPECT_NE(canonical_number("-1"), canonical_number("1"));
  EXPECT_NE(canonical_number("18446744073709551617"), canonical_number("18446744073709551618"));
  EXPECT_NE(canonical_number("0.1"), canonical_number("0.10000000000000001"));
  EXPECT_NE(canonical_number("1e1"), canonical_number("1e11"));
  EXPECT_NE(canonical_number("1e9999999999999999"), canonical_number("1e99999999999999999"));
}

TEST(CacheKey, LeavesOutWhatDoesNotChangeTheAnswer) {
  const CacheKey plain = key(R"({"messages":[{"role":"user","content":"hi"}]})");
  for (const std::string_view field : kFieldsLeftOut) {
    EXPECT_EQ(plain,
              key(fmt::format(R"({{"{}":{{"a":1}},"messages":[{{"role":"user","content":"hi"}}]}})", field)))
        << field;
  }
  // The same names deeper down are the request's own.
  EXPECT_NE(key(R"({"tools":[{"user":"a"}]})"), key(R"({"tools":[{"user":"b"}]})"));
  EXPECT_NE(plain, key(R"({"messages":[{"role":"user","content":"hi"}],"seed":1})"));
}

TEST(CacheKey, DependsOnWhoAsksForWhatOfWhichModelAndHow) {
  const std::string body = R"({"prompt":"a"})";
  std::set<CacheKey> keys{key(body)};
  for (auto member : {&CacheQuestion::scope, &CacheQuestion::operation, &CacheQuestion::model,
                      &CacheQuestion::model_version, &CacheQuestion::upstream_model}) {
    CacheQuestion other = question(body);
    other.*member = "other";
    keys.insert(*cache_key(other));
  }
  CacheQuestion streaming = question(body);
  streaming.stream = true;
  keys.insert(*cache_key(streaming));
  EXPECT_EQ(keys.size(), 7U);
  // What stands side by side does not run together.
  CacheQuestion left = question(body);
  left.model = "ab";
  left.model_version = "c";
  CacheQuestion right = question(body);
  right.model = "a";
  right.model_version = "bc";
  EXPECT_NE(cache_key(left), cache_key(right));
}

TEST(CacheKey, NothingIsKeptOfWhatCannotBeReadOrDependsOnMore) {
  EXPECT_FALSE(cache_key(question("{")));
  EXPECT_FALSE(cache_key(question(R"({"a":1} x)")));
  EXPECT_FALSE(cache_key(question("{\"a\":\"\xff\"}")));
  EXPECT_FALSE(cache_key(question(std::string(100, '[') + std::string(100, ']'))));
  EXPECT_FALSE(cache_key(question(R"({"input":"a","conversation":"conv_1"})")));
  EXPECT_FALSE(cache_key(question(R"({"input":"a","background":true})")));
  EXPECT_TRUE(cache_key(question(R"({"input":"a","background":false,"conversation":null})")));
  EXPECT_TRUE(cache_key(question(R"({"prompt":"a","background":"transparent"})")));
  EXPECT_TRUE(cache_key(question(R"({"tools":[{"conversation":"x"}]})")));
}

TEST(CacheKey, MembersThatStandThereTwiceKeepTheirOrder) {
  EXPECT_NE(key(R"({"a":1,"a":2})"), key(R"({"a":2,"a":1})"));
  EXPECT_NE(key(R"({"a":1,"a":2})"), key(R"({"a":2})"));
}

// --- Topics

TEST(CacheKey, ATopicIsTheSameHoweverItIsTyped) {
  const auto topic = [](std::string_view text) {
    const std::string body = fmt::format(R"({{"topic":"{}","style":"Plain"}})", text);
    CacheQuestion asked = question(body);
    asked.topic_field = "topic";
    return *cache_key(asked);
  };
  EXPECT_EQ(topic("How black holes work"), topic("  how  BLACK holes\\twork?! "));
  EXPECT_NE(topic("How black holes work"), topic("How black hole works"));
  EXPECT_NE(topic("C++ or C"), topic("C or C++"));
  // Case beyond ASCII is left as it is, and said to be.
  EXPECT_NE(topic("\xc3\x89t\xc3\xa9"), topic("\xc3\xa9t\xc3\xa9"));
  EXPECT_EQ(topic("!!"), topic(""));
}

TEST(CacheKey, OnlyTheTopicIsTakenLightly) {
  CacheQuestion one = question(R"({"topic":"A","style":"Plain"})");
  CacheQuestion two = question(R"({"topic":"a","style":"plain"})");
  one.topic_field = two.topic_field = "topic";
  EXPECT_NE(cache_key(one), cache_key(two));
  CacheQuestion deep = question(R"({"a":{"topic":"A"}})");
  CacheQuestion other = question(R"({"a":{"topic":"a"}})");
  deep.topic_field = other.topic_field = "topic";
  EXPECT_NE(cache_key(deep), cache_key(other));
}

// --- Files

TEST(CacheKey, AFileIsItsContent) {
  const auto with = [](std::string_view id, std::string_view sha256) {
    const std::string body = fmt::format(R"({{"image":"{}","prompt":"brighter"}})", id);
    const std::vector<CachedFile> files{{.field = "image", .sha256 = sha256}};
    CacheQuestion asked = question(body);
    asked.files = files;
    return *cache_key(asked);
  };
  EXPECT_EQ(with("art_1", "aa"), with("art_2", "aa"));
  EXPECT_NE(with("art_1", "aa"), with("art_1", "bb"));
  EXPECT_NE(with("aa", "aa"), key(R"({"image":"aa","prompt":"brighter"})"));
}

struct Field {
  std::string name, value, file, type;
};

std::string multipart(const std::vector<Field>& fields, const std::string& boundary) {
  std::string out;
  for (const Field& field : fields) {
    out += fmt::format("--{}\r\nContent-Disposition: form-data; name=\"{}\"", boundary, field.name);
    if (!field.file.empty()) out += fmt::format("; filename=\"{}\"", field.file);
    if (!field.type.empty()) out += "\r\nContent-Type: " + field.type;
    out += "\r\n\r\n" + field.value + "\r\n";
  }
  return out + "--" + boundary + "--\r\n";
}

std::optional<CacheKey> multipart_key(const std::vector<Field>& fields, const std::string& boundary = "xx1",
                                      bool quoted = false) {
  const std::string body = multipart(fields, boundary);
  const std::string type = quoted ? "Multipart/Form-Data; charset=utf-8; boundary=\"" + boundary + "\""
                                  : "multipart/form-data; boundary=" + boundary;
  CacheQuestion asked = question(body);
  asked.content_type = type;
  return cache_key(asked);
}

TEST(CacheKey, AFormIsItsPartsByNameWhateverItsBoundary) {
  const Field picture{
      .name = "image", .value = std::string("\x89PNG\r\n\0--", 9), .file = "a.png", .type = "image/png"};
  const Field prompt{.name = "prompt", .value = "brighter", .file = {}, .type = {}};
  const auto made = multipart_key({picture, prompt});
  ASSERT_TRUE(made);
  EXPECT_EQ(made, multipart_key({prompt, picture}, "another-boundary", true));
  EXPECT_EQ(made, multipart_key({prompt, picture, {.name = "user", .value = "u1", .file = {}, .type = {}}}));
  Field renamed = picture;
  renamed.file = "b \\\"1\\\"; x=y.PNG";
  renamed.type = "application/octet-stream";
  EXPECT_EQ(made, multipart_key({renamed, prompt}));
  Field other = picture;
  other.value.back() = '+';
  EXPECT_NE(made, multipart_key({other, prompt}));
  Field text = picture;
  text.file.clear();
  EXPECT_NE(made, multipart_key({text, prompt}));
  EXPECT_TRUE(multipart_key({{.name = "background", .value = "opaque", .file = {}, .type = {}}}));
}

TEST(CacheKey, PartsOfOneNameKeepTheirOrder) {
  const Field one{.name = "image[]", .value = "1", .file = "a.png", .type = {}};
  const Field two{.name = "image[]", .value = "2", .file = "b.png", .type = {}};
  EXPECT_NE(multipart_key({one, two}), multipart_key({two, one}));
  EXPECT_NE(multipart_key({one, two}), multipart_key({one}));
  EXPECT_TRUE(multipart_key({}));
}

TEST(CacheKey, AFormThatCannotBeReadHasNone) {
  CacheQuestion asked = question("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b");
  asked.content_type = "multipart/form-data; boundary=b";
  EXPECT_FALSE(cache_key(asked));  // it does not end
  asked.body = "--b\r\n\r\n1\r\n--b--";
  EXPECT_FALSE(cache_key(asked));  // no name
  asked.body = "nothing";
  EXPECT_FALSE(cache_key(asked));
  const std::string whole = multipart({{.name = "a", .value = "1", .file = {}, .type = {}}}, "b");
  asked.body = whole;
  asked.content_type = "multipart/form-data";
  EXPECT_FALSE(cache_key(asked));  // no boundary
  const std::vector<Field> many(kFormPartsMax + 1, {.name = "a", .value = "1", .file = {}, .type = {}});
  EXPECT_FALSE(multipart_key(many));
}

// --- Cache-Control

TEST(CacheControl, IsReadAsTheRfcSays) {
  EXPECT_EQ(parse_cache_control(""), CacheControl{});
  EXPECT_EQ(parse_cache_control("no-cache"),
            (CacheControl{.no_cache = true, .no_store = false, .max_age = {}}));
  EXPECT_EQ(parse_cache_control(" No-Store ,private"),
            (CacheControl{.no_cache = false, .no_store = true, .max_age = {}}));
  EXPECT_EQ(parse_cache_control("max-age=60, no-cache").max_age, 60s);
  EXPECT_EQ(parse_cache_control("max-age=\"60\", max-age=5").max_age, 5s);
  EXPECT_EQ(parse_cache_control("max-age=99999999999999999999").max_age, std::chrono::seconds(1LL << 31));
  EXPECT_EQ(parse_cache_control("max-age, max-age=, max-age=-1, max-age=1x"), CacheControl{});
  EXPECT_EQ(parse_cache_control("x=\"a, no-store\", no-cacheable"), CacheControl{});
  EXPECT_EQ(parse_cache_control("x=\"unended, no-store\\"), CacheControl{});
}

}  // namespace
}  // namespace turnpike::node::testing
