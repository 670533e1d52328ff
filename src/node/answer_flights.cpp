#include "node/answer_flights.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "base/check.h"

namespace turnpike::node {
namespace asio = boost::asio;

struct Follower::Place {
  std::size_t taken = 0;  // chunks, counted from the first of the flight
  bool told_head = false;
  bool left = false;   // by itself, or because it leads now
  bool cut = false;    // too far behind
  bool leads = false;  // chosen to lead on
  bool interrupted = false;
  std::shared_ptr<asio::steady_timer> timer;  // set while it waits
};

class Flight : public std::enable_shared_from_this<Flight> {
 public:
  Flight(std::shared_ptr<Flights::Table> table, const CacheKey& key, std::uint64_t bytes_max)
      : table_(std::move(table)), key_(key), bytes_max_(bytes_max) {}

  // False: it takes nobody any more.
  bool admit(const std::shared_ptr<Follower::Place>& place);
  void leave(const std::shared_ptr<Follower::Place>& place);

  void head(std::string content_type);
  void write(std::string_view bytes);
  bool followed() const;
  void land(AnswerPtr answer);
  void fail(Error error);
  bool give_up();
  bool ended() const;

  // What is there for it now; otherwise nothing, and `timer` is what will be cancelled when there is.
  std::optional<Follower::Item> take(Follower::Place& place, std::shared_ptr<asio::steady_timer> timer);
  void stop_waiting(Follower::Place& place);
  void interrupt(Follower::Place& place);

 private:
  // All under mutex_.
  static void wake(Follower::Place& place);
  void wake_all();
  void trim();
  Follower::Item item_of_end() const;
  std::size_t end_index() const { return first_ + chunks_.size(); }

  const std::shared_ptr<Flights::Table> table_;
  const CacheKey key_;
  const std::uint64_t bytes_max_;

  mutable std::mutex mutex_;  // taken after the table's, where both are
  // Guarded by mutex_:
  std::list<std::shared_ptr<Follower::Place>> places_;  // who followed first stands first
  std::optional<std::string> content_type_;             // set: the first byte is there
  std::deque<Follower::Bytes> chunks_;
  std::size_t first_ = 0;   // index of chunks_.front()
  std::uint64_t kept_ = 0;  // bytes in chunks_
  bool open_ = true;        // all bytes since the first are there
  bool ended_ = false;
  AnswerPtr answer_;
  std::optional<Error> error_;
};

// --- Flights

Flights::Flights(std::uint64_t bytes_max) : table_(std::make_shared<Table>()) {
  table_->bytes_max = bytes_max;
}

void Flights::Table::remove(const CacheKey& key, const Flight* flight) {
  const std::scoped_lock lock(mutex);
  const auto found = flights.find(key);
  if (found != flights.end() && found->second.get() == flight) flights.erase(found);
}

Flights::Seat Flights::join(const CacheKey& key) {
  const std::scoped_lock lock(table_->mutex);
  const auto found = table_->flights.find(key);
  if (found == table_->flights.end()) {
    if (table_->flights.size() >= kFlightsMax) return std::monostate{};
    auto flight = std::make_shared<Flight>(table_, key, table_->bytes_max);
    table_->flights.emplace(key, flight);
    return Lead(std::move(flight));
  }
  Follower follower(found->second);
  if (!follower.admitted()) return std::monostate{};
  return Seat(std::move(follower));
}

void Flights::set_bytes_max(std::uint64_t bytes_max) {
  const std::scoped_lock lock(table_->mutex);
  table_->bytes_max = bytes_max;
}

std::size_t Flights::size() const {
  const std::scoped_lock lock(table_->mutex);
  return table_->flights.size();
}

// --- Flight

bool Flight::admit(const std::shared_ptr<Follower::Place>& place) {
  const std::scoped_lock lock(mutex_);
  if (!open_ || ended_ || places_.size() >= Flights::kFollowersMax) return false;
  places_.push_back(place);
  return true;
}

void Flight::leave(const std::shared_ptr<Follower::Place>& place) {
  bool must_lead_on = false;
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(place->left, true)) return;
    places_.remove(place);
    must_lead_on = place->leads;  // chosen, and gone before it knew
    trim();
  }
  if (must_lead_on) give_up();
}

void Flight::wake(Follower::Place& place) {
  if (!place.timer) return;
  auto timer = std::exchange(place.timer, nullptr);
  const auto executor = timer->get_executor();
  asio::post(executor, [timer = std::move(timer)] { timer->cancel(); });
}

void Flight::wake_all() {
  for (const auto& place : places_) wake(*place);
}

void Flight::head(std::string content_type) {
  const std::scoped_lock lock(mutex_);
  CHECK(!ended_ && !content_type_);
  content_type_ = std::move(content_type);
  wake_all();
}

void Flight::write(std::string_view bytes) {
  bool closed = false;
  {
    const std::scoped_lock lock(mutex_);
    CHECK(!ended_ && content_type_);
    chunks_.push_back(std::make_shared<const std::string>(bytes));
    kept_ += bytes.size();
    if (kept_ > bytes_max_) closed = std::exchange(open_, false);  // once
    trim();
    wake_all();
  }
  if (closed) table_->remove(key_, this);
}

