// The section workflows: graphs of steps, and whether what they name is there.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"
#include "policy/resolve.h"
#include "policy/workflow.h"

namespace turnpike::policy {
namespace {

constexpr std::size_t kWorkflowsMax = 500;

// Where the parts of a definition stand, by their paths within it ("steps.video.needs[0]").
class Places {
 public:
  explicit Places(const Value& whole) : whole_(whole) {}

  void add(const Value& part) { places_.emplace(part.path(), part); }
  // Told where that stands; where it is nowhere (its key is missing), at what it would be in.
  void mistake(std::string_view where, const std::string& message) const {
    std::string path = whole_.path();
    if (!where.empty()) path += (where.starts_with('[') ? "" : ".") + std::string(where);
    while (path.size() > whole_.path().size()) {
      if (const auto found = places_.find(path); found != places_.end())
        return found->second.mistake(message);
      path.resize(path.find_last_of(".["));
    }
    whole_.mistake(message);
  }

 private:
  const Value& whole_;
  std::map<std::string, Value, std::less<>> places_;
};

template <typename Known>
void check_known(const Places& places, const std::string& where, const char* what, const std::string& name,
                 const Known& known, std::string_view why = "") {
  if (name.empty() || contains(known, name)) return;
  places.mistake(where, fmt::format("unknown {} `{}`: {}{}", what, name, why, suggestion(name, known)));
}

void check_model(const Places& places, const std::string& where, const WorkflowStep& step,
                 const Policy& policy) {
  if (step.model.empty()) return;
  const Model* model = model_named(policy, step.model);
  if (model == nullptr) {
    places.mistake(where, fmt::format("unknown model `{}`: {}", step.model,
                                      suggestion(step.model, keys_of(policy.models))));
  } else if (model->task != step.task) {
    places.mistake(where,
                   fmt::format("model `{}` is of task `{}`, not `{}`", step.model, model->task, step.task));
  }
}

// What parse() cannot know.
void check_names(const Places& places, const Workflow& workflow, const Policy& policy) {
  const std::vector<std::string> tasks = known_tasks(policy);
  std::vector<std::string> features;
  for (const auto& [name, plan] : policy.plans) {
    for (const auto& [feature, has] : plan.features) {
      if (!contains(features, feature)) features.push_back(feature);
    }
  }
  for (const WorkflowStep& step : workflow.steps()) {
    const std::string where = "steps." + step.name;
    check_known(places, where + ".task", "task", step.task, tasks, "no model serves it; ");
    check_model(places, where + ".model", step, policy);
    check_known(places, where + ".content_type", "content type", step.content_type, policy.content_types);
    check_known(places, where + ".when.content_type", "content type", step.when.content_type,
                policy.content_types);
    check_known(places, where + ".when.feature", "feature", step.when.feature, features,
                "no plan names it; ");
  }
}

}  // namespace

std::vector<std::string> read_workflows(const Value& value, Policy& policy) {
  std::vector<std::string> names;
  value.each([&](const std::string& name, const Value& entry) {
    names.push_back(name);
    if (names.size() == kWorkflowsMax + 1)
      value.mistake(fmt::format("has more than {} workflows", kWorkflowsMax));
    Places places(entry);
    const boost::json::value definition = to_json(entry, [&](const Value& part) { places.add(part); });
    auto workflow = Workflow::read(
        name, definition,
        [&](const std::string& where, const std::string& message) { places.mistake(where, message); });
    if (workflow == nullptr) return;
    check_names(places, *workflow, policy);
    policy.workflows.emplace(name, std::move(workflow));
  });
  return names;
}

}  // namespace turnpike::policy
