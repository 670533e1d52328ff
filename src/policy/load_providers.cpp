// The sections providers and models, and secrets.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"

namespace turnpike::policy {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr std::uint32_t kSlotsMax = 100'000;
constexpr std::size_t kReferenceBytesMax = 4096;
constexpr const char* kAnthropicUrl = "https://api.anthropic.com";

// The NAME of "${env:NAME}".
std::optional<std::string> reference_to(std::string_view text, std::string_view prefix) {
  if (!text.starts_with(prefix) || !text.ends_with('}')) return std::nullopt;
  text.remove_prefix(prefix.size());
  text.remove_suffix(1);
  if (text.empty() || text.size() > kReferenceBytesMax || text.find_first_of("${}") != std::string_view::npos)
    return std::nullopt;
  return std::string{text};
}

// http(s)://HOST[:PORT][/PATH], without user, query or fragment.
bool is_base_url(std::string_view url) {
  if (url.starts_with("https://")) {
    url.remove_prefix(8);
  } else if (url.starts_with("http://")) {
    url.remove_prefix(7);
  } else {
    return false;
  }
  return !url.empty() && url.front() != '/' && url.front() != ':' && !url.ends_with('/') &&
         url.find_first_of("@?# \"<>\\^`{|}") == std::string_view::npos;
}

// The keys that only some kinds have; `tasks` differs between its two.
struct KindKeys {
  const char* kinds;
  std::initializer_list<const char*> keys;
};
constexpr std::initializer_list<const char*> kTasksKeys = {"tasks"};
constexpr std::initializer_list<const char*> kUpstreamKeys = {"base_url", "api_key"};
constexpr std::initializer_list<const char*> kHttpKeys = {"auth", "statuses", "allow_private"};
constexpr std::initializer_list<const char*> kSandboxKeys = {"seed", "latency", "faults"};
constexpr KindKeys kTasksOnly{"exec and http", kTasksKeys};
constexpr KindKeys kUpstreamOnly{"openai, anthropic and http", kUpstreamKeys};
constexpr KindKeys kHttpOnly{"http", kHttpKeys};
constexpr KindKeys kSandboxOnly{"sandbox", kSandboxKeys};

void refuse_keys(Map& map, std::initializer_list<KindKeys> others) {
  for (const KindKeys& other : others) {
    for (const char* key : other.keys)
      map.refuse(key, fmt::format("belongs to providers of kind {}", other.kinds));
  }
}

// Where an upstream is and the key it wants.
void read_upstream(Map& map, const SecretSource& secrets, Provider& out) {
  const bool known = out.kind == ProviderKind::kAnthropic;  // others have no address of their own
  if (known) out.base_url = kAnthropicUrl;
  const Value url = known ? map.at("base_url") : map.require("base_url");
  if (url.text(out.base_url) && !is_base_url(out.base_url)) {
    url.mistake(
        "must be http://HOST/PATH or https://HOST/PATH without a slash at the end, a user, a query or a "
        "fragment");
  }
  const bool missing_ok = out.use == Provider::Use::kIfKey;
  const Value key = missing_ok ? map.require("api_key") : map.at("api_key");
  read_secret(key, secrets, missing_ok, out.api_key);
}

void read_faults(const Value& faults, Provider& out) {
  faults.section([&](Map& map) {
    std::uint32_t total = 0;
    for (std::size_t i = 0; i < kFailureClassCount; ++i) {
      SandboxFault fault{static_cast<FailureClass>(i), 0};
      if (!map.at(failure_class_name(fault.failure)).percent(fault.permille, 0, 1000)) continue;
      total += fault.permille;
      out.faults.push_back(fault);
    }
    if (total > 1000) map.mistake("the shares of all faults together must be at most 100%");
  });
}

void read_sandbox(Map& map, Provider& out) {
  map.at("seed").whole(out.seed, 0, std::numeric_limits<std::int64_t>::max());
  map.at("latency").section([&](Map& latency) {
    const Value p50 = latency.at("p50");
    const Value p99 = latency.at("p99");
    if (p50.duration(out.latency_p50, milliseconds(0), hours(1)) && !p99.present())
      out.latency_p99 = std::max(out.latency_p99, out.latency_p50);
    if (p99.duration(out.latency_p99, milliseconds(0), hours(1)) && !p50.present())
      out.latency_p50 = std::min(out.latency_p99, out.latency_p50);
    if (out.latency_p99 < out.latency_p50) p99.mistake("must be at least p50");
  });
  read_faults(map.at("faults"), out);
}

void read_exec(Map& map, Provider& out) {
  const Value tasks = map.require("tasks");
  read_exec_tasks(tasks, out);
}

void read_use(Map& map, Provider& out) {
  const Value use = map.at("use");
  use.word(out.use, {{"always", Provider::Use::kAlways},
                     {"if_reachable", Provider::Use::kIfReachable},
                     {"if_key", Provider::Use::kIfKey}});
  if (out.use == Provider::Use::kIfKey && !is_remote(out.kind)) {
    use.mistake("`if_key` belongs to providers that have an api_key (kinds openai, anthropic and http)");
    out.use = Provider::Use::kAlways;
  }
}

// A pool of the provider's own, unless it names one of server.slots.
void read_pool(Map& map, Policy& policy, Provider& out) {
  const Value pool = map.at("pool");
  out.pool = out.name;
  if (pool.name(out.pool) && out.pool != out.name) {
    if (!policy.pools.contains(out.pool)) {
      pool.mistake(fmt::format("unknown pool `{}` (pools are named in server.slots): {}", out.pool,
                               suggestion(out.pool, keys_of(policy.pools))));
    }
    map.refuse("concurrency", fmt::format("is given by server.slots.{}: the pool is shared", out.pool));
    map.refuse("headroom", fmt::format("is given by server.headroom.{}: the pool is shared", out.pool));
    return;
  }
  map.at("concurrency").whole(out.concurrency, 1, kSlotsMax);
  Pool own{out.name, out.concurrency, 0};
  const Value headroom = map.at("headroom");
  if (headroom.whole(own.headroom, 0, kSlotsMax) && own.headroom >= own.slots) {
    headroom.mistake(fmt::format(
        "must be less than concurrency ({}): classes standard and low could never run", own.slots));
  }
  if (!policy.pools.try_emplace(out.name, own).second) {
    map.mistake(
        fmt::format("has the name of a pool of server.slots: rename one, or write a pool of another name "
                    "and `pool:` here to share it"));
  }
}

void read_provider(const Value& value, const SecretSource& secrets, Policy& policy, Provider& out) {
  value.section([&](Map& map) {
    const bool known = map.require("kind").word(out.kind, {{"exec", ProviderKind::kExec},
                                                           {"openai", ProviderKind::kOpenAi},
                                                           {"anthropic", ProviderKind::kAnthropic},
                                                           {"http", ProviderKind::kHttp},
                                                           {"sandbox", ProviderKind::kSandbox}});
    read_use(map, out);
    read_pool(map, policy, out);
    if (!known) {  // which keys belong here is not known either
      for (const KindKeys& keys : {kTasksOnly, kUpstreamOnly, kHttpOnly, kSandboxOnly}) {
        for (const char* key : keys.keys) map.at(key);
      }
      return;
    }
    switch (out.kind) {
      case ProviderKind::kExec:
        read_exec(map, out);
        return refuse_keys(map, {kUpstreamOnly, kHttpOnly, kSandboxOnly});
      case ProviderKind::kOpenAi:
      case ProviderKind::kAnthropic:
        read_upstream(map, secrets, out);
        return refuse_keys(map, {kTasksOnly, kHttpOnly, kSandboxOnly});
      case ProviderKind::kHttp:
        read_upstream(map, secrets, out);
        read_http(map, out);
        return refuse_keys(map, {kSandboxOnly});
      case ProviderKind::kSandbox:
        read_sandbox(map, out);
        return refuse_keys(map, {kTasksOnly, kUpstreamOnly, kHttpOnly});
    }
  });
}

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
      break;
  }
  return std::nullopt;
}

