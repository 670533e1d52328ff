#include "webhook/outbox.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <charconv>
#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <unordered_set>
#include <utility>

#include "base/random.h"
#include "net/task_group.h"
#include "node/log.h"
#include "webhook/event_filter.h"
#include "webhook/signature.h"

namespace turnpike::webhook {
namespace asio = boost::asio;
namespace {

using journal::DeliveryState;
using journal::Record;
using journal::StoredEvent;
using journal::WebhookCursorRow;
using journal::WebhookDeliveryRow;
using journal::WebhookEndpointRow;

constexpr Duration kRetryAfterMax = std::chrono::hours(24);
constexpr Duration kLookAgain = std::chrono::seconds(30);    // at the latest: the wall clock may jump
constexpr Duration kPause = std::chrono::milliseconds(200);  // after reading or storing failed
constexpr Duration kStopMax = std::chrono::seconds(5);
constexpr Duration kMakingPause =
    std::chrono::milliseconds(2);                         // who finds an endpoint being made looks again
constexpr Duration kMakingMax = std::chrono::seconds(1);  // for so long
constexpr std::uint32_t kJitterPermille = 100;            // retries come up to a tenth later

// A delivery that is in memory; its payload is not.
struct Waiting {
  std::string subject;
  Wall next_at;
  bool under_way = false;
};

struct Endpoint {
  WebhookEndpointRow row;
  std::map<EventId, Waiting> window;  // the first of those that wait, and whatever is under way
  EventId loaded_to;                  // what waits behind this is in the journal alone, if `more`
  bool more = false;
  bool loading = false;
  bool listed = false;           // among those to look after
  bool changing = false;         // its row is being stored
  std::optional<Wall> alarm_at;  // when it is looked after again by itself
  std::uint64_t pending = 0;     // deliveries that wait, in memory or not
  std::uint64_t fanned = 0;      // counts fan-outs, for a load to see that one came between
  std::size_t under_way = 0;
};

struct Due {
  WebhookId endpoint;
  EventId event;
};

Wall wall_or(const std::optional<Wall>& a, Wall b) {
  return a ? std::min(*a, b) : b;
}

// Seconds of a Retry-After header; nothing where it is a date or nonsense.
std::optional<Duration> retry_after(const net::Headers& headers) {
  for (const auto& [name, value] : headers) {
    if (name != "retry-after" && name != "Retry-After") continue;
    std::uint32_t seconds = 0;
    const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), seconds);
    if (ec == std::errc() && end == value.data() + value.size())
      return std::min<Duration>(std::chrono::seconds(seconds), kRetryAfterMax);
  }
  return std::nullopt;
}

std::string subject_of(const engine::Event& event) {
  if (event.job) return to_string(event.job);
  return event.run ? to_string(event.run) : to_string(event.account);
}

class OutboxImpl final : public Outbox {
 public:
  OutboxImpl(node::Node& node, net::IoThreads& threads, Render render, std::shared_ptr<net::Client> client)
      : node_(node),
        threads_(threads),
        render_(std::move(render)),
        client_(std::move(client)),
        random_(node.fresh_id()),
        group_([](std::string_view what) {
          node::log_event(node::LogLevel::kError, "webhook.bug", {{"what", what}});
        }) {}
  ~OutboxImpl() override { stop(); }

  Result<void> load();

  std::vector<WebhookEndpointRow> endpoints(std::optional<AccountId> account) override;
  std::optional<WebhookEndpointRow> endpoint(WebhookId id) override;
  asio::awaitable<Result<void>> put(WebhookEndpointRow row, std::vector<Record> more) override;
  asio::awaitable<Result<WebhookId>> endpoint_for_jobs(AccountId account, std::string url,
                                                       std::size_t most) override;
  asio::awaitable<Result<WebhookDeliveryRow>> redeliver(WebhookId endpoint, EventId event) override;
  std::string metrics_text() override;
  void stop() override;

 private:
  // --- From events to deliveries
  asio::awaitable<void> follow();
  asio::awaitable<bool> follow(node::Subscription& subscription);
  asio::awaitable<bool> fan_out(const std::vector<StoredEvent>& events);
  std::vector<WebhookId> wanting(const StoredEvent& event);
  void note_made(const std::vector<WebhookDeliveryRow>& made);
  void follow_if_needed();  // under mutex_

