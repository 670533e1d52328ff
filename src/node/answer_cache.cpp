#include "node/answer_cache.h"

#include <utility>
#include <vector>

#include "node/log.h"

namespace turnpike::node {
namespace asio = boost::asio;
namespace {

bool is_fresh(const CachedAnswer& answer, Wall now, Duration age_max) {
  return now < answer.expires_at && now - answer.created_at <= age_max;
}

}  // namespace

AnswerCache::AnswerCache(std::filesystem::path folder, const policy::CacheLimits& limits, Readers& readers)
    : readers_(readers), flights_(limits.entry_bytes_max), limits_(limits) {
  auto store = AnswerStore::open(std::move(folder), limits.bytes_max);
  if (store) {
    store_ = std::move(*store);
  } else {
    log_event(LogLevel::kError, "cache.off",
              {{"why", store.error().message}, {"cause", store.error().cause}});
  }
}

// --- In memory

AnswerPtr AnswerCache::in_memory(const CacheKey& key) {
  if (const auto hot = hot_by_key_.find(key); hot != hot_by_key_.end()) {
    hot_.splice(hot_.begin(), hot_, hot->second);
    return hot->second->second;
  }
  const auto unwritten = unwritten_.find(key);
  return unwritten == unwritten_.end() ? nullptr : unwritten->second;
}

void AnswerCache::drop_hot(Hot::iterator entry) {
  hot_bytes_ -= footprint(*entry->second);
  hot_by_key_.erase(entry->first);
  hot_.erase(entry);
}

void AnswerCache::make_hot(const CacheKey& key, AnswerPtr answer) {
  if (const auto old = hot_by_key_.find(key); old != hot_by_key_.end()) drop_hot(old->second);
  const std::uint64_t bytes = footprint(*answer);
  if (bytes > kHotEntryBytesMax) return;
  while (hot_bytes_ + bytes > kHotBytesMax) drop_hot(std::prev(hot_.end()));
  hot_.emplace_front(key, std::move(answer));
  hot_by_key_[key] = hot_.begin();
  hot_bytes_ += bytes;
}

void AnswerCache::note_use(const CacheKey& key, Wall now) {
  if (touched_.size() < kTouchedMax || touched_.contains(key)) touched_[key] = now;
}

AnswerPtr AnswerCache::peek(const CacheKey& key, Wall now, Duration age_max) {
  const std::scoped_lock lock(mutex_);
  AnswerPtr answer = in_memory(key);
  if (!answer || !is_fresh(*answer, now, age_max)) return nullptr;
  note_use(key, now);
  return answer;
}

// --- With the disk behind

asio::awaitable<AnswerPtr> AnswerCache::find(CacheKey key, Wall now, Duration age_max) {
  {
    const std::scoped_lock lock(mutex_);
    if (AnswerPtr answer = in_memory(key)) {  // what is on disk is the same, or older
      if (!is_fresh(*answer, now, age_max)) co_return nullptr;
      note_use(key, now);
      co_return answer;
    }
  }
  if (!store_ || !store_->may_have(key)) co_return nullptr;
  AnswerPtr answer;
  auto read = [this, &key, &answer] { answer = store_->get(key); };
  const Result<void> done = co_await readers_.run(std::move(read));
  if (!done || !answer || !is_fresh(*answer, now, age_max)) co_return nullptr;
  const std::scoped_lock lock(mutex_);
  if (AnswerPtr newer = in_memory(key); newer && newer->created_at >= answer->created_at) {
    answer = std::move(newer);  // kept while this one was read
  } else {
    make_hot(key, answer);
  }
  note_use(key, now);
  co_return answer;
}

bool AnswerCache::keep(const CacheKey& key, AnswerPtr answer, Wall now) {
  const std::uint64_t bytes = footprint(*answer);
  {
    const std::scoped_lock lock(mutex_);
    if (answer->body.size() > limits_.entry_bytes_max || bytes > limits_.bytes_max) return false;
    if (store_ && unwritten_bytes_ + bytes > kUnwrittenBytesMax) return false;
    make_hot(key, answer);
    if (!store_) return true;
    unwritten_[key] = answer;
    unwritten_bytes_ += bytes;
  }
  readers_.post_own([this, key, answer = std::move(answer), now] { write(key, answer, now); });
  return true;
}

void AnswerCache::write(const CacheKey& key, const AnswerPtr& answer, Wall now) {
  store_->put(key, *answer, now);
  const std::scoped_lock lock(mutex_);
  unwritten_bytes_ -= footprint(*answer);
  const auto waiting = unwritten_.find(key);
  if (waiting != unwritten_.end() && waiting->second == answer) unwritten_.erase(waiting);
}

void AnswerCache::upkeep(Wall now) {
  std::vector<std::pair<CacheKey, Wall>> used;
  {
    const std::scoped_lock lock(mutex_);
    used.assign(touched_.begin(), touched_.end());
    touched_.clear();
    for (auto entry = hot_.begin(); entry != hot_.end();) {
      const auto here = entry++;
      if (here->second->expires_at <= now) drop_hot(here);
    }
  }
  if (!store_) return;
  readers_.post_own([this, used = std::move(used), now] {
    store_->touch(used);
    while (store_->drop_expired(now)) {
    }
  });
}

void AnswerCache::set_limits(const policy::CacheLimits& limits) {
  {
    const std::scoped_lock lock(mutex_);
    if (limits_ == limits) return;
    limits_ = limits;
  }
  flights_.set_bytes_max(limits.entry_bytes_max);
  if (store_) readers_.post_own([this, bytes_max = limits.bytes_max] { store_->set_bytes_max(bytes_max); });
}

void AnswerCache::flush(Wall now) {
  if (!store_) return;
  std::vector<std::pair<CacheKey, AnswerPtr>> waiting;
  std::vector<std::pair<CacheKey, Wall>> used;
  {
    const std::scoped_lock lock(mutex_);
    waiting.assign(unwritten_.begin(), unwritten_.end());
    used.assign(touched_.begin(), touched_.end());
    touched_.clear();
  }
  // A reader thread may be writing one of them: it is the same answer.
  for (const auto& [key, answer] : waiting) store_->put(key, *answer, now);
  store_->touch(used);
}

AnswerCache::Totals AnswerCache::totals() const {
  Totals totals;
  if (store_) totals.stored = store_->totals();
  totals.flights = flights_.size();
  const std::scoped_lock lock(mutex_);
  totals.hot_entries = hot_.size();
  totals.hot_bytes = hot_bytes_;
  totals.unwritten_bytes = unwritten_bytes_;
  return totals;
}

}  // namespace turnpike::node
