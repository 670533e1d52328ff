// What bounds the use of a provider: its keys, its limit as a whole, its breaker, and what happens when it
// has no room.
#include <fmt/format.h>

#include <algorithm>

#include "policy/contains.h"
#include "policy/load_parts.h"

namespace turnpike::policy {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kKeysMax = 100;
constexpr std::uint32_t kLimitRequestsMax = 100'000;  // each is remembered for `per`
constexpr std::uint32_t kKeyConcurrencyMax = 1'000;   // x kKeysMax: the most slots of a pool

void read_key(Map& map, const SecretSource& secrets, bool missing_ok, ProviderKey& out) {
  map.require("name").name(out.name);
  read_secret(map.require("key"), secrets, missing_ok, out.key);
  map.at("requests_per_minute").limit(out.requests_per_minute, 1, kLimitRequestsMax);
  std::optional<std::uint32_t> tokens;
  if (map.at("tokens_per_minute").limit(tokens, 1, 4'000'000'000)) out.tokens_per_minute = tokens;
  map.at("concurrency").limit(out.concurrency, 1, kKeyConcurrencyMax);
}

void read_limit(const Value& value, std::optional<UpstreamLimit>& out) {
  if (value.is_null() || value.is_word("unlimited")) {
    out.reset();
    return;
  }
  value.section([&](Map& map) {
    UpstreamLimit limit{.requests = 1, .per = seconds(60)};
    map.require("requests").whole(limit.requests, 1, kLimitRequestsMax);
    map.require("per").duration(limit.per, seconds(1), days(1));
    out = limit;
  });
}

void read_breaker(const Value& value, std::optional<Breaker>& out) {
  if (value.is_word("off")) {
    out.reset();
    return;
  }
  if (value.present() && !value.is_map()) {
    value.mistake("must be a section ({failures: 5, cool_down: 30s}), or `off`");
    return;
  }
  value.section([&](Map& map) {
    Breaker breaker = out.value_or(Breaker{});
    map.at("failures").whole(breaker.failures, 1, 1'000);
    map.at("cool_down").duration(breaker.cool_down, seconds(1), hours(1));
    out = breaker;
  });
}

}  // namespace

void read_keys(Map& map, const SecretSource& secrets, Provider& out, KeySlots& slots) {
  const bool missing_ok = out.use == Provider::Use::kIfKey;
  const Value keys = map.at("keys");
  const Value short_form = missing_ok && !keys.present() ? map.require("api_key") : map.at("api_key");
  read_secret(short_form, secrets, missing_ok, out.api_key);
  if (!keys.present()) return;
  if (short_form.present())
    keys.mistake("stands beside `api_key`, which is short for one key: keep one of them");
  std::vector<std::string> names;
  std::uint32_t sum = 0;
  bool bounded = true;
  const bool read = keys.list([&](const Value& item) {
    ProviderKey key;
    if (!item.section([&](Map& entry) { read_key(entry, secrets, missing_ok, key); })) return;
    if (!key.name.empty() && contains(names, key.name))
      item.mistake(fmt::format("key `{}` is named twice: each has a name of its own", key.name));
    names.push_back(key.name);
    key.concurrency ? void(sum += *key.concurrency) : void(bounded = false);
    if (names.size() <= kKeysMax && !key.key.empty()) out.keys.push_back(std::move(key));
  });
  if (read && keys.is_empty()) keys.mistake("needs at least one key");
  if (names.size() > kKeysMax) keys.mistake(fmt::format("has more than {} keys", kKeysMax));
  if (!bounded || names.empty()) return;
  slots.configured = sum;
  slots.there = 0;
  for (const ProviderKey& key : out.keys) slots.there += key.concurrency.value_or(0);
}

void read_upstream(Map& map, Provider& out) {
  if (is_remote(out.kind)) out.breaker = Breaker{};
  read_limit(map.at("limit"), out.limit);
  read_breaker(map.at("breaker"), out.breaker);
  map.at("cool_down").duration(out.cool_down, seconds(1), hours(1));
  map.at("saturation").word(out.saturation, {{"wait", Saturation::kWait}, {"spill", Saturation::kSpill}});
  Duration timeout{};
  if (map.at("timeout").duration(timeout, milliseconds(10), hours(24))) out.timeout = timeout;
}

}  // namespace turnpike::policy