  // --- From deliveries to requests
  void look_after(Endpoint& endpoint);                    // under mutex_: something of it changed
  void pump();                                            // under mutex_: starts what can be
  void pump(Endpoint& endpoint, Wall now);                // under mutex_
  void wake_at(Endpoint& endpoint, Wall when, Wall now);  // under mutex_
  asio::awaitable<void> wake(WebhookId id, Wall when, Duration wait);
  asio::awaitable<void> load_more(WebhookId id);
  asio::awaitable<void> send(Due due);
  asio::awaitable<Result<std::optional<WebhookDeliveryRow>>> read_delivery(WebhookId endpoint, EventId event);
  net::ClientRequest request_for(const WebhookEndpointRow& endpoint, const WebhookDeliveryRow& delivery,
                                 Wall now);
  // What an attempt came to, as the row to store; true: the endpoint says that it is gone for good.
  bool conclude(WebhookDeliveryRow& row, const Result<net::ClientResponse>& answer, Wall now);
  void ended(const Due& due, const WebhookDeliveryRow* row);
  asio::awaitable<void> disable(WebhookId id, std::string why);
  asio::any_io_executor executor_of(WebhookId id) {
    return threads_.context(id.value % threads_.size()).get_executor();
  }

  node::Node& node_;
  net::IoThreads& threads_;
  const Render render_;
  const std::shared_ptr<net::Client> client_;

  std::mutex mutex_;
  // Guarded by mutex_:
  std::map<WebhookId, Endpoint> endpoints_;
  std::multimap<AccountId, WebhookId>
      by_account_;                // the endpoints whose events are an account's, or everybody's
  std::deque<WebhookId> listed_;  // endpoints to look after
  std::set<std::pair<AccountId, std::string>> making_;  // by endpoint_for_jobs(): whose, at which URL
  std::size_t sends_ = 0;
  bool following_ = false;
  bool stopping_ = false;
  std::shared_ptr<node::Subscription> subscription_;
  EventId cursor_;  // deliveries of all up to here are stored
  Random random_;

  std::atomic<std::uint64_t> delivered_ = 0, failed_attempts_ = 0, given_up_ = 0;
  net::TaskGroup group_;  // last: its tasks use all of the above
};

Result<void> OutboxImpl::load() {
  auto stored = node_.journal().webhooks();
  if (!stored) return std::unexpected(stored.error());
  const std::scoped_lock lock(mutex_);
  cursor_ = stored->cursor;
  std::optional<EventId> first;
  for (WebhookEndpointRow& row : stored->endpoints) {
    first = first ? std::min(*first, row.since) : row.since;
    by_account_.emplace(row.account, row.id);
    Endpoint& endpoint = endpoints_[row.id];
    endpoint.row = std::move(row);
  }
  // With no endpoint there was nothing to note.
  if (first) cursor_ = std::max(cursor_, *first);
  for (const auto& [id, pending] : stored->pending) {
    const auto found = endpoints_.find(id);
    if (found == endpoints_.end()) continue;
    found->second.pending = pending;
    found->second.more = true;
    look_after(found->second);
  }
  follow_if_needed();
  pump();
  return {};
}

// --- From events to deliveries

void OutboxImpl::follow_if_needed() {
  if (following_ || stopping_ || endpoints_.empty()) return;
  following_ = true;
  group_.spawn(threads_.context(0).get_executor(), follow());
}

