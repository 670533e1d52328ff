// What of a provider's lists of models and voices is read, and how often.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace turnpike::policy {

// How a list is asked for and written.
enum class ListKind : std::uint8_t {
  kOpenAi,       // GET URL; every server that speaks OpenAI's wire has one
  kAnthropic,    // GET URL?limit=N
  kHuggingFace,  // GET URL?author=NAME&sort=createdAt&direction=-1&limit=N
  kElevenLabs,   // GET URL/models and URL/voices
};
const char* list_kind_name(ListKind kind);  // "openai", "anthropic", "huggingface", "elevenlabs"

struct ListWatch {
  ListKind list = ListKind::kOpenAi;
  Duration every = std::chrono::hours(1);  // between two looks; 1 min..7 d
  std::string url;  // without a query. Default: base_url with /models (openai) or /v1/models (anthropic),
                    // https://huggingface.co/api/models, base_url with /v1 (elevenlabs)
  // Whether the provider's key goes along. Default: only where the list is on the host of base_url, so that
  // no key is sent to a stranger.
  bool send_key = true;
  std::string author;                    // huggingface: whose models; never empty there
  std::string prefix;                    // only entries whose id begins so; empty: all
  std::vector<std::string> ids;          // only these; empty: all
  std::uint32_t entries_max = 1'000;     // of one list; what comes behind is left out. 1..10,000
  std::uint64_t bytes_max = 4ULL << 20;  // of one answer; a longer one is a failure. 1 KiB..16 MiB

  bool wants(std::string_view id) const;
  friend bool operator==(const ListWatch&, const ListWatch&) = default;
};

}  // namespace turnpike::policy
