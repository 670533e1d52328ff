// Who is told of what: committed events, by account, job and run, to whoever subscribed. Each subscriber has
// a bounded queue of its own; one that does not keep up is told so. History before the subscription is read
// from the journal and joins what is live without a gap and without a repeat.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "journal/journal.h"
#include "node/deliveries.h"
#include "node/node.h"
#include "node/readers.h"

namespace turnpike::node {

class EventHub : public std::enable_shared_from_this<EventHub> {
 public:
  static constexpr std::size_t kQueueMax = 1'000;  // live events that wait for one subscriber
  static constexpr std::size_t kPageEvents = 200;  // history read at once

  // `published`: the last batch that is durable already. Journal and readers outlive every subscription's
  // last next().
  EventHub(engine::Batch published, journal::Journal& journal, Readers& readers);

  // By the committer, batches in order. Wakes who waits through `deliveries`.
  void publish(engine::Batch batch, std::span<const engine::Event> events, Deliveries& deliveries);

  // Of an account: the subject's events that are the account's. `after` nullopt: from now on.
  std::shared_ptr<Subscription> subscribe(std::optional<AccountId> account, Subscription::Subject subject,
                                          std::optional<EventId> after);
  // Told of nothing until it is given subjects.
  std::shared_ptr<Subscription> listen(std::optional<AccountId> account);
  void close_all();  // every next() ends with `closed`, now and from now on
  std::size_t subscribers() const { return subscribers_.load(std::memory_order_relaxed); }

 private:
  class Subscriber;
  using Listed = std::vector<Subscriber*>;

  void leave(Subscriber& subscriber);
  // Each subscriber is in the lists of its subjects; in one alone if it is told of everything.
  void enlist(Subscriber& subscriber);
  void delist(Subscriber& subscriber);
  static void push(const Listed& list, const journal::StoredEvent& event, std::vector<Subscriber*>& woken);

  journal::Journal& journal_;
  Readers& readers_;
  std::atomic<std::size_t> subscribers_ = 0;

  std::mutex mutex_;
  // Guarded by mutex_, as is what subscribers keep:
  engine::Batch published_;
  bool closed_ = false;
  boost::unordered_flat_map<AccountId, Listed, std::hash<AccountId>> by_account_;
  boost::unordered_flat_map<JobId, Listed, std::hash<JobId>> by_job_;
  boost::unordered_flat_map<RunId, Listed, std::hash<RunId>> by_run_;
  Listed all_;
  Listed idle_;  // told of nothing
};

}  // namespace turnpike::node