asio::awaitable<void> OutboxImpl::follow() {
  asio::steady_timer pause(co_await asio::this_coro::executor);
  for (;;) {
    EventId from;
    {
      const std::scoped_lock lock(mutex_);
      if (stopping_ || endpoints_.empty()) {
        following_ = false;
        subscription_.reset();
        co_return;
      }
      from = cursor_;
    }
    auto subscribing = node_.subscribe(std::nullopt, node::Subscription::Everything{}, from);
    const auto subscription = co_await std::move(subscribing);
    if (subscription) {
      {
        const std::scoped_lock lock(mutex_);
        subscription_ = *subscription;
        if (stopping_) subscription_->close();
      }
      auto following = follow(**subscription);
      if (co_await std::move(following)) co_return;
    }
    // It lagged, or storing failed: again from where the cursor stands, so that nothing is missed.
    pause.expires_after(kPause);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

// True: it was closed.
asio::awaitable<bool> OutboxImpl::follow(node::Subscription& subscription) {
  for (;;) {
    auto waiting = subscription.next(kLookAgain);
    const auto item = co_await std::move(waiting);
    if (item.closed) co_return true;
    if (!item.events.empty()) {
      auto fanning = fan_out(item.events);
      if (!co_await std::move(fanning)) co_return false;
    }
    const std::scoped_lock lock(mutex_);
    if (item.lagged || endpoints_.empty()) co_return false;
  }
}

// Those that an event concerns.
std::vector<WebhookId> OutboxImpl::wanting(const StoredEvent& event) {
  const std::scoped_lock lock(mutex_);
  std::vector<WebhookId> ids;
  const auto look = [&](AccountId account) {
    const auto [first, last] = by_account_.equal_range(account);
    for (auto it = first; it != last; ++it) {
      const WebhookEndpointRow& row = endpoints_.at(it->second).row;
      const bool named = event.event.webhook == row.id && ends_work(event.event.type);
      if (row.disabled.empty() && event.id > row.since && event.id > cursor_ &&
          (named || wants(row.events, event.event.type)))
        ids.push_back(row.id);
    }
  };
  look({});
  if (event.event.account) look(event.event.account);
  return ids;
}

// False: it was not stored, and the cursor stands where it stood.
asio::awaitable<bool> OutboxImpl::fan_out(const std::vector<StoredEvent>& events) {
  std::vector<WebhookDeliveryRow> made;
  for (const StoredEvent& event : events) {
    const std::vector<WebhookId> ids = wanting(event);
    if (ids.empty()) continue;
    auto rendering = render_(event);
    const std::string payload = co_await std::move(rendering);
    const Wall now = node_.now().wall;
    for (const WebhookId id : ids) {
      made.push_back({.endpoint = id,
                      .event = event.id,
                      .type = engine::event_type_name(event.event.type),
                      .subject = subject_of(event.event),
                      .payload = payload,
                      .error = {},
                      .created_at = now,
                      .next_at = now});
    }
  }
  const EventId last = events.back().id;
  if (!made.empty()) {
    std::vector<Record> records(made.begin(), made.end());
    records.emplace_back(WebhookCursorRow{last});
    auto storing = node_.store(std::move(records));
    const auto stored = co_await std::move(storing);
    if (!stored) co_return false;
  }
  note_made(made);
  const std::scoped_lock lock(mutex_);
  cursor_ = std::max(cursor_, last);
  co_return true;
}

void OutboxImpl::note_made(const std::vector<WebhookDeliveryRow>& made) {
  const std::scoped_lock lock(mutex_);
  for (const WebhookDeliveryRow& row : made) {
    const auto found = endpoints_.find(row.endpoint);
    if (found == endpoints_.end()) continue;
    Endpoint& endpoint = found->second;
    ++endpoint.pending;
    ++endpoint.fanned;
    if (endpoint.more || endpoint.window.size() >= kWindow) {
      endpoint.more = true;
    } else {
      endpoint.window.try_emplace(row.event, Waiting{.subject = row.subject, .next_at = row.next_at});
      endpoint.loaded_to = std::max(endpoint.loaded_to, row.event);
    }
    if (endpoint.pending > kPendingMax && endpoint.row.disabled.empty()) {
      endpoint.row.disabled = fmt::format("more than {} deliveries wait for it", kPendingMax);
      group_.spawn(executor_of(row.endpoint), disable(row.endpoint, endpoint.row.disabled));
    }
    look_after(endpoint);
  }
  pump();
}

// --- From deliveries to requests

void OutboxImpl::look_after(Endpoint& endpoint) {
  if (std::exchange(endpoint.listed, true)) return;
  listed_.push_back(endpoint.row.id);
}

void OutboxImpl::pump() {
  if (stopping_) return;
  const Wall now = node_.now().wall;
  while (!listed_.empty() && sends_ < kSendsMax) {
    const auto found = endpoints_.find(listed_.front());
    listed_.pop_front();
    if (found == endpoints_.end()) continue;
    found->second.listed = false;
    pump(found->second, now);
  }
}

void OutboxImpl::pump(Endpoint& endpoint, Wall now) {
  if (!endpoint.row.disabled.empty()) return;
  std::unordered_set<std::string_view> held_back;  // subjects whose first still waits
  std::optional<Wall> next;
  for (auto& [event, waiting] : endpoint.window) {
    const bool first = held_back.insert(waiting.subject).second;
    if (!first || waiting.under_way) continue;
    if (waiting.next_at > now) {
      next = wall_or(next, waiting.next_at);
      continue;
    }
    if (sends_ >= kSendsMax) look_after(endpoint);
    if (sends_ >= kSendsMax || endpoint.under_way >= kSendsPerEndpointMax) break;
    waiting.under_way = true;
    ++endpoint.under_way;
    ++sends_;
    group_.spawn(executor_of(endpoint.row.id), send({endpoint.row.id, event}));
  }
  if (next) wake_at(endpoint, *next, now);
  if (endpoint.more && !endpoint.loading && endpoint.window.size() <= kWindow / 2) {
    endpoint.loading = true;
    group_.spawn(executor_of(endpoint.row.id), load_more(endpoint.row.id));
  }
}

void OutboxImpl::wake_at(Endpoint& endpoint, Wall when, Wall now) {
  if (endpoint.alarm_at && *endpoint.alarm_at <= when) return;
  endpoint.alarm_at = when;
  group_.spawn(executor_of(endpoint.row.id),
               wake(endpoint.row.id, when, std::min<Duration>(when - now, kLookAgain)));
}

asio::awaitable<void> OutboxImpl::wake(WebhookId id, Wall when, Duration wait) {
  asio::steady_timer timer(co_await asio::this_coro::executor, wait);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  const std::scoped_lock lock(mutex_);
  const auto found = endpoints_.find(id);
  if (stopping_ || found == endpoints_.end()) co_return;
  if (found->second.alarm_at == when) found->second.alarm_at.reset();
  look_after(found->second);
  pump();
}

asio::awaitable<void> OutboxImpl::load_more(WebhookId id) {
  journal::DeliveryQuery query{.endpoint = id, .state = DeliveryState::kPending, .limit = kWindow};
  std::uint64_t fanned = 0;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = endpoints_.find(id);
    if (found == endpoints_.end()) co_return;
    query.after = found->second.loaded_to;
    fanned = found->second.fanned;
  }
  Result<std::vector<WebhookDeliveryRow>> rows;
  std::function<void(journal::Journal&)> question = [&](auto& journal) { rows = journal.deliveries(query); };
  auto reading = node_.read(std::move(question));
  const auto read = co_await std::move(reading);
  const std::scoped_lock lock(mutex_);
  const auto found = endpoints_.find(id);
  if (found == endpoints_.end()) co_return;
  Endpoint& endpoint = found->second;
  endpoint.loading = false;
  if (!read || !rows) {
    const Wall now = node_.now().wall;
    wake_at(endpoint, now + kPause, now);
    co_return;
  }
  for (const WebhookDeliveryRow& row : *rows) {
    endpoint.window.try_emplace(row.event, Waiting{.subject = row.subject, .next_at = row.next_at});
    endpoint.loaded_to = std::max(endpoint.loaded_to, row.event);
  }
  endpoint.more = rows->size() == query.limit || endpoint.fanned != fanned;
  look_after(endpoint);
  pump();
}

asio::awaitable<Result<std::optional<WebhookDeliveryRow>>> OutboxImpl::read_delivery(WebhookId endpoint,
                                                                                     EventId event) {
  Result<std::optional<WebhookDeliveryRow>> row;
  std::function<void(journal::Journal&)> question = [&](auto& journal) {
    row = journal.delivery(endpoint, event);
  };
  auto reading = node_.read(std::move(question));
  const auto read = co_await std::move(reading);
  if (!read) co_return std::unexpected(read.error());
  co_return row;
}

net::ClientRequest OutboxImpl::request_for(const WebhookEndpointRow& endpoint,
                                           const WebhookDeliveryRow& delivery, Wall now) {
  const policy::Webhooks config = node_.policy()->webhooks;
  const std::string id = to_string(delivery.event);
  std::string signature = sign(endpoint.secret, id, now, delivery.payload);
  if (!endpoint.old_secret.empty() && now < endpoint.old_until)
    signature += " " + sign(endpoint.old_secret, id, now, delivery.payload);
  return {.method = "POST",
          .url = endpoint.url,
          .headers = {{"Content-Type", "application/json"},
                      {"webhook-id", id},
                      {"webhook-timestamp", fmt::to_string(unix_seconds(now))},
                      {"webhook-signature", std::move(signature)}},
          .body = delivery.payload,
          .timeout = config.timeout,
          .public_only = !config.allow_private,
          .response_bytes_max = kAnswerBytesMax};
}

bool OutboxImpl::conclude(WebhookDeliveryRow& row, const Result<net::ClientResponse>& answer, Wall now) {
  constexpr int kGone = 410;
  ++row.attempts;
  row.status = answer ? answer->status : 0;
  row.payload.clear();  // the stored one stays
  if (answer && answer->status / 100 == 2) {
    row.state = DeliveryState::kDelivered;
    row.error.clear();
    row.next_at = kNever;
    row.ended_at = now;
    delivered_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  failed_attempts_.fetch_add(1, std::memory_order_relaxed);
  row.error = answer ? fmt::format("answered {}", answer->status) : answer.error().cause;
  const std::vector<Duration> waits = node_.policy()->webhooks.retry;
  if (row.attempts > waits.size()) {
    row.state = DeliveryState::kFailed;
    row.next_at = kNever;
    row.ended_at = now;
    given_up_.fetch_add(1, std::memory_order_relaxed);
    return answer && answer->status == kGone;
  }
  Duration wait = waits[row.attempts - 1];
  {
    const std::scoped_lock lock(mutex_);
    wait += wait * static_cast<std::int64_t>(random_.below(kJitterPermille + 1)) / 1000;
  }
  if (const auto asked = answer ? retry_after(answer->headers) : std::nullopt) wait = std::max(wait, *asked);
  row.next_at = now + wait;
  return answer && answer->status == kGone;
}

asio::awaitable<void> OutboxImpl::send(Due due) {
  auto reading = read_delivery(due.endpoint, due.event);
  auto row = co_await std::move(reading);
  const auto target = endpoint(due.endpoint);
  if (!row || !*row || !target || (*row)->state != DeliveryState::kPending) {
    ended(due, row && *row ? &**row : nullptr);
    co_return;
  }
  auto sending = client_->send(request_for(*target, **row, node_.now().wall));
  const auto answer = co_await std::move(sending);
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) co_return;  // it is sent again at the next start
  }
  const bool gone = conclude(**row, answer, node_.now().wall);
  if ((*row)->state == DeliveryState::kFailed) {
    node::log_event(node::LogLevel::kWarn, "webhook.given_up",
                    {{"endpoint", to_string(due.endpoint)},
                     {"webhook_id", to_string(due.event)},
                     {"attempts", (*row)->attempts},
                     {"error", (*row)->error}});
  }
  std::vector<Record> records{**row};
  auto storing = node_.store(std::move(records));
  const auto stored = co_await std::move(storing);
  if (!stored) co_return;  // the node stops
  if (gone) {
    auto disabling = disable(due.endpoint, "it answered 410: it is gone for good");
    co_await std::move(disabling);
  }
  ended(due, &**row);
}

