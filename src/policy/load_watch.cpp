// The key `watch` of a provider, and `discover` of a model.
#include <fmt/format.h>

#include <algorithm>

#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

constexpr std::size_t kIdsMax = 1'000;
constexpr std::size_t kIdBytesMax = 256;
constexpr std::size_t kRulesMax = 16;
constexpr std::uint32_t kEntriesMax = 10'000;
constexpr std::uint64_t kBytesMin = 1ULL << 10;
constexpr std::uint64_t kBytesMax = 16ULL << 20;
constexpr const char* kHuggingFaceUrl = "https://huggingface.co/api/models";

// "https://api.openai.com" of "https://api.openai.com/v1".
std::string_view origin_of(std::string_view url) {
  const std::size_t host = url.find("://");
  if (host == std::string_view::npos) return url;
  return url.substr(0, url.find('/', host + 3));
}

std::string list_url(const Provider& provider, ListKind list) {
  switch (list) {
    case ListKind::kOpenAi:
      return provider.base_url + "/models";
    case ListKind::kAnthropic:
      return provider.base_url + "/v1/models";
    case ListKind::kHuggingFace:
      return kHuggingFaceUrl;
    case ListKind::kElevenLabs:
      return provider.base_url + "/v1";
  }
  return provider.base_url;
}

void read_ids(const Value& value, std::vector<std::string>& out) {
  const bool read = value.list([&out](const Value& item) {
    std::string id;
    if (item.text(id, kIdBytesMax) && out.size() <= kIdsMax) out.push_back(std::move(id));
  });
  if (read && value.is_empty()) value.mistake("needs at least one id; leave it out for all");
  if (out.size() > kIdsMax) value.mistake(fmt::format("has more than {} ids", kIdsMax));
}

// Whose models: without it the list would be of all that there are.
void read_author(Map& map, ListWatch& out) {
  if (out.list != ListKind::kHuggingFace) {
    map.refuse("author", "belongs to lists of kind huggingface");
    return;
  }
  const Value author = map.require("author");
  author.name(out.author);
}

void read_list_kind(Map& map, const Provider& provider, ListWatch& out) {
  // A provider of kind http speaks a wire of its own, and says nothing of what its list is.
  const bool known = provider.kind != ProviderKind::kHttp;
  out.list = provider.kind == ProviderKind::kAnthropic ? ListKind::kAnthropic : ListKind::kOpenAi;
  const Value list = known ? map.at("list") : map.require("list");
  list.word(out.list, {{"openai", ListKind::kOpenAi},
                       {"anthropic", ListKind::kAnthropic},
                       {"huggingface", ListKind::kHuggingFace},
                       {"elevenlabs", ListKind::kElevenLabs}});
}

void read_rule(const Value& item, const Policy& policy, Model& out) {
  DiscoverRule rule;
  item.section([&](Map& map) {
    const Value provider = map.require("provider");
    if (provider.name(rule.provider)) {
      check_serves(provider, policy, rule.provider, out.task);
      const auto found = policy.providers.find(rule.provider);
      if (found != policy.providers.end() && !found->second.watch) {
        provider.mistake(
            fmt::format("the lists of provider `{}` are not read: give it a section `watch`", rule.provider));
      }
    }
    const Value match = map.require("match");
    if (!match.text(rule.match, kIdBytesMax)) return;
    const std::size_t at = rule.match.find(kVersionMark);
    if (at == std::string::npos || rule.match.find(kVersionMark, at + 1) != std::string::npos)
      match.mistake("must be the id of an entry with {version} once in it, such as \"gpt-4o-{version}\"");
  });
  if (!rule.provider.empty() && !rule.match.empty()) out.discover.push_back(std::move(rule));
}

}  // namespace

void read_watch(const Value& value, Provider& provider) {
  ListWatch watch;
  const bool read = value.section([&](Map& map) {
    read_list_kind(map, provider, watch);
    map.at("every").duration(watch.every, minutes(1), hours(24 * 7));
    watch.url = list_url(provider, watch.list);
    const Value url = map.at("url");
    if (url.text(watch.url) && !is_base_url(watch.url)) {
      url.mistake(
          "must be http://HOST/PATH or https://HOST/PATH without a slash at the end, a user, a query or a "
          "fragment");
    }
    watch.send_key = origin_of(watch.url) == origin_of(provider.base_url);
    map.at("send_key").flag(watch.send_key);
    read_author(map, watch);
    map.at("prefix").text(watch.prefix, kIdBytesMax);
    read_ids(map.at("ids"), watch.ids);
    map.at("entries_max").whole(watch.entries_max, 1, kEntriesMax);
    map.at("bytes_max").bytes(watch.bytes_max, kBytesMin, kBytesMax);
  });
  if (read) provider.watch = std::move(watch);
}

void read_discover(const Value& value, const Policy& policy, Model& model) {
  if (!value.present()) return;
  const bool read = value.list([&](const Value& item) { read_rule(item, policy, model); });
  if (read && value.is_empty()) value.mistake("needs at least one of {provider, match}");
  if (model.discover.size() > kRulesMax) value.mistake(fmt::format("has more than {} rules", kRulesMax));
}

void check_discover(const Value& where, const Model& model) {
  if (!where.present() || model.versions.empty()) return;
  const bool numbers = std::ranges::all_of(model.versions, [](const ModelVersion& each) {
    return each.parsed.kind == VersionText::Kind::kNumber;
  });
  const bool days =
      std::ranges::all_of(model.versions, [](const ModelVersion& each) { return each.day().has_value(); });
  if (!numbers && !days) {
    where.mistake(
        "finds versions that must have an order with the model's own: name its version by a number such as "
        "2.1.0 or a day such as 2025-11-01");
  }
}

}  // namespace turnpike::policy
