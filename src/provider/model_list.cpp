#include "provider/model_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "policy/versions.h"
#include "provider/json_text.h"

namespace turnpike::provider {
namespace {

namespace json = boost::json;
using policy::DiscoveryKind;
using policy::ListKind;

constexpr const char* kAnthropicVersion = "2023-06-01";
constexpr std::size_t kDayBytes = 10;                  // of "2025-11-01T00:00:00Z"
constexpr std::int64_t kSecondsMax = 253'402'300'799;  // the end of year 9999
constexpr std::chrono::sys_days kFirstDay{std::chrono::days(1)};

// What a list of one kind calls things.
struct Names {
  const char* list;  // the member that is the list; null: the answer itself
  std::vector<const char*> id;
  const char* name;  // null: there is none
  std::vector<const char*> day;
};

Names names_of(ListKind list, DiscoveryKind kind) {
  switch (list) {
    case ListKind::kOpenAi:
      return {.list = "data", .id = {"id"}, .name = nullptr, .day = {"created"}};
    case ListKind::kAnthropic:
      return {.list = "data", .id = {"id"}, .name = "display_name", .day = {"created_at"}};
    case ListKind::kHuggingFace:
      return {
          .list = nullptr, .id = {"id", "modelId"}, .name = nullptr, .day = {"createdAt", "lastModified"}};
    case ListKind::kElevenLabs:
      break;
  }
  if (kind == DiscoveryKind::kVoice) return {.list = "voices", .id = {"voice_id"}, .name = "name", .day = {}};
  return {.list = nullptr, .id = {"model_id"}, .name = "name", .day = {}};
}

std::optional<std::chrono::sys_days> day_of(const json::value& value) {
  std::optional<std::chrono::sys_days> day;
  if (const auto* text = value.if_string()) {
    if (text->size() >= kDayBytes) day = policy::parse_day(std::string_view(*text).substr(0, kDayBytes));
  } else if (value.is_int64() && value.get_int64() >= 0 && value.get_int64() <= kSecondsMax) {
    const std::chrono::sys_seconds at{std::chrono::seconds(value.get_int64())};
    day = std::chrono::floor<std::chrono::days>(at);
  }
  // A server that knows none writes 0.
  return day && *day >= kFirstDay ? day : std::nullopt;
}

// An id is what requests will name: one that would have to be changed to be shown is none.
std::optional<std::string> id_in(const json::object& entry, const Names& names) {
  for (const char* name : names.id) {
    const auto text = text_in(entry, name);
    if (!text || text->empty() || text->size() > kEntryBytesMax) continue;
    if (clean_text(*text, kEntryBytesMax, false) == *text) return std::string(*text);
  }
  return std::nullopt;
}

std::optional<ListEntry> entry_in(const json::value& value, const Names& names) {
  const json::object* object = value.if_object();
  if (object == nullptr) return std::nullopt;
  auto id = id_in(*object, names);
  if (!id) return std::nullopt;
  ListEntry entry{.id = *std::move(id), .name = {}};
  if (const auto name = names.name != nullptr ? text_in(*object, names.name) : std::nullopt)
    entry.name = clean_text(*name, kEntryBytesMax, false);
  for (const char* name : names.day) {
    const json::value* said = object->if_contains(name);
    if (said != nullptr && !entry.released) entry.released = day_of(*said);
  }
  return entry;
}

net::Headers headers_of(ListKind list, std::string_view key) {
  net::Headers headers{{"Accept", "application/json"}};
  if (list == ListKind::kAnthropic) headers.emplace_back("anthropic-version", kAnthropicVersion);
  if (key.empty()) return headers;
  switch (list) {
    case ListKind::kOpenAi:
    case ListKind::kHuggingFace:
      headers.emplace_back("Authorization", fmt::format("Bearer {}", key));
      break;
    case ListKind::kAnthropic:
      headers.emplace_back("x-api-key", key);
      break;
    case ListKind::kElevenLabs:
      headers.emplace_back("xi-api-key", key);
      break;
  }
  return headers;
}

const json::array* list_in(const json::value& answer, const Names& names) {
  if (names.list == nullptr) return answer.if_array();
  const json::object* object = answer.if_object();
  return object == nullptr ? nullptr : array_in(*object, names.list);
}

}  // namespace

std::vector<ListAsk> list_asks(const policy::ListWatch& watch, std::string_view key) {
  const net::Headers headers = headers_of(watch.list, watch.send_key ? key : std::string_view{});
  const std::uint32_t limit = std::min(watch.entries_max, kEntriesOnAPage);
  const auto of = [&](DiscoveryKind kind, std::string url) {
    return ListAsk{.kind = kind, .url = std::move(url), .headers = headers};
  };
  switch (watch.list) {
    case ListKind::kOpenAi:
      return {of(DiscoveryKind::kModel, watch.url)};
    case ListKind::kAnthropic:
      return {of(DiscoveryKind::kModel, fmt::format("{}?limit={}", watch.url, limit))};
    case ListKind::kHuggingFace:
      return {of(DiscoveryKind::kModel, fmt::format("{}?author={}&sort=createdAt&direction=-1&limit={}",
                                                    watch.url, watch.author, limit))};
    case ListKind::kElevenLabs:
      return {of(DiscoveryKind::kModel, watch.url + "/models"),
              of(DiscoveryKind::kVoice, watch.url + "/voices")};
  }
  return {};
}

Result<ListAnswer> parse_list(const policy::ListWatch& watch, DiscoveryKind kind, std::string_view body) {
  const auto answer = parse_json(body);
  if (!answer) return fail(ErrorCode::kUpstreamError, "the list is not JSON");
  const Names names = names_of(watch.list, kind);
  const json::array* list = list_in(*answer, names);
  if (list == nullptr) {
    return fail(ErrorCode::kUpstreamError, names.list == nullptr
                                               ? std::string("the answer is no list")
                                               : fmt::format("the answer has no list `{}`", names.list));
  }
  ListAnswer out;
  std::set<std::string, std::less<>> ids;
  for (const json::value& value : *list) {
    auto entry = entry_in(value, names);
    if (!entry) {
      ++out.left_out;
    } else if (watch.wants(entry->id) && ids.insert(entry->id).second) {
      if (out.entries.size() < watch.entries_max) {
        out.entries.push_back(*std::move(entry));
      } else {
        ++out.left_out;
      }
    }
  }
  return out;
}

}  // namespace turnpike::provider
