// How the node reads the input of a step of a run: as that of a request for its task is.
#pragma once

#include <boost/json/object.hpp>
#include <string_view>

#include "base/result.h"
#include "node/node.h"

namespace turnpike::api {

// For node::Options::read_input. Errors: kInvalidRequest, with the field at fault ("input.text").
Result<node::StepInput> read_step_input(std::string_view task, const boost::json::object& input);

}  // namespace turnpike::api
