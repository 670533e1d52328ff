// turnpike ledger verify: recounts the books of a data folder.
#include <fmt/format.h>

#include <cstdio>

#include "cli/commands.h"
#include "journal/sqlite/sqlite_journal.h"

namespace turnpike::cli {

int ledger_verify(const LedgerOptions& options) {
  const auto report = journal::verify_books(options.data);
  if (!report) {
    fmt::print(stderr, "turnpike: {}\n", report.error().message);
    return kFailed;
  }
  fmt::print("{} entries, {} periods, {} rollups and {} jobs that have not ended were recounted\n",
             report->entries, report->periods, report->rollups, report->jobs);
  if (report->mistakes.empty()) {
    fmt::print("everything agrees\n");
    return kOk;
  }
  for (const std::string& mistake : report->mistakes) fmt::print("  {}\n", mistake);
  fmt::print("{} mistakes\n", report->mistakes.size());
  return kFailed;
}

}  // namespace turnpike::cli
