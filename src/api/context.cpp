#include "api/context.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "api/anonymous.h"
#include "api/crypto.h"
#include "api/router.h"
#include "base/random.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kRequestIdMax = 128;
constexpr std::size_t kUserIdMax = 255;

bool valid_request_id(std::string_view text) {
  return !text.empty() && text.size() <= kRequestIdMax && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '_' || c == '.' || c == ':';
  });
}

std::uint64_t seed() {
  const std::string bytes = random_bytes(8);
  std::uint64_t value = 0;
  for (const char c : bytes) value = (value << 8) | static_cast<unsigned char>(c);
  return value;
}

}  // namespace

std::string fresh_request_id(Wall now) {
  thread_local Random random(seed());
  constexpr std::uint64_t kUnique = 1ULL << 22;
  return to_string(RequestId{id_floor(now) | random.below(kUnique)});
}

bool InFlight::begin(const std::string& scope) {
  const std::scoped_lock lock(mutex_);
  return scopes_.insert(scope).second;
}

void InFlight::end(const std::string& scope) {
  const std::scoped_lock lock(mutex_);
  scopes_.erase(scope);
}

void RequestCounts::count(std::size_t route, int status) {
  const auto status_class = static_cast<std::size_t>(std::clamp(status / 100, 0, 5));
  counts_[std::min(route, kRoutesMax - 1)][status_class].fetch_add(1, std::memory_order_relaxed);
}

void RequestCounts::append_text(Buffer& out) const {
  append(out, "# HELP turnpike_http_requests_total Requests answered\n");
  append(out, "# TYPE turnpike_http_requests_total counter\n");
  for (std::size_t route = 0; route < kRoutesMax; ++route) {
    for (std::size_t status_class = 0; status_class < kClasses; ++status_class) {
      const auto count = counts_[route][status_class].load(std::memory_order_relaxed);
      if (count == 0) continue;
      const auto all = routes();
      const auto* known = route < all.size()    ? &all[route]
                          : route == all.size() ? &endpoint_route()
                                                : nullptr;
      fmt::format_to(fmt::appender(out),
                     "turnpike_http_requests_total{{method=\"{}\",route=\"{}\",status=\"{}xx\"}} {}\n",
                     known != nullptr ? known->method : "", known != nullptr ? known->pattern : "(none)",
                     status_class, count);
    }
  }
}

std::string Caller::actor() const {
  switch (how) {
    case How::kNobody:
      return "anonymous";
    case How::kKey:
      return to_string(key);
    case How::kControl:
      return "cli";
    case How::kTicket:
      return "ticket";
    case How::kAnonymous:
      return user_id;
  }
  return "anonymous";
}

Context::Context(Services& services_used, net::Request request_taken)
    : services(services_used), request(std::move(request_taken)) {
  const Timestamp taken = services.node.now();
  now = taken.wall;
  began = taken.mono;
  const std::string* given = request.header("x-request-id");
  request_id = given != nullptr && valid_request_id(*given) ? *given : fresh_request_id(now);
  record->id = request_id;
  record->method = request.method;
  record->began = taken;
  record->bytes_in = request.body_bytes;
  last_word = std::make_unique<LastWord>(record, services.traces, services.alerts);
}

std::optional<AccountId> Context::scope() const {
  if (!caller.operates()) return caller.account;
  if (user.empty()) return std::nullopt;
  const auto known = node().account_by_user(user);
  return known ? known->id : AccountId{};
}

net::Response json_response(int status, std::string body) {
  net::Response response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

net::Response json_response(int status, Buffer& body) {
  return json_response(status, to_text(body));
}

bool valid_user_id(std::string_view text) {
  if (text.empty() || text.size() > kUserIdMax) return false;
  const bool plain = std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
  if (plain) return true;
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
    return false;
  }
  return parse_json(quote(text), {}).has_value();  // UTF-8 or not: the parser knows
}

namespace {

boost::asio::awaitable<Result<AccountId>> find_acting(Context& context, std::string plan) {
  const Caller& caller = context.caller;
  if (!caller.operates()) {
    if (!plan.empty()) {
      co_return fail(ErrorCode::kForbidden, "`userTier` may be sent by an application's backend only",
                     "userTier");
    }
    if (caller.how == Caller::How::kAnonymous) {
      auto making = anonymous_account(context);
      co_return co_await std::move(making);
    }
    co_return caller.account;
  }
  if (!plan.empty() && !context.policy->accounts.tier_from_request) {
    co_return fail(ErrorCode::kForbidden,
                   "`userTier` is not taken from requests here (accounts.tier_from is not `request`)",
                   "userTier");
  }
  if (context.user.empty()) {
    co_return fail(ErrorCode::kInvalidRequest,
                   "whose is it? Name your user in the header Turnpike-Account, or in `userId`",
                   "Turnpike-Account");
  }
  if (!plan.empty() && context.policy->plan(plan) == nullptr) {
    co_return fail(ErrorCode::kInvalidRequest, fmt::format("there is no plan `{}`", plan), "userTier");
  }
  const auto known = context.node().account_by_user(context.user);
  if (known && (plan.empty() || known->plan == plan)) co_return known->id;
  const bool set_plan = !plan.empty();
  std::string actor = caller.actor();
  auto ensuring = context.node().ensure_account(context.user, std::move(plan), set_plan, std::move(actor));
  auto ensured = co_await std::move(ensuring);
  if (!ensured) co_return std::unexpected(std::move(ensured.error()));
  co_return ensured->row.id;
}

}  // namespace

boost::asio::awaitable<Result<AccountId>> acting_account(Context& context, std::string plan) {
  auto finding = find_acting(context, std::move(plan));
  const auto account = co_await std::move(finding);
  if (account) context.account = *account;
  co_return account;
}

boost::asio::awaitable<Result<void>> ask_journal(Context& context,
                                                 std::function<void(journal::Journal&)> question) {
  auto reading = context.node().read(std::move(question));
  co_return co_await std::move(reading);
}

Result<Page> page_of(const Context& context, std::string_view id_prefix,
                     std::initializer_list<std::string_view> filters) {
  Page page;
  for (const auto& [name, value] : context.request.query) {
    if (name == "limit") {
      const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), page.limit);
      if (ec != std::errc() || end != value.data() + value.size() || page.limit < 1 || page.limit > 100) {
        return fail(ErrorCode::kInvalidRequest, "`limit` must be a whole number from 1 to 100", "limit");
      }
    } else if (name == "starting_after" || name == "ending_before") {
      const auto id = decode_id(id_prefix, value);
      if (!id) {
        return fail(ErrorCode::kInvalidRequest,
                    fmt::format("`{}` must be an id that begins with {}", name, id_prefix), name);
      }
      (name == "starting_after" ? page.starting_after : page.ending_before) = *id;
    } else if (std::ranges::find(filters, std::string_view(name)) == filters.end()) {
      return fail(ErrorCode::kInvalidRequest, fmt::format("unknown query parameter `{}`", name.substr(0, 64)),
                  name.substr(0, 64));
    }
  }
  if (page.starting_after != 0 && page.ending_before != 0) {
    return fail(ErrorCode::kInvalidRequest, "give `starting_after` or `ending_before`, not both",
                "ending_before");
  }
  return page;
}

}  // namespace turnpike::api
