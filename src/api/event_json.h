// Events as CloudEvents 1.0 in JSON, the same on every way out: streams and webhooks.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>

#include "journal/journal.h"
#include "node/node.h"

namespace turnpike::api {

// `job`: shown as the event's `job`; null: left out.
std::string event_json(const journal::StoredEvent& stored, const node::JobView* job);

// The state of a job as an event that has no id in the log.
std::string state_json(const node::JobView& job, engine::EventType type, Wall now);

// What a webhook carries: the event, and of a job that has ended the job as it stands, unless that is too
// large.
boost::asio::awaitable<std::string> webhook_payload(node::Node& node, const journal::StoredEvent& stored);

}  // namespace turnpike::api
