#include "api/step_input.h"

#include <utility>

#include "api/fields.h"
#include "api/input.h"

namespace turnpike::api {

Result<node::StepInput> read_step_input(std::string_view task, const boost::json::object& input) {
  Mistakes mistakes;
  InputFacts facts = check_input(task, input, "input.", mistakes);
  if (mistakes.any()) return std::unexpected(mistakes.error());
  // Where a picture is fetched from is looked at when it is fetched.
  return node::StepInput{.ask = std::move(facts.ask), .image = facts.image};
}

}  // namespace turnpike::api
