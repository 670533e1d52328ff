#include "cli/demo_table.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

namespace turnpike::cli {
namespace {

constexpr std::size_t kBarWidth = 12;
constexpr std::chrono::seconds kTellEvery{1};  // where there is no terminal

double seconds_of(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

std::string eta_words(const DemoRow& row) {
  if (!row.eta_seconds) return "-";
  const auto [low, high] = *row.eta_seconds;
  return low == high ? fmt::format("{} s", low) : fmt::format("{}-{} s", low, high);
}

std::string position_words(const DemoRow& row) {
  return row.position ? fmt::to_string(*row.position) : "-";
}

std::string bar(const DemoRow& row) {
  const std::size_t full = row.all == 0 ? 0 : row.done * kBarWidth / row.all;
  return std::string(full, '#') + std::string(kBarWidth - full, '.');
}

}  // namespace

void DemoTable::show(const std::vector<DemoRow>& rows, Duration elapsed) {
  if (in_place_) {
    draw(rows, elapsed);
  } else {
    tell(rows, elapsed);
  }
  std::fflush(stdout);
}

void DemoTable::draw(const std::vector<DemoRow>& rows, Duration elapsed) {
  // Up to where it was drawn before; each line is cleared to its end.
  if (lines_drawn_ > 0) fmt::print("\x1b[{}A", lines_drawn_);
  fmt::print("{:<6}{:<7}{:>8}{:>9}{:>6}{:>12}  {:<{}}  {}\x1b[K\n", "user", "plan", "running", "waiting",
             "next", "ready in", "done", kBarWidth + 6, "last");
  for (const auto& row : rows) {
    fmt::print("{:<6}{:<7}{:>8}{:>9}{:>6}{:>12}  {} {:>2}/{:<2}  {}\x1b[K\n", row.user, row.plan, row.running,
               row.waiting, position_words(row), eta_words(row), bar(row), row.done, row.all, row.last);
  }
  fmt::print("{:.1f} s\x1b[K\n", seconds_of(elapsed));
  lines_drawn_ = rows.size() + 2;
}

void DemoTable::tell(const std::vector<DemoRow>& rows, Duration elapsed) {
  std::string line;
  for (const auto& row : rows) {
    line += fmt::format("  {} ({}) {}/{}", row.user, row.plan, row.done, row.all);
    if (row.running > 0) line += fmt::format(", {} running", row.running);
    if (row.position) line += fmt::format(", next is number {}, ready in {}", *row.position, eta_words(row));
    line += ";";
  }
  const bool last = !rows.empty() && line.find("running") == std::string::npos;
  if (line == told_ || (!last && !told_.empty() && elapsed - told_at_ < kTellEvery)) return;
  fmt::print("{:6.1f} s{}\n", seconds_of(elapsed), line);
  told_ = line;
  told_at_ = elapsed;
}

}  // namespace turnpike::cli
