// Strong ids. A 64-bit number: 42 bits of milliseconds since 2020-01-01 UTC above 22 bits that make it
// unique, so that ids sort by the time they were made and serve as row keys. Written as prefix + 13
// characters of Crockford base32, e.g. job_01J8QZ5N7M3R2. Ids of different things do not convert into each
// other.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"

namespace turnpike {

template <typename Tag>
struct Id {
  std::uint64_t value = 0;  // 0 is "none"

  constexpr explicit operator bool() const { return value != 0; }
  friend constexpr auto operator<=>(Id, Id) = default;
};

struct AccountTag {
  static constexpr std::string_view kPrefix = "acct_";
};
struct JobTag {
  static constexpr std::string_view kPrefix = "job_";
};
struct RunTag {
  static constexpr std::string_view kPrefix = "run_";
};
struct TryTag {
  static constexpr std::string_view kPrefix = "try_";
};
struct KeyTag {
  static constexpr std::string_view kPrefix = "key_";
};
struct RequestTag {
  static constexpr std::string_view kPrefix = "req_";
};
struct ArtifactTag {
  static constexpr std::string_view kPrefix = "art_";
};
struct GrantTag {
  static constexpr std::string_view kPrefix = "grant_";
};
struct WebhookTag {
  static constexpr std::string_view kPrefix = "whk_";
};
struct ClaimTag {
  static constexpr std::string_view kPrefix = "claim_";
};
struct EventTag {
  static constexpr std::string_view kPrefix = "evt_";
};

using AccountId = Id<AccountTag>;
using JobId = Id<JobTag>;
using RunId = Id<RunTag>;
using TryId = Id<TryTag>;
using KeyId = Id<KeyTag>;
using RequestId = Id<RequestTag>;
using ArtifactId = Id<ArtifactTag>;
using GrantId = Id<GrantTag>;
using WebhookId = Id<WebhookTag>;
using ClaimId = Id<ClaimTag>;
using EventId = Id<EventTag>;  // (batch << 20) | index within the batch; not made from time

std::string encode_id(std::string_view prefix, std::uint64_t value);
// Nothing if the text is not exactly prefix + 13 base32 characters (upper case, no I L O U) of a 64-bit value
// > 0.
std::optional<std::uint64_t> decode_id(std::string_view prefix, std::string_view text);

template <typename Tag>
std::string to_string(Id<Tag> id) {
  return encode_id(Tag::kPrefix, id.value);
}
template <typename Tag>
std::optional<Id<Tag>> parse_id(std::string_view text) {
  const auto value = decode_id(Tag::kPrefix, text);
  if (!value) return std::nullopt;
  return Id<Tag>{*value};
}

// The smallest id value that could be made at `t` or later: for "older than" questions about ids.
std::uint64_t id_floor(Wall t);
// The time (to the millisecond) at which an id was made.
Wall id_time(std::uint64_t value);

// Makes increasing id values: never twice the same, never smaller than the last, whatever the clock does. Not
// thread-safe: owned by whoever holds the engine's mutex.
class IdSource {
 public:
  // `floor`: the largest value ever handed out before (from recovery), 0 for none.
  explicit IdSource(std::uint64_t floor = 0) : last_(floor) {}
  std::uint64_t next(Wall now);
  // The first of `count` values in a row; all of them are taken.
  std::uint64_t next_block(Wall now, std::uint64_t count);

 private:
  std::uint64_t last_;
};

}  // namespace turnpike

template <typename Tag>
struct std::hash<turnpike::Id<Tag>> {
  std::size_t operator()(turnpike::Id<Tag> id) const noexcept {
    std::uint64_t z = id.value * 0x9e3779b97f4a7c15ULL;  // ids are near-sequential: spread them
    return z ^ (z >> 32);
  }
};