// Whether the provider could serve the task as far as the configuration says.
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

// "auto" is asked of servers that hold one model or few, which OpenAI's wire is for.
bool needs_model(const Policy& policy, const std::string& provider, const std::string& task) {
  const auto found = policy.providers.find(provider);
  if (found == policy.providers.end()) return false;
  if (found->second.kind == ProviderKind::kAnthropic) return true;
  const auto http = found->second.http_tasks.find(task);
  return http != found->second.http_tasks.end() && http->second.names_model;
}

void read_route(const Value& item, const Policy& policy, Model& out) {
  ModelRoute route{.provider = {}, .upstream_model = "auto"};
  if (item.is_map()) {
    item.section([&](Map& map) {
      const Value provider = map.require("provider");
      if (provider.name(route.provider)) check_serves(provider, policy, route.provider, out.task);
      map.at("model").text(route.upstream_model, 256);
    });
  } else if (item.name(route.provider)) {
    check_serves(item, policy, route.provider, out.task);
  }
  if (route.provider.empty()) return;
  if (route.upstream_model == "auto" && needs_model(policy, route.provider, out.task)) {
    item.mistake(
        fmt::format("must name the model that provider `{0}` is asked for: {{provider: {0}, model: NAME}}",
                    route.provider));
  }
  if (contains(out.routes, route.provider, &ModelRoute::provider))
    item.mistake(fmt::format("provider `{}` is named twice: keep one", route.provider));
  out.routes.push_back(std::move(route));
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

void read_model(const Value& value, const Policy& policy, Model& out) {
  value.section([&](Map& map) {
    map.require("task").name(out.task);
    map.at("version").text(out.version, 64);
    read_bounds(map, out);
    const Value providers = map.require("providers");
    const bool read = providers.list([&](const Value& item) { read_route(item, policy, out); });
    if (read && providers.is_empty()) providers.mistake("needs at least one provider");
  });
}

}  // namespace

