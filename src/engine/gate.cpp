#include "engine/gate.h"

#include <algorithm>

#include "base/check.h"

namespace turnpike::engine {
namespace {

constexpr Duration kMinute = std::chrono::minutes(1);
constexpr Duration kSlice = std::chrono::milliseconds(250);
constexpr Duration kCoolDownMax = std::chrono::hours(1);  // an upstream that asks for more is not believed

// Spreads accounts over keys; the same account begins at the same key.
std::size_t place_of(AccountId account, std::size_t keys) {
  std::uint64_t mixed = account.value * 0x9E3779B97F4A7C15ULL;
  mixed ^= mixed >> 32U;
  return mixed % keys;
}

}  // namespace

// --- Logs

void SlidingLog::reshape(std::uint32_t most, Duration per) {
  most_ = most;
  per_ = per;
  while (times_.size() > most_) times_.pop_front();
}

void SlidingLog::fill(Monotonic now) {
  times_.assign(most_, now);
}

Duration SlidingLog::wait(Monotonic now) const {
  if (times_.size() < most_) return Duration{0};
  return std::max(Duration{0}, times_.front() + per_ - now);
}

void SlidingLog::take(Monotonic now) {
  times_.push_back(now);
  if (times_.size() > most_) times_.pop_front();
}

void SlidingSum::fill(Monotonic now) {
  slices_.clear();
  (void)take(most_, now);
}

Duration SlidingSum::wait(std::int64_t amount, Monotonic now) const {
  const std::int64_t wanted = std::min(amount, most_);
  const auto over_at = [](const Slice& slice) { return Monotonic{(slice.number + 1) * kSlice + kMinute}; };
  std::int64_t sum = 0;
  for (const Slice& slice : slices_) {
    if (over_at(slice) > now) sum += slice.amount;
  }
  if (sum + wanted <= most_) return Duration{0};
  for (const Slice& slice : slices_) {
    if (over_at(slice) <= now) continue;
    sum -= slice.amount;
    if (sum + wanted <= most_) return over_at(slice) - now;
  }
  return Duration{0};
}

std::int64_t SlidingSum::take(std::int64_t amount, Monotonic now) {
  const std::int64_t number = now.time_since_epoch() / kSlice;
  while (!slices_.empty() && Monotonic{(slices_.front().number + 1) * kSlice + kMinute} <= now) {
    slices_.pop_front();
  }
  if (slices_.empty() || slices_.back().number != number) slices_.push_back({.number = number, .amount = 0});
  slices_.back().amount += amount;
  return number;
}

void SlidingSum::correct(std::int64_t slice, std::int64_t by) {
  const auto found = std::ranges::lower_bound(slices_, slice, {}, &Slice::number);
  if (found == slices_.end() || found->number != slice) return;  // it counts no more
  found->amount = std::max<std::int64_t>(0, found->amount + by);
}

// --- The gate

bool Gate::bounds(const policy::Provider& provider) {
  return provider.limit || provider.breaker || !provider.keys.empty() || policy::is_remote(provider.kind);
}

void Gate::reshape(const policy::Provider& provider, bool full, Monotonic now) {
  const bool first = keys_.empty();
  std::vector<Key> keys;
  const auto add = [&](const policy::ProviderKey& config) {
    const auto known = std::ranges::find(keys_, config.name, &Key::name);
    const bool fresh = known == keys_.end();
    Key key = fresh ? Key{} : std::move(*known);
    if (fresh) key.number = next_number_++;
    key.name = config.name;
    key.concurrency = config.concurrency;
    // What began before there was a limit was not logged: it may have been any number.
    const bool fill_requests = full || (!fresh && !key.has_requests);
    const bool fill_tokens = full || (!fresh && !key.has_tokens);
    key.has_requests = config.requests_per_minute.has_value();
    key.has_tokens = config.tokens_per_minute.has_value();
    if (key.has_requests) key.requests.reshape(*config.requests_per_minute, kMinute);
    if (key.has_tokens) key.tokens.reshape(*config.tokens_per_minute);
    if (key.has_requests && fill_requests) key.requests.fill(now);
    if (key.has_tokens && fill_tokens) key.tokens.fill(now);
    keys.push_back(std::move(key));
  };
  for (const policy::ProviderKey& key : provider.keys) add(key);
  if (keys.empty()) add({});
  keys_ = std::move(keys);
  const bool had_limit = std::exchange(has_limit_, provider.limit.has_value());
  if (has_limit_) {
    limit_.reshape(provider.limit->requests, provider.limit->per);
    if (full || (!first && !had_limit)) limit_.fill(now);
  }
  breaker_ = provider.breaker;
  if (!breaker_) {
    failures_ = 0;
    open_until_.reset();
    probing_ = false;
  }
  cool_down_ = provider.cool_down;
}

void Gate::pause_keys(std::set<std::string> names) {
  for (Key& key : keys_) key.paused = names.contains(key.name);
}

Duration Gate::key_wait(const Key& key, std::int64_t tokens, Monotonic now) const {
  if (key.paused) return kNoTime;
  if (key.concurrency && key.running >= *key.concurrency) return kNoTime;
  Duration wait = std::max(Duration{0}, key.cool_until - now);
  if (key.has_requests) wait = std::max(wait, key.requests.wait(now));
  if (key.has_tokens) wait = std::max(wait, key.tokens.wait(tokens, now));
  return wait;
}

const Gate::Key* Gate::pick(AccountId account, std::int64_t tokens, Monotonic now,
                            std::optional<std::uint32_t> but) const {
  const std::size_t first = keys_.size() == 1 ? 0 : place_of(account, keys_.size());
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    const Key& key = keys_[(first + i) % keys_.size()];
    if (key.number != but && key_wait(key, tokens, now) == Duration{0}) return &key;
  }
  return nullptr;
}

