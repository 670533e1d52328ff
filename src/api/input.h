// What each task takes as its input (api.md, "Jobs"), checked when a job is submitted, so that what can never
// succeed is refused at once. Tasks that are not in the table take any object: their providers check.
#pragma once

#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "api/fields.h"
#include "base/ids.h"
#include "policy/estimate.h"

namespace turnpike::api {

// `path`: how the input is called in messages, e.g. "input."; empty where the body is the input.
struct InputFacts {
  std::optional<ArtifactId> image;  // image_edit: the artifact that must be the account's own
  std::string image_url;            // image_edit: where the picture is to be fetched; or empty
  policy::Ask ask;                  // how large it is: what is held is made of it
};
// How large an input is, whatever else may be wrong with it.
policy::Ask measure_input(std::string_view task, const boost::json::object& input);
InputFacts check_input(std::string_view task, const boost::json::object& input, std::string_view path,
                       Mistakes& mistakes);

// Text's own fields, beside prompt and messages; shared with the OpenAI wire, which passes them on.
void check_sampling(Fields& fields);
// A conversation: each message has a role and a content.
void check_messages(const boost::json::array& messages, std::string_view path, Mistakes& mistakes);

constexpr std::int64_t kMaxTokensMax = 1'000'000;
constexpr std::size_t kMessagesMax = 10'000;

}  // namespace turnpike::api
