// Keys: made, listed without their secrets, revoked, rotated.
#include <boost/json/string.hpp>
#include <chrono>
#include <utility>

#include "api/crypto.h"
#include "api/fields.h"
#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/render.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kNameMax = 128;
constexpr std::int64_t kOverlapDefault = 86'400;  // seconds for which the old key works too
constexpr std::int64_t kOverlapMax = 30 * 86'400;

journal::AuditRow audit(const Context& context, std::string action, const journal::KeyRow& key) {
  return {.at = context.now,
          .actor = context.caller.actor(),
          .action = std::move(action),
          .subject = to_string(key.id),
          .detail = fmt::format("{{\"role\":\"{}\"}}", role_name(key.role))};
}

std::string shown(const Context& context, const journal::KeyRow& key, std::string_view secret) {
  const auto account = key.account ? context.node().account(key.account) : std::nullopt;
  Buffer out;
  append_key(out, key, account ? account->user_id : std::string(), secret);
  return to_text(out);
}

// Stores the rows, then lets them count; the answer that is kept for a replay never has the secret.
boost::asio::awaitable<Reply> put_keys(Context& context, std::vector<journal::KeyRow> keys,
                                       std::string action, int status, std::string secret) {
  std::vector<journal::Record> records;
  for (const auto& key : keys) records.emplace_back(key);
  records.emplace_back(audit(context, std::move(action), keys.front()));
  if (auto row = take_idempotency(context, status, shown(context, keys.front(), {}))) {
    records.emplace_back(*std::move(row));
  }
  auto storing = context.node().store(std::move(records));
  const auto stored = co_await std::move(storing);
  if (!stored) co_return std::unexpected(stored.error());
  for (const auto& key : keys) context.services.keys.put(key);
  co_return json_response(status, shown(context, keys.front(), secret));
}

Wall read_expiry(Fields& fields, Wall now) {
  const auto seconds = fields.integer("expires_at", INT64_MIN, INT64_MAX / 1'000'000);
  if (!seconds) return kNever;
  const Wall expires = wall_from_seconds(*seconds);
  if (expires <= now) fields.mistake("expires_at", "`expires_at` lies in the past");
  return expires;
}

struct KeyAsked {
  journal::KeyRow key;
  std::string user;  // roles account, worker: whose, by the application's id
};

// `account` (acct_…) or `user_id`: exactly one for role account; at most one for role worker, which then
// claims that account's work alone; none for the others.
void read_owner(const Context& context, Fields& fields, KeyAsked& asked) {
  const auto account = fields.text("account", 1, kNameMax);
  const auto user = fields.text("user_id", 1, 255);
  const bool wants_one = asked.key.role == journal::Role::kAccount;
  const bool may_have_one = wants_one || asked.key.role == journal::Role::kWorker;
  if ((account && user) || (wants_one && !account && !user)) {
    fields.mistake("account", "give `account` (acct_…) or `user_id`, one of them");
    return;
  }
  if (!may_have_one && (account || user)) {
    fields.mistake("account", "`account` and `user_id` are for roles `account` and `worker`");
    return;
  }
  if (user && !valid_user_id(*user)) fields.mistake("user_id", "`user_id` must be a text of 1 to 255 bytes");
  if (user) asked.user = *user;
  if (!account) return;
  const auto id = parse_id<AccountTag>(*account);
  const auto row = id ? context.node().account(*id) : std::nullopt;
  if (row) {
    asked.key.account = row->id;
  } else {
    fields.mistake("account", "there is no such account");
  }
}

Result<KeyAsked> read_key(const Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  KeyAsked asked;
  fields.require("role");
  const auto role = fields.word("role", {"admin", "service", "account", "worker"});
  if (role) {
    asked.key.role = parse_role(*role).value_or(journal::Role::kAccount);
    read_owner(context, fields, asked);
  }
  asked.key.name = fields.text("name", 0, kNameMax).value_or("");
  asked.key.expires_at = read_expiry(fields, context.now);
  fields.not_yet("budget");
  fields.not_yet("models");
  fields.finish();
  if (mistakes.any()) return std::unexpected(mistakes.error());
  asked.key.id = KeyId{context.node().fresh_id()};
  asked.key.created_at = context.now;
  return asked;
}

Result<journal::KeyRow> find_key(const Context& context) {
  const auto id = parse_id<KeyTag>(context.id);
  auto key = id ? context.services.keys.find(*id) : std::nullopt;
  if (!key) return fail(ErrorCode::kNotFound, "there is no such key", "id");
  return *std::move(key);
}

}  // namespace

Handled create_key(Context& context) {
  auto asked = read_key(context);
  if (!asked) co_return std::unexpected(std::move(asked.error()));
  if (!asked->user.empty()) {
    auto ensuring = context.node().ensure_account(asked->user, {}, false, context.caller.actor());
    const auto ensured = co_await std::move(ensuring);
    if (!ensured) co_return std::unexpected(ensured.error());
    asked->key.account = ensured->row.id;
  }
  std::string secret = make_key_secret();
  asked->key.hash = sha256(secret);
  std::vector<journal::KeyRow> keys{std::move(asked->key)};
  auto putting = put_keys(context, std::move(keys), "key.created", 201, std::move(secret));
  co_return co_await std::move(putting);
}

Handled list_keys(Context& context) {
  const auto page = page_of(context, KeyTag::kPrefix, {});
  if (!page) co_return std::unexpected(page.error());
  if (page->ending_before != 0) {
    co_return fail(ErrorCode::kInvalidRequest, "this list goes forward only: use `starting_after`",
                   "ending_before");
  }
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  std::size_t shown_count = 0;
  bool has_more = false;
  for (const auto& key : context.services.keys.all()) {
    if (key.id.value <= page->starting_after) continue;
    if (shown_count == page->limit) {
      has_more = true;
      break;
    }
    if (shown_count++ > 0) out.push_back(',');
    append(out, shown(context, key, {}));
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", has_more);
  co_return json_response(200, out);
}

Handled revoke_key(Context& context) {
  auto key = find_key(context);
  if (!key) co_return std::unexpected(std::move(key.error()));
  if (key->revoked_at != kNever) co_return json_response(200, shown(context, *key, {}));
  key->revoked_at = context.now;
  std::vector<journal::KeyRow> keys{*std::move(key)};
  auto putting = put_keys(context, std::move(keys), "key.revoked", 200, {});
  co_return co_await std::move(putting);
}

Handled rotate_key(Context& context) {
  auto old = find_key(context);
  if (!old) co_return std::unexpected(std::move(old.error()));
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  const auto overlap = fields.integer("overlap_s", 0, kOverlapMax).value_or(kOverlapDefault);
  fields.finish();
  if (mistakes.any()) co_return std::unexpected(mistakes.error());
  const bool usable =
      old->revoked_at == kNever && (old->expires_at == kNever || old->expires_at > context.now);
  if (!usable) {
    co_return fail(ErrorCode::kConflict, "this key is revoked or expired: make a new one instead");
  }
  std::string secret = make_key_secret();
  journal::KeyRow fresh = *old;
  fresh.id = KeyId{context.node().fresh_id()};
  fresh.hash = sha256(secret);
  fresh.created_at = context.now;
  const Wall ends = context.now + std::chrono::seconds(overlap);
  if (old->expires_at == kNever || old->expires_at > ends) old->expires_at = ends;
  std::vector<journal::KeyRow> keys{std::move(fresh), *std::move(old)};
  auto putting = put_keys(context, std::move(keys), "key.rotated", 201, std::move(secret));
  co_return co_await std::move(putting);
}

}  // namespace turnpike::api
