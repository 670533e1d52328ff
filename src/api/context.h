// What a handler is given: the services of this server, and one request with who asks, for whom, and its
// parsed body.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/json/monotonic_resource.hpp>
#include <boost/json/object.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "api/error.h"
#include "api/json.h"
#include "api/keys.h"
#include "api/newcomers.h"
#include "api/request_record.h"
#include "api/sockets.h"
#include "api/tickets.h"
#include "api/wire_fields.h"
#include "base/ids.h"
#include "base/result.h"
#include "journal/journal.h"
#include "net/http.h"
#include "node/node.h"
#include "policy/policy.h"
#include "webhook/outbox.h"

namespace turnpike::api {

struct Route;

// Idempotency keys whose first request is still being answered. Thread-safe.
class InFlight {
 public:
  bool begin(const std::string& scope);
  void end(const std::string& scope);

 private:
  std::mutex mutex_;
  std::unordered_set<std::string> scopes_;  // guarded by mutex_; at most one for each open connection
};

// Requests answered, by route and status class; read by /metrics. Thread-safe.
class RequestCounts {
 public:
  static constexpr std::size_t kRoutesMax = 96;
  static constexpr std::size_t kClasses = 6;  // by status / 100
  void count(std::size_t route, int status);
  void append_text(Buffer& out) const;  // in Prometheus' text format

 private:
  std::array<std::array<std::atomic<std::uint64_t>, kClasses>, kRoutesMax> counts_{};
};

struct Services {
  Services(node::Node& node_served, webhook::Outbox& outbox_served,
           std::shared_ptr<node::TraceExport> trace_export, Wall start)
      : node(node_served),
        outbox(outbox_served),
        traces(std::move(trace_export)),
        alerts(node.alerts()),
        keys(node.keys_at_start()),
        started(start) {}

  node::Node& node;
  webhook::Outbox& outbox;
  const std::shared_ptr<node::TraceExport> traces;  // null: nothing is traced
  const std::shared_ptr<node::Alerts> alerts;
  KeyStore keys;
  Tickets tickets;
  InFlight in_flight;
  Sockets sockets;
  Sockets anonymous_streams;  // of jobs' events, for whoever has no key
  Newcomers newcomers;
  RequestCounts counts;
  Wall started;
  std::atomic<bool> ready{false};    // /readyz
  std::atomic<bool> stopped{false};  // the node has stopped: nothing is answered but 503
};

// Who asks.
struct Caller {
  enum class How : std::uint8_t { kNobody, kKey, kControl, kTicket, kAnonymous } how = How::kNobody;
  journal::Role role = journal::Role::kAccount;
  KeyId key{};            // kKey
  AccountId account{};    // role kAccount: whose things; else none. kAnonymous: none where it is new
  std::string user_id{};  // kAnonymous: see anonymous_user()
  bool operates() const { return role == journal::Role::kAdmin || role == journal::Role::kService; }
  std::string actor() const;  // for the audit: the key's id, "cli", "ticket", "public:203.0.113.7"
};

struct Context {
  Context(Services& services_used, net::Request request_taken);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Services& services;
  net::Request request;
  std::string path;  // as routed: an alias has been followed
  policy::PolicyPtr policy;
  std::string request_id;
  Wall now;
  Wire wire = Wire::kOwn;
  const Route* route = nullptr;
  const policy::Endpoint* endpoint = nullptr;  // of `policy`, where an endpoint of the operator's is asked
  std::string id;                              // what {id} or {name} stood for
  Caller caller;
  // For whom an admin or a service acts: the application's user id; empty if none was named.
  std::string user;
  // The account that it acts for, once that is known (acting_account); a refusal is that account's.
  std::optional<AccountId> account;
  // The request's body, where its route takes JSON: an object.
  boost::json::value body;
  const boost::json::object& fields() const { return body.get_object(); }
  // Of a call over OpenAI's wire, whose `body` holds only who it is for.
  std::optional<WireFields> asked;
  Monotonic began{};
  // What is told of it when it has ended: never null. An answer that goes on after its handler takes
  // `last_word`.
  std::shared_ptr<RequestRecord> record = std::make_shared<RequestRecord>();
  std::unique_ptr<LastWord> last_word;

  // Of a POST with an Idempotency-Key: scope, body_hash and expires_at are set. Who stores it with its own
  // records, in the same commit, takes it; else the dispatcher stores the answer afterwards.
  std::optional<journal::IdempotencyRow> idempotency;
  // Keeps that key taken while it lives: an answer that goes on after its handler holds a copy.
  std::shared_ptr<const void> flight;

  node::Node& node() const { return services.node; }
  boost::json::storage_ptr storage() { return &memory_; }

  // Whose things may be seen: nullopt for all (an admin or service that names nobody); AccountId{} sees
  // nothing (a user that is not known yet).
  std::optional<AccountId> scope() const;

 private:
  unsigned char first_bytes_[4096];
  boost::json::monotonic_resource memory_{first_bytes_, sizeof first_bytes_};
};

using Reply = Result<net::Response>;
using RouteHandler = boost::asio::awaitable<Reply> (*)(Context& context);  // awaited in the context's scope

net::Response json_response(int status, Buffer& body);
net::Response json_response(int status, std::string body);

// The account to act for: the key's own, or that of the user an admin or service named, made if new. `plan`:
// what `userTier` asks for, or empty. Errors: kInvalidRequest (nobody named, bad user id, unknown plan),
// kForbidden (`userTier` where it is not allowed; an account's key that names another user).
boost::asio::awaitable<Result<AccountId>> acting_account(Context& context, std::string plan);

// Runs a question on a reader thread of the node. Error: kUnavailable when they are too busy.
boost::asio::awaitable<Result<void>> ask_journal(Context& context,
                                                 std::function<void(journal::Journal&)> question);

// Sortable by time as all ids are, and unique enough to find a request in the logs. Thread-safe.
std::string fresh_request_id(Wall now);

// Valid as the application's own user id: 1..255 bytes of UTF-8 without control characters.
bool valid_user_id(std::string_view text);

// `limit`, `starting_after`, `ending_before` of a list, and refusal of what else is asked and unknown.
struct Page {
  std::size_t limit = 20;  // 1..100
  std::uint64_t starting_after = 0, ending_before = 0;
};
Result<Page> page_of(const Context& context, std::string_view id_prefix,
                     std::initializer_list<std::string_view> filters);

}  // namespace turnpike::api
