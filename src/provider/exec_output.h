// A file that a local program made, looked at before it is taken.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <filesystem>

#include "base/result.h"
#include "provider/exec_task.h"
#include "provider/provider.h"

namespace turnpike::provider {

// Looks at what is really there in `folder`: a program's output may be missing, a link out of its folder, or
// a pipe. Adds the file and what it measures to `success`; returns what the result's output says of it.
// Errors: kUpstreamError (what is wrong with it, for the user), kIo.
Result<boost::json::object> take_output(const ExpectedOutput& output, const std::filesystem::path& folder,
                                        std::uint64_t bytes_max, Success& success);

// Takes every output and says in `said` what each is: under its name where there are several.
// Errors: as take_output.
Result<void> take_outputs(const std::vector<ExpectedOutput>& outputs, const std::filesystem::path& folder,
                          std::uint64_t bytes_max, boost::json::object& said, Success& success);

}  // namespace turnpike::provider
