// apply and turnpike policy: configurations of the running server, over its control socket.
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

#include "cli/commands.h"
#include "cli/control.h"

namespace turnpike::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kVersions = "/api/admin/policy/versions";

json::object object_of(const net::ClientResponse& response) {
  json::error_code ec;
  json::value body = json::parse(response.body, ec);
  return !ec && body.is_object() ? std::move(body.get_object()) : json::object();
}

std::string text_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::string number_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_number() ? fmt::to_string(value->to_number<std::int64_t>()) : "?";
}

// Prints every mistake that the server names; false if it names none.
bool print_mistakes(const net::ClientResponse& response) {
  const json::object body = object_of(response);
  const json::value* error = body.if_contains("error");
  const json::value* mistakes =
      error != nullptr && error->is_object() ? error->get_object().if_contains("mistakes") : nullptr;
  if (mistakes == nullptr || !mistakes->is_array()) return false;
  for (const auto& mistake : mistakes->get_array()) {
    if (mistake.is_object()) fmt::print(stderr, "{}\n", text_of(mistake.get_object(), "text"));
  }
  return !mistakes->get_array().empty();
}

bool no_server(const std::filesystem::path& data) {
  if (server_runs(data)) return false;
  fmt::print(stderr, "turnpike: no server runs on {}; it reads its configuration when it starts\n",
             data.string());
  return true;
}

// What the server says to it; nothing, and printed why, where that is not success.
std::optional<json::object> ask(const std::filesystem::path& data, std::string_view path) {
  if (no_server(data)) return std::nullopt;
  Http control = control_of(data);
  const auto response = control.send("GET", path);
  if (!response || response->status != 200) {
    fmt::print(stderr, "turnpike: {}\n", response ? error_message(*response) : response.error().message);
    return std::nullopt;
  }
  return object_of(*response);
}

// Says how putting a configuration in force went.
int conclude(const Result<net::ClientResponse>& response) {
  if (!response) {
    fmt::print(stderr, "turnpike: {}\n", response.error().message);
    return kFailed;
  }
  if (response->status == 200) {
    fmt::print("version {} of the configuration is in force\n", number_of(object_of(*response), "version"));
    return kOk;
  }
  const bool mistaken = print_mistakes(*response);
  fmt::print(stderr, "turnpike: {}\n", error_message(*response));
  return mistaken ? kBadConfiguration : kFailed;
}

}  // namespace

int apply(const ApplyOptions& options) {
  const std::ifstream file(options.config, std::ios::binary);
  if (!file) {
    fmt::print(stderr, "turnpike: cannot read {}\n", options.config);
    return kBadConfiguration;
  }
  std::ostringstream text;
  text << file.rdbuf();
  if (no_server(options.data)) return kFailed;
  Http control = control_of(options.data);
  return conclude(control.send("POST", "/api/admin/policy/apply", text.str(),
                               {{"Content-Type", "application/yaml"},
                                {"Turnpike-Config-Name", options.config},
                                {"Turnpike-Reason", options.reason}}));
}

int policy_list(const PolicyOptions& options) {
  const auto list = ask(options.data, fmt::format("{}?limit={}", kVersions, options.limit));
  if (!list) return kFailed;
  const json::value* data = list->if_contains("data");
  if (data == nullptr || !data->is_array()) return kFailed;
  for (const json::value& each : data->get_array()) {
    if (!each.is_object()) continue;
    const json::object& version = each.get_object();
    fmt::print("{:>5}  {}  {:<24}  {}\n", number_of(version, "version"), text_of(version, "applied_at"),
               text_of(version, "applied_by"), text_of(version, "reason"));
  }
  return kOk;
}

int policy_show(const PolicyOptions& options) {
  const auto version = ask(options.data, fmt::format("{}/{}", kVersions, options.version));
  if (!version) return kFailed;
  fmt::print("{}", text_of(*version, "text"));
  return kOk;
}

int policy_diff(const PolicyOptions& options) {
  std::string path = fmt::format("{}/{}/diff", kVersions, options.version);
  if (options.against > 0) path += fmt::format("?against={}", options.against);
  const auto diff = ask(options.data, path);
  if (!diff) return kFailed;
  fmt::print("{}", text_of(*diff, "diff"));
  return kOk;
}

int policy_rollback(const PolicyOptions& options) {
  if (no_server(options.data)) return kFailed;
  json::object body{{"version", options.version}};
  if (!options.reason.empty()) body["reason"] = options.reason;
  Http control = control_of(options.data);
  return conclude(control.send("POST", "/api/admin/policy/rollback", json::serialize(body),
                               {{"Content-Type", "application/json"}}));
}

}  // namespace turnpike::cli
