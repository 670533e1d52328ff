#include "policy/resolve.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "policy/choose.h"
#include "policy/contains.h"
#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

// What a request's model names.
struct Named {
  std::string_view model;
  std::string_view range;  // behind the @; empty: none
  std::string_view alias;  // by which it was named; empty: by its own name
};

Named split(std::string_view text) {
  const std::size_t at = text.find('@');
  if (at == std::string_view::npos) return {.model = text, .range = {}, .alias = {}};
  return {.model = text.substr(0, at), .range = text.substr(at + 1), .alias = {}};
}

Named parse_named(const Policy& policy, std::string_view text) {
  const auto alias = policy.aliases.find(text);
  if (alias == policy.aliases.end()) return split(text);
  Named named = split(alias->second);
  named.alias = alias->first;
  return named;
}

// Models of a task in the order of the file.
std::vector<const Model*> models_of(const Policy& policy, std::string_view task) {
  std::vector<const Model*> models;
  for (const std::string& id : policy.model_order) {
    const auto model = policy.models.find(id);
    if (model != policy.models.end() && model->second.task == task) models.push_back(&model->second);
  }
  return models;
}

std::unexpected<Error> not_in_plan(const Policy& policy, const Plan& plan, std::string_view task) {
  std::vector<std::string> having;
  for (const auto& [name, other] : policy.plans) {
    if (other.has_task(task)) having.push_back(name);
  }
  const std::string who =
      having.empty() ? "no plan has it" : fmt::format("plans that have it: {}", fmt::join(having, ", "));
  return fail(ErrorCode::kNotInPlan, fmt::format("plan {} does not have task {}; {}", plan.name, task, who),
              "task");
}

// Other names of a model that lead to a version that the plan has.
std::vector<std::string> aliases_of(const Policy& policy, const Model& model, const Chooser& chooser) {
  std::vector<std::string> names;
  for (const auto& [alias, target] : policy.aliases) {
    const Named named = split(target);
    if (named.model != model.id) continue;
    if (named.range.empty() || chooser.named(named.range)) names.push_back(alias);
  }
  return names;
}

// The names of the task's models that the plan has, its aliases included.
std::vector<std::string> had(const Asking& asking, const std::vector<const Model*>& models) {
  std::vector<std::string> names;
  for (const Model* model : models) {
    const Chooser chooser(asking, *model);
    if (!chooser.has_model()) continue;
    names.push_back(model->id);
    std::ranges::move(aliases_of(asking.policy, *model, chooser), std::back_inserter(names));
  }
  return names;
}

// Pinned models go before the file's order.
void order_by_pins(const Plan& plan, std::string_view task, std::vector<const Model*>& models) {
  const std::vector<Pin>& pins = plan.models.pins_of(task);
  auto front = models.begin();
  for (const Pin& pin : pins) {
    const auto found =
        std::find_if(front, models.end(), [&pin](const Model* model) { return model->id == pin.model; });
    if (found != models.end()) std::rotate(front++, found, std::next(found));
  }
}

std::unexpected<Error> paused(const Model& model) {
  auto refusal = fail(ErrorCode::kUnavailable, fmt::format("model {} is paused by the operator", model.id));
  refusal.error().retryable = true;
  return refusal;
}

Route route_of(const Asking& asking, const Model& model, const Chooser& chooser, Chosen chosen) {
  Route route{.candidates = {},
              .why = std::move(chosen.why),
              .canary = chosen.canary,
              .canary_id = std::move(chosen.canary_id)};
  chooser.each_route(*chosen.version, [&](const ModelRoute& each) {
    if (chooser.away(each.provider)) return true;
    const Provider& provider = asking.policy.providers.find(each.provider)->second;
    route.candidates.push_back({.provider = each.provider,
                                .pool = provider.pool,
                                .model = model.id,
                                .model_version = chosen.version->version,
                                .upstream_model = each.upstream_model,
                                .price = asking.policy.price(each.provider, each.upstream_model),
                                .remote = is_remote(provider.kind),
                                .saturation = provider.saturation});
    return true;
  });
  return route;
}

