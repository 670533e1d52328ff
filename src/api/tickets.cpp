#include "api/tickets.h"

#include <cstdint>
#include <cstring>

#include "api/crypto.h"

namespace turnpike::api {
namespace {

constexpr std::string_view kPrefix = "tkt_";
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kCodeBytes = 32;

struct Payload {
  std::uint64_t account;  // 0: everything
  std::int64_t expires_us;
};

std::string bytes_of(const Payload& payload) {
  std::string bytes(sizeof payload, '\0');
  std::memcpy(bytes.data(), &payload, sizeof payload);
  return bytes;
}

}  // namespace

Tickets::Tickets() : secret_(random_bytes(kSecretBytes)) {}

std::string Tickets::issue(std::optional<AccountId> account, Wall now) const {
  const Payload payload{account ? account->value : 0, unix_micros(now + kTicketLife)};
  const std::string bytes = bytes_of(payload);
  return std::string(kPrefix) + base64url(bytes + hmac_sha256(secret_, bytes));
}

std::optional<Tickets::Grant> Tickets::redeem(std::string_view ticket, Wall now) const {
  if (!ticket.starts_with(kPrefix) || ticket.size() > 128) return std::nullopt;
  const std::string bytes = base64url_decode(ticket.substr(kPrefix.size()));
  if (bytes.size() != sizeof(Payload) + kCodeBytes) return std::nullopt;
  const std::string_view signed_part(bytes.data(), sizeof(Payload));
  const std::string_view code(bytes.data() + sizeof(Payload), kCodeBytes);
  if (!equal_in_constant_time(code, hmac_sha256(secret_, signed_part))) return std::nullopt;
  Payload payload{};
  std::memcpy(&payload, bytes.data(), sizeof payload);
  if (payload.expires_us <= unix_micros(now)) return std::nullopt;
  if (payload.account == 0) return Grant{std::nullopt};
  return Grant{AccountId{payload.account}};
}

}  // namespace turnpike::api