// A send is over; `row` is null where there is no such delivery any more, or reading it failed.
void OutboxImpl::ended(const Due& due, const WebhookDeliveryRow* row) {
  const std::scoped_lock lock(mutex_);
  --sends_;
  const auto found = endpoints_.find(due.endpoint);
  if (found != endpoints_.end()) {
    Endpoint& endpoint = found->second;
    --endpoint.under_way;
    const auto waiting = endpoint.window.find(due.event);
    if (waiting != endpoint.window.end()) {
      waiting->second.under_way = false;
      if (row == nullptr) {
        waiting->second.next_at = node_.now().wall + kPause;
      } else if (row->state == DeliveryState::kPending) {
        waiting->second.next_at = row->next_at;
      } else {
        endpoint.window.erase(waiting);
        if (endpoint.pending > 0) --endpoint.pending;
      }
    }
    look_after(endpoint);
  }
  pump();
}

asio::awaitable<void> OutboxImpl::disable(WebhookId id, std::string why) {
  std::optional<WebhookEndpointRow> row = endpoint(id);
  if (!row) co_return;
  row->disabled = why;
  node::log_event(node::LogLevel::kWarn, "webhook.disabled", {{"endpoint", to_string(id)}, {"why", why}});
  std::vector<Record> more{journal::AuditRow{.at = node_.now().wall,
                                             .actor = "server",
                                             .action = "webhook.disabled",
                                             .subject = to_string(id),
                                             .detail = fmt::format("{{\"why\":\"{}\"}}", why)}};
  auto putting = put(*std::move(row), std::move(more));
  co_await std::move(putting);
}

