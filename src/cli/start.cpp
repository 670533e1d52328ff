#include "cli/start.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/use_future.hpp>
#include <chrono>
#include <cstdlib>
#include <future>
#include <utility>

#include "api/crypto.h"
#include "node/log.h"
#include "provider/provider.h"

namespace turnpike::cli {
namespace {

namespace asio = boost::asio;

constexpr std::chrono::seconds kProbeTimeout{2};
constexpr std::size_t kKeyShort = 24;  // fewer characters are warned of
constexpr std::size_t kKeyMax = 256;

asio::awaitable<Result<void>> probe(std::shared_ptr<provider::Provider> provider) {
  auto probing = provider->probe(kProbeTimeout);
  co_return co_await std::move(probing);
}

bool visible(std::string_view key) {
  return std::ranges::all_of(key, [](char c) { return c > ' ' && c < 0x7f; });
}

Result<void> store_admin_key(node::Node& node, api::KeyStore& keys, net::IoThreads& threads,
                             std::string_view secret, std::string name) {
  journal::KeyRow key;
  key.id = KeyId{node.fresh_id()};
  key.hash = api::sha256(secret);
  key.role = journal::Role::kAdmin;
  key.name = std::move(name);
  key.created_at = node.now().wall;
  std::vector<journal::Record> records;
  records.emplace_back(key);
  records.emplace_back(journal::AuditRow{.at = key.created_at,
                                         .actor = "start",
                                         .action = "key.created",
                                         .subject = to_string(key.id),
                                         .detail = "{\"role\":\"admin\"}"});
  auto stored = asio::co_spawn(threads.context(0), node.store(std::move(records)), asio::use_future).get();
  if (stored) keys.put(std::move(key));
  return stored;
}

// Of the newest version that is served at all.
const policy::ModelRoute* first_there(const policy::Model& model, const std::set<std::string>& missing) {
  for (const policy::ModelVersion& version : model.versions) {
    if (version.status == policy::VersionStatus::kRetired ||
        version.status == policy::VersionStatus::kDiscovered)
      continue;
    for (const policy::ModelRoute& route : version.routes) {
      if (!missing.contains(route.provider)) return &route;
    }
  }
  return nullptr;
}

}  // namespace

void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);  // where this is refused, the limit that was there holds
}

bool is_loopback(std::string_view listen) {
  std::string host(listen.substr(0, listen.rfind(':')));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host == "localhost") return true;
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(host, ec);
  return !ec && address.is_loopback();
}

std::set<std::string> missing_providers(const policy::Policy& policy, net::IoThreads& threads,
                                        std::vector<std::string>& reasons) {
  using Use = policy::Provider::Use;
  std::set<std::string> missing;
  std::vector<std::pair<std::string, std::future<Result<void>>>> asked;
  std::vector<std::string> warnings;  // of providers made for a look only; the node warns of those that serve
  for (const auto& [name, config] : policy.providers) {
    if (config.use == Use::kAlways) continue;
    if (config.use == Use::kIfKey) {
      if (config.has_key()) continue;
      missing.insert(name);
      reasons.push_back(fmt::format("{}: it has no api_key", name));
      continue;
    }
    std::shared_ptr<provider::Provider> provider = provider::make_provider(config, warnings);
    asked.emplace_back(name,
                       asio::co_spawn(threads.context(0), probe(std::move(provider)), asio::use_future));
  }
  for (auto& [name, answer] : asked) {
    const auto reachable = answer.get();
    if (reachable) continue;
    missing.insert(name);
    reasons.push_back(fmt::format("{}: {}", name, reachable.error().message));
  }
  return missing;
}

std::vector<std::string> serving_lines(const policy::Policy& policy, const std::set<std::string>& missing) {
  std::vector<std::string> lines;
  std::set<std::string> told;
  for (const auto& name : policy.model_order) {
    const auto found = policy.models.find(name);
    if (found == policy.models.end() || !told.insert(found->second.task).second) continue;
    const policy::ModelRoute* serving = first_there(found->second, missing);
    lines.push_back(serving == nullptr
                        ? fmt::format("{}: nobody (no provider of {} is there)", found->second.task, name)
                        : fmt::format("{}: {} (model {})", found->second.task, serving->provider, name));
  }
  return lines;
}

Result<std::string> ensure_admin_key(node::Node& node, api::KeyStore& keys, net::IoThreads& threads) {
  const char* given = std::getenv("TURNPIKE_ADMIN_KEY");
  if (given != nullptr && *given != '\0') {
    const std::string_view key(given);
    if (key.size() > kKeyMax || !visible(key)) {
      return fail(ErrorCode::kConfiguration,
                  fmt::format("TURNPIKE_ADMIN_KEY must be 1 to {} visible characters", kKeyMax));
    }
    if (key.size() < kKeyShort) {
      node::log_event(node::LogLevel::kWarn, "key.short",
                      {{"message", "TURNPIKE_ADMIN_KEY is short enough to be guessed: use a longer one"}});
    }
    if (keys.knows_hash(api::sha256(given))) return std::string();
    auto stored = store_admin_key(node, keys, threads, given, "TURNPIKE_ADMIN_KEY");
    if (!stored) return std::unexpected(std::move(stored.error()));
    return std::string();
  }
  if (keys.has_usable_admin(node.now().wall)) return std::string();
  std::string secret = api::make_key_secret();
  auto stored = store_admin_key(node, keys, threads, secret, "first admin");
  if (!stored) return std::unexpected(std::move(stored.error()));
  return secret;
}

}  // namespace turnpike::cli
