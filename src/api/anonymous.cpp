#include "api/anonymous.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <utility>

#include "api/router.h"

namespace turnpike::api {
namespace {

constexpr std::string_view kPrefix = "public:";
constexpr std::uint32_t kStreamsOfAddressMax = 8;
constexpr std::uint32_t kStreamsMax = 1'000;  // of all addresses

// "[::1]:80" and "127.0.0.1:80" without the port.
std::string_view host_of(std::string_view remote) {
  const auto colon = remote.rfind(':');
  if (colon == std::string_view::npos) return {};
  std::string_view host = remote.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return host;
}

}  // namespace

std::optional<std::string> anonymous_user(std::string_view remote) {
  namespace ip = boost::asio::ip;
  boost::system::error_code error;
  const auto address = ip::make_address(std::string(host_of(remote)), error);
  if (error) return std::nullopt;
  if (address.is_v4()) return fmt::format("{}{}", kPrefix, address.to_string());
  const ip::address_v6 v6 = address.to_v6();
  if (v6.is_v4_mapped()) {
    return fmt::format("{}{}", kPrefix, ip::make_address_v4(ip::v4_mapped, v6).to_string());
  }
  ip::address_v6::bytes_type bytes = v6.to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), 0);
  return fmt::format("{}{}/64", kPrefix, ip::address_v6(bytes).to_string());
}

bool is_anonymous_user(std::string_view user_id) {
  return user_id.starts_with(kPrefix);
}

std::optional<Caller> anonymous_caller(const Context& context) {
  const bool open = context.endpoint != nullptr
                        ? !context.endpoint->public_plan.empty()
                        : context.route->keyless && !context.policy->anonymous_plan().empty();
  if (!open) return std::nullopt;
  auto user = anonymous_user(context.request.remote);
  if (!user) return std::nullopt;
  Caller caller{.how = Caller::How::kAnonymous, .user_id = *std::move(user)};
  const auto known = context.node().account_by_user(caller.user_id);
  if (known) caller.account = known->id;
  return caller;
}

boost::asio::awaitable<Result<AccountId>> anonymous_account(Context& context) {
  const Caller& caller = context.caller;
  std::string plan = context.policy->anonymous_plan();
  const auto known = context.node().account_by_user(caller.user_id);
  if (known && known->plan == plan) co_return known->id;
  if (!known) {
    const std::uint32_t per_minute = context.policy->accounts.anonymous_per_minute;
    const auto wait = context.services.newcomers.take(per_minute, context.node().now().mono);
    if (wait) {
      co_return std::unexpected(
          Error{.code = ErrorCode::kRateLimited,
                .message = fmt::format("too many ask here for the first time just now: come back in {} s, or "
                                       "ask with a key",
                                       wait->count()),
                .param = {},
                .retryable = true,
                .retry_after = wait});
    }
  }
  std::string user = caller.user_id;
  auto ensuring = context.node().ensure_account(std::move(user), std::move(plan), true, caller.actor());
  const auto ensured = co_await std::move(ensuring);
  if (!ensured) co_return std::unexpected(ensured.error());
  co_return ensured->row.id;
}

Result<std::shared_ptr<const void>> place_for_stream(Context& context) {
  if (context.caller.how != Caller::How::kAnonymous) return nullptr;
  auto place =
      context.services.anonymous_streams.take(context.caller.account, kStreamsOfAddressMax, kStreamsMax);
  if (place) return place;
  return fail(
      place.error().code,
      place.error().code == ErrorCode::kUnavailable
          ? "too many jobs are followed without a key: ask for the job now and then instead"
          : fmt::format("{} jobs are followed from this address: ask for the job now and then instead",
                        kStreamsOfAddressMax));
}

}  // namespace turnpike::api