void read_secret(const Value& value, const SecretSource& secrets, bool missing_ok, Secret& out) {
  std::string text;
  if (!value.raw_text(text)) return;
  const auto env = reference_to(text, "${env:");
  const auto file = reference_to(text, "${file:");
  if (!env && !file) {
    value.mistake("write ${env:NAME} or ${file:PATH}: a secret never stands in the configuration itself");
    return;
  }
  auto secret = env ? secrets.env(*env) : secrets.file(*file);
  // A file usually ends its line.
  while (secret && (secret->ends_with('\n') || secret->ends_with('\r'))) secret->pop_back();
  if (!secret || secret->empty()) {
    if (missing_ok) return;
    value.mistake(env ? fmt::format("environment variable {} is not set", *env)
                      : fmt::format("file {} is not there, not readable or empty", *file));
    return;
  }
  if (std::ranges::any_of(*secret,
                          [](char c) { return static_cast<unsigned char>(c) < 0x21 || c == 0x7f; })) {
    value.mistake("the secret contains a space or a control character, which no key has");
    return;
  }
  out = Secret(std::move(*secret));
}

void read_references(const Value& value, const char* what, const std::vector<std::string>& known,
                     std::vector<std::string>& out) {
  value.list([&](const Value& item) {
    std::string name;
    if (!item.name(name)) return;
    if (!contains(known, name)) {
      item.mistake(fmt::format("unknown {} `{}`: {}", what, name, suggestion(name, known)));
    } else if (contains(out, name)) {
      item.mistake(fmt::format("{} `{}` is named twice: keep one", what, name));
    } else {
      out.push_back(std::move(name));
    }
  });
}

void read_providers(const Value& value, const SecretSource& secrets, Policy& policy) {
  const bool read = value.each([&](const std::string& name, const Value& entry) {
    Provider provider;
    provider.name = name;
    read_provider(entry, secrets, policy, provider);
    policy.providers.insert_or_assign(name, std::move(provider));
  });
  if (read && policy.providers.empty()) value.mistake("needs at least one provider");
}

void read_models(const Value& value, Policy& policy) {
  const bool read = value.each([&](const std::string& id, const Value& entry) {
    Model model{.id = id, .version = "1", .task = {}, .routes = {}};
    read_model(entry, policy, model);
    if (policy.models.insert_or_assign(id, std::move(model)).second) policy.model_order.push_back(id);
  });
  if (read && policy.models.empty()) value.mistake("needs at least one model");
}

}  // namespace turnpike::policy
