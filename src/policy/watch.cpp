#include "policy/watch.h"

#include "policy/contains.h"

namespace turnpike::policy {

const char* list_kind_name(ListKind kind) {
  switch (kind) {
    case ListKind::kOpenAi:
      return "openai";
    case ListKind::kAnthropic:
      return "anthropic";
    case ListKind::kHuggingFace:
      return "huggingface";
    case ListKind::kElevenLabs:
      return "elevenlabs";
  }
  return "openai";
}

bool ListWatch::wants(std::string_view id) const {
  return id.starts_with(prefix) && (ids.empty() || contains(ids, id));
}

}  // namespace turnpike::policy
