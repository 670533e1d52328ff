// How the two sides of a canary do: errors, latency and cost of the candidate beside the baseline's. It
// counts tries since the canary was set up or this process began, and says when the candidate is clearly the
// worse one.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/money.h"
#include "base/time.h"
#include "engine/durations.h"
#include "policy/overlay.h"

namespace turnpike::engine {

struct CanarySide {
  std::uint64_t tries = 0;   // that completed, or failed by the fault of their upstream
  std::uint64_t failed = 0;  // of these
  Durations took;            // of those that completed
  Money cost;                // of those that completed, together
  std::uint64_t completed() const { return tries - failed; }
};

class Canaries {
 public:
  struct Book {
    CanarySide baseline, candidate;
    bool judged = false;
  };

  // Keeps the books of canaries that compare the same versions as before.
  void follow(const policy::Overlay& overlay);
  void completed(std::string_view id, bool candidate, Duration took, Money cost);
  void failed(std::string_view id, bool candidate);
  // Why the candidate should go, once; nothing while it does well or too little is known.
  std::optional<std::string> judge(std::string_view id);
  const std::map<std::string, Book, std::less<>>& books() const { return books_; }

 private:
  std::map<std::string, Book, std::less<>> books_;
  std::map<std::string, policy::Canary, std::less<>> terms_;
};

}  // namespace turnpike::engine
