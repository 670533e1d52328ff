// Versions of a model: how far each is trusted, and which of two is the newer one.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace turnpike::policy {

// How far a version is trusted. The file says it first, the operator changes it while it runs
// (Overlay::statuses).
enum class VersionStatus : std::uint8_t {
  kUnverified,  // nobody has looked at it: only for plans with visibility.unverified
  kBeta,        // only for plans with visibility.beta
  kApproved,    // for every plan
  kBlessed,     // for every plan, and what a freeze falls back to: at most one of a model
  kRetired,     // for nobody any more
  kDiscovered,  // a provider's list has it and the file does not: for nobody until the operator says more
};
constexpr std::size_t kVersionStatusCount = 6;
const char* version_status_name(VersionStatus status);  // "unverified", "beta", ...

// What the text of a version says about its place among the others.
struct VersionText {
  enum class Kind : std::uint8_t {
    kOther,   // nothing: "a1b2c3d4"
    kNumber,  // "2", "2.1", "2.1.0", "2.1.0-rc.1" (Semantic Versioning 2.0.0; what is left out is 0)
    kDate,    // "2025-11-01"
  };
  Kind kind = Kind::kOther;
  std::array<std::uint32_t, 3> number{};  // kNumber: major, minor, patch
  std::uint8_t parts = 0;                 // kNumber: how many of them are written, 1..3
  std::string pre;                        // kNumber: "rc.1" of "2.1.0-rc.1"; empty: a release
  std::chrono::sys_days day{};            // kDate
  friend bool operator==(const VersionText&, const VersionText&) = default;
};
VersionText parse_version(std::string_view text);

// The precedence of two numbers: by major, minor and patch, then what comes before a release before it. Both
// must be of Kind::kNumber.
std::strong_ordering compare_numbers(const VersionText& a, const VersionText& b);
// Whether going from one to the other breaks nothing, by its number: the same major, and below 1.0 the same
// minor. False unless both are numbers.
bool same_major(const VersionText& a, const VersionText& b);
// "2" has 2.0.0 and 2.1.7, "2.1" has 2.1.7: the parts that `range` writes are those of `version`. A range has
// one or two parts.
bool within(const VersionText& version, const VersionText& range);

// "2025-11-01", if that is a day.
std::optional<std::chrono::sys_days> parse_day(std::string_view text);

}  // namespace turnpike::policy
