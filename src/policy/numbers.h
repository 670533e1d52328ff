// Quantities as people write them in a configuration: "30s", "64MiB", "20%", "2.0". Exact: no floating point.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"

namespace turnpike::policy {

// Digits alone, no sign, no leading zero.
std::optional<std::uint64_t> parse_whole(std::string_view text);

// A whole number and one of ms, s, m, h, d: "500ms", "30d".
std::optional<Duration> parse_duration(std::string_view text);

// A whole number and one of KB, MB, GB (powers of 1,000), KiB, MiB, GiB (powers of 1,024); bare: bytes.
std::optional<std::uint64_t> parse_bytes(std::string_view text);

// "20%" or "0.5%" (at most one decimal) as thousandths: 200, 5.
std::optional<std::uint32_t> parse_percent(std::string_view text);

// "2", "2.0", "1.125" (at most three decimals) as thousandths: 2000, 2000, 1125.
std::optional<std::uint32_t> parse_factor(std::string_view text);

// The same quantities as text, in the largest unit that is exact.
std::string duration_text(Duration duration);
std::string bytes_text(std::uint64_t bytes);
std::string percent_text(std::uint32_t permille);
std::string factor_text(std::uint32_t permille);

}  // namespace turnpike::policy
