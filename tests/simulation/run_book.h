// What there is of runs, by mutations alone, and what must hold of them: a job for each item of a step and
// for ever (I8), counts that are recounts of jobs (I6), and nothing that starts after the end.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/engine.h"
#include "simulation/ledger.h"
#include "simulation/tally.h"

namespace turnpike::simulation {

class RunBook {
 public:
  explicit RunBook(Tally& tally) : tally_(&tally) {}

  void put(const engine::RunRow& row, engine::Batch batch);
  // A job of a run is written; before the ledger has it.
  void see_job(const engine::JobRow& row);
  void see_start(const engine::JobRow& row) const;
  // After a command: rows of live runs agree with their jobs, and the engine knows these runs and no others.
  void check(const engine::Engine& engine, const Ledger& ledger) const;
  // A new life begins with what the journal holds.
  void restarted(const std::map<RunId, engine::RunRow>& rows, const std::vector<engine::JobRow>& jobs);
  void committed(const engine::RunRow& row);
  void acknowledged(RunId id) { acknowledged_.insert(id); }
  void all_ended() const;

  const engine::RunRow* run(RunId id) const;
  engine::Batch changed(RunId id) const;
  std::vector<RunId> known() const;

 private:
  void learn(const engine::RunRow& row);
  void check_run(const engine::RunRow& row, const Ledger& ledger) const;

  Tally* tally_;
  std::map<RunId, engine::RunRow> rows_;
  std::map<RunId, engine::Batch> changed_;
  // Place of the first job of a step, by (run, step): it is begun once.
  std::map<std::pair<RunId, std::size_t>, std::uint32_t> begun_;
  std::map<RunId, std::set<JobId>> jobs_;
  // Of what is committed, over all lives.
  std::map<RunId, engine::JobState> ended_;
  std::map<std::pair<RunId, std::size_t>, std::uint32_t>
      completed_;  // steps, and the place of their first job
  std::unordered_set<RunId> acknowledged_;
};

}  // namespace turnpike::simulation
