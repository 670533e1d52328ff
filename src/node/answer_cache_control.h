// What a request's Cache-Control says (RFC 9111, section 5.2.1), as far as it is honoured here; and what
// became of a request, as `turnpike-cache` says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/time.h"

namespace turnpike::node {

struct CacheControl {
  bool no_cache = false;            // asks upstream, and what comes is kept
  bool no_store = false;            // nothing is kept of it, nothing that was kept is given, nobody shares it
  std::optional<Duration> max_age;  // an answer that is older is none
  friend bool operator==(const CacheControl&, const CacheControl&) = default;
};

// Directives that mean nothing here, and what cannot be read, are passed over: a cache may be asked for less,
// and by nothing that stands in this header for more.
CacheControl parse_cache_control(std::string_view header);

enum class CacheResult : std::uint8_t {
  kNone = 0,    // the plan has no cache, or not for this task: counted nowhere
  kHit = 1,     // given again
  kShared = 2,  // followed another request in flight
  kMiss = 3,
  kBypass = 4,  // as the request asked (Cache-Control), or as it cannot be kept
};
constexpr std::size_t kCacheResultCount = 5;
const char* cache_result_name(CacheResult result);  // "hit", "shared", "miss", "bypass"; "none"

}  // namespace turnpike::node
