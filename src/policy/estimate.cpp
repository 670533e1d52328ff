#include "policy/estimate.h"

#include <algorithm>

namespace turnpike::policy {
namespace {

using Wide = __int128;

std::int64_t clamped(Wide amount) {
  return static_cast<std::int64_t>(std::clamp<Wide>(amount, 0, kAmountMax));
}

std::int64_t input_tokens(const Ask& ask) {
  return clamped(Wide{ask.text_bytes} + Wide{ask.messages} * kTokensPerMessage +
                 Wide{ask.pictures} * kTokensPerPicture);
}

// Tasks whose answer is text.
bool writes(const Model& model, const Ask& ask) {
  return model.task == "text" || ask.max_output_tokens.has_value();
}

}  // namespace

std::int64_t output_limit(const Model& model, const Ask& ask) {
  return writes(model, ask) ? ask.max_output_tokens.value_or(model.max_output_tokens) : 0;
}

Amounts estimate(const Model& model, const Ask& ask) {
  Amounts most;
  const std::int64_t choices = std::max<std::int64_t>(1, ask.choices);
  if (model.task == "speech") {
    most[Meter::kCharacters] = clamped(ask.characters);
    most[Meter::kAudioMs] = clamped(Wide{ask.characters} * model.audio_ms_per_character);
  } else if (model.task == "image" || model.task == "image_edit") {
    const Wide pixels = ask.width && ask.height ? Wide{*ask.width} * *ask.height : Wide{model.pixels_default};
    most[Meter::kImages] = choices;
    most[Meter::kPixels] = clamped(pixels * choices);
  } else if (model.task == "video") {
    most[Meter::kVideoMs] = clamped(ask.duration_ms.value_or(model.video_ms_max));
  } else if (model.task == "transcription") {
    most[Meter::kAudioMs] = clamped(ask.duration_ms.value_or(0));
  } else {
    most[Meter::kInputTokens] = input_tokens(ask);
    most[Meter::kOutputTokens] = clamped(Wide{output_limit(model, ask)} * choices);
    most[Meter::kTokens] = clamped(Wide{most[Meter::kInputTokens]} + most[Meter::kOutputTokens]);
  }
  return most;
}

}  // namespace turnpike::policy
