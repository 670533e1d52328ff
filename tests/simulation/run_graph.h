// Random graphs for runs, and what follows in them: the simulated node's part of a run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace turnpike::simulation {

struct RunGraph {
  struct Step {
    std::vector<std::size_t> needs;  // smaller places than its own
    std::uint32_t jobs = 1;          // 0: its list is empty
    bool skipped = false;
    bool certain = false;  // that it will have one job
  };
  std::vector<Step> steps;
  bool stuck = false;  // its last step cannot begin: the run fails there
};
// The same for the same text, which is what a run's body keeps. Its first step has a job.
RunGraph run_graph(const std::string& text);

struct Following {
  struct Begin {
    std::size_t step = 0;
    bool skipped = false;
    std::uint32_t jobs = 0;
  };
  std::vector<Begin> begin;
  bool completed = false;  // all steps have ended well, `begin` included
  bool stuck = false;
};
Following what_follows(const RunGraph& graph, const std::vector<engine::StepRow>& steps);

}  // namespace turnpike::simulation
