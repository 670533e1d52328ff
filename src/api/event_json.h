// Events as CloudEvents 1.0 in JSON, the same on every way out: streams and webhooks.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>

#include "journal/journal.h"
#include "node/node.h"

namespace turnpike::api {

// `job`, `run`: shown as the event's `job` or `run`, where it is of one; null: left out.
std::string event_json(const journal::StoredEvent& stored, const node::JobView* job,
                       const node::RunView* run = nullptr);

// The state of a job or a run as an event that has no id in the log.
std::string state_json(const node::JobView& job, engine::EventType type, Wall now);
std::string state_json(const node::RunView& run, engine::EventType type, Wall now);

// What a webhook carries: the event, and of a job or run that has ended that as it stands, unless it is too
// large.
boost::asio::awaitable<std::string> webhook_payload(node::Node& node, const journal::StoredEvent& stored);

}  // namespace turnpike::api
