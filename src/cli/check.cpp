// check, apply, version: what concerns the configuration, and the program itself.
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/string.hpp>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "cli/commands.h"
#include "cli/control.h"
#include "policy/load.h"

namespace turnpike::cli {
namespace {

namespace json = boost::json;

// Prints every mistake that the server names; false if it names none.
bool print_mistakes(const net::ClientResponse& response) {
  json::error_code ec;
  const json::value body = json::parse(response.body, ec);
  const json::object* object = ec ? nullptr : body.if_object();
  const json::value* error = object != nullptr ? object->if_contains("error") : nullptr;
  const json::value* mistakes =
      error != nullptr && error->is_object() ? error->get_object().if_contains("mistakes") : nullptr;
  if (mistakes == nullptr || !mistakes->is_array()) return false;
  for (const auto& mistake : mistakes->get_array()) {
    const json::value* text = mistake.is_object() ? mistake.get_object().if_contains("text") : nullptr;
    if (text != nullptr && text->is_string()) fmt::print(stderr, "{}\n", text->get_string().c_str());
  }
  return !mistakes->get_array().empty();
}

std::string version_of(const net::ClientResponse& response) {
  json::error_code ec;
  const json::value body = json::parse(response.body, ec);
  const json::value* version = !ec && body.is_object() ? body.get_object().if_contains("version") : nullptr;
  return version != nullptr && version->is_number() ? fmt::to_string(version->to_number<std::int64_t>())
                                                    : "?";
}

}  // namespace

int check(const CheckOptions& options) {
  const policy::Loaded loaded = policy::load_file(options.config);
  for (const auto& mistake : loaded.mistakes) fmt::print(stderr, "{}\n", policy::to_string(mistake));
  if (loaded.policy == nullptr) {
    fmt::print(stderr, "{}: {} mistakes\n", options.config, loaded.mistakes.size());
    return kBadConfiguration;
  }
  fmt::print("{}: no mistakes ({} plans, {} models, {} providers)\n", options.config,
             loaded.policy->plans.size(), loaded.policy->models.size(), loaded.policy->providers.size());
  return kOk;
}

int apply(const ApplyOptions& options) {
  const std::ifstream file(options.config, std::ios::binary);
  if (!file) {
    fmt::print(stderr, "turnpike: cannot read {}\n", options.config);
    return kBadConfiguration;
  }
  std::ostringstream text;
  text << file.rdbuf();
  if (!server_runs(options.data)) {
    fmt::print(stderr, "turnpike: no server runs on {}; it reads its configuration when it starts\n",
               options.data.string());
    return kFailed;
  }
  Http control = control_of(options.data);
  const auto response = control.send("POST", "/api/admin/policy/apply", text.str(),
                                     {{"Content-Type", "application/yaml"},
                                      {"Turnpike-Config-Name", options.config},
                                      {"Turnpike-Reason", options.reason}});
  if (!response) {
    fmt::print(stderr, "turnpike: {}\n", response.error().message);
    return kFailed;
  }
  if (response->status == 200) {
    fmt::print("version {} of the configuration is in force\n", version_of(*response));
    return kOk;
  }
  const bool mistaken = print_mistakes(*response);
  fmt::print(stderr, "turnpike: {}\n", error_message(*response));
  return mistaken ? kBadConfiguration : kFailed;
}

int version() {
  fmt::print("turnpike {}\n", TURNPIKE_VERSION);
  return kOk;
}

}  // namespace turnpike::cli
