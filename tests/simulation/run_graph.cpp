#include "simulation/run_graph.h"

#include <algorithm>

#include "base/random.h"

namespace turnpike::simulation {

using engine::StepState;

RunGraph run_graph(const std::string& text) {
  Random random(std::stoull(text) * 0x9e3779b97f4a7c15ULL + 7);
  RunGraph graph;
  graph.steps.resize(static_cast<std::size_t>(random.between(1, 7)));
  for (std::size_t i = 0; i < graph.steps.size(); ++i) {
    RunGraph::Step& step = graph.steps[i];
    for (std::size_t other = 0; other < i; ++other)
      if (random.chance(350)) step.needs.push_back(other);
    if (random.chance(300)) step.jobs = static_cast<std::uint32_t>(random.between(0, 6));
    step.skipped = random.chance(100);
  }
  graph.steps.front() = {.needs = {}, .jobs = std::max(1U, graph.steps.front().jobs), .skipped = false};
  for (RunGraph::Step& step : graph.steps)
    step.certain = !step.skipped && step.jobs == 1 && random.chance(800);
  graph.stuck = graph.steps.size() > 1 && random.chance(50);
  return graph;
}

Following what_follows(const RunGraph& graph, const std::vector<engine::StepRow>& steps) {
  std::vector<StepState> states;
  for (const engine::StepRow& step : steps) states.push_back(step.state);
  const auto is_over = [](StepState state) {
    return state == StepState::kCompleted || state == StepState::kSkipped;
  };
  Following following;
  for (std::size_t i = 0; i < graph.steps.size(); ++i) {  // needs come before
    const RunGraph::Step& step = graph.steps[i];
    const bool ready =
        states[i] == StepState::kWaiting &&
        std::ranges::all_of(step.needs, [&](std::size_t need) { return is_over(states[need]); });
    if (!ready) continue;
    if (graph.stuck && i + 1 == graph.steps.size()) {
      following.stuck = true;
      continue;
    }
    const std::uint32_t jobs = step.skipped ? 0 : step.jobs;
    following.begin.push_back({.step = i, .skipped = step.skipped, .jobs = jobs});
    states[i] = step.skipped ? StepState::kSkipped : jobs == 0 ? StepState::kCompleted : StepState::kRunning;
  }
  following.completed = std::ranges::all_of(states, is_over);
  return following;
}

}  // namespace turnpike::simulation
