#include "node/event_hub.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "base/check.h"

namespace turnpike::node {
namespace asio = boost::asio;
namespace {

constexpr std::uint64_t kIndexBits = 20;

EventId event_id(engine::Batch batch, std::uint64_t index) {
  return EventId{(batch << kIndexBits) | index};
}
EventId last_event_of(engine::Batch batch) {
  return event_id(batch, (1ULL << kIndexBits) - 1);
}

}  // namespace

bool is_end(engine::EventType type) {
  switch (type) {
    case engine::EventType::kJobCompleted:
    case engine::EventType::kJobFailed:
    case engine::EventType::kJobCancelled:
    case engine::EventType::kJobExpired:
      return true;
    case engine::EventType::kJobQueued:
    case engine::EventType::kJobStarted:
    case engine::EventType::kJobProgress:
    case engine::EventType::kUsageThreshold:
    case engine::EventType::kPlanChanged:
    case engine::EventType::kModelDiscovered:
    case engine::EventType::kPolicyChanged:
    case engine::EventType::kAlertRaised:
    case engine::EventType::kAlertCleared:
    case engine::EventType::kRunStarted:
    case engine::EventType::kRunCompleted:
    case engine::EventType::kRunFailed:
    case engine::EventType::kRunCancelled:
    case engine::EventType::kStepQueued:
    case engine::EventType::kStepCompleted:
    case engine::EventType::kStepSkipped:
    case engine::EventType::kStepFailed:
      return false;
  }
  return false;
}

bool is_run_end(engine::EventType type) {
  return type == engine::EventType::kRunCompleted || type == engine::EventType::kRunFailed ||
         type == engine::EventType::kRunCancelled;
}

// One waiter at a time; next() runs on one executor, whose thread is the only one to touch the timer.
class EventHub::Subscriber final : public Subscription, public std::enable_shared_from_this<Subscriber> {
 public:
  Subscriber(std::shared_ptr<EventHub> hub, std::optional<AccountId> account)
      : account_(account), hub_(std::move(hub)) {}
  ~Subscriber() override { hub_->leave(*this); }

  asio::awaitable<Item> next(Duration timeout) override;
  EventId add(const std::vector<Subject>& subjects, std::optional<EventId> after) override;
  void remove(const std::vector<Subject>& subjects) override;
  void interrupt() override;
  void close() override;

  // All below: under hub_->mutex_.
  bool wants(const journal::StoredEvent& event) const;
  // True if it must be woken.
  bool push(const journal::StoredEvent& event);
  void wake(Deliveries& deliveries);
  bool mark_closed() {
    closed_ = true;
    return std::exchange(waiting_, false);
  }

  const std::optional<AccountId> account_;
  // Its subjects, each with the id of the event that it is told of what follows.
  std::optional<EventId> everything_after_;
  boost::unordered_flat_map<JobId, EventId, std::hash<JobId>> jobs_;
  boost::unordered_flat_map<RunId, EventId, std::hash<RunId>> runs_;
  bool told_of_nothing() const { return !everything_after_ && jobs_.empty() && runs_.empty(); }

 private:
  struct Page {
    std::vector<journal::StoredEvent> events;
    bool failed = false;
  };
  asio::awaitable<Page> read_history();
  bool take(Item& item);