Gate::Room Gate::room(AccountId account, std::int64_t tokens, Monotonic now) const {
  if (open_until_) {
    if (now < *open_until_) return {.down = true, .broken = true, .wait = *open_until_ - now};
    if (probing_) return {.down = true, .broken = true, .wait = kNoTime};
  }
  const Duration limited = has_limit_ ? limit_.wait(now) : Duration{0};
  if (limited == Duration{0} && pick(account, tokens, now, std::nullopt) != nullptr) return {.open = true};
  Duration soonest = kNoTime;
  bool all_away = true;
  bool all_paused = true;
  for (const Key& key : keys_) {
    soonest = std::min(soonest, key_wait(key, tokens, now));
    all_away = all_away && (key.paused || key.cool_until > now);
    all_paused = all_paused && key.paused;
  }
  return {.down = all_away, .broken = all_paused, .wait = std::max(limited, soonest)};
}

Gate::Pass Gate::begin(AccountId account, std::int64_t tokens, Monotonic now) {
  const Key* picked = pick(account, tokens, now, std::nullopt);
  CHECK(picked != nullptr);
  Key& key = keys_[static_cast<std::size_t>(picked - keys_.data())];
  Pass pass{.key = key.number, .slice = 0, .tokens = tokens, .probe = open_until_.has_value()};
  if (has_limit_) limit_.take(now);
  if (key.has_requests) key.requests.take(now);
  if (key.has_tokens) pass.slice = key.tokens.take(tokens, now);
  ++key.running;
  if (pass.probe) probing_ = true;
  return pass;
}

void Gate::end(const Pass& pass, std::int64_t tokens, Verdict verdict, std::optional<Duration> retry_after,
               Monotonic now) {
  if (pass.probe) probing_ = false;
  if (const auto found = std::ranges::find(keys_, pass.key, &Key::number); found != keys_.end()) {
    Key& key = *found;
    if (key.running > 0) --key.running;
    if (key.has_tokens) key.tokens.correct(pass.slice, tokens - pass.tokens);
    if (verdict == Verdict::kLimited || verdict == Verdict::kRefused) {
      const Duration asked = std::min(retry_after.value_or(cool_down_), kCoolDownMax);
      key.cool_until = std::max(key.cool_until, now + asked);
    }
  }
  switch (verdict) {
    case Verdict::kServed:
    case Verdict::kLimited:
    case Verdict::kRefused:  // it is there, and answers
      failures_ = 0;
      open_until_.reset();
      return;
    case Verdict::kFailed:
      if (!breaker_) return;
      ++failures_;
      if (pass.probe || failures_ >= breaker_->failures) open_until_ = now + breaker_->cool_down;
      return;
    case Verdict::kUnknown:
      return;
  }
}

bool Gate::has_other_key(std::uint32_t key, AccountId account, std::int64_t tokens, Monotonic now) const {
  if (open_until_ || (has_limit_ && limit_.wait(now) > Duration{0})) return false;
  return pick(account, tokens, now, key) != nullptr;
}

std::string Gate::key_name(std::uint32_t key) const {
  const auto found = std::ranges::find(keys_, key, &Key::number);
  return found == keys_.end() ? std::string() : found->name;
}

std::vector<Gate::KeyState> Gate::keys(Monotonic now) const {
  std::vector<KeyState> states;
  for (const Key& key : keys_) {
    states.push_back({.name = key.name,
                      .running = key.running,
                      .cools_for = std::max(Duration{0}, key.cool_until - now),
                      .paused = key.paused});
  }
  return states;
}

}  // namespace turnpike::engine
