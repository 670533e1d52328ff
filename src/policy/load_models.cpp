// The sections models and aliases. A model is written with its versions, or short: one version, with its
// `providers`.
#include <fmt/format.h>

#include <algorithm>

#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

constexpr std::size_t kVersionsMax = 100;
constexpr std::size_t kVersionBytesMax = 64;

// The tasks that the configuration says a provider has; nullopt: what it has is known only there.
std::optional<std::vector<std::string>> tasks_of(const Provider& provider) {
  switch (provider.kind) {
    case ProviderKind::kExec:
      return keys_of(provider.exec_tasks);
    case ProviderKind::kHttp:
      return keys_of(provider.http_tasks);
    case ProviderKind::kAnthropic:
      return std::vector<std::string>{"text"};
    case ProviderKind::kOpenAi:
    case ProviderKind::kSandbox:
    case ProviderKind::kPull:
      break;
  }
  return std::nullopt;
}

// "auto" is asked of servers that hold one model or few, which OpenAI's wire is for.
bool needs_model(const Policy& policy, const std::string& provider, const std::string& task) {
  const auto found = policy.providers.find(provider);
  if (found == policy.providers.end()) return false;
  if (found->second.kind == ProviderKind::kAnthropic) return true;
  const auto http = found->second.http_tasks.find(task);
  return http != found->second.http_tasks.end() && http->second.names_model;
}

}  // namespace

void check_serves(const Value& where, const Policy& policy, const std::string& provider,
                  const std::string& task) {
  const auto found = policy.providers.find(provider);
  if (found == policy.providers.end()) {
    where.mistake(
        fmt::format("unknown provider `{}`: {}", provider, suggestion(provider, keys_of(policy.providers))));
    return;
  }
  const auto tasks = tasks_of(found->second);
  if (!tasks || task.empty() || tasks->empty() || contains(*tasks, task)) return;
  where.mistake(fmt::format("provider `{}` has no task `{}`: {}", provider, task, suggestion(task, *tasks)));
}

