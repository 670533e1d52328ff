// What a client says over a WebSocket: what it wants to be told of.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/event_feed.h"
#include "base/ids.h"
#include "base/result.h"

namespace turnpike::api {

struct SocketMessage {
  enum class What : std::uint8_t { kSubscribe, kUnsubscribe } what = What::kSubscribe;
  std::vector<EventFeed::Subject> subjects;  // at least one, each once, in the order they were named
  std::vector<std::size_t> places;           // of each in the list as it was sent
  std::optional<EventId> after;              // of kSubscribe
};

// `text`: {"subscribe":["account","job_…","run_…"],"after":"evt_…"?} or {"unsubscribe":[…]}. Errors:
// kInvalidRequest, whose param is the field, as `subscribe[1]`; kLimitExceeded for a list longer than
// `subjects_max`.
Result<SocketMessage> read_socket_message(std::string_view text, std::size_t subjects_max);

// "account", or the id of the job or run.
std::string subject_name(const EventFeed::Subject& subject);

}  // namespace turnpike::api