// Once nobody can join, bytes are kept only for those who have yet to take them, and no more than the bound.
void Flight::trim() {
  if (open_) return;
  const auto oldest_wanted = [this] {
    std::size_t oldest = end_index();
    for (const auto& place : places_) {
      if (!place->cut) oldest = std::min(oldest, place->taken);
    }
    return oldest;
  };
  const auto drop_before = [this](std::size_t index) {
    for (; first_ < index; ++first_) {
      kept_ -= chunks_.front()->size();
      chunks_.pop_front();
    }
  };
  drop_before(oldest_wanted());
  while (kept_ > bytes_max_) {
    const std::size_t slowest = oldest_wanted();
    for (const auto& place : places_) {
      if (place->taken != slowest) continue;
      place->cut = true;
      wake(*place);
    }
    drop_before(oldest_wanted());
  }
}

bool Flight::followed() const {
  const std::scoped_lock lock(mutex_);
  return std::ranges::any_of(places_, [](const auto& place) { return !place->cut; });
}

bool Flight::ended() const {
  const std::scoped_lock lock(mutex_);
  return ended_;
}

void Flight::land(AnswerPtr answer) {
  {
    const std::scoped_lock lock(mutex_);
    CHECK(!ended_);
    ended_ = true;
    answer_ = std::move(answer);
    wake_all();
  }
  table_->remove(key_, this);
}

void Flight::fail(Error error) {
  {
    const std::scoped_lock lock(mutex_);
    CHECK(!ended_);
    ended_ = true;
    error_ = std::move(error);
    wake_all();
  }
  table_->remove(key_, this);
}

bool Flight::give_up() {
  bool handed_on = false;
  {
    // The table first: nobody may join a flight that is about to end without having been told of it.
    const std::scoped_lock table(table_->mutex);
    const std::scoped_lock lock(mutex_);
    if (ended_) return false;
    if (!content_type_ && !places_.empty()) {
      places_.front()->leads = true;
      wake(*places_.front());
      handed_on = true;
    } else {
      ended_ = true;
      Error error;
      error.code = ErrorCode::kUpstreamError;
      error.message = "the answer that was shared with this request ended early; try again";
      error.retryable = true;
      error_ = std::move(error);
      wake_all();
      const auto found = table_->flights.find(key_);
      if (found != table_->flights.end() && found->second.get() == this) table_->flights.erase(found);
    }
  }
  return handed_on;
}

Follower::Item Flight::item_of_end() const {
  if (error_) return Follower::Failed{*error_};
  return Follower::Landed{answer_};
}

std::optional<Follower::Item> Flight::take(Follower::Place& place,
                                           std::shared_ptr<asio::steady_timer> timer) {
  const std::scoped_lock lock(mutex_);
  if (place.leads) {
    const auto self = std::ranges::find(places_, &place, &std::shared_ptr<Follower::Place>::get);
    places_.erase(self);
    place.left = true;
    return Lead(shared_from_this());
  }
  if (place.cut) {
    Error error;
    error.code = ErrorCode::kUpstreamError;
    error.message = "the stream was read too slowly to go on";
    return Follower::Failed{std::move(error)};
  }
  if (content_type_ && !std::exchange(place.told_head, true)) return Follower::Head{*content_type_};
  if (place.taken < end_index()) {
    Follower::Bytes bytes = chunks_[place.taken - first_];
    ++place.taken;
    trim();
    return bytes;
  }
  if (ended_) return item_of_end();
  if (std::exchange(place.interrupted, false)) return Follower::TimedOut{};
  place.timer = std::move(timer);
  return std::nullopt;
}

void Flight::stop_waiting(Follower::Place& place) {
  const std::scoped_lock lock(mutex_);
  place.timer.reset();
}

void Flight::interrupt(Follower::Place& place) {
  const std::scoped_lock lock(mutex_);
  place.interrupted = true;
  wake(place);
}

// --- Lead

Lead& Lead::operator=(Lead&& other) noexcept {
  if (this != &other) {
    if (flight_) flight_->give_up();
    flight_ = std::move(other.flight_);
  }
  return *this;
}

Lead::~Lead() {
  if (flight_) flight_->give_up();
}

void Lead::head(std::string content_type) {
  flight_->head(std::move(content_type));
}
void Lead::write(std::string_view bytes) {
  flight_->write(bytes);
}
bool Lead::followed() const {
  return flight_ && flight_->followed();
}
void Lead::land(AnswerPtr answer) {
  std::exchange(flight_, nullptr)->land(std::move(answer));
}
void Lead::fail(Error error) {
  std::exchange(flight_, nullptr)->fail(std::move(error));
}
bool Lead::give_up() {
  return std::exchange(flight_, nullptr)->give_up();
}

// --- Follower

Follower::Follower(std::shared_ptr<Flight> flight)
    : flight_(std::move(flight)), place_(std::make_shared<Place>()) {
  if (!flight_->admit(place_)) flight_.reset();
}

Follower::Follower(Follower&& other) noexcept
    : flight_(std::exchange(other.flight_, nullptr)), place_(std::move(other.place_)) {}

Follower::~Follower() {
  if (flight_) flight_->leave(place_);
}

void Follower::interrupt() {
  flight_->interrupt(*place_);
}

asio::awaitable<Follower::Item> Follower::next(Duration timeout) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto timer = std::make_shared<asio::steady_timer>(executor, timeout);
  if (auto item = flight_->take(*place_, timer)) co_return std::move(*item);
  co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
  flight_->stop_waiting(*place_);
  // Whoever woke it left something; what comes between the end of the time and here is taken as well.
  if (auto item = flight_->take(*place_, nullptr)) co_return std::move(*item);
  co_return TimedOut{};
}

}  // namespace turnpike::node
