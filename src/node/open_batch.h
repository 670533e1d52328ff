// The batch that gathers while the one before it is being committed: what engine commands changed, merged so
// that the last state of a job, run or account wins and is written once. (Of books and counts the engine
// itself tells one row a batch.)
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "engine/engine.h"
#include "journal/journal.h"
#include "node/deliveries.h"

namespace turnpike::node {

// Not thread-safe: the commit loop guards it.
class OpenBatch {
 public:
  // Empties it and gives it a number; keeps its memory unless it had grown large.
  void begin(engine::Batch number);
  engine::Batch number() const { return commit_.batch; }

  // Takes what a command changed; `changes` is left empty.
  void absorb(engine::Changes& changes);
  void add(journal::Record record);

  // Something to write.
  bool writes() const { return !commit_.empty(); }
  // Something to write or to do.
  bool has_work() const { return writes() || !effects_.empty(); }
  // Rows to write, and roughly how many bytes of text are in them.
  std::size_t operations() const { return commit_.mutations.size() + commit_.records.size(); }
  std::size_t bytes() const { return bytes_; }

  bool has_account(AccountId id) const { return accounts_.contains(id); }
  // The job as this batch leaves it; nullptr if the batch does not change it.
  const engine::JobRow* job(JobId id) const;
  // The run as this batch leaves it; nullptr if the batch does not change it.
  const engine::RunRow* run(RunId id) const;

  const journal::Commit& commit() const { return commit_; }
  void set_time(Wall at) { commit_.at = at; }
  std::vector<engine::Effect>& effects() { return effects_; }
  Deliveries& waiters() { return waiters_; }

 private:
  using Index = std::uint32_t;

  void put(engine::PutJob put);
  void put(engine::PutAccount put);
  void put(engine::DropJob drop);
  void put(engine::PutRun put);
  // Rows of which a batch has one at most, and entries.
  template <typename Row>
  void put(Row row);
  void audit(const engine::Event& event);
  template <typename Map, typename Key>
  engine::Mutation* find(const Map& map, const Key& key);
  template <typename Map, typename Key>
  void append(Map& map, Key key, engine::Mutation mutation);

  journal::Commit commit_;
  std::vector<engine::Effect> effects_;
  Deliveries waiters_;
  std::size_t bytes_ = 0;
  // Where the row of a key stands in commit_.mutations.
  boost::unordered_flat_map<JobId, Index, std::hash<JobId>> jobs_;
  boost::unordered_flat_map<AccountId, Index, std::hash<AccountId>> accounts_;
  boost::unordered_flat_map<RunId, Index, std::hash<RunId>> runs_;
};

}  // namespace turnpike::node
