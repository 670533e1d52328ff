// Calls, as the checker sees them: admitted, started, answered, or lost with a crash.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/engine.h"
#include "simulation/ledger.h"
#include "simulation/promises.h"
#include "simulation/tally.h"

namespace turnpike::simulation {

class CallBook {
 public:
  struct Call {
    JobId id;
    AccountId account;
    std::string pool, team;  // the account's team when it was admitted
    engine::Hold hold;       // by the checker's own reckoning
    Monotonic patience_end{};
    bool fast = false;  // it may start before its hold is durable
    TryId running{};    // none: it waits for room
    engine::Batch admitted = 0, answered = 0;
  };

  explicit CallBook(Tally& tally) : tally_(&tally) {}

  void admit(Call call);
  void start(const engine::StartTry& start, std::uint32_t limit_or_0);
  // Returns the call as it was. `draining`: then those that wait are sent away.
  const Call& answer(const engine::AnswerCall& answer, engine::Batch batch, Timestamp now, bool draining);
  // Its caller was told, while what was decided up to `durable` was durable: before its own charge was (N1)
  // only if a crash would have charged no less.
  void told(const engine::AnswerCall& answer, engine::Batch durable);
  // What was decided up to `batch` is durable.
  void committed(engine::Batch batch);
  // The process died; what the journal has goes up to `batch`. Holds of calls that it has: to be taken as
  // used.
  std::vector<Call> crashed(engine::Batch batch);
  // Nobody's patience has run out long ago.
  void check_patience(Timestamp now) const;

  const Call* find(JobId id) const;  // not answered yet, or null
  const std::map<QueueName, std::set<JobId>>& waiting() const { return waiting_; }
  // Admitted and not answered.
  std::uint32_t at_once(const Who& who) const;
  std::size_t open() const { return open_; }
  const std::unordered_map<JobId, Call>& all() const { return calls_; }

 private:
  void count(const Call& call, std::int32_t delta);

  Tally* tally_;
  std::unordered_map<JobId, Call> calls_;  // until their answer is durable
  std::map<QueueName, std::set<JobId>> waiting_;
  std::map<Who, std::int32_t> at_once_;
  std::unordered_set<JobId> told_;
  std::vector<Call> lost_;  // in the last crash; until what took their holds is durable
  engine::Batch lost_at_ = 0;
  std::size_t open_ = 0;
};

}  // namespace turnpike::simulation
