// The sections of a configuration, one function each. They are read in this order, whatever the order in the
// file, so that each finds what it refers to: server, providers, models, plans, accounts, store, endpoints.
// A name with mistakes in it is known all the same: a mistake is reported once, not at every use.
#pragma once

#include <string>
#include <vector>

#include "policy/load.h"
#include "policy/reader.h"

namespace turnpike::policy {

void read_server(const Value& value, Policy& policy);  // and the pools of server.slots
void read_providers(const Value& value, const SecretSource& secrets, Policy& policy);  // and their own pools
void read_exec_tasks(const Value& value, Provider& provider);
void read_models(const Value& value, Policy& policy);
void read_plans(const Value& plans, const Value& defaults, Policy& policy);  // and the shares of classes
void read_accounts(const Value& value, Policy& policy);
void read_store(const Value& value, Policy& policy);
void read_endpoints(const Value& value, Policy& policy);

// Reads a secret: exactly `${env:NAME}` or `${file:PATH}`. `missing_ok`: one that is not there is left empty,
// else it is a mistake. The text of a secret is in no mistake.
void read_secret(const Value& value, const SecretSource& secrets, bool missing_ok, Secret& out);

// Reads a list of names that must all be among `known`, each once; `what` is what they name ("task").
void read_references(const Value& value, const char* what, const std::vector<std::string>& known,
                     std::vector<std::string>& out);

template <typename M>
std::vector<std::string> keys_of(const M& map) {
  std::vector<std::string> keys;
  keys.reserve(map.size());
  for (const auto& [key, value] : map) keys.push_back(key);
  return keys;
}

}  // namespace turnpike::policy
