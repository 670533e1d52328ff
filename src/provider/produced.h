// What is made of a file that a try produced: usage, and facts for the result's output.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "provider/measure.h"
#include "provider/provider.h"

namespace turnpike::provider {

// Adds to what was used of a meter.
void add_usage(Success& success, const std::string& meter, std::int64_t amount);

// What was measured, as the result's output says it, and as usage.
boost::json::object take_facts(const Measured& measured, Success& success);

// Whether measure() knows files of this type: one that is called so must be one.
bool is_measured_type(std::string_view mime);

// What files of a type are called, without the dot; "bin" for types that are not known here.
std::string extension_of_type(std::string_view mime);

}  // namespace turnpike::provider