namespace {

void read_route(const Value& item, const Policy& policy, const std::string& task,
                std::vector<ModelRoute>& out) {
  ModelRoute route{.provider = {}, .upstream_model = "auto"};
  if (item.is_map()) {
    item.section([&](Map& map) {
      const Value provider = map.require("provider");
      if (provider.name(route.provider)) check_serves(provider, policy, route.provider, task);
      map.at("model").text(route.upstream_model, 256);
    });
  } else if (item.name(route.provider)) {
    check_serves(item, policy, route.provider, task);
  }
  if (route.provider.empty()) return;
  if (route.upstream_model == "auto" && needs_model(policy, route.provider, task)) {
    item.mistake(
        fmt::format("must name the model that provider `{0}` is asked for: {{provider: {0}, model: NAME}}",
                    route.provider));
  }
  if (contains(out, route.provider, &ModelRoute::provider))
    item.mistake(fmt::format("provider `{}` is named twice: keep one", route.provider));
  out.push_back(std::move(route));
}

void read_routes(const Value& routes, const Policy& policy, const std::string& task,
                 std::vector<ModelRoute>& out) {
  const bool read = routes.list([&](const Value& item) { read_route(item, policy, task, out); });
  if (read && routes.is_empty()) routes.mistake("needs at least one provider");
}

// What is held for a request that does not bind its own output.
void read_bounds(Map& map, Model& out) {
  const auto whole = [&map](const char* key, std::int64_t& into, std::uint64_t high) {
    std::uint64_t value = 0;
    if (map.at(key).whole(value, 1, high)) into = static_cast<std::int64_t>(value);
  };
  whole("max_output_tokens", out.max_output_tokens, 10'000'000);
  whole("audio_ms_per_character", out.audio_ms_per_character, 60'000);
  whole("pixels_default", out.pixels_default, 1'000'000'000);
  Duration video{std::chrono::milliseconds(out.video_ms_max)};
  map.at("video_max").duration(video, std::chrono::seconds(1), std::chrono::hours(24));
  out.video_ms_max = std::chrono::duration_cast<std::chrono::milliseconds>(video).count();
}

void read_status(const Value& value, VersionStatus& out) {
  value.word(out, {{"unverified", VersionStatus::kUnverified},
                   {"beta", VersionStatus::kBeta},
                   {"approved", VersionStatus::kApproved},
                   {"blessed", VersionStatus::kBlessed},
                   {"retired", VersionStatus::kRetired}});
}

// What a version may be called: as a name, and what names a build ("2.1.0+cuda").
bool is_version_name(std::string_view text) {
  std::string plain(text);
  std::ranges::replace(plain, '+', '-');
  return is_name(plain);
}

// Versions as they stand in the file, each with the place of its name, and whether they can be put in order.
struct VersionList {
  std::vector<ModelVersion> versions;
  std::vector<Value> places;
  bool ordered = true;  // false: some mistake is why there is no order
  void mistake(std::size_t at, std::string message) {
    places[at].mistake(std::move(message));
    ordered = false;
  }
};

void read_released(const Value& value, ModelVersion& out) {
  std::string text;
  if (!value.text(text, kVersionBytesMax)) return;
  out.released = parse_day(text);
  if (!out.released) value.mistake("must be a day such as 2025-11-01");
  if (out.parsed.kind == VersionText::Kind::kDate)
    value.mistake("is what a dated version says itself: leave it out");
}

void read_version(const Value& item, const Policy& policy, const Model& model, VersionList& out) {
  ModelVersion version;
  item.section([&](Map& map) {
    const Value text = map.require("version");
    if (text.text(version.version, kVersionBytesMax) && !is_version_name(version.version)) {
      text.mistake("must be letters, digits and _ . : / - + , beginning with a letter or a digit");
      version.version.clear();
    }
    version.parsed = parse_version(version.version);
    const Value status = map.at("status");
    read_status(status, version.status);
    if (version.status == VersionStatus::kBlessed) {
      const auto blessed = std::ranges::find(out.versions, VersionStatus::kBlessed, &ModelVersion::status);
      if (blessed != out.versions.end()) {
        status.mistake(
            fmt::format("is a second one: `{}` is blessed already, and a model has one version that "
                        "a freeze falls back to",
                        blessed->version));
      }
    }
    read_released(map.at("released"), version);
    read_routes(map.require("routes"), policy, model.task, version.routes);
    if (version.version.empty()) {
      out.ordered = false;
      return;
    }
    out.versions.push_back(std::move(version));
    out.places.push_back(text);
  });
}

bool newer_number(const ModelVersion& a, const ModelVersion& b) {
  return compare_numbers(a.parsed, b.parsed) == std::strong_ordering::greater;
}

bool newer_day(const ModelVersion& a, const ModelVersion& b) {
  return a.day() > b.day();
}

// What each version needs of its own, so that any two have an order.
void check_days(VersionList& list) {
  for (std::size_t i = 0; i < list.versions.size(); ++i) {
    if (list.versions[i].day()) continue;
    list.mistake(i, list.versions[i].parsed.kind == VersionText::Kind::kNumber
                        ? "stands beside versions of another kind: say when it was released (`released: "
                          "2025-11-01`), so that they have an order"
                        : "is neither a number such as 2.1.0 nor a day such as 2025-11-01: write one, or say "
                          "when it was released (`released: 2025-11-01`)");
  }
}

// Newest first. Numbers by their precedence, days by the calendar; where the kinds are mixed, all by the day
// of their release.
void sort_versions(VersionList& list) {
  auto& versions = list.versions;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    const auto first = std::ranges::find(versions, versions[i].version, &ModelVersion::version);
    if (first != versions.begin() + static_cast<std::ptrdiff_t>(i))
      list.mistake(i, fmt::format("`{}` is there twice: keep one", versions[i].version));
  }
  const bool numbers = std::ranges::all_of(
      versions, [](const ModelVersion& each) { return each.parsed.kind == VersionText::Kind::kNumber; });
  if (!numbers) check_days(list);
  if (!list.ordered) return;
  const auto newer = numbers ? newer_number : newer_day;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (newer(versions[i], versions[j]) || newer(versions[j], versions[i])) continue;
      list.mistake(i, numbers ? fmt::format("is the same number as `{}`: keep one", versions[j].version)
                              : fmt::format("is of the same day as `{}`: neither is the newer one",
                                            versions[j].version));
    }
  }
  std::ranges::sort(versions, newer);
}

