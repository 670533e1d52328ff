// Which events an endpoint wants.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/rows.h"

namespace turnpike::webhook {

// What an endpoint may name: every type of event, "*" for all, and "job.*" for all of a family ("run.step.*"
// is one, and part of "run.*"). job.progress,
// of which there are many, comes only to who names it.
std::vector<std::string> known_filters();

// Of a job or run that has ended: what an endpoint named by it is told, whatever it wants.
bool ends_work(engine::EventType type);

bool wants(const std::vector<std::string>& filters, engine::EventType type);

}  // namespace turnpike::webhook
