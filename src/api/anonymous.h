// Whoever has no key (docs/decisions/0029): one account for each address, which may ask what the operator has
// made public and see what came of it.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "api/context.h"

namespace turnpike::api {

// The user id of whoever asks from there: "public:203.0.113.7", "public:2001:db8:0:7::/64" (IPv6 counts by
// the network that one subscriber has). `remote` as net::Request has it; nothing: that is no address.
std::optional<std::string> anonymous_user(std::string_view remote);
// Such an id, whoever wrote it: no application's own users are called so.
bool is_anonymous_user(std::string_view user_id);

// Nothing where the request is not open to whoever has no key: neither a public endpoint, nor a look at what
// one of them made.
std::optional<Caller> anonymous_caller(const Context& context);

// The account of an anonymous caller, made where it is new, on the plan of public endpoints. Errors:
// kRateLimited (too many were new just now), kUnavailable.
boost::asio::awaitable<Result<AccountId>> anonymous_account(Context& context);

// A place for a stream of an anonymous caller, held while what it returns lives; null for any other caller.
// Errors: kConcurrencyLimited (the address has its share), kUnavailable.
Result<std::shared_ptr<const void>> place_for_stream(Context& context);

}  // namespace turnpike::api
