// Tickets: minute-long tokens that a browser may put in a URL where it cannot send a header. Stateless: what
// they allow is in them, signed with a secret that lives as long as the process. Thread-safe.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/time.h"

namespace turnpike::api {

constexpr std::chrono::seconds kTicketLife{60};

class Tickets {
 public:
  Tickets();
  // `account` nullopt: everything, as an admin sees it.
  std::string issue(std::optional<AccountId> account, Wall now) const;

  struct Grant {
    std::optional<AccountId> account;
  };
  // Nothing if the ticket was not issued here, was changed, or has expired.
  std::optional<Grant> redeem(std::string_view ticket, Wall now) const;

 private:
  std::string secret_;
};

}  // namespace turnpike::api
