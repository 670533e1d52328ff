#include "engine/gate.h"

#include <algorithm>

#include "base/check.h"

namespace turnpike::engine {
namespace {

constexpr Duration kMinute = std::chrono::minutes(1);
constexpr Duration kSlice = std::chrono::milliseconds(250);
constexpr Duration kCoolDownMax = std::chrono::hours(1);  // an upstream that asks for more is not believed
constexpr Duration kRemember = std::chrono::days(1);  // nothing counts longer than an upstream's limit may
constexpr std::uint32_t kFailuresMax = 1'000'000;     // more are not counted
constexpr std::size_t kGoneMax = 256;                 // keys that are no longer configured

void later(std::optional<Monotonic>& time, Monotonic than) {
  time = std::max(time.value_or(than), than);
}

// Spreads accounts over keys; the same account begins at the same key.
std::size_t place_of(AccountId account, std::size_t keys) {
  std::uint64_t mixed = account.value * 0x9E3779B97F4A7C15ULL;
  mixed ^= mixed >> 32U;
  return mixed % keys;
}

}  // namespace

// --- Logs

void SlidingLog::limit(std::optional<std::uint32_t> most, Duration per) {
  most_ = most;
  per_ = per;
}

void SlidingLog::forget(Monotonic until) {
  later(unknown_, until);
  while (!times_.empty() && times_.front() <= *unknown_) times_.pop_front();
}

Duration SlidingLog::wait(Monotonic now) const {
  if (!most_) return Duration{0};
  if (times_.size() >= *most_) return std::max(Duration{0}, times_[times_.size() - *most_] + per_ - now);
  return unknown_ ? std::max(Duration{0}, *unknown_ + per_ - now) : Duration{0};
}

void SlidingLog::take(Monotonic now) {
  if (!most_) return forget(now);
  times_.push_back(now);
  while (times_.front() + longest_ <= now) times_.pop_front();
  if (times_.size() > kRemembered) forget(times_.front());
}

void SlidingSum::limit(std::optional<std::uint64_t> most) {
  most_.reset();
  if (most) most_ = static_cast<std::int64_t>(std::min<std::uint64_t>(*most, kMost));
}

void SlidingSum::forget(Monotonic until) {
  later(unknown_, until);
}

Duration SlidingSum::wait(std::int64_t amount, Monotonic now) const {
  if (!most_) return Duration{0};
  const std::int64_t wanted = std::min(amount, *most_);
  Duration unknown{0};
  if (unknown_ && wanted > 0) unknown = std::max(Duration{0}, *unknown_ + kMinute - now);
  const auto over_at = [](const Slice& slice) { return Monotonic{(slice.number + 1) * kSlice + kMinute}; };
  std::int64_t sum = 0;
  for (const Slice& slice : slices_) {
    if (over_at(slice) > now) sum += slice.amount;
  }
  if (sum + wanted <= *most_) return unknown;
  for (const Slice& slice : slices_) {
    if (over_at(slice) <= now) continue;
    sum -= slice.amount;
    if (sum + wanted <= *most_) return std::max(unknown, over_at(slice) - now);
  }
  return unknown;
}

std::int64_t SlidingSum::take(std::int64_t amount, Monotonic now) {
  if (!most_) {
    if (amount > 0) forget(now);
    return kNoSlice;
  }
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

Gate::Key Gate::fresh_key(const std::string& name) {
  Key key;
  key.number = next_number_++;
  key.name = name;
  if (!unseen_) return key;
  key.requests.forget(*unseen_);
  key.tokens.forget(*unseen_);
  key.last = *unseen_;
  return key;
}

Gate::Key* Gate::find(std::uint32_t number) {
  for (std::vector<Key>* keys : {&keys_, &gone_}) {
    const auto found = std::ranges::find(*keys, number, &Key::number);
    if (found != keys->end()) return &*found;
  }
  return nullptr;
}

void Gate::reshape(const policy::Provider& provider, Monotonic now) {
  if (keys_.empty() && unseen_) began_unseen(*unseen_);
  for (Key& key : keys_) gone_.push_back(std::move(key));
  keys_.clear();
  const auto add = [&](const policy::ProviderKey& config) {
    const auto known = std::ranges::find(gone_, config.name, &Key::name);
    Key key = known == gone_.end() ? fresh_key(config.name) : std::move(*known);
    if (known != gone_.end()) gone_.erase(known);
    key.concurrency = config.concurrency;
    key.requests.limit(config.requests_per_minute, kMinute);
    key.tokens.limit(config.tokens_per_minute);
    keys_.push_back(std::move(key));
  };
  for (const policy::ProviderKey& key : provider.keys) add(key);
  if (keys_.empty()) add({});
  drop_gone(now);
  limit_.limit(provider.limit ? std::optional(provider.limit->requests) : std::nullopt,
               provider.limit ? provider.limit->per : Duration{0});
  breaker_ = provider.breaker;
  cool_down_ = provider.cool_down;
}

// Those that count no more.
void Gate::drop_gone(Monotonic now) {
  std::erase_if(gone_, [now](const Key& key) {
    return key.running == 0 && key.cool_until <= now && key.last + kMinute + kSlice <= now;
  });
  if (gone_.size() > kGoneMax)
    gone_.erase(gone_.begin(), gone_.end() - static_cast<std::ptrdiff_t>(kGoneMax));
}

void Gate::began_unseen(Monotonic last) {
  last_ = std::max(last_, last);
  limit_.forget(last);
  for (Key& key : keys_) {
    key.requests.forget(last);
    key.tokens.forget(last);
    key.last = std::max(key.last, last);
  }
}

bool Gate::remembers(Monotonic now) const {
  return running_ > 0 || now < last_ + kRemember;
}

void Gate::pause_keys(std::set<std::string> names) {
  for (Key& key : keys_) key.paused = names.contains(key.name);
}

Duration Gate::key_wait(const Key& key, std::int64_t tokens, Monotonic now) const {
  if (key.paused) return kNoTime;
  if (key.concurrency && key.running >= *key.concurrency) return kNoTime;
  Duration wait = std::max(Duration{0}, key.cool_until - now);
  wait = std::max({wait, key.requests.wait(now), key.tokens.wait(tokens, now)});
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
  if (broken()) {
    if (now < *open_until_) return {.down = true, .broken = true, .wait = *open_until_ - now};
    if (probe_ != 0) return {.down = true, .broken = true, .wait = kNoTime};
  }
  const Duration limited = limit_.wait(now);
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
  Pass pass{.key = key.number, .tokens = tokens, .in_slice = tokens};
  limit_.take(now);
  key.requests.take(now);
  pass.slice = key.tokens.take(tokens, now);
  ++key.running;
  ++running_;
  key.last = last_ = now;
  if (broken()) pass.probe = probe_ = ++probes_;
  return pass;
}

void Gate::raise(Pass& pass, std::int64_t tokens, Monotonic now) {
  Key* key = find(pass.key);
  if (key == nullptr) return;
  const std::int64_t slice = key->tokens.take(tokens, now);
  pass.in_slice = slice == pass.slice ? pass.in_slice + tokens : tokens;
  pass.slice = slice;
  pass.tokens += tokens;
  key->last = last_ = now;
}

void Gate::end(const Pass& pass, std::int64_t tokens, Verdict verdict, std::optional<Duration> retry_after,
               Monotonic now) {
  last_ = std::max(last_, now);
  --running_;
  const bool probed = pass.probe != 0 && pass.probe == probe_;
  if (probed) probe_ = 0;
  if (Key* key = find(pass.key)) {
    if (key->running > 0) --key->running;
    // What others took in the same slice stays.
    key->tokens.correct(pass.slice, std::max(tokens - pass.tokens, -pass.in_slice));
    if (verdict == Verdict::kLimited || verdict == Verdict::kRefused) {
      const Duration asked = std::min(retry_after.value_or(cool_down_), kCoolDownMax);
      key->cool_until = std::max(key->cool_until, now + asked);
    }
  }
  switch (verdict) {
    case Verdict::kServed:
    case Verdict::kLimited:
    case Verdict::kRefused:  // it is there, and answers
      failures_ = 0;
      open_until_.reset();
      probe_ = 0;
      return;
    case Verdict::kFailed:
      failures_ = std::min(failures_ + 1, kFailuresMax);
      if (breaker_ && (probed || failures_ >= breaker_->failures)) open_until_ = now + breaker_->cool_down;
      return;
    case Verdict::kUnknown:
      return;
  }
}

bool Gate::has_other_key(std::uint32_t key, AccountId account, std::int64_t tokens, Monotonic now) const {
  if (broken() || limit_.wait(now) > Duration{0}) return false;
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
