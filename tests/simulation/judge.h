// Whether work may be accepted, by the checker's own reckoning: from promises, books as told, the log of what
// began, and calls that are open. Whoever is refused must be refused for one of these reasons, and who is
// accepted must have given none.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "simulation/books.h"
#include "simulation/call_book.h"
#include "simulation/promises.h"
#include "simulation/rates_model.h"

namespace turnpike::simulation {

struct Asked {
  AccountId account;
  policy::Amounts estimate;
  policy::Meter count{};  // kJobs or kCalls
  std::string content;
  policy::PricePtr price;
  bool remote = false;
  std::vector<std::string> extras;
};

class Judge {
 public:
  Judge(const Promises& promises, const Books& books, const RateModel& rates, const CallBook& calls)
      : promises_(&promises), books_(&books), rates_(&rates), calls_(&calls) {}

  // What of the request itself is not allowed: content types, and what has no price under a hard cap.
  std::set<ErrorCode> not_allowed(const Asked& asked) const;
  // What is spent: quotas and caps of all scopes.
  std::set<ErrorCode> spent(const Asked& asked, Timestamp now) const;
  // The same of several pieces of work of one account, that are to be had together or not at all.
  std::set<ErrorCode> spent(const std::vector<Asked>& all, Timestamp now) const;
  // What is too fast, or too much at once.
  std::set<ErrorCode> too_fast(const Asked& asked, Timestamp now) const;
  // So little of some quota or cap is left that the hold has to be durable first.
  bool near_the_end(const Asked& asked, Timestamp now) const;

  // What it would hold, were it accepted now: in the books that are open once it has been.
  engine::Hold hold_of(const Asked& asked, std::uint64_t price_version, Timestamp now) const;
  // A refusal for a rate says when to come back: just then, and not long after.
  void check_retry_after(const Asked& asked, const Error& error, Timestamp now) const;

 private:
  // What is asked of quotas and caps.
  struct Sought {
    policy::Amounts amounts;
    Money cost;
    std::map<std::string, std::int64_t> content;  // jobs, by type
  };
  static Sought sought(const Asked& asked);
  std::set<ErrorCode> spent(AccountId account, const Sought& sought, Timestamp now) const;

  const Promises* promises_;
  const Books* books_;
  const RateModel* rates_;
  const CallBook* calls_;
};

}  // namespace turnpike::simulation
