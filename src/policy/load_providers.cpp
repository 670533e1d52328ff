// The section providers, and secrets.
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

constexpr std::uint32_t kClaimsMax = 10'000;       // each is a connection
constexpr std::uint32_t kPullConcurrency = 1'000;  // where the file does not say: the workers bound it
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

// The keys that only some kinds have; `tasks` differs between its two.
struct KindKeys {
  const char* kinds;
  std::initializer_list<const char*> keys;
};
constexpr std::initializer_list<const char*> kTasksKeys = {"tasks"};
constexpr std::initializer_list<const char*> kExecKeys = {"serve"};
constexpr std::initializer_list<const char*> kUpstreamKeys = {"base_url", "api_key", "keys", "watch"};
constexpr std::initializer_list<const char*> kHttpKeys = {"auth", "statuses", "allow_private"};
constexpr std::initializer_list<const char*> kSandboxKeys = {"seed", "latency", "faults"};
constexpr std::initializer_list<const char*> kPullKeys = {"lease", "claims", "file_size"};
constexpr KindKeys kTasksOnly{"exec and http", kTasksKeys};
constexpr KindKeys kExecOnly{"exec", kExecKeys};
constexpr KindKeys kUpstreamOnly{"openai, anthropic and http", kUpstreamKeys};
constexpr KindKeys kHttpOnly{"http", kHttpKeys};
constexpr KindKeys kSandboxOnly{"sandbox", kSandboxKeys};
constexpr KindKeys kPullOnly{"pull", kPullKeys};

void refuse_keys(Map& map, std::initializer_list<KindKeys> others) {
  for (const KindKeys& other : others) {
    for (const char* key : other.keys)
      map.refuse(key, fmt::format("belongs to providers of kind {}", other.kinds));
  }
}

// Where an upstream is.
void read_address(Map& map, Provider& out) {
  const bool known = out.kind == ProviderKind::kAnthropic;  // others have no address of their own
  if (known) out.base_url = kAnthropicUrl;
  const Value url = known ? map.at("base_url") : map.require("base_url");
  if (url.text(out.base_url) && !is_base_url(out.base_url)) {
    url.mistake(
        "must be http://HOST/PATH or https://HOST/PATH without a slash at the end, a user, a query or a "
        "fragment");
  }
}

// A share, or a section with a share and whether such tries are billed. False: absent, or without a share.
bool read_fault(const Value& value, SandboxFault& out) {
  if (!value.is_map()) return value.percent(out.permille, 0, 1000);
  bool has_share = false;
  value.section([&](Map& fault) {
    has_share = fault.require("share").percent(out.permille, 0, 1000);
    fault.at("bills").flag(out.bills);
  });
  return has_share;
}

