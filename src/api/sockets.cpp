#include "api/sockets.h"

#include <utility>

namespace turnpike::api {

Result<std::shared_ptr<const void>> Sockets::take(std::optional<AccountId> account, std::uint32_t account_max,
                                                  std::uint32_t all_max) {
  const std::scoped_lock lock(counts_->mutex);
  if (counts_->all >= all_max) {
    ++counts_->refused;
    return fail(ErrorCode::kUnavailable, "too many WebSockets are open here: come back in a moment");
  }
  if (account) {
    const auto found = counts_->by_account.find(*account);
    const std::uint32_t open = found == counts_->by_account.end() ? 0 : found->second;
    if (open >= account_max) {
      ++counts_->refused;
      return fail(
          ErrorCode::kConcurrencyLimited,
          fmt::format("this account has {} WebSockets open, which is as many as it may: close one, or "
                      "subscribe to more over one",
                      open));
    }
    ++counts_->by_account[*account];
  }
  ++counts_->all;
  // What it points to is of no matter: its end is.
  return std::shared_ptr<const void>(
      counts_.get(), [counts = counts_, account](const void*) { give_back(*counts, account); });
}

void Sockets::give_back(Counts& counts, std::optional<AccountId> account) {
  const std::scoped_lock lock(counts.mutex);
  --counts.all;
  if (!account) return;
  const auto found = counts.by_account.find(*account);
  if (--found->second == 0) counts.by_account.erase(found);
}

std::size_t Sockets::open() const {
  const std::scoped_lock lock(counts_->mutex);
  return counts_->all;
}

void Sockets::append_text(Buffer& out) const {
  const std::scoped_lock lock(counts_->mutex);
  fmt::format_to(fmt::appender(out),
                 "# HELP turnpike_websockets_open WebSockets that are open.\n"
                 "# TYPE turnpike_websockets_open gauge\nturnpike_websockets_open {}\n"
                 "# HELP turnpike_websockets_refused_total WebSockets that were refused for their number.\n"
                 "# TYPE turnpike_websockets_refused_total counter\nturnpike_websockets_refused_total {}\n",
                 counts_->all, counts_->refused);
}

}  // namespace turnpike::api
