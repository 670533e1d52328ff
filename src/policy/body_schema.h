// What the body of an operator's endpoint must look like: a JSON Schema of draft 7, compiled when the
// configuration is loaded. Immutable and thread-safe. Which keywords there are is said in load_schema.cpp.
#pragma once

#include <boost/json/value.hpp>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace turnpike::policy {

class BodySchema {
 public:
  // Values of a body, all levels together. What a check may take is bounded by this and by the schema.
  static constexpr std::size_t kBodyValuesMax = 10'000;
  static constexpr std::size_t kMisfitsMax = 20;

  // Where a body does not fit.
  struct Misfit {
    std::string field;    // "operations.resize.width", "scenes.0"; "body": the whole
    std::string message;  // what is wrong with it, with its name
  };

  // `schema` is without references and regular expressions. Errors: kConfiguration, with what is wrong.
  static Result<std::shared_ptr<const BodySchema>> compile(const boost::json::value& schema);
  ~BodySchema();
  BodySchema(const BodySchema&) = delete;
  BodySchema& operator=(const BodySchema&) = delete;

  // Empty: it fits. At most kMisfitsMax.
  std::vector<Misfit> misfits(const boost::json::value& body) const;

 private:
  struct Compiled;
  explicit BodySchema(std::unique_ptr<const Compiled> compiled);
  std::unique_ptr<const Compiled> compiled_;  // never null
};

}  // namespace turnpike::policy
