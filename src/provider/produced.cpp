#include "provider/produced.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

namespace turnpike::provider {

void add_usage(Success& success, const std::string& meter, std::int64_t amount) {
  for (auto& [name, sum] : success.usage) {
    if (name == meter) {
      sum += amount;
      return;
    }
  }
  success.usage.emplace_back(meter, amount);
}

boost::json::object take_facts(const Measured& measured, Success& success) {
  boost::json::object facts;
  if (const auto* audio = std::get_if<Audio>(&measured.facts)) {
    facts["duration_ms"] = audio->duration_ms;
    add_usage(success, "audio_ms", audio->duration_ms);
  } else if (const auto* picture = std::get_if<Picture>(&measured.facts)) {
    facts["width"] = picture->width;
    facts["height"] = picture->height;
    add_usage(success, "images", 1);
    add_usage(success, "pixels", picture->width * picture->height);
  }
  return facts;
}

bool is_measured_type(std::string_view mime) {
  return mime == "audio/wav" || mime == "image/png" || mime == "image/jpeg" || mime == "image/webp";
}

std::string extension_of_type(std::string_view mime) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kExtensions = {{
      {"application/json", "json"},
      {"application/pdf", "pdf"},
      {"audio/aac", "aac"},
      {"audio/flac", "flac"},
      {"audio/mpeg", "mp3"},
      {"audio/ogg", "ogg"},
      {"audio/wav", "wav"},
      {"image/gif", "gif"},
      {"image/jpeg", "jpg"},
      {"image/png", "png"},
      {"image/svg+xml", "svg"},
      {"image/webp", "webp"},
      {"text/plain", "txt"},
      {"video/mp4", "mp4"},
      {"video/quicktime", "mov"},
      {"video/webm", "webm"},
  }};
  const auto* const found = std::ranges::find(kExtensions, mime, [](const auto& each) { return each.first; });
  return std::string{found == kExtensions.end() ? "bin" : found->second};
}

}  // namespace turnpike::provider
