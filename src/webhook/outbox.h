// Outgoing webhooks: makes a delivery of each event for each endpoint that wants it, and sends deliveries
// until they are taken or given up.
//
// What is promised:
//   W1  An event that was committed while an endpoint was in force is delivered to it at least once, unless
//   it is
//       given up after the last retry, or the endpoint is removed. A crash loses none and repeats only what
//       was under way.
//   W2  Deliveries of one subject to one endpoint are sent one after the other, in the order of the events;
//   one
//       that was given up no longer holds back those behind it.
//   W3  Everything is bounded: sends at once, deliveries in memory, deliveries that wait for one endpoint
//   (beyond,
//       the endpoint is disabled), time and size of an answer.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "journal/journal.h"
#include "net/client.h"
#include "net/io_threads.h"
#include "node/node.h"

namespace turnpike::webhook {

class Outbox {
 public:
  // The payload of an event's deliveries, made once: JSON.
  using Render = std::function<boost::asio::awaitable<std::string>(const journal::StoredEvent& event)>;

  static constexpr std::size_t kSendsMax = 64;            // at once
  static constexpr std::size_t kSendsPerEndpointMax = 8;  // at once
  static constexpr std::size_t kWindow = 256;             // deliveries of an endpoint in memory
  static constexpr std::uint64_t kPendingMax = 100'000;   // deliveries that wait for an endpoint
  static constexpr std::uint64_t kAnswerBytesMax = 64U << 10;

  // Reads what the journal has and goes on where it ended. Borrows node and threads, which outlive it.
  // Errors: kIo.
  static Result<std::unique_ptr<Outbox>> start(node::Node& node, net::IoThreads& threads, Render render,
                                               std::shared_ptr<net::Client> client = net::Client::create());
  virtual ~Outbox() = default;

  // By id. `account`: of this account; nullopt: all. Thread-safe, as are all below.
  virtual std::vector<journal::WebhookEndpointRow> endpoints(std::optional<AccountId> account) = 0;
  virtual std::optional<journal::WebhookEndpointRow> endpoint(WebhookId id) = 0;
  // Makes, changes or (row.removed) removes an endpoint; `more` is stored with it. Durable on return.
  virtual boost::asio::awaitable<Result<void>> put(journal::WebhookEndpointRow row,
                                                   std::vector<journal::Record> more) = 0;
  // The endpoint at this URL that is told of a job of the account's: the oldest that the account has there,
  // else a new one, which is told of nothing but the ends of jobs that name it. Durable on return. Errors:
  // kConflict (param `webhook_url`: it is disabled, or is being made right now), kLimitExceeded (the account
  // has `most` already).
  virtual boost::asio::awaitable<Result<WebhookId>> endpoint_for_jobs(AccountId account, std::string url,
                                                                      std::size_t most) = 0;
  // Sends a delivery again, whatever became of it. Errors: kNotFound; kConflict: the endpoint is disabled.
  virtual boost::asio::awaitable<Result<journal::WebhookDeliveryRow>> redeliver(WebhookId endpoint,
                                                                                EventId event) = 0;
  virtual std::string metrics_text() = 0;  // Prometheus text format
  // Ends what runs and waits for it; a delivery under way is sent again at the next start. Before the node
  // stops; from no io thread.
  virtual void stop() = 0;
};

}  // namespace turnpike::webhook
