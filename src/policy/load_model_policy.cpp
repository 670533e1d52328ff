// The key `models` of a plan: which versions of which models it is served.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"
#include "policy/resolve.h"

namespace turnpike::policy {
namespace {

constexpr std::size_t kPinBytesMax = 129;  // a name, @ and a version

bool read_version_policy(const Value& value, VersionPolicy& out) {
  return value.word(out, {{"latest", VersionPolicy::kLatest},
                          {"allow_minor", VersionPolicy::kAllowMinor},
                          {"pinned", VersionPolicy::kPinned}});
}

std::vector<std::string> models_of_task(const Policy& policy, const std::string& task) {
  std::vector<std::string> names;
  for (const auto& [name, model] : policy.models) {
    if (model.task == task) names.push_back(name);
  }
  return names;
}

// False: there is a mistake in it, which was told.
bool read_pin(const Value& value, const Policy& policy, const std::string& task, std::vector<Pin>& out) {
  std::string text;
  if (!value.text(text, kPinBytesMax)) return false;
  const std::size_t at = text.find('@');
  if (at == std::string::npos) {
    value.mistake("must be MODEL@VERSION, such as writer@2.0.0");
    return false;
  }
  Pin pin{.model = text.substr(0, at), .version = text.substr(at + 1)};
  const auto model = policy.models.find(pin.model);
  if (model == policy.models.end() || model->second.task != task) {
    value.mistake(fmt::format("task `{}` has no model `{}`: {}", task, pin.model,
                              suggestion(pin.model, models_of_task(policy, task))));
    return false;
  }
  const ModelVersion* version = model->second.version(pin.version);
  if (version == nullptr) {
    value.mistake(fmt::format("model `{}` has no version `{}`: {}", pin.model, pin.version,
                              possession(model->second.version_names())));
    return false;
  }
  if (version->status == VersionStatus::kRetired) {
    value.mistake("is retired: nobody would be served");
    return false;
  }
  if (contains(out, pin.model, &Pin::model)) {
    value.mistake(fmt::format("a second version of model `{}` is pinned: keep one", pin.model));
    return false;
  }
  out.push_back(std::move(pin));
  return true;
}

bool read_pins(const Value& value, const Policy& policy, const std::string& task, std::vector<Pin>& out) {
  if (!value.present()) return true;
  out.clear();
  if (!value.is_list()) return read_pin(value, policy, task, out);
  bool good = !value.is_empty();
  if (!good) value.mistake("needs at least one MODEL@VERSION");
  value.list([&](const Value& item) { good = read_pin(item, policy, task, out) && good; });
  return good;
}

bool read_task_models(Map& map, const Policy& policy, const std::string& task, Plan& plan) {
  TaskModels& out = plan.models.tasks[task];
  VersionPolicy version_policy{};
  if (read_version_policy(map.at("policy"), version_policy)) out.policy = version_policy;
  const bool good = read_pins(map.at("pin"), policy, task, out.pins);
  const Value providers = map.at("providers");
  if (providers.present()) read_task_providers(task, providers, policy, plan);
  return good;
}

void read_allow(const Value& value, const Policy& policy, ModelPolicy& out) {
  if (value.is_word("all")) {
    out.allow.reset();
    return;
  }
  if (!value.present()) return;
  if (!value.is_list()) {
    value.mistake("must be a list of models, or `all`");
    return;
  }
  out.allow.emplace();
  read_references(value, "model", keys_of(policy.models), *out.allow);
}

}  // namespace

bool read_model_policy(const Value& value, const Policy& policy, Plan& plan) {
  bool good = true;
  value.section([&](Map& map) {
    read_version_policy(map.at("policy"), plan.models.policy);
    map.at("tasks").each([&](const std::string& task, const Value& entry) {
      const std::vector<std::string> tasks = known_tasks(policy);
      if (!contains(tasks, task)) {
        entry.mistake(fmt::format("unknown task `{}`: {}", task, suggestion(task, tasks)));
        return;
      }
      entry.section([&](Map& keys) { good = read_task_models(keys, policy, task, plan) && good; });
    });
    map.at("visibility").section([&](Map& visibility) {
      visibility.at("beta").flag(plan.models.beta);
      visibility.at("unverified").flag(plan.models.unverified);
    });
    read_allow(map.at("allow"), policy, plan.models);
  });
  return good;
}

void check_model_policy(const Value& where, const Policy& policy, const Plan& plan) {
  const ModelPolicy& rules = plan.models;
  for (const std::string& task : known_tasks(policy)) {
    if (!plan.has_task(task)) continue;
    const VersionPolicy version_policy = rules.policy_of(task);
    const std::vector<Pin>& pins = rules.pins_of(task);
    for (const Pin& pin : pins) {
      if (!rules.allows(pin.model))
        where.mistake(fmt::format("task `{}` pins model `{}`, which `allow` does not name", task, pin.model));
    }
    if (version_policy == VersionPolicy::kLatest) {
      if (pins.empty()) continue;
      where.mistake(fmt::format(
          "task `{}` pins {}@{} and takes the latest: write `policy: pinned` or `allow_minor` for "
          "it, or leave the pin out",
          task, pins.front().model, pins.front().version));
      continue;
    }
    if (version_policy == VersionPolicy::kPinned && !pins.empty()) continue;
    for (const std::string& name : models_of_task(policy, task)) {
      const Model& model = policy.models.at(name);
      if (!rules.allows(name) || !model.default_version.empty() || model.versions.empty() ||
          contains(pins, name, &Pin::model))
        continue;
      where.mistake(fmt::format(
          "task `{}` follows {}, but nothing says from which version of model `{}`: pin one "
          "(tasks.{}.pin: {}@{}), or give the model a `default`",
          task, version_policy_name(version_policy), name, task, name, model.versions.front().version));
    }
  }
}

}  // namespace turnpike::policy
