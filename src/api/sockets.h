// How many WebSockets are open, in all and of each account. Thread-safe.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "api/json.h"
#include "base/ids.h"
#include "base/result.h"

namespace turnpike::api {

class Sockets {
 public:
  // A place, held while what it returns lives. `account` nullopt: of nobody in particular, so that only the
  // bound of all counts. Errors: kConcurrencyLimited (the account's bound), kUnavailable (that of all).
  Result<std::shared_ptr<const void>> take(std::optional<AccountId> account, std::uint32_t account_max,
                                           std::uint32_t all_max);
  std::size_t open() const;
  void append_text(Buffer& out) const;  // in Prometheus' text format

 private:
  struct Counts {
    std::mutex mutex;
    // Guarded by mutex:
    std::size_t all = 0;
    boost::unordered_flat_map<AccountId, std::uint32_t, std::hash<AccountId>> by_account;
    std::uint64_t refused = 0;
  };
  static void give_back(Counts& counts, std::optional<AccountId> account);

  const std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();  // places may outlive this
};

}  // namespace turnpike::api