// --- What the interface asks

std::vector<WebhookEndpointRow> OutboxImpl::endpoints(std::optional<AccountId> account) {
  const std::scoped_lock lock(mutex_);
  std::vector<WebhookEndpointRow> rows;
  for (const auto& [id, endpoint] : endpoints_) {
    if (!account || endpoint.row.account == *account) rows.push_back(endpoint.row);
  }
  return rows;
}

std::optional<WebhookEndpointRow> OutboxImpl::endpoint(WebhookId id) {
  const std::scoped_lock lock(mutex_);
  const auto found = endpoints_.find(id);
  if (found == endpoints_.end()) return std::nullopt;
  return found->second.row;
}

asio::awaitable<Result<void>> OutboxImpl::put(WebhookEndpointRow row, std::vector<Record> more) {
  using Change = WebhookEndpointRow::Change;
  if (row.change != Change::kNew) {
    const std::scoped_lock lock(mutex_);
    const auto found = endpoints_.find(row.id);
    if (found == endpoints_.end()) co_return fail(ErrorCode::kNotFound, "there is no such endpoint", "id");
    // One after the other, so that memory and journal agree in the end.
    if (std::exchange(found->second.changing, true))
      co_return fail(ErrorCode::kConflict, "the endpoint is being changed: try again");
  }
  more.emplace_back(row);
  auto storing = node_.store(std::move(more));
  const auto stored = co_await std::move(storing);
  const std::scoped_lock lock(mutex_);
  if (row.change == Change::kRemoved && stored) {
    const auto [first, last] = by_account_.equal_range(row.account);
    by_account_.erase(std::find_if(first, last, [&](const auto& each) { return each.second == row.id; }));
    endpoints_.erase(row.id);  // what is under way ends, and finds nothing
    co_return stored;
  }
  if (row.change == Change::kNew && stored) {
    if (endpoints_.empty()) cursor_ = std::max(cursor_, row.since);
    by_account_.emplace(row.account, row.id);
    endpoints_[row.id].row.id = row.id;
  }
  const auto found = endpoints_.find(row.id);
  if (found == endpoints_.end()) co_return stored;
  found->second.changing = false;
  if (!stored) co_return stored;
  found->second.row = std::move(row);
  found->second.row.change = Change::kChanged;
  follow_if_needed();
  look_after(found->second);
  pump();
  co_return stored;
}

