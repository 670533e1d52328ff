// Identical requests in flight: the first asks upstream and leads, the others follow and get what it gets, a
// stream from its beginning on. Thread-safe; nothing here does I/O.
//
// What is promised here:
//   F1  A flight ends exactly once: landed (the whole answer is there) or failed; everyone who follows is
//       told. A Lead that is dropped without either gives up.
//   F2  Who leads and gives up before the first byte hands the flight to who has followed longest: one
//       follower leads on, the others stay. After the first byte nobody can: the followers fail.
//   F3  Nobody follows what can no longer be given whole: past the bound a flight takes no more followers.
//       One that is further behind than the bound is cut off, and never slows the others.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "base/time.h"
#include "node/answer_cache_key.h"
#include "node/answer_store.h"

namespace turnpike::node {

class Flight;

// The one who asks upstream. Owned by the call; a Lead that was moved from leads nothing.
class Lead {
 public:
  Lead() = default;
  explicit Lead(std::shared_ptr<Flight> flight) : flight_(std::move(flight)) {}
  Lead(Lead&&) noexcept = default;
  Lead& operator=(Lead&& other) noexcept;
  ~Lead();

  explicit operator bool() const { return flight_ != nullptr; }
  // What comes from upstream, as it comes. `head` once, before the first write.
  void head(std::string content_type);
  void write(std::string_view bytes);
  // Somebody follows: the upstream is read on though the leader's own client has left.
  bool followed() const;
  // The end: the whole answer, or a failure that every other try of the same request would meet too.
  void land(AnswerPtr answer);
  void fail(Error error);
  // The end of this leader alone (its account's limits, its upstream's trouble): F2. False: nobody leads on.
  bool give_up();

 private:
  std::shared_ptr<Flight> flight_;
};

// One who follows. Owned by the call; leaves when it is destroyed.
class Follower {
 public:
  struct Head {
    std::string content_type;
  };
  using Bytes = std::shared_ptr<const std::string>;
  struct TimedOut {};  // nothing came within the time, or it was interrupted or cancelled
  struct Landed {      // after the last bytes
    AnswerPtr answer;
  };
  struct Failed {
    Error error;
  };
  // Lead: the leader gave up, and this one leads now, in its place. What it does next is what a first asker
  // does.
  using Item = std::variant<Head, Bytes, Landed, Failed, Lead, TimedOut>;

  explicit Follower(std::shared_ptr<Flight> flight);
  Follower(Follower&& other) noexcept;
  Follower& operator=(Follower&&) = delete;
  ~Follower();

  // By one coroutine at a time, always on the same executor, whose thread is one. Head comes once, before
  // Bytes, and both only of an answer that is streamed. Landed, Failed and Lead are the last.
  boost::asio::awaitable<Item> next(Duration timeout);
  // From any thread: a next() that waits, or else the one that would wait next, returns TimedOut.
  void interrupt();

  bool admitted() const { return flight_ != nullptr; }  // false: next() may not be called
  struct Place;                                         // of it in its flight

 private:
  std::shared_ptr<Flight> flight_;
  std::shared_ptr<Place> place_;
};

class Flights {
 public:
  static constexpr std::size_t kFlightsMax = 10'000;
  static constexpr std::size_t kFollowersMax = 1'000;  // of one flight

  // `bytes_max`: of the bytes that a flight keeps for those who follow (F3).
  explicit Flights(std::uint64_t bytes_max);

  // Neither: the bounds are reached; ask upstream and share with nobody.
  using Seat = std::variant<std::monostate, Lead, Follower>;
  Seat join(const CacheKey& key);
  void set_bytes_max(std::uint64_t bytes_max);
  std::size_t size() const;

 private:
  friend class Flight;
  struct Table {
    mutable std::mutex mutex;
    boost::unordered_flat_map<CacheKey, std::shared_ptr<Flight>, CacheKeyHash> flights;  // guarded by mutex
    std::uint64_t bytes_max = 0;                                                         // guarded by mutex
    void remove(const CacheKey& key, const Flight* flight);
  };
  const std::shared_ptr<Table> table_;
};

}  // namespace turnpike::node
