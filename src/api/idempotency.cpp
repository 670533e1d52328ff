#include "api/idempotency.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "api/crypto.h"
#include "api/files.h"

namespace turnpike::api {
namespace {

constexpr std::size_t kKeyMax = 255;
constexpr std::chrono::hours kKept{24};

// Held while the first request of a key is being answered.
class Flight {
 public:
  Flight(InFlight& flights, std::string scope)
      : flights_(flights), scope_(std::move(scope)), first_(flights_.begin(scope_)) {}
  ~Flight() {
    if (first_) flights_.end(scope_);
  }
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;
  bool first() const { return first_; }

 private:
  InFlight& flights_;
  std::string scope_;
  bool first_;
};

// Two users of one application may use the same key: it is scoped to the account, before the account exists.
std::string scope_of(const Context& context, std::string_view key) {
  std::string user = context.user;
  if (context.caller.how == Caller::How::kAnonymous) {
    user = context.caller.user_id;
  } else if (!context.caller.operates()) {
    const auto account = context.node().account(context.caller.account);
    if (account) user = account->user_id;
  }
  const std::string subject = user.empty() ? context.caller.actor() : "user:" + user;
  std::string text;
  for (const std::string_view part : {std::string_view(subject), std::string_view(context.request.method),
                                      std::string_view(context.request.path), key}) {
    text += part;
    text += '\0';
  }
  return sha256(text);
}

boost::asio::awaitable<Result<std::string>> hash_of_body(Context& context) {
  if (context.request.body_file.empty()) co_return sha256(context.request.body);
  Result<std::string> hash;
  std::function<void(journal::Journal&)> question = [&hash, file = context.request.body_file](auto&) {
    hash = sha256_of_file(file);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  co_return hash;
}

boost::asio::awaitable<Result<std::optional<journal::IdempotencyRow>>> stored_answer(Context& context,
                                                                                     std::string scope) {
  Result<std::optional<journal::IdempotencyRow>> row;
  std::function<void(journal::Journal&)> question = [&row, &scope, now = context.now](auto& journal) {
    row = journal.idempotency(scope, now);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  if (!asked) co_return std::unexpected(asked.error());
  co_return row;
}

net::Response replay(const journal::IdempotencyRow& row) {
  net::Response response = json_response(row.status, row.body);
  response.content_type = row.content_type;
  response.headers.emplace_back("Idempotent-Replayed", "true");
  return response;
}

boost::asio::awaitable<void> store_answer(Context& context, const net::Response& response) {
  const auto* body = std::get_if<std::string>(&response.body);
  const bool admitted = response.status >= 200 && response.status < 300;
  if (!admitted || body == nullptr || body->size() > kStoredBytesMax) co_return;
  auto row = take_idempotency(context, response.status, *body);
  if (!row) co_return;
  row->content_type = response.content_type;
  std::vector<journal::Record> records;
  records.emplace_back(std::move(*row));
  auto storing = context.node().store(std::move(records));
  // Where this fails the server is stopping, and the answer still stands: it is not replayed, that is all.
  (void)co_await std::move(storing);
}

}  // namespace

std::optional<journal::IdempotencyRow> take_idempotency(Context& context, int status, std::string body) {
  auto row = std::exchange(context.idempotency, std::nullopt);
  if (!row) return row;
  row->status = status;
  row->content_type = "application/json";
  row->body = std::move(body);
  return row;
}

boost::asio::awaitable<Reply> serve_once(Context& context, std::string key, RouteHandler handler) {
  const bool visible = std::ranges::all_of(key, [](char c) { return c >= ' ' && c < 0x7f; });
  if (key.empty() || key.size() > kKeyMax || !visible) {
    co_return fail(ErrorCode::kInvalidRequest, "`Idempotency-Key` must be 1 to 255 visible characters",
                   "Idempotency-Key");
  }
  const std::string scope = scope_of(context, key);
  const auto flight = std::make_shared<const Flight>(context.services.in_flight, scope);
  if (!flight->first()) {
    co_return fail(ErrorCode::kIdempotencyInFlight,
                   "a request with this Idempotency-Key is still being answered: wait for it",
                   "Idempotency-Key");
  }
  context.flight = flight;
  auto hashing = hash_of_body(context);
  auto body_hash = co_await std::move(hashing);
  if (!body_hash) co_return std::unexpected(std::move(body_hash.error()));
  auto looking = stored_answer(context, scope);
  auto stored = co_await std::move(looking);
  if (!stored) co_return std::unexpected(std::move(stored.error()));
  if (*stored) {
    if ((*stored)->body_hash == *body_hash) co_return replay(**stored);
    co_return fail(ErrorCode::kIdempotencyMismatch,
                   "this Idempotency-Key was used with another body: use a new key for a new request",
                   "Idempotency-Key");
  }
  context.idempotency = journal::IdempotencyRow{.scope = scope,
                                                .body_hash = std::move(*body_hash),
                                                .status = 0,
                                                .content_type = {},
                                                .body = {},
                                                .expires_at = context.now + kKept};
  auto handling = handler(context);
  Reply reply = co_await std::move(handling);
  if (reply) {
    auto storing = store_answer(context, *reply);
    co_await std::move(storing);
  }
  co_return reply;
}

}  // namespace turnpike::api
