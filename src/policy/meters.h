// What is metered, and the amounts of it that travel with a request: estimated, held, used.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace turnpike::policy {

// In the order in which usage is shown. Persisted by number: only ever append.
enum class Meter : std::uint8_t {
  kTokens = 0,        // input + output
  kInputTokens = 1,   // cached ones included
  kCachedTokens = 2,  // input read from the provider's cache
  kOutputTokens = 3,
  kCharacters = 4,  // of text that is spoken
  kAudioMs = 5,     // milliseconds of audio made; quotas are in audio_seconds
  kVideoMs = 6,     // milliseconds of video made; quotas are in video_minutes
  kImages = 7,
  kPixels = 8,
  kJobs = 9,    // jobs, counted when they complete
  kCalls = 10,  // calls answered while the caller waits, counted when they complete
};
constexpr std::size_t kMeterCount = 11;
constexpr std::size_t index_of(Meter meter) {
  return static_cast<std::size_t>(meter);
}

// How a meter is named and shown: usage in `units` of the meter make one of the named thing.
struct MeterName {
  Meter meter{};
  const char* name;  // in quotas and in answers: "tokens", "audio_seconds"
  const char*
      usage;  // as providers report it and as jobs show it: "tokens_in", "audio_ms"; null: not reported
  std::int64_t units;  // 1; 1,000 for audio_seconds; 60,000 for video_minutes
};
const std::array<MeterName, kMeterCount>& meter_names();
const MeterName& meter_name(Meter meter);
std::optional<Meter> meter_named(std::string_view name);      // by MeterName::name
std::optional<Meter> meter_reported(std::string_view usage);  // by MeterName::usage

// An amount of a meter as a decimal number of its named thing ("2.35" audio_seconds), rounded up to
// thousandths.
std::string show_amount(Meter meter, std::int64_t amount);

// One amount a meter, by index. Sums stop at +-kAmountMax instead of wrapping.
constexpr std::int64_t kAmountMax = 1'000'000'000'000'000'000;
struct Amounts {
  std::array<std::int64_t, kMeterCount> of{};

  std::int64_t& operator[](Meter meter) { return of[index_of(meter)]; }
  std::int64_t operator[](Meter meter) const { return of[index_of(meter)]; }
  Amounts& operator+=(const Amounts& other);
  Amounts& operator-=(const Amounts& other);
  bool zero() const;
  friend bool operator==(const Amounts&, const Amounts&) = default;
};

// What a provider reported, by usage name; negative and absurd amounts count as none, and unknown names are
// passed over. `tokens` is made of the two.
Amounts amounts_of(const std::vector<std::pair<std::string, std::int64_t>>& usage);
// Whether it says anything of tokens; zero is an answer, an amount that counts as none is not.
bool tells_tokens(const std::vector<std::pair<std::string, std::int64_t>>& usage);

}  // namespace turnpike::policy
