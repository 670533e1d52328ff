// The audit's chain: what is written into it can no longer be changed, removed or reordered unseen. Who cuts
// off its end leaves a shorter chain that agrees: keep a head elsewhere to compare.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "journal/journal.h"

namespace turnpike::journal {

// SHA-256 of the hash before (empty for the first), number, time and texts, each text preceded by its length:
// 32 raw bytes.
std::string audit_hash(std::string_view before, std::uint64_t number, const AuditRow& row);

// Takes the rows in their order and says what does not agree.
class AuditCheck {
 public:
  void add(const StoredAudit& stored);
  AuditReport finish() { return std::move(report_); }

 private:
  AuditReport report_;
};

}  // namespace turnpike::journal
