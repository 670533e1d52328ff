// turnpike audit verify: recounts the chain of the audit of a data folder.
#include <fmt/format.h>

#include <cstdio>

#include "cli/commands.h"
#include "journal/sqlite/sqlite_journal.h"

namespace turnpike::cli {

int audit_verify(const AuditOptions& options) {
  const auto report = journal::verify_audit(options.data);
  if (!report) {
    fmt::print(stderr, "turnpike: {}\n", report.error().message);
    return kFailed;
  }
  std::string head = fmt::format("{}:", report->rows);
  for (const char byte : report->head) head += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  fmt::print("{} rows were recounted; head {}\n", report->rows, report->rows == 0 ? "none" : head);
  if (!report->mistake.empty()) {
    fmt::print("{}\n", report->mistake);
    return kFailed;
  }
  fmt::print("everything agrees\n");
  return kOk;
}

}  // namespace turnpike::cli