asio::awaitable<Result<WebhookId>> OutboxImpl::endpoint_for_jobs(AccountId account, std::string url,
                                                                 std::size_t most) {
  const std::pair place(account, url);
  asio::steady_timer pause(co_await asio::this_coro::executor);
  for (Duration waited{0};; waited += kMakingPause) {
    {
      const std::scoped_lock lock(mutex_);
      const auto [first, last] = by_account_.equal_range(account);
      const auto found = std::find_if(
          first, last, [&](const auto& each) { return endpoints_.at(each.second).row.url == url; });
      if (found != last) {
        const WebhookEndpointRow& row = endpoints_.at(found->second).row;
        if (row.disabled.empty()) co_return row.id;
        co_return fail(ErrorCode::kConflict,
                       fmt::format("the webhook endpoint {} of this URL is disabled ({}): enable it first",
                                   to_string(row.id), row.disabled),
                       "webhook_url");
      }
      if (by_account_.count(account) >= most) {
        co_return fail(ErrorCode::kLimitExceeded,
                       fmt::format("at most {} webhook endpoints: remove one that is no longer needed, or "
                                   "use its URL",
                                   most),
                       "webhook_url");
      }
      if (making_.insert(place).second) break;
    }
    if (waited >= kMakingMax)
      co_return fail(ErrorCode::kConflict, "the endpoint is being made: try again", "webhook_url");
    pause.expires_after(kMakingPause);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  WebhookEndpointRow row;
  row.id = WebhookId{node_.fresh_id()};
  row.account = account;
  row.url = std::move(url);
  row.description = "made for webhook_url of a job";
  row.secret = make_secret();
  row.since = journal::last_event_of(node_.journal().last_batch());
  row.created_at = node_.now().wall;
  row.change = WebhookEndpointRow::Change::kNew;
  const WebhookId id = row.id;
  std::vector<Record> records{journal::AuditRow{.at = row.created_at,
                                                .actor = "server",
                                                .action = "webhook.created",
                                                .subject = to_string(id),
                                                .detail = "{}"}};
  auto putting = put(std::move(row), std::move(records));
  const auto done = co_await std::move(putting);
  const std::scoped_lock lock(mutex_);
  making_.erase(place);
  if (!done) co_return std::unexpected(done.error());
  co_return id;
}

asio::awaitable<Result<WebhookDeliveryRow>> OutboxImpl::redeliver(WebhookId id, EventId event) {
  const auto target = endpoint(id);
  if (!target) co_return fail(ErrorCode::kNotFound, "there is no such endpoint", "id");
  if (!target->disabled.empty()) {
    co_return fail(ErrorCode::kConflict,
                   "the endpoint is disabled (" + target->disabled + "): enable it first");
  }
  auto reading = read_delivery(id, event);
  auto row = co_await std::move(reading);
  if (!row) co_return std::unexpected(row.error());
  if (!*row) {
    co_return fail(ErrorCode::kNotFound, "there is no delivery of this event to the endpoint (any more)",
                   "event");
  }
  WebhookDeliveryRow again = **std::move(row);
  const bool ended_before = again.state != DeliveryState::kPending;
  again.state = DeliveryState::kPending;
  again.attempts = 0;
  again.next_at = node_.now().wall;
  again.ended_at = kNever;
  std::vector<Record> records{again};
  auto storing = node_.store(std::move(records));
  const auto stored = co_await std::move(storing);
  if (!stored) co_return std::unexpected(stored.error());
  const std::scoped_lock lock(mutex_);
  const auto found = endpoints_.find(id);
  if (found == endpoints_.end()) co_return again;
  Endpoint& endpoint = found->second;
  const auto [waiting, added] =
      endpoint.window.try_emplace(event, Waiting{.subject = again.subject, .next_at = again.next_at});
  if (!added) waiting->second.next_at = again.next_at;
  if (ended_before) ++endpoint.pending;
  look_after(endpoint);
  pump();
  co_return again;
}

std::string OutboxImpl::metrics_text() {
  std::uint64_t pending = 0;
  std::size_t count = 0;
  {
    const std::scoped_lock lock(mutex_);
    count = endpoints_.size();
    for (const auto& [id, endpoint] : endpoints_) pending += endpoint.pending;
  }
  return fmt::format(
      "# HELP turnpike_webhook_endpoints Endpoints that are told of events\n"
      "# TYPE turnpike_webhook_endpoints gauge\n"
      "turnpike_webhook_endpoints {}\n"
      "# HELP turnpike_webhook_pending Deliveries that wait or are under way\n"
      "# TYPE turnpike_webhook_pending gauge\n"
      "turnpike_webhook_pending {}\n"
      "# HELP turnpike_webhook_attempts_total Attempts to deliver, and deliveries that were given up\n"
      "# TYPE turnpike_webhook_attempts_total counter\n"
      "turnpike_webhook_attempts_total{{outcome=\"delivered\"}} {}\n"
      "turnpike_webhook_attempts_total{{outcome=\"failed\"}} {}\n"
      "# HELP turnpike_webhook_given_up_total Deliveries that were given up after their last attempt\n"
      "# TYPE turnpike_webhook_given_up_total counter\n"
      "turnpike_webhook_given_up_total {}\n",
      count, pending, delivered_.load(), failed_attempts_.load(), given_up_.load());
}

void OutboxImpl::stop() {
  std::shared_ptr<node::Subscription> subscription;
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(stopping_, true)) return;
    subscription = subscription_;
  }
  if (subscription) subscription->close();
  group_.stop(kStopMax);
}

}  // namespace

Result<std::unique_ptr<Outbox>> Outbox::start(node::Node& node, net::IoThreads& threads, Render render,
                                              std::shared_ptr<net::Client> client) {
  auto outbox = std::make_unique<OutboxImpl>(node, threads, std::move(render), std::move(client));
  if (auto loaded = outbox->load(); !loaded) return std::unexpected(loaded.error());
  return outbox;
}

}  // namespace turnpike::webhook
