// Rates, by the checker's own reckoning. Where the engine keeps one time for each bucket, this keeps the log
// of what began and looks at every stretch of time that ends now: what began in it, and what would begin,
// must fit into what the rate gives in that stretch and the bucket's room.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "simulation/promises.h"

namespace turnpike::simulation {

class RateModel {
 public:
  // How long work of `tokens` has to wait, by the longest of the payer's rates; 0: it may begin.
  Duration wait(const Who& who, const policy::Rates& rates, std::int64_t tokens, Monotonic now) const;
  // It begins. Throws a Violation where more began than promised, in whichever stretch of time.
  void took(const Who& who, const policy::Rates& rates, JobId work, std::int64_t tokens, Monotonic now);
  // It has ended and used `tokens`: of each payer that it took from it gives back what it took too much, or
  // takes what it took too little. `promises` knows today's rates.
  void corrected(JobId work, std::int64_t tokens, const Promises& promises, Monotonic now);
  // It has ended otherwise: what it took stays taken.
  void ended(JobId work) { taken_.erase(work); }
  // A new life begins with full buckets.
  void clear();

 private:
  struct Begun {
    Monotonic at;
    std::int64_t micros = 0;  // that the bucket needs to fill again; negative: given back
    std::int64_t amount = 0;  // requests or tokens; 0: a correction
    std::uint32_t terms = 0;  // changes with the rate
  };
  struct Log {
    std::deque<Begun> begun;
    std::int64_t rate = 0, room = 0;  // as they were last
    std::uint32_t terms = 0;
  };
  struct Bucket {
    std::int64_t rate = 1, window = 1, room = 1;
    std::int64_t micros(std::int64_t amount) const;  // rounded up
    std::int64_t unit() const;                       // of one request, rounded up
    std::int64_t capacity(bool tokens) const;
  };
  enum Kind : std::uint8_t { kSeconds, kMinutes, kTokens };
  struct Each {
    Kind kind;
    Bucket bucket;
    std::int64_t amount;  // wanted
  };

  static std::vector<Each> buckets(const policy::Rates& rates, std::int64_t tokens);
  static std::int64_t backlog(const Log& log, Monotonic now);
  static void check_promise(const Who& who, const Log& log, const Bucket& bucket, bool tokens);

  std::map<std::pair<Who, Kind>, Log> logs_;
  std::unordered_map<JobId, std::vector<std::pair<Who, std::int64_t>>> taken_;  // of tokens: micros
};

}  // namespace turnpike::simulation
