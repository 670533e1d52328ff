// Which events an endpoint wants.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/rows.h"

namespace turnpike::webhook {

// What an endpoint may name: every type of event, "*" for all, and "job.*" for all of a family. job.progress,
// of which there are many, comes only to who names it.
std::vector<std::string> known_filters();

// Of a job that has ended: what an endpoint named by the job is told, whatever it wants.
bool ends_a_job(engine::EventType type);

bool wants(const std::vector<std::string>& filters, engine::EventType type);

}  // namespace turnpike::webhook
