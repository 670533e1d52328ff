// Idempotency-Key on every POST (api.md, "Ids, lists, errors"): an answer that was admitted is replayed for
// 24 h; another body under the same key, or one still being answered, is refused; refusals are never stored.
#pragma once

#include "api/context.h"

namespace turnpike::api {

// Answers a POST that has an Idempotency-Key: from the journal, or by `handler`.
boost::asio::awaitable<Reply> serve_once(Context& context, std::string key, RouteHandler handler);

// An answer larger than this is not stored, and so not replayed: the request is then a new one.
constexpr std::size_t kStoredBytesMax = 1 << 20;

// The row to store with a handler's own records, filled with this answer; nothing if there is none to store.
std::optional<journal::IdempotencyRow> take_idempotency(Context& context, int status, std::string body);

}  // namespace turnpike::api
