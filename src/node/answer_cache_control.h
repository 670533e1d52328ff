// What a request's Cache-Control says (RFC 9111, section 5.2.1), as far as it is honoured here.
#pragma once

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

}  // namespace turnpike::node
