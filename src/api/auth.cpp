#include "api/auth.h"

#include <algorithm>
#include <array>
#include <boost/json/string.hpp>
#include <utility>

#include "api/anonymous.h"
#include "api/router.h"

namespace turnpike::api {
namespace {

// The token of `Authorization: Bearer …`; nothing if there is no such header.
Result<std::optional<std::string_view>> bearer(const net::Request& request) {
  const std::string* header = request.header("Authorization");
  if (header == nullptr) return std::nullopt;
  constexpr std::string_view kScheme = "bearer ";
  const bool is_bearer = header->size() > kScheme.size() &&
                         std::ranges::equal(std::string_view(*header).substr(0, kScheme.size()), kScheme,
                                            [](char a, char b) { return (a | 0x20) == (b | 0x20); });
  if (!is_bearer) {
    return fail(ErrorCode::kInvalidApiKey, "send your API key as `Authorization: Bearer tp_…`");
  }
  std::string_view token = std::string_view(*header).substr(kScheme.size());
  while (token.starts_with(' ')) token.remove_prefix(1);
  return token;
}

Result<Caller> caller_by_ticket(const Context& context, std::string_view ticket) {
  const auto grant = context.services.tickets.redeem(ticket, context.now);
  if (!grant) {
    return fail(ErrorCode::kInvalidApiKey,
                "this ticket is not valid (any more): get one by POST /api/tickets", "ticket");
  }
  Caller caller{.how = Caller::How::kTicket};
  if (grant->account) {
    caller.account = *grant->account;
  } else {
    caller.role = journal::Role::kAdmin;
  }
  return caller;
}

Result<Caller> identify(const Context& context) {
  if (context.request.control) {
    return Caller{.how = Caller::How::kControl, .role = journal::Role::kAdmin};
  }
  const auto token = bearer(context.request);
  if (!token) return std::unexpected(token.error());
  if (*token) {
    const auto key = context.services.keys.authenticate(**token, context.now);
    if (!key) return std::unexpected(key.error());
    return Caller{.how = Caller::How::kKey, .role = key->role, .key = key->id, .account = key->account};
  }
  if (context.route->access == Access::kTicket) {
    if (const auto ticket = context.request.query_value("ticket")) return caller_by_ticket(context, *ticket);
  }
  if (auto caller = anonymous_caller(context)) return *std::move(caller);
  return fail(ErrorCode::kInvalidApiKey, "no API key: send it as `Authorization: Bearer tp_…`");
}

bool loopback_only(const policy::Policy& policy) {
  return !policy.server.allow_public;
}

// `user` and `userId` of the body; the first that is given. Errors where it is no text, or they differ.
Result<std::string_view> user_in_body(const Context& context) {
  std::string_view user;
  for (const std::string_view name : {"userId", "user"}) {
    const auto* value = context.fields().if_contains(name);
    if (value == nullptr || value->is_null()) continue;
    const auto* text = value->if_string();
    const std::string_view given = text != nullptr ? std::string_view(text->data(), text->size()) : "";
    if (!valid_user_id(given)) {
      return fail(ErrorCode::kInvalidRequest,
                  fmt::format("`{}` must be your own id of a user: a text of 1 to 255 bytes", name),
                  std::string(name));
    }
    if (!user.empty() && user != given) {
      return fail(ErrorCode::kInvalidRequest, "`user` and `userId` name two users: give one", "user");
    }
    user = given;
  }
  return user;
}

Result<std::string> named_user(const Context& context) {
  std::string user;
  if (const std::string* header = context.request.header("Turnpike-Account")) {
    if (!valid_user_id(*header)) {
      return fail(ErrorCode::kInvalidRequest,
                  "`Turnpike-Account` must be your own id of a user: a text of 1 to 255 bytes",
                  "Turnpike-Account");
    }
    user = *header;
  }
  const bool acts_for_a_user = context.body.is_object() && context.route->access != Access::kAdmin;
  // OpenAI's clients tag their end users with `user`: where a key is of one account already, that is all it
  // is.
  const bool tag_only = context.wire == Wire::kOpenAi && !context.caller.operates();
  if (!acts_for_a_user || tag_only) return user;
  const auto in_body = user_in_body(context);
  if (!in_body) return std::unexpected(in_body.error());
  if (in_body->empty()) return user;
  if (!user.empty() && user != *in_body) {
    return fail(ErrorCode::kInvalidRequest,
                "the header Turnpike-Account and the body name two users: give one", "Turnpike-Account");
  }
  return std::string(*in_body);
}

// Where a user is named.
std::string field_with_user(const Context& context) {
  if (context.request.header("Turnpike-Account") != nullptr) return "Turnpike-Account";
  return context.fields().contains("userId") ? "userId" : "user";
}

}  // namespace

Result<void> authorize(Context& context) {
  const Access access = context.route->access;
  if (access == Access::kPublic || (access == Access::kMetrics && loopback_only(*context.policy))) return {};
  auto caller = identify(context);
  if (!caller) return std::unexpected(std::move(caller.error()));
  context.caller = *std::move(caller);
  const journal::Role role = context.caller.role;
  const bool works = access == Access::kWorker;
  if (role == journal::Role::kWorker && !works) {
    return fail(ErrorCode::kForbidden, "a worker's key claims jobs and does nothing else");
  }
  if (works && role != journal::Role::kWorker && role != journal::Role::kAdmin) {
    return fail(
        ErrorCode::kForbidden,
        fmt::format("this takes a worker's or an admin's key, and yours is of role {}", role_name(role)));
  }
  if (access == Access::kOperator && !context.caller.operates()) {
    return fail(
        ErrorCode::kForbidden,
        fmt::format("this takes a service's or an admin's key, and yours is of role {}", role_name(role)));
  }
  const bool operator_only = access == Access::kAdmin || access == Access::kMetrics;
  if (operator_only && role != journal::Role::kAdmin) {
    return fail(ErrorCode::kForbidden,
                fmt::format("this takes an admin's key, and yours is of role {}", role_name(role)));
  }
  return {};
}

Result<void> name_user(Context& context) {
  if (context.caller.how == Caller::How::kNobody) return {};
  auto user = named_user(context);
  if (!user) return std::unexpected(std::move(user.error()));
  if (context.caller.role == journal::Role::kService && is_anonymous_user(*user)) {
    return fail(ErrorCode::kForbidden,
                "ids that begin with `public:` are those of whoever has no key: call your user otherwise",
                field_with_user(context));
  }
  if (context.caller.operates()) {
    context.user = *std::move(user);
    return {};
  }
  if (user->empty()) return {};
  if (context.caller.how == Caller::How::kAnonymous) {
    return fail(ErrorCode::kForbidden, "whoever has no key asks for himself alone: name no user",
                field_with_user(context));
  }
  const auto own = context.node().account(context.caller.account);
  if (own && own->user_id == *user) return {};
  return fail(ErrorCode::kForbidden, "this key is of one account and cannot act for another user",
              "Turnpike-Account");
}

}  // namespace turnpike::api
