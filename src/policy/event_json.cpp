#include "policy/event_json.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace turnpike::policy {
namespace {

namespace json = boost::json;

json::value text_or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

}  // namespace

std::string discovered_json(const Discovery& found, const std::optional<Place>& place) {
  json::object all;
  all["provider"] = found.provider;
  all["kind"] = discovery_kind_name(found.kind);
  all["id"] = found.id;
  all["name"] = text_or_null(found.name);
  all["model"] = text_or_null(place ? place->model : std::string());
  all["version"] = text_or_null(place ? place->version : std::string());
  all["status"] = version_status_name(VersionStatus::kDiscovered);
  return json::serialize(all);
}

std::string policy_changed_json(const PolicyChanged& changed) {
  json::object all;
  all["version"] = changed.version;
  all["previous"] = changed.previous;
  all["hash"] = changed.hash;
  all["by"] = changed.by;
  all["reason"] = text_or_null(changed.reason);
  all["rolled_back_to"] =
      changed.rolled_back_to ? json::value(*changed.rolled_back_to) : json::value(nullptr);
  return json::serialize(all);
}

}  // namespace turnpike::policy
