#include "simulation/rates_model.h"

#include <algorithm>
#include <limits>

#include "simulation/violation.h"

namespace turnpike::simulation {

namespace {

using Wide = __int128;

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kFarAhead = 400LL * 24 * 60 * kMinute;
constexpr std::size_t kLogMax = 512;  // stretches of time looked at, at most

}  // namespace

std::int64_t RateModel::Bucket::micros(std::int64_t amount) const {
  return static_cast<std::int64_t>(std::min<Wide>((Wide{amount} * window + rate - 1) / rate, kFarAhead));
}

std::int64_t RateModel::Bucket::unit() const {
  return (window + rate - 1) / rate;
}

std::int64_t RateModel::Bucket::capacity(bool tokens) const {
  return tokens ? micros(room) : unit() * std::max<std::int64_t>(1, room);
}

std::vector<RateModel::Each> RateModel::buckets(const policy::Rates& rates, std::int64_t tokens) {
  std::vector<Each> all;
  const auto at_least_one = [](std::uint64_t rate) {
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(rate));
  };
  if (rates.rps)
    all.push_back({kSeconds, {at_least_one(*rates.rps), kSecond, rates.burst.value_or(*rates.rps)}, 1});
  if (rates.rpm)
    all.push_back({kMinutes, {at_least_one(*rates.rpm), kMinute, rates.burst.value_or(*rates.rpm)}, 1});
  if (rates.tpm) {
    const std::int64_t rate = at_least_one(*rates.tpm);
    all.push_back({kTokens, {rate, kMinute, rate}, tokens});
  }
  return all;
}

// What is still to be filled: the most over all stretches of time that begin where something began.
std::int64_t RateModel::backlog(const Log& log, Monotonic now) {
  std::int64_t sum = 0, most = 0;
  for (auto it = log.begun.rbegin(); it != log.begun.rend(); ++it) {
    sum += it->micros;
    if (it->micros > 0) most = std::max(most, sum - (now - it->at).count());
  }
  return most;
}

Duration RateModel::wait(const Who& who, const policy::Rates& rates, std::int64_t tokens,
                         Monotonic now) const {
  std::int64_t longest = 0;
  for (const Each& each : buckets(rates, tokens)) {
    if (each.kind == kTokens && tokens <= 0) continue;
    const std::int64_t capacity = each.bucket.capacity(each.kind == kTokens);
    // Work larger than the whole bucket begins when it is full.
    const std::int64_t wanted =
        each.kind == kTokens ? std::min(each.bucket.micros(tokens), capacity) : each.bucket.unit();
    const auto log = logs_.find({who, each.kind});
    const std::int64_t before = log == logs_.end() ? 0 : backlog(log->second, now);
    longest = std::max(longest, before + wanted - capacity);
  }
  return Duration{longest};
}

void RateModel::took(const Who& who, const policy::Rates& rates, JobId work, std::int64_t tokens,
                     Monotonic now) {
  for (const Each& each : buckets(rates, tokens)) {
    const bool of_tokens = each.kind == kTokens;
    if (of_tokens && tokens <= 0) continue;
    Log& log = logs_[{who, each.kind}];
    if (log.rate != each.bucket.rate || log.room != each.bucket.room) ++log.terms;
    log.rate = each.bucket.rate;
    log.room = each.bucket.room;
    if (backlog(log, now) == 0) log.begun.clear();  // full again: no stretch from before matters any more
    const std::int64_t micros = of_tokens ? each.bucket.micros(tokens) : each.bucket.unit();
    log.begun.push_back({.at = now, .micros = micros, .amount = each.amount, .terms = log.terms});
    check_promise(who, log, each.bucket, of_tokens);
    if (log.begun.size() > kLogMax) log.begun.pop_front();
    if (of_tokens) taken_[work].emplace_back(who, micros);
  }
}

// Exact, and without the engine's rounding: in no stretch of time began more than rate x time + room. Work
// larger than the room counts as the room, where it is the last.
void RateModel::check_promise(const Who& who, const Log& log, const Bucket& bucket, bool tokens) {
  const Begun& last = log.begun.back();
  const std::int64_t room = std::max<std::int64_t>(1, bucket.room);
  Wide begun = 0;  // x window
  std::int64_t given_back = 0;
  for (auto it = log.begun.rbegin(); it != log.begun.rend() && it->terms == log.terms; ++it) {
    if (it->amount == 0) {
      begun += Wide{it->micros} * bucket.rate;
    } else {
      begun +=
          Wide{it == log.begun.rbegin() && tokens ? std::min(it->amount, room) : it->amount} * bucket.window;
    }
    if (it->micros < 0) ++given_back;  // each is rounded to a microsecond
    if (it->micros <= 0) continue;
    const Wide may =
        Wide{bucket.rate} * ((last.at - it->at).count() + given_back) + Wide{room} * bucket.window;
    require(begun <= may, "rates", "{}: {} {} began within {} us, at {} in {} us and {} at once",
            to_string(who), static_cast<std::int64_t>(begun / bucket.window),
            tokens ? "tokens" : "pieces of work", (last.at - it->at).count(), bucket.rate, bucket.window,
            room);
  }
}

void RateModel::corrected(JobId work, std::int64_t tokens, const Promises& promises, Monotonic now) {
  const auto taken = taken_.find(work);
  if (taken == taken_.end()) return;
  for (const auto& [who, micros] : taken->second) {
    const policy::Rates& rates = promises.of(who).rates;
    if (!rates.tpm) continue;
    const Bucket bucket = buckets(rates, tokens).back().bucket;
    const std::int64_t change = bucket.micros(tokens) - micros;
    if (change == 0) continue;
    Log& log = logs_[{who, kTokens}];
    log.begun.push_back({.at = now, .micros = change, .amount = 0, .terms = log.terms});
    if (log.begun.size() > kLogMax) log.begun.pop_front();
  }
  taken_.erase(taken);
}

void RateModel::clear() {
  logs_.clear();
  taken_.clear();
}

}  // namespace turnpike::simulation
