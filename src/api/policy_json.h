// A configuration in answers, and putting one in force: shared by who sends one and who goes back to one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/context.h"
#include "policy/load.h"

namespace turnpike::api {

// `text`: left out where it is empty.
std::string policy_json(std::uint64_t version, std::string_view hash, std::string_view text);

// Makes what was loaded the version in force and answers with its number; with mistakes, 422 names each of
// them and nothing is changed.
boost::asio::awaitable<Reply> put_in_force(Context& context, policy::Loaded loaded, std::string reason,
                                           std::optional<std::uint64_t> rolled_back_to = {});

}  // namespace turnpike::api
