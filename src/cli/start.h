// What `serve` does before it serves.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "api/api.h"
#include "base/result.h"
#include "net/io_threads.h"
#include "node/node.h"
#include "policy/policy.h"

namespace turnpike::cli {

// As many open files as the system lets us have: connections and programs' pipes are files.
void raise_file_limit();

// True for an address that only this machine reaches: 127.x.x.x, ::1, localhost.
bool is_loopback(std::string_view listen);

// Looks whether the providers with a condition (Provider::use) are there, all at once, within seconds.
// Returns the names of those that are not.
std::set<std::string> missing_providers(const policy::Policy& policy, net::IoThreads& threads,
                                        std::vector<std::string>& reasons);

// Which provider serves each task, for a person: one line a task.
std::vector<std::string> serving_lines(const policy::Policy& policy, const std::set<std::string>& missing);

// The first admin key: TURNPIKE_ADMIN_KEY where it is set and new, else one that is made if there is none.
// Returns the key that was made, to be shown once; empty otherwise. Errors: kConfiguration (the variable
// holds no fit key), kIo.
Result<std::string> ensure_admin_key(node::Node& node, api::KeyStore& keys, net::IoThreads& threads);

}  // namespace turnpike::cli
