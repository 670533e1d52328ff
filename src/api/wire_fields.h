// The few fields of a body over OpenAI's wire that matter here, read without building it: the rest is the
// upstream's to judge, and goes on as it came.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "policy/estimate.h"
#include "provider/provider.h"

namespace turnpike::api {

// What can be asked over the wire; one line for each operation.
struct Operation {
  provider::Wire kind{};
  std::string_view path;
  std::string_view task;             // of the models that serve it
  bool form = false;                 // multipart/form-data; else JSON
  std::uint64_t body_bytes_max = 0;  // unless the configuration's own bound is larger
};
std::span<const Operation> operations();
const Operation* operation_at(std::string_view path);  // null: none
const Operation& operation_of(provider::Wire kind);

struct WireFields {
  std::string model;
  bool stream = false;
  bool wants_usage = false;
  policy::Ask ask;  // ask.choices: of all answers together
  // Members that say whose it is (`user`, `userId`, `userTier`, `videoConfig`): JSON text of an object.
  std::string identity = "{}";
};

// Errors: kInvalidRequest with the field at fault: no JSON object (or form), no model, a bound that is no
// whole number, and what an upstream might read otherwise than we do: a field that is given twice, a known
// one in other letters' case, or with an escape in its name.
Result<WireFields> read_wire(const Operation& operation, std::string_view content_type,
                             std::string_view body);

}  // namespace turnpike::api
