// Reads the fields of a request's JSON object one by one, collecting every mistake: each names its field and
// says what would be right. A handler reads like the list of fields it knows; what nobody asked for is
// refused at the end.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace turnpike::api {

class Mistakes {
 public:
  void add(std::string param, std::string message);
  bool any() const { return !found_.empty(); }
  // The first names the `param`; the message tells of all (at most kToldMax).
  Error error() const;

 private:
  static constexpr std::size_t kToldMax = 5;
  struct Mistake {
    std::string param, message;
  };
  std::vector<Mistake> found_;
};

class Fields {
 public:
  // `path`: what names begin with in messages, e.g. "input."; empty at the top. All are borrowed.
  Fields(const boost::json::object& object, std::string_view path, Mistakes& mistakes)
      : object_(object), path_(path), mistakes_(mistakes) {
    known_.reserve(16);
  }

  // Each returns nothing where the field is absent or null, or wrong (which is then among the mistakes).
  std::optional<std::string_view> text(std::string_view name, std::size_t bytes_min, std::size_t bytes_max);
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t low, std::int64_t high);
  std::optional<double> number(std::string_view name, double low, double high);
  std::optional<bool> boolean(std::string_view name);
  const boost::json::object* object(std::string_view name);
  const boost::json::array* array(std::string_view name, std::size_t size_min, std::size_t size_max);
  // Any type; for fields whose type the caller looks at.
  const boost::json::value* any(std::string_view name);
  // One of the words.
  std::optional<std::string_view> word(std::string_view name, const std::vector<std::string_view>& words);
  // Documented, but not built: refused where it is given.
  void not_yet(std::string_view name);
  void require(std::string_view name);  // absent or null: a mistake
  void mistake(std::string_view name, std::string message);

  // Refuses every field that nobody asked for. Call it last.
  void finish();

 private:
  const boost::json::value* find(std::string_view name);
  void wrong_type(std::string_view name, std::string_view right);

  const boost::json::object& object_;
  std::string path_;
  Mistakes& mistakes_;
  std::vector<std::string_view> known_;
};

}  // namespace turnpike::api
