// The table of the demonstration: a few lines, drawn again in place on a terminal, or told now and then where
// there is none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"

namespace turnpike::cli {

struct DemoRow {
  std::string user, plan;
  std::size_t running = 0, waiting = 0, done = 0, all = 0;
  // Of the user's job that is next in the queue: 1-based position, and in how many seconds it starts (a
  // range).
  std::optional<std::int64_t> position;
  std::optional<std::pair<std::int64_t, std::int64_t>> eta_seconds;
  std::string last;  // what happened last, e.g. "speech in 1.2 s"
};

class DemoTable {
 public:
  // `in_place`: standard output is a terminal.
  explicit DemoTable(bool in_place) : in_place_(in_place) {}

  // Prints what changed since it was last called; `elapsed` since the demonstration began.
  void show(const std::vector<DemoRow>& rows, Duration elapsed);

 private:
  void draw(const std::vector<DemoRow>& rows, Duration elapsed);
  void tell(const std::vector<DemoRow>& rows, Duration elapsed);

  bool in_place_;
  std::size_t lines_drawn_ = 0;
  std::string told_;  // the last line, without its time
  Duration told_at_{0};
};

}  // namespace turnpike::cli