void choose_default(const Value& given, Model& out) {
  if (given.text(out.default_version, kVersionBytesMax)) {
    const ModelVersion* version = out.version(out.default_version);
    if (version == nullptr) {
      given.mistake(fmt::format("model `{}` has no version `{}`: {}", out.id, out.default_version,
                                possession(out.version_names())));
    } else if (version->status != VersionStatus::kApproved && version->status != VersionStatus::kBlessed) {
      given.mistake(fmt::format("is {}: a default is for every plan, so it must be approved or blessed",
                                version_status_name(version->status)));
    }
    return;
  }
  if (out.versions.size() == 1) out.default_version = out.versions.front().version;
  const auto blessed = std::ranges::find(out.versions, VersionStatus::kBlessed, &ModelVersion::status);
  if (blessed != out.versions.end()) out.default_version = blessed->version;
}

// One version, written without a list. Its name is free: it has nothing to be ordered with.
void read_short_form(Map& map, const Policy& policy, Model& out) {
  ModelVersion only;
  only.version = "1";
  map.at("version").text(only.version, kVersionBytesMax);
  only.parsed = parse_version(only.version);
  read_status(map.at("status"), only.status);
  read_routes(map.require("providers"), policy, out.task, only.routes);
  map.refuse("default", "belongs to a model with a list of `versions`");
  out.default_version = only.version;
  out.versions.push_back(std::move(only));
}

void read_model(const Value& value, const Policy& policy, Model& out) {
  value.section([&](Map& map) {
    map.require("task").name(out.task);
    read_bounds(map, out);
    const Value discover = map.at("discover");
    read_discover(discover, policy, out);
    const Value versions = map.at("versions");
    if (!versions.present()) {
      read_short_form(map, policy, out);
      check_discover(discover, out);
      return;
    }
    for (const char* key : {"version", "providers", "status"})
      map.refuse(key, "stands beside `versions`: each version in the list has its own");
    VersionList list;
    const bool read = versions.list([&](const Value& item) { read_version(item, policy, out, list); });
    if (read && versions.is_empty()) versions.mistake("needs at least one version");
    if (list.versions.size() > kVersionsMax) {
      versions.mistake(fmt::format("has more than {} versions", kVersionsMax));
    } else {
      sort_versions(list);
    }
    out.versions = std::move(list.versions);
    choose_default(map.at("default"), out);
    if (list.ordered) check_discover(discover, out);
  });
}

}  // namespace

void read_models(const Value& value, Policy& policy) {
  const bool read = value.each([&](const std::string& id, const Value& entry) {
    Model model;
    model.id = id;
    read_model(entry, policy, model);
    if (policy.models.insert_or_assign(id, std::move(model)).second) policy.model_order.push_back(id);
  });
  if (read && policy.models.empty()) value.mistake("needs at least one model");
}

void read_aliases(const Value& value, Policy& policy) {
  value.each([&](const std::string& name, const Value& entry) {
    std::string target;
    if (!entry.text(target, 2 * kVersionBytesMax + 1)) return;
    if (policy.models.contains(name)) {
      entry.mistake(fmt::format("`{}` is the name of a model: choose another", name));
      return;
    }
    const std::string model_name = target.substr(0, target.find('@'));
    const auto model = policy.models.find(model_name);
    if (model == policy.models.end()) {
      entry.mistake(fmt::format("must be a model or MODEL@VERSION; there is no model `{}`: {}", model_name,
                                suggestion(model_name, keys_of(policy.models))));
      return;
    }
    if (model_name.size() < target.size()) {
      const std::string version = target.substr(model_name.size() + 1);
      if (!model->second.has_version_within(version)) {
        entry.mistake(fmt::format("model `{}` has no version `{}`: {}", model_name, version,
                                  possession(model->second.version_names())));
        return;
      }
    }
    policy.aliases.insert_or_assign(name, std::move(target));
  });
}

}  // namespace turnpike::policy
