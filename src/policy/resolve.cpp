#include "policy/resolve.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

// The routes of a model that the plan allows, in the plan's order, else in the model's.
std::vector<ModelRoute> allowed_routes(const Plan& plan, const Model& model) {
  const auto order = plan.providers.find(model.task);
  if (order == plan.providers.end()) return model.routes;
  std::vector<ModelRoute> routes;
  for (const std::string& provider : order->second) {
    const auto route = std::ranges::find(model.routes, provider, &ModelRoute::provider);
    if (route != model.routes.end()) routes.push_back(*route);
  }
  return routes;
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

Result<const Model*> choose_model(const Plan& plan, const std::vector<const Model*>& models,
                                  std::string_view task, std::string_view name) {
  if (name.empty()) {
    const auto first = std::ranges::find_if(
        models, [&](const Model* model) { return !allowed_routes(plan, *model).empty(); });
    if (first != models.end()) return *first;
    return fail(ErrorCode::kModelNotAllowed,
                fmt::format("plan {} has no provider for any model of task {}", plan.name, task), "model");
  }
  const auto found =
      std::ranges::find(models, name, [](const Model* model) { return std::string_view{model->id}; });
  if (found == models.end()) {
    std::vector<std::string> known;
    known.reserve(models.size());
    for (const Model* model : models) known.push_back(model->id);
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("task {} has no model of that name: {}", task, suggestion(name, known)), "model");
  }
  if (allowed_routes(plan, **found).empty()) {
    return fail(ErrorCode::kModelNotAllowed,
                fmt::format("plan {} has no provider that serves model {}", plan.name, name), "model");
  }
  return *found;
}

}  // namespace

Result<std::vector<Candidate>> resolve(const Policy& policy, const Plan& plan, std::string_view task,
                                       std::string_view model, const std::set<std::string>& unavailable) {
  const std::vector<const Model*> models = models_of(policy, task);
  if (models.empty()) {
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("there is no such task: {}", suggestion(task, known_tasks(policy))), "task");
  }
  if (!plan.has_task(task)) return not_in_plan(policy, plan, task);
  const auto chosen = choose_model(plan, models, task, model);
  if (!chosen) return std::unexpected(chosen.error());

  std::vector<Candidate> candidates;
  std::vector<std::string> missing;
  for (const ModelRoute& route : allowed_routes(plan, **chosen)) {
    const auto provider = policy.providers.find(route.provider);
    if (provider == policy.providers.end() || unavailable.contains(route.provider)) {
      missing.push_back(route.provider);
      continue;
    }
    candidates.push_back({.provider = route.provider,
                          .pool = provider->second.pool,
                          .model = (*chosen)->id,
                          .model_version = (*chosen)->version,
                          .upstream_model = route.upstream_model,
                          .price = policy.price(route.provider, route.upstream_model),
                          .remote = is_remote(provider->second.kind)});
  }
  if (candidates.empty()) {
    auto refusal =
        fail(ErrorCode::kUnavailable, fmt::format("no provider of model {} is there ({} not found at start)",
                                                  (*chosen)->id, fmt::join(missing, ", ")));
    refusal.error().retryable = true;
    return refusal;
  }
  return candidates;
}

std::vector<std::string> known_tasks(const Policy& policy) {
  std::set<std::string> tasks;
  for (const auto& [id, model] : policy.models) {
    if (!model.task.empty()) tasks.insert(model.task);
  }
  return {tasks.begin(), tasks.end()};
}

}  // namespace turnpike::policy
