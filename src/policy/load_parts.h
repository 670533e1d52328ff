// The sections of a configuration, one function each. They are read in this order, whatever the order in the
// file, so that each finds what it refers to: server, providers, models, aliases, content_types, plans,
// accounts, store, webhooks, pictures, workflows, endpoints, cache, telemetry, prices, teams and platform,
// rules, flags. A name with mistakes in it is known all the same: a mistake is reported once, not at every
// use.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/load.h"
#include "policy/reader.h"

namespace turnpike::policy {

constexpr std::uint32_t kSlotsMax = 100'000;  // of a pool

void read_server(const Value& value, Policy& policy);  // and the pools of server.slots
void read_providers(const Value& value, const SecretSource& secrets, Policy& policy);  // and their own pools
// The key `serve`; before the pool, whose slots are as many as its processes take, and before the tasks.
void read_serve(const Value& value, Provider& provider);
void read_exec_tasks(const Value& value, Provider& provider);
void read_http(Map& map, Provider& provider);  // what only providers of kind http have
void read_watch(const Value& value,
                Provider& provider);  // the provider's address and keys must have been read
void read_models(const Value& value, Policy& policy);
void read_discover(const Value& value, const Policy& policy, Model& model);  // the model's task likewise
// Versions that are found must have a place among the file's.
void check_discover(const Value& where, const Model& model);
// Whether the provider could serve the task as far as the configuration says.
void check_serves(const Value& where, const Policy& policy, const std::string& provider,
                  const std::string& task);
void read_aliases(const Value& value, Policy& policy);
void read_plans(const Value& plans, const Value& defaults, Policy& policy);  // and the shares of classes
void read_accounts(const Value& value, Policy& policy);
void read_store(const Value& value, Policy& policy);
void read_webhooks(const Value& value, Policy& policy);
void read_pictures(const Value& value, Policy& policy);
// The names of all, those with mistakes in them too.
std::vector<std::string> read_workflows(const Value& value, Policy& policy);
void read_endpoints(const Value& value, const std::vector<std::string>& workflows, Policy& policy);
// Any value as JSON: what is not in quotes is what JSON reads in it, else a text. `seen` is told each value
// within, and the whole, before what is in it; may be empty.
boost::json::value to_json(const Value& value, const std::function<void(const Value&)>& seen = {});
// Of an endpoint's body, compiled; null where there is none, or a mistake in it.
std::shared_ptr<const BodySchema> read_schema(const Value& value);
void read_cache(const Value& value, Policy& policy);
void read_telemetry(const Value& value, const SecretSource& secrets, Policy& policy);
void read_content_types(const Value& value, Policy& policy);
void read_prices(const Value& value, Policy& policy);
void read_groups(const Value& teams, const Value& platform, Policy& policy);
void read_rules(const Value& value, Policy& policy);
void read_alerts(const Value& value, Policy& policy);
void read_flags(const Value& value, Policy& policy);
void read_account_zone(const Value& value, Policy& policy);

// Slots of a provider whose keys all say how many tries they take at once; nullopt: they do not.
struct KeySlots {
  std::optional<std::uint32_t> configured;  // of all keys in the file
  std::uint32_t there = 0;                  // of those whose secret is there
};
// The keys of a remote provider: `keys`, or `api_key`. Provider::use must have been read.
void read_keys(Map& map, const SecretSource& secrets, Provider& out, KeySlots& slots);
// What every kind may have: limit, breaker, cool_down, saturation, timeout.
void read_upstream(Map& map, Provider& out);

// The key `models` of a plan, into its ModelPolicy; `providers` in it is short for the plan's own. The plan's
// tasks and providers must have been read. False: a pin has a mistake, so that nothing is to be said of the
// whole.
bool read_model_policy(const Value& value, const Policy& policy, Plan& out);
// What only the plan as a whole shows: pins that have no effect, and models that nothing holds at a version.
void check_model_policy(const Value& where, const Policy& policy, const Plan& plan);
// A list of providers in order for one task.
void read_task_providers(const std::string& task, const Value& entry, const Policy& policy, Plan& out);

// The keys that plans, teams and the platform share: quotas, rates, cost_cap, period, thresholds.
void read_promise(Map& map, const Policy& policy, Promise& out);
// The keys that an account may have of its own: those of a plan that are no other plan's business.
void read_overrides(Map& map, const Policy& policy, Plan& out);
// The key `cache` of a plan; the tasks must be known.
void read_plan_cache(const Value& value, const Policy& policy, std::optional<PlanCache>& out);
// The values of a price table as text.
std::string canonical_text(const PriceTable& prices);

// Reads a secret: exactly `${env:NAME}` or `${file:PATH}`. `missing_ok`: one that is not there is left empty,
// else it is a mistake. The text of a secret is in no mistake.
void read_secret(const Value& value, const SecretSource& secrets, bool missing_ok, Secret& out);
// Likewise, of a header: words may stand before it ("Bearer ${env:NAME}"), and the secret must be there.
void read_secret_header(const Value& value, const SecretSource& secrets, Secret& out);
// http(s)://HOST[:PORT][/PATH], without user, query, fragment or a slash at its end.
bool is_base_url(std::string_view url);

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