  const std::shared_ptr<EventHub> hub_;
  std::vector<journal::StoredEvent> queue_;
  std::optional<EventId> history_from_;  // set: events up to live_after_ are read from the journal first
  EventId live_after_;
  EventId pushed_;  // the last that came: it may stand in several lists
  bool lagged_ = false;
  bool closed_ = false;
  bool interrupted_ = false;
  bool waiting_ = false;
  std::shared_ptr<asio::steady_timer> timer_;
};

bool EventHub::Subscriber::wants(const journal::StoredEvent& event) const {
  if (account_ && *account_ != event.event.account) return false;
  if (everything_after_ && event.id > *everything_after_) return true;
  const auto job = jobs_.find(event.event.job);
  if (job != jobs_.end() && event.id > job->second) return true;
  const auto run = runs_.find(event.event.run);
  return run != runs_.end() && event.id > run->second;
}

EventId EventHub::Subscriber::add(const std::vector<Subject>& subjects, std::optional<EventId> after) {
  const std::scoped_lock lock(hub_->mutex_);
  CHECK(!after || told_of_nothing());
  hub_->delist(*this);
  const EventId now = last_event_of(hub_->published_);
  if (after) {
    queue_.clear();
    history_from_ = after;
    live_after_ = now;
  }
  const EventId from = after.value_or(now);
  for (const Subject& subject : subjects) {
    if (const auto* job = std::get_if<JobId>(&subject)) {
      jobs_.emplace(*job, from);
    } else if (const auto* run = std::get_if<RunId>(&subject)) {
      runs_.emplace(*run, from);
    } else if (!everything_after_) {
      everything_after_ = from;
    }
  }
  hub_->enlist(*this);
  return from;
}

void EventHub::Subscriber::remove(const std::vector<Subject>& subjects) {
  const std::scoped_lock lock(hub_->mutex_);
  hub_->delist(*this);
  for (const Subject& subject : subjects) {
    if (const auto* job = std::get_if<JobId>(&subject)) {
      jobs_.erase(*job);
    } else if (const auto* run = std::get_if<RunId>(&subject)) {
      runs_.erase(*run);
    } else {
      everything_after_.reset();
    }
  }
  if (told_of_nothing()) history_from_.reset();
  std::erase_if(queue_, [this](const journal::StoredEvent& event) { return !wants(event); });
  hub_->enlist(*this);
}

void EventHub::Subscriber::interrupt() {
  Deliveries deliveries;
  {
    const std::scoped_lock lock(hub_->mutex_);
    interrupted_ = true;
    if (std::exchange(waiting_, false)) wake(deliveries);
  }
  deliveries.flush(true);
}

bool EventHub::Subscriber::push(const journal::StoredEvent& event) {
  if (lagged_ || closed_ || event.id <= pushed_) return false;
  pushed_ = event.id;
  if (queue_.size() >= kQueueMax) {
    if (history_from_) {  // still reading the journal, where these are by now: read on to here
      queue_.clear();
      live_after_ = event.id;
      return false;
    }
    lagged_ = true;
  } else {
    queue_.push_back(event);
  }
  return std::exchange(waiting_, false);
}

void EventHub::Subscriber::wake(Deliveries& deliveries) {
  deliveries.add(timer_->get_executor(), [timer = timer_](bool) { timer->cancel(); });
}

bool EventHub::Subscriber::take(Item& item) {
  if (!history_from_) item.events = std::exchange(queue_, {});
  item.lagged = lagged_;
  item.closed = closed_;
  return std::exchange(interrupted_, false) || !item.events.empty() || lagged_ || closed_;
}

// The next page of history that has an event, or an empty one where history has ended.
asio::awaitable<EventHub::Subscriber::Page> EventHub::Subscriber::read_history() {
  while (true) {
    EventId from;
    EventId until;
    std::optional<JobId> job;  // the only subject, if there is one only
    std::optional<RunId> run;
    {
      const std::scoped_lock lock(hub_->mutex_);
      if (!history_from_ || closed_ || interrupted_) co_return Page{};
      from = *history_from_;
      until = live_after_;
      if (!everything_after_ && jobs_.size() + runs_.size() == 1) {
        if (!jobs_.empty()) job = jobs_.begin()->first;
        if (!runs_.empty()) run = runs_.begin()->first;
      }
    }
    Result<journal::Journal::EventPage> page;
    if (from < until) {
      auto read = [this, from, job, run, &page] {
        page = hub_->journal_.events(from, account_, job, run, kPageEvents);
      };
      const auto done = co_await hub_->readers_.run(std::move(read));
      if (!done || !page) co_return Page{.events = {}, .failed = true};
    }
    auto& events = page->events;
    const bool at_end = page->scanned_to <= from || page->scanned_to >= until;
    const std::scoped_lock lock(hub_->mutex_);
    std::erase_if(events, [this, until](const journal::StoredEvent& event) {
      return event.id > until || !wants(event);
    });
    // If the end has moved meanwhile, what lies between is read too.
    history_from_ = std::max(from, std::min(page->scanned_to, until));
    if (at_end && until == live_after_) history_from_.reset();
    if (!events.empty() || !history_from_) co_return Page{.events = std::move(events), .failed = false};
  }
}

asio::awaitable<Subscription::Item> EventHub::Subscriber::next(Duration timeout) {
  const auto self = shared_from_this();
  Item item;
  if (Page page = co_await read_history(); page.failed || !page.events.empty()) {
    item.events = std::move(page.events);
    item.lagged = page.failed;
    co_return item;
  }
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  {
    const std::scoped_lock lock(hub_->mutex_);
    if (take(item)) co_return item;
    if (!timer_ || timer_->get_executor() != executor)
      timer_ = std::make_shared<asio::steady_timer>(executor);
    timer_->expires_after(timeout);
    waiting_ = true;
  }
  // Whoever pushes posts the cancel to this executor, so that it cannot come before the wait has begun.
  co_await timer_->async_wait(asio::as_tuple(asio::use_awaitable));
  const std::scoped_lock lock(hub_->mutex_);
  waiting_ = false;
  take(item);
  co_return item;
}

void EventHub::Subscriber::close() {
  Deliveries deliveries;
  {
    const std::scoped_lock lock(hub_->mutex_);
    if (mark_closed()) wake(deliveries);
  }
  deliveries.flush(true);
}

// --- The hub

EventHub::EventHub(engine::Batch published, journal::Journal& journal, Readers& readers)
    : journal_(journal), readers_(readers), published_(published) {}

void EventHub::enlist(Subscriber& subscriber) {
  if (subscriber.everything_after_) {
    (subscriber.account_ ? by_account_[*subscriber.account_] : all_).push_back(&subscriber);
    return;
  }
  if (subscriber.told_of_nothing()) idle_.push_back(&subscriber);
  for (const auto& [job, after] : subscriber.jobs_) by_job_[job].push_back(&subscriber);
  for (const auto& [run, after] : subscriber.runs_) by_run_[run].push_back(&subscriber);
}

void EventHub::delist(Subscriber& subscriber) {
  const auto drop = [&subscriber](auto& lists, const auto& key) {
    const auto found = lists.find(key);
    if (found == lists.end()) return;
    std::erase(found->second, &subscriber);
    if (found->second.empty()) lists.erase(found);
  };
  if (!subscriber.everything_after_) {
    if (subscriber.told_of_nothing()) std::erase(idle_, &subscriber);
    for (const auto& [job, after] : subscriber.jobs_) drop(by_job_, job);
    for (const auto& [run, after] : subscriber.runs_) drop(by_run_, run);
  } else if (subscriber.account_) {
    drop(by_account_, *subscriber.account_);
  } else {
    std::erase(all_, &subscriber);
  }
}

std::shared_ptr<Subscription> EventHub::listen(std::optional<AccountId> account) {
  auto subscriber = std::make_shared<Subscriber>(shared_from_this(), account);
  const std::scoped_lock lock(mutex_);
  if (closed_) subscriber->mark_closed();
  enlist(*subscriber);
  subscribers_.fetch_add(1, std::memory_order_relaxed);
  return subscriber;
}

std::shared_ptr<Subscription> EventHub::subscribe(std::optional<AccountId> account,
                                                  Subscription::Subject subject,
                                                  std::optional<EventId> after) {
  auto subscriber = listen(account);
  subscriber->add({subject}, after);
  return subscriber;
}

void EventHub::leave(Subscriber& subscriber) {
  const std::scoped_lock lock(mutex_);
  delist(subscriber);
  subscribers_.fetch_sub(1, std::memory_order_relaxed);
}

void EventHub::push(const Listed& list, const journal::StoredEvent& event, std::vector<Subscriber*>& woken) {
  for (Subscriber* subscriber : list) {
    if (subscriber->wants(event) && subscriber->push(event)) woken.push_back(subscriber);
  }
}

void EventHub::publish(engine::Batch batch, std::span<const engine::Event> events, Deliveries& deliveries) {
  const std::scoped_lock lock(mutex_);
  published_ = batch;
  if (subscribers() == 0) return;
  std::vector<Subscriber*> woken;
  journal::StoredEvent stored;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const auto by_job = by_job_.find(events[i].job);
    const auto by_run = by_run_.find(events[i].run);
    const auto by_account = by_account_.find(events[i].account);
    if (by_job == by_job_.end() && by_run == by_run_.end() && by_account == by_account_.end() && all_.empty())
      continue;
    stored.id = event_id(batch, i);
    stored.event = events[i];
    if (by_job != by_job_.end()) push(by_job->second, stored, woken);
    if (by_run != by_run_.end()) push(by_run->second, stored, woken);
    if (by_account != by_account_.end()) push(by_account->second, stored, woken);
    push(all_, stored, woken);
  }
  for (Subscriber* subscriber : woken) subscriber->wake(deliveries);
}

void EventHub::close_all() {
  Deliveries deliveries;
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    const auto close_each = [&](const Listed& list) {
      for (Subscriber* subscriber : list) {
        if (subscriber->mark_closed()) subscriber->wake(deliveries);
      }
    };
    close_each(all_);
    close_each(idle_);
    for (const auto& [account, list] : by_account_) close_each(list);
    for (const auto& [job, list] : by_job_) close_each(list);
    for (const auto& [run, list] : by_run_) close_each(list);
  }
  deliveries.flush(true);
}

}  // namespace turnpike::node
