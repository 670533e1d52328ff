// A window onto an ordered set that lives in the journal: always a prefix of it, with a watermark. What
// belongs below the watermark is in memory; what belongs above it is cold and only its changes are noted
// while a refill is under way.
//
// Invariants:
//   W1  every member of the set with a key <= watermark is in the window, and nothing else is.
//   W2  `complete` means that nothing lies above the watermark: the window is the whole set.
//   W3  while a refill is asked for, a change above the watermark is noted with its batch; rows read before
//   that batch
//       are stale if the change lies within what was read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "engine/rows.h"

namespace turnpike::engine {

template <typename Key, typename Less = std::less<Key>>
class Window {
 public:
  bool empty() const { return keys_.empty(); }
  std::size_t size() const { return keys_.size(); }
  const Key& front() const { return *keys_.begin(); }
  const std::set<Key, Less>& keys() const { return keys_; }
  bool complete() const { return complete_; }
  bool refilling() const { return ticket_ != 0; }
  const std::optional<Key>& watermark() const { return watermark_; }

  // Nothing is loaded yet, and there may be anything in the journal.
  void set_cold() {
    keys_.clear();
    watermark_.reset();
    complete_ = false;
  }

  // The set has no more members than the window holds (its count says so).
  void set_complete() {
    complete_ = true;
    watermark_.reset();
    ticket_ = 0;
  }

  // A new member. True: it is in memory now. False: it is cold.
  bool insert(const Key& key, Batch batch, std::size_t size_max) {
    if (complete_ ? keys_.size() < size_max || (!keys_.empty() && less_(key, *keys_.rbegin())) : below(key)) {
      keys_.insert(key);
      return true;
    }
    if (complete_) {
      // From here on the window is a part: everything in it, and nothing beyond.
      complete_ = false;
      watermark_ = *keys_.rbegin();
    }
    note(key, batch);
    return false;
  }

  // A member leaves. True: it was in memory.
  bool erase(const Key& key, Batch batch) {
    if (keys_.erase(key) > 0) return true;
    if (!is_loaded(key)) note(key, batch);
    return false;
  }

  // Whether the key, if it is a member, is in memory.
  bool is_loaded(const Key& key) const { return complete_ || below(key); }

  // Gives up heads beyond `size_max`, farthest first; what is given up is cold from now on.
  std::vector<Key> trim(std::size_t size_max) {
    std::vector<Key> out;
    while (keys_.size() > size_max) {
      out.push_back(*keys_.rbegin());
      keys_.erase(std::prev(keys_.end()));
    }
    if (!out.empty()) {
      complete_ = false;
      watermark_ = *keys_.rbegin();
      ticket_ = 0;  // what is being read begins beyond what was given up: useless
    }
    return out;
  }

  bool wants_refill(std::size_t size_max) const {
    return !complete_ && ticket_ == 0 && keys_.size() <= size_max / 2;
  }

  void begin_refill(std::uint64_t ticket) {
    ticket_ = ticket;
    changes_.clear();
  }

  enum class Verdict : std::uint8_t { kTaken, kStale, kUnwanted };
  // `rows`: the members after the watermark, in order, read at batch `at` (0: unknown); `limit` of them were
  // asked for.
  Verdict end_refill(std::uint64_t ticket, const std::vector<Key>& rows, Batch at, std::size_t limit) {
    if (ticket == 0 || ticket != ticket_) return Verdict::kUnwanted;
    ticket_ = 0;
    const bool whole = rows.size() < limit;
    bool beyond = false;
    for (const auto& [key, batch] : changes_) {
      if (at != 0 && batch <= at) continue;
      if (!rows.empty() && less_(rows.back(), key)) {
        beyond = true;
      } else {
        return Verdict::kStale;
      }
    }
    for (const Key& key : rows) keys_.insert(keys_.end(), key);
    if (whole && !beyond) {
      complete_ = true;
      watermark_.reset();
    } else {
      watermark_ = rows.back();
    }
    return Verdict::kTaken;
  }

 private:
  bool below(const Key& key) const { return watermark_ && !less_(*watermark_, key); }
  void note(const Key& key, Batch batch) {
    if (ticket_ != 0) changes_.emplace_back(key, batch);
  }

  std::set<Key, Less> keys_;
  std::optional<Key> watermark_;  // unset and not complete: nothing is loaded
  bool complete_ = true;
  std::uint64_t ticket_ = 0;  // of the refill under way
  std::vector<std::pair<Key, Batch>> changes_;
  [[no_unique_address]] Less less_;
};

}  // namespace turnpike::engine
