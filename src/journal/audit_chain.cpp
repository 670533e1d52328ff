#include "journal/audit_chain.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <array>

#include "base/time.h"

namespace turnpike::journal {
namespace {

void add_number(std::string& bytes, std::uint64_t number) {
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(number >> shift & 0xff));
}

void add_text(std::string& bytes, std::string_view text) {
  add_number(bytes, text.size());
  bytes += text;
}

}  // namespace

std::string audit_hash(std::string_view before, std::uint64_t number, const AuditRow& row) {
  std::string bytes;
  add_text(bytes, before);
  add_number(bytes, number);
  add_number(bytes, static_cast<std::uint64_t>(unix_micros(row.at)));
  for (const std::string* text : {&row.actor, &row.action, &row.subject, &row.detail}) add_text(bytes, *text);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return {digest.begin(), digest.end()};
}

void AuditCheck::add(const StoredAudit& stored) {
  if (!report_.mistake.empty()) return;
  if (stored.number != report_.rows + 1) {
    report_.mistake = fmt::format("row {} is missing", report_.rows + 1);
  } else if (stored.hash != audit_hash(report_.head, stored.number, stored.row)) {
    report_.mistake =
        fmt::format("row {} is not what was written, or the row before it is not", stored.number);
  } else {
    ++report_.rows;
    report_.head = stored.hash;
  }
}

}  // namespace turnpike::journal
