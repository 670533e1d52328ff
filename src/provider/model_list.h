// Lists of models and voices as upstreams write them: what to ask, and what an answer has. Pure.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/http.h"
#include "policy/discovered.h"
#include "policy/watch.h"

namespace turnpike::provider {

constexpr std::size_t kEntryBytesMax = 256;       // of an id, and of a name
constexpr std::uint32_t kEntriesOnAPage = 1'000;  // that anthropic and huggingface give at most

// One GET of a look.
struct ListAsk {
  policy::DiscoveryKind kind{};  // what its entries are
  std::string url;
  net::Headers headers;  // with the key, where the watch sends one
};
// `key` empty: none goes along. One ask, of elevenlabs two.
std::vector<ListAsk> list_asks(const policy::ListWatch& watch, std::string_view key);

struct ListEntry {
  std::string id;
  std::string name;  // for a person; may be empty
  std::optional<std::chrono::sys_days> released =
      {};  // the day, in UTC, that the list says; none before 1970-01-02
  friend bool operator==(const ListEntry&, const ListEntry&) = default;
};
struct ListAnswer {
  std::vector<ListEntry> entries;  // that the watch wants, in the list's order, each id once
  std::size_t left_out = 0;        // without an id of 1 to kEntryBytesMax bytes, or beyond entries_max
};
// The body of a 200. What stands beside the fields named here is not looked at.
//   openai       {"data":[{"id","created" (Unix seconds)}]}; platform.openai.com, API reference, "List
//   models",
//                October 2025
//   anthropic    {"data":[{"id","display_name","created_at" (RFC 3339)}]}; docs.anthropic.com, API, "List
//   Models",
//                October 2025
//   huggingface  [{"id" or "modelId","createdAt" or "lastModified" (RFC 3339)}]; huggingface.co/docs/hub/api,
//                "GET /api/models", October 2025
//   elevenlabs   models: [{"model_id","name"}]; voices: {"voices":[{"voice_id","name"}]}; elevenlabs.io/docs,
//   API
//                reference, "List models" and "List voices" (v1), October 2025
// Error: kUpstreamError, when it is not that; an empty list is one.
Result<ListAnswer> parse_list(const policy::ListWatch& watch, policy::DiscoveryKind kind,
                              std::string_view body);

}  // namespace turnpike::provider