// The first model that can be served; else why the first of several can not.
Result<Route> route_of_any(const Asking& asking, std::string_view user_id, std::string_view task,
                           std::vector<const Model*> models) {
  order_by_pins(asking.plan, task, models);
  std::optional<Error> refusal;
  for (const Model* model : models) {
    const Chooser chooser(asking, *model);
    if (!chooser.has_model()) continue;
    auto chosen = asking.overlay.paused_models.contains(model->id) ? Result<Chosen>(paused(*model))
                                                                   : chooser.for_user(user_id);
    if (chosen) return route_of(asking, *model, chooser, std::move(*chosen));
    // That it is away tells more than that the plan does not have it.
    if (!refusal ||
        (refusal->code != ErrorCode::kUnavailable && chosen.error().code == ErrorCode::kUnavailable))
      refusal = std::move(chosen.error());
  }
  if (refusal) return std::unexpected(std::move(*refusal));
  return fail(ErrorCode::kModelNotAllowed,
              fmt::format("plan {} has no model of task {}", asking.plan.name, task), "model");
}

Result<Route> route_of_named(const Asking& asking, std::string_view user_id, std::string_view task,
                             const std::vector<const Model*>& models, std::string_view text) {
  const Named named = parse_named(asking.policy, text);
  const auto found =
      std::ranges::find(models, named.model, [](const Model* model) { return std::string_view{model->id}; });
  if (found == models.end()) {
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("task {} has no model of that name: {}", task,
                            suggestion(named.model, had(asking, models))),
                "model");
  }
  const Model& model = **found;
  const Chooser chooser(asking, model);
  if (!chooser.has_model()) {
    return fail(ErrorCode::kModelNotAllowed,
                fmt::format("plan {} does not have model {}: {}", asking.plan.name, model.id,
                            possession(had(asking, models))),
                "model");
  }
  if (asking.overlay.paused_models.contains(model.id)) return paused(model);
  auto chosen = named.range.empty() ? chooser.for_user(user_id) : chooser.named(named.range);
  if (!chosen) return std::unexpected(std::move(chosen.error()));
  if (!named.alias.empty()) chosen->why = fmt::format("alias {}: {}", named.alias, chosen->why);
  return route_of(asking, model, chooser, std::move(*chosen));
}

// What an operator who acts for nobody sees.
Plan plan_of_operator() {
  Plan plan;
  plan.models.beta = true;
  plan.models.unverified = true;
  return plan;
}

}  // namespace

Result<Route> resolve(const Policy& policy, const Plan& plan, const Overlay& overlay,
                      std::string_view user_id, std::string_view task, std::string_view model,
                      const std::set<std::string>& unavailable) {
  std::vector<const Model*> models = models_of(policy, task);
  if (models.empty()) {
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("there is no such task: {}", suggestion(task, known_tasks(policy))), "task");
  }
  if (!plan.has_task(task)) return not_in_plan(policy, plan, task);
  const Asking asking{.policy = policy, .plan = plan, .overlay = overlay, .unavailable = unavailable};
  if (model.empty()) return route_of_any(asking, user_id, task, std::move(models));
  return route_of_named(asking, user_id, task, models, model);
}

std::vector<VisibleModel> visible_models(const Policy& policy, const Plan* plan, const Overlay& overlay,
                                         const std::set<std::string>& unavailable) {
  const Plan all = plan_of_operator();
  const Asking asking{.policy = policy,
                      .plan = plan != nullptr ? *plan : all,
                      .overlay = overlay,
                      .unavailable = unavailable};
  std::vector<VisibleModel> visible;
  for (const std::string& id : policy.model_order) {
    const auto found = policy.models.find(id);
    if (found == policy.models.end() || overlay.paused_models.contains(id)) continue;
    const Model& model = found->second;
    if (!asking.plan.has_task(model.task)) continue;
    const Chooser chooser(asking, model);
    if (!chooser.has_model()) continue;
    const auto standard = chooser.standard();
    if (!standard) continue;
    visible.push_back({.model = &model,
                       .version = standard->version,
                       .versions = chooser.nameable(),
                       .aliases = aliases_of(policy, model, chooser)});
  }
  return visible;
}

const Model* model_named(const Policy& policy, std::string_view text) {
  const auto found = policy.models.find(parse_named(policy, text).model);
  return found == policy.models.end() ? nullptr : &found->second;
}

std::vector<std::string> known_tasks(const Policy& policy) {
  std::set<std::string> tasks;
  for (const auto& [id, model] : policy.models) {
    if (!model.task.empty()) tasks.insert(model.task);
  }
  return {tasks.begin(), tasks.end()};
}

}  // namespace turnpike::policy