void read_faults(const Value& faults, Provider& out) {
  faults.section([&](Map& map) {
    std::uint32_t total = 0;
    for (std::size_t i = 0; i < kFailureClassCount; ++i) {
      SandboxFault fault{.failure = static_cast<FailureClass>(i)};
      if (!read_fault(map.at(failure_class_name(fault.failure)), fault)) continue;
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

void read_pull(Map& map, Provider& out) {
  map.at("lease").duration(out.lease, milliseconds(500), hours(1));
  map.at("claims").whole(out.claims_max, 1, kClaimsMax);
  map.at("file_size").bytes(out.file_bytes_max, 1ULL << 10, 1ULL << 40);
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

// Of a pool of the provider's own: the slots that its keys have together, unless the file says less.
void read_concurrency(const Value& value, const KeySlots& keys, Provider& out) {
  const bool given = value.whole(out.concurrency, 1, kSlotsMax);
  if (!keys.configured) return;
  if (given && out.concurrency > *keys.configured)
    value.mistake(fmt::format("must be at most {}, which is what its keys take together", *keys.configured));
  // What is there may be less, where keys are left out; none at all: the provider is not used.
  const std::uint32_t there = std::max(1U, keys.there);
  out.concurrency = given ? std::min(out.concurrency, there) : there;
}

void read_own_pool(Map& map, const KeySlots& keys, Policy& policy, Provider& out) {
  read_concurrency(map.at("concurrency"), keys, out);
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

// A pool of the provider's own, unless it names one of server.slots.
void read_pool(Map& map, const KeySlots& keys, Policy& policy, Provider& out) {
  out.pool = out.name;
  if (out.kind == ProviderKind::kPull) {
    out.concurrency = kPullConcurrency;
    map.refuse("pool", "is for work that shares slots of this machine: workers of kind pull bring their own");
    return read_own_pool(map, keys, policy, out);
  }
  const Value pool = map.at("pool");
  if (pool.name(out.pool) && out.pool != out.name) {
    if (!policy.pools.contains(out.pool)) {
      pool.mistake(fmt::format("unknown pool `{}` (pools are named in server.slots): {}", out.pool,
                               suggestion(out.pool, keys_of(policy.pools))));
    }
    map.refuse("concurrency", fmt::format("is given by server.slots.{}: the pool is shared", out.pool));
    map.refuse("headroom", fmt::format("is given by server.headroom.{}: the pool is shared", out.pool));
    return;
  }
  read_own_pool(map, keys, policy, out);
}

void read_provider(const Value& value, const SecretSource& secrets, Policy& policy, Provider& out) {
  value.section([&](Map& map) {
    const bool known = map.require("kind").word(out.kind, {{"exec", ProviderKind::kExec},
                                                           {"openai", ProviderKind::kOpenAi},
                                                           {"anthropic", ProviderKind::kAnthropic},
                                                           {"http", ProviderKind::kHttp},
                                                           {"sandbox", ProviderKind::kSandbox},
                                                           {"pull", ProviderKind::kPull}});
    read_use(map, out);
    KeySlots keys;
    if (known && is_remote(out.kind)) read_keys(map, secrets, out, keys);
    if (known && out.kind == ProviderKind::kExec) read_serve(map.at("serve"), out);
    read_pool(map, keys, policy, out);
    read_upstream(map, out);
    if (!known) {  // which keys belong here is not known either
      for (const KindKeys& kind :
           {kTasksOnly, kExecOnly, kUpstreamOnly, kHttpOnly, kSandboxOnly, kPullOnly}) {
        for (const char* key : kind.keys) map.at(key);
      }
      return;
    }
    switch (out.kind) {
      case ProviderKind::kExec:
        read_exec(map, out);
        return refuse_keys(map, {kUpstreamOnly, kHttpOnly, kSandboxOnly, kPullOnly});
      case ProviderKind::kOpenAi:
      case ProviderKind::kAnthropic:
        read_address(map, out);
        read_watch(map.at("watch"), out);
        return refuse_keys(map, {kTasksOnly, kExecOnly, kHttpOnly, kSandboxOnly, kPullOnly});
      case ProviderKind::kHttp:
        read_address(map, out);
        read_watch(map.at("watch"), out);
        read_http(map, out);
        return refuse_keys(map, {kExecOnly, kSandboxOnly, kPullOnly});
      case ProviderKind::kSandbox:
        read_sandbox(map, out);
        return refuse_keys(map, {kTasksOnly, kExecOnly, kUpstreamOnly, kHttpOnly, kPullOnly});
      case ProviderKind::kPull:
        read_pull(map, out);
        return refuse_keys(map, {kTasksOnly, kExecOnly, kUpstreamOnly, kHttpOnly, kSandboxOnly});
    }
  });
}

}  // namespace

namespace {

// The secret that `text` names, which is all of it. Nothing: it is not there (said unless `missing_ok`), or
// the text is no reference (said).
std::optional<std::string> secret_of(const Value& value, const SecretSource& secrets, std::string_view text,
                                     bool missing_ok, const char* what_to_write) {
  const auto env = reference_to(text, "${env:");
  const auto file = reference_to(text, "${file:");
  if (!env && !file) {
    value.mistake(what_to_write);
    return std::nullopt;
  }
  auto secret = env ? secrets.env(*env) : secrets.file(*file);
  // A file usually ends its line.
  while (secret && (secret->ends_with('\n') || secret->ends_with('\r'))) secret->pop_back();
  if (!secret || secret->empty()) {
    if (missing_ok) return std::nullopt;
    value.mistake(env ? fmt::format("environment variable {} is not set", *env)
                      : fmt::format("file {} is not there, not readable or empty", *file));
    return std::nullopt;
  }
  if (std::ranges::any_of(*secret,
                          [](char c) { return static_cast<unsigned char>(c) < 0x21 || c == 0x7f; })) {
    value.mistake("the secret contains a space or a control character, which no key has");
    return std::nullopt;
  }
  return secret;
}

}  // namespace

void read_secret(const Value& value, const SecretSource& secrets, bool missing_ok, Secret& out) {
  std::string text;
  if (!value.raw_text(text)) return;
  auto secret =
      secret_of(value, secrets, text, missing_ok,
                "write ${env:NAME} or ${file:PATH}: a secret never stands in the configuration itself");
  if (secret) out = Secret(std::move(*secret));
}

void read_secret_header(const Value& value, const SecretSource& secrets, Secret& out) {
  std::string text;
  if (!value.raw_text(text)) return;
  const std::size_t at = std::min(text.find("${"), text.size());
  if (std::ranges::any_of(text.substr(0, at), [](char c) { return c < ' ' || c > '~'; })) {
    value.mistake("before the secret only plain words may stand");
    return;
  }
  auto secret = secret_of(value, secrets, std::string_view(text).substr(at), false,
                          "write ${env:NAME} or ${file:PATH}, with words before it where they are wanted "
                          "(Bearer ${env:NAME}): a secret never stands in the configuration itself");
  if (secret) out = Secret(text.substr(0, at) + *secret);
}

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

}  // namespace turnpike::policy
