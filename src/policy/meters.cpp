#include "policy/meters.h"

#include <fmt/format.h>

#include <algorithm>

namespace turnpike::policy {
namespace {

std::int64_t sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(std::clamp<__int128>(__int128{a} + b, -kAmountMax, kAmountMax));
}

}  // namespace

const std::array<MeterName, kMeterCount>& meter_names() {
  static constexpr std::array<MeterName, kMeterCount> kNames{{
      {Meter::kTokens, "tokens", nullptr, 1},
      {Meter::kInputTokens, "input_tokens", "tokens_in", 1},
      {Meter::kCachedTokens, "cached_tokens", "tokens_cached", 1},
      {Meter::kOutputTokens, "output_tokens", "tokens_out", 1},
      {Meter::kCharacters, "characters", "characters", 1},
      {Meter::kAudioMs, "audio_seconds", "audio_ms", 1'000},
      {Meter::kVideoMs, "video_minutes", "video_ms", 60'000},
      {Meter::kImages, "images", "images", 1},
      {Meter::kPixels, "pixels", "pixels", 1},
      {Meter::kJobs, "jobs", nullptr, 1},
      {Meter::kCalls, "calls", nullptr, 1},
  }};
  return kNames;
}

const MeterName& meter_name(Meter meter) {
  return meter_names()[index_of(meter)];
}

std::optional<Meter> meter_named(std::string_view name) {
  for (const MeterName& each : meter_names()) {
    if (name == each.name) return each.meter;
  }
  return std::nullopt;
}

std::optional<Meter> meter_reported(std::string_view usage) {
  for (const MeterName& each : meter_names()) {
    if (each.usage != nullptr && usage == each.usage) return each.meter;
  }
  return std::nullopt;
}

std::string show_amount(Meter meter, std::int64_t amount) {
  const std::int64_t units = meter_name(meter).units;
  if (units == 1) return fmt::to_string(amount);
  const bool negative = amount < 0;
  const __int128 size = negative ? -__int128{amount} : __int128{amount};
  const auto thousandths = static_cast<std::int64_t>((size * 1000 + units - 1) / units);
  std::string text = fmt::format("{}{}.{:03}", negative ? "-" : "", thousandths / 1000, thousandths % 1000);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

Amounts& Amounts::operator+=(const Amounts& other) {
  for (std::size_t i = 0; i < kMeterCount; ++i) of[i] = sum(of[i], other.of[i]);
  return *this;
}

Amounts& Amounts::operator-=(const Amounts& other) {
  for (std::size_t i = 0; i < kMeterCount; ++i) of[i] = sum(of[i], -other.of[i]);
  return *this;
}

bool Amounts::zero() const {
  return std::ranges::all_of(of, [](std::int64_t amount) { return amount == 0; });
}

constexpr std::int64_t kReportedMax = 1'000'000'000'000;  // of one try: beyond, a provider talks nonsense

Amounts amounts_of(const std::vector<std::pair<std::string, std::int64_t>>& usage) {
  Amounts amounts;
  for (const auto& [name, amount] : usage) {
    const auto meter = meter_reported(name);
    if (meter && amount > 0 && amount <= kReportedMax) amounts[*meter] = sum(amounts[*meter], amount);
  }
  amounts[Meter::kCachedTokens] = std::min(amounts[Meter::kCachedTokens], amounts[Meter::kInputTokens]);
  amounts[Meter::kTokens] = sum(amounts[Meter::kInputTokens], amounts[Meter::kOutputTokens]);
  return amounts;
}

bool tells_tokens(const std::vector<std::pair<std::string, std::int64_t>>& usage) {
  return std::ranges::any_of(usage, [](const auto& told) {
    const auto meter = meter_reported(told.first);
    return (meter == Meter::kInputTokens || meter == Meter::kOutputTokens) && told.second >= 0 &&
           told.second <= kReportedMax;
  });
}

}  // namespace turnpike::policy
