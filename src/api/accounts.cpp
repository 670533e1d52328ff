// Tickets, and the operator's view of accounts.
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/render.h"

namespace turnpike::api {
namespace {

Result<engine::AccountRow> find_account(const Context& context) {
  const auto id = parse_id<AccountTag>(context.id);
  const auto account = id ? context.node().account(*id) : std::nullopt;
  if (!account) return fail(ErrorCode::kNotFound, "there is no such account", "id");
  return *account;
}

Reply shown(const Context& context, const engine::AccountRow& account) {
  Buffer out;
  append_account(out, account, context.node().overrides_mistake(account.id));
  return json_response(200, out);
}

}  // namespace

Handled create_ticket(Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  (void)fields.any("user");
  (void)fields.any("userId");
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  std::optional<AccountId> account;
  // An admin who names nobody gets a ticket that sees everything; everybody else's is of one account.
  if (context.caller.role != journal::Role::kAdmin || !context.user.empty()) {
    auto finding = acting_account(context, {});
    const auto found = co_await std::move(finding);
    if (!found) co_return std::unexpected(found.error());
    account = *found;
  }
  Buffer out;
  append(out, "{\"object\":\"ticket\",\"ticket\":");
  append_quoted(out, context.services.tickets.issue(account, context.now));
  append(out, ",\"account\":");
  append_quoted_or_null(out, account ? to_string(*account) : std::string());
  append(out, ",\"expires_at\":");
  append_time(out, context.now + kTicketLife);
  out.push_back('}');
  co_return json_response(201, out);
}

Handled list_accounts(Context& context) {
  const auto page = page_of(context, AccountTag::kPrefix, {"user_id"});
  if (!page) co_return std::unexpected(page.error());
  if (page->ending_before != 0) {
    co_return fail(ErrorCode::kInvalidRequest, "this list goes forward only: use `starting_after`",
                   "ending_before");
  }
  std::vector<engine::AccountRow> accounts;
  if (const auto user = context.request.query_value("user_id")) {
    if (auto account = context.node().account_by_user(*user)) accounts.push_back(*std::move(account));
  } else {
    accounts = context.node().accounts(AccountId{page->starting_after}, page->limit + 1);
  }
  const bool has_more = accounts.size() > page->limit;
  if (has_more) accounts.resize(page->limit);
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  for (std::size_t i = 0; i < accounts.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_account(out, accounts[i], context.node().overrides_mistake(accounts[i].id));
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", has_more);
  co_return json_response(200, out);
}

Handled get_account(Context& context) {
  const auto account = find_account(context);
  if (!account) co_return std::unexpected(account.error());
  co_return shown(context, *account);
}

}  // namespace turnpike::api
