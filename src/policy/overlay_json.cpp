#include "policy/overlay_json.h"

#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

namespace turnpike::policy {
namespace {

namespace json = boost::json;

template <typename Texts>
json::array array_of(const Texts& texts) {
  json::array array;
  for (const auto& text : texts) array.emplace_back(text);
  return array;
}

std::unexpected<Error> wrong(std::string field, std::string_view right) {
  std::string message = fmt::format("{} must be {}", field, right);
  return fail(ErrorCode::kInvalidRequest, std::move(message), std::move(field));
}

Result<Overlay::Names> names_in(const json::value* value, std::string field) {
  Overlay::Names names;
  if (value == nullptr) return names;
  const json::array* list = value->if_array();
  if (list == nullptr) return wrong(std::move(field), "a list of names");
  for (const json::value& each : *list) {
    const json::string* name = each.if_string();
    if (name == nullptr) return wrong(std::move(field), "a list of names");
    names.emplace(name->data(), name->size());
  }
  return names;
}

Result<std::string> text_in(const json::object& object, std::string_view name, const std::string& path) {
  const json::value* value = object.if_contains(name);
  const json::string* text = value != nullptr ? value->if_string() : nullptr;
  if (text == nullptr) return wrong(path + std::string(name), "a text");
  return std::string(text->data(), text->size());
}

// {"a":{"b":"text"}} -> use(a, b, text), which says whether it takes it.
template <typename Use>
Result<void> each_of_two(const json::value* value, const char* field, std::string_view right, Use use) {
  if (value == nullptr) return {};
  const json::object* outer = value->if_object();
  if (outer == nullptr) return wrong(field, right);
  for (const auto& [first, inner] : *outer) {
    const json::object* members = inner.if_object();
    if (members == nullptr) return wrong(field, right);
    for (const auto& [second, text] : *members) {
      const json::string* word = text.if_string();
      if (word == nullptr ||
          !use(std::string(first), std::string(second), std::string(word->data(), word->size())))
        return wrong(fmt::format("{}.{}.{}", field, std::string_view(first), std::string_view(second)),
                     right);
    }
  }
  return {};
}

Result<Canary> canary_in(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return wrong("canaries", "a list of objects");
  Canary canary;
  for (const auto& [name, into] : {std::pair{"id", &canary.id},
                                   {"model", &canary.model},
                                   {"candidate", &canary.candidate},
                                   {"baseline", &canary.baseline}}) {
    auto text = text_in(*object, name, "canaries.");
    if (!text) return std::unexpected(std::move(text.error()));
    *into = std::move(*text);
  }
  auto plans = names_in(object->if_contains("plans"), "canaries.plans");
  if (!plans) return std::unexpected(std::move(plans.error()));
  canary.plans.assign(plans->begin(), plans->end());
  const auto number = [](const json::object& in, const char* name,
                         std::int64_t most) -> std::optional<std::uint32_t> {
    const json::value* value = in.if_contains(name);
    if (value == nullptr || !value->is_int64() || value->get_int64() < 0 || value->get_int64() > most)
      return std::nullopt;
    return static_cast<std::uint32_t>(value->get_int64());
  };
  const auto share = number(*object, "share_permille", 1'000);
  if (!share) return wrong("canaries.share_permille", "an integer from 0 to 1000");
  canary.share_permille = *share;
  const json::value* guard = object->if_contains("guard");
  if (guard == nullptr) return canary;
  if (!guard->is_object()) return wrong("canaries.guard", "an object");
  for (const auto& [name, into] : {std::pair{"tries_min", &canary.guard.tries_min},
                                   {"errors_permille", &canary.guard.errors_permille},
                                   {"latency_permille", &canary.guard.latency_permille},
                                   {"cost_permille", &canary.guard.cost_permille}}) {
    const auto given = number(guard->get_object(), name, 1'000'000);
    if (!given) return wrong(fmt::format("canaries.guard.{}", name), "an integer from 0 to 1000000");
    *into = *given;
  }
  return canary;
}

}  // namespace

std::optional<VersionStatus> version_status_named(std::string_view name) {
  for (std::size_t i = 0; i < kVersionStatusCount; ++i) {
    const auto status = static_cast<VersionStatus>(i);
    if (name == version_status_name(status)) return status;
  }
  return std::nullopt;
}

std::string overlay_json(const Overlay& overlay) {
  json::object all;
  all["freeze"] = overlay.freeze;
  all["paused_providers"] = array_of(overlay.paused_providers);
  all["paused_models"] = array_of(overlay.paused_models);
  json::object keys;
  for (const auto& [provider, names] : overlay.paused_keys) keys[provider] = array_of(names);
  all["paused_keys"] = std::move(keys);
  json::object statuses;
  for (const auto& [model, versions] : overlay.statuses) {
    json::object own;
    for (const auto& [version, status] : versions) own[version] = version_status_name(status);
    statuses[model] = std::move(own);
  }
  all["statuses"] = std::move(statuses);
  json::array canaries;
  for (const Canary& canary : overlay.canaries) {
    canaries.push_back(
        json::object{{"id", canary.id},
                     {"model", canary.model},
                     {"candidate", canary.candidate},
                     {"baseline", canary.baseline},
                     {"plans", array_of(canary.plans)},
                     {"share_permille", canary.share_permille},
                     {"guard", json::object{{"tries_min", canary.guard.tries_min},
                                            {"errors_permille", canary.guard.errors_permille},
                                            {"latency_permille", canary.guard.latency_permille},
                                            {"cost_permille", canary.guard.cost_permille}}}});
  }
  all["canaries"] = std::move(canaries);
  json::object pins;
  for (const auto& [plan, models] : overlay.pins) {
    json::object own;
    for (const auto& [model, version] : models) own[model] = version;
    pins[plan] = std::move(own);
  }
  all["pins"] = std::move(pins);
  return json::serialize(all);
}

std::string decision_json(std::string_view reason, std::string_view overlay) {
  const std::string quoted = json::serialize(json::value(json::string(reason)));
  return fmt::format(R"({{"reason":{},"overlay":{}}})", quoted, overlay);
}

Result<Overlay> overlay_from_json(std::string_view text) {
  json::error_code ec;
  const json::value parsed = json::parse(text, ec);
  const json::object* all = ec ? nullptr : parsed.if_object();
  if (all == nullptr) return fail(ErrorCode::kInvalidRequest, "the operator's decisions are no JSON object");
  Overlay overlay;
  if (const json::value* freeze = all->if_contains("freeze")) {
    if (!freeze->is_bool()) return wrong("freeze", "true or false");
    overlay.freeze = freeze->get_bool();
  }
  for (const auto& [name, into] : {std::pair{"paused_providers", &overlay.paused_providers},
                                   {"paused_models", &overlay.paused_models}}) {
    auto names = names_in(all->if_contains(name), name);
    if (!names) return std::unexpected(std::move(names.error()));
    *into = std::move(*names);
  }
  if (const json::value* keys = all->if_contains("paused_keys")) {
    if (!keys->is_object()) return wrong("paused_keys", "an object of lists of names");
    for (const auto& [provider, list] : keys->get_object()) {
      auto names = names_in(&list, "paused_keys." + std::string(provider));
      if (!names) return std::unexpected(std::move(names.error()));
      if (!names->empty()) overlay.paused_keys[std::string(provider)] = std::move(*names);
    }
  }
  auto done =
      each_of_two(all->if_contains("statuses"), "statuses",
                  "an object of models, of versions, of unverified, beta, approved, blessed or retired",
                  [&overlay](std::string model, std::string version, const std::string& word) {
                    const auto status = version_status_named(word);
                    if (status) overlay.statuses[std::move(model)][std::move(version)] = *status;
                    return status.has_value();
                  });
  if (!done) return std::unexpected(std::move(done.error()));
  done = each_of_two(all->if_contains("pins"), "pins", "an object of plans, of models, of versions",
                     [&overlay](std::string plan, std::string model, std::string version) {
                       overlay.pins[std::move(plan)][std::move(model)] = std::move(version);
                       return true;
                     });
  if (!done) return std::unexpected(std::move(done.error()));
  if (const json::value* canaries = all->if_contains("canaries")) {
    if (!canaries->is_array()) return wrong("canaries", "a list of objects");
    for (const json::value& each : canaries->get_array()) {
      auto canary = canary_in(each);
      if (!canary) return std::unexpected(std::move(canary.error()));
      overlay.canaries.push_back(std::move(*canary));
    }
  }
  return overlay;
}

}  // namespace turnpike::policy
