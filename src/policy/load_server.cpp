// The sections server, store, webhooks, pictures and accounts.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "policy/load_parts.h"
#include "policy/nearest.h"
#include "policy/numbers.h"

namespace turnpike::policy {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::size_t kOriginsMax = 64;

struct Listen {
  std::string host;
  bool loopback = false;
};

// HOST:PORT with HOST an IPv4 address, an IPv6 address in brackets or localhost.
std::optional<Listen> parse_listen(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = parse_whole(text.substr(colon + 1));
  if (!port || *port > std::numeric_limits<std::uint16_t>::max()) return std::nullopt;
  std::string host{text.substr(0, colon)};
  if (host == "localhost") return Listen{host, true};
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return Listen{host, (ntohl(v4.s_addr) >> 24) == 127};
  if (!host.starts_with('[') || !host.ends_with(']')) return std::nullopt;
  host = host.substr(1, host.size() - 2);
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return std::nullopt;
  return Listen{host, IN6_IS_ADDR_LOOPBACK(&v6) != 0};
}

void read_listen(Map& server, Server& out) {
  server.at("allow_public").flag(out.allow_public);
  const Value listen = server.at("listen");
  if (!listen.text(out.listen)) return;
  const auto parsed = parse_listen(out.listen);
  if (!parsed) {
    listen.mistake("must be ADDRESS:PORT, e.g. 127.0.0.1:8080, [::1]:8080 or localhost:8080");
  } else if (!parsed->loopback && !out.allow_public) {
    listen.mistake(
        "is not a loopback address: others could reach the server. Write 127.0.0.1:PORT, or "
        "server.allow_public: "
        "true if that is meant");
  }
}

void read_slots(Map& server, Policy& policy) {
  server.at("slots").each([&](const std::string& name, const Value& value) {
    Pool& pool = policy.pools[name];
    pool.name = name;
    value.whole(pool.slots, 1, kSlotsMax);
  });
  server.at("headroom").each([&](const std::string& name, const Value& value) {
    const auto pool = policy.pools.find(name);
    if (pool == policy.pools.end()) {
      value.mistake(fmt::format("unknown pool `{}` (pools are named in server.slots): {}", name,
                                suggestion(name, keys_of(policy.pools))));
      return;
    }
    if (!value.whole(pool->second.headroom, 0, kSlotsMax)) return;
    if (pool->second.headroom >= pool->second.slots) {
      value.mistake(
          fmt::format("must be less than the pool's slots ({}): classes standard and low could never run",
                      pool->second.slots));
    }
  });
}

// "https://app.example:8443": a scheme, a host and perhaps a port, as browsers write an origin.
bool is_origin(std::string_view text) {
  const std::string_view scheme = text.starts_with("https://")  ? "https://"
                                  : text.starts_with("http://") ? "http://"
                                                                : "";
  const std::string_view host = text.substr(scheme.size());
  return !scheme.empty() && !host.empty() && std::ranges::all_of(host, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == ':' || c == '[' ||
           c == ']';
  });
}

void read_origins(const Value& origins, Server& out) {
  origins.list([&](const Value& item) {
    std::string origin;
    if (!item.text(origin)) return;
    if (origin != "*" && !is_origin(origin)) {
      item.mistake(
          "must be an origin in lower case, such as https://app.example or http://localhost:3000, or \"*\"");
    }
    if (out.origins.size() == kOriginsMax) item.mistake(fmt::format("at most {} origins", kOriginsMax));
    out.origins.push_back(std::move(origin));
  });
}

}  // namespace

void read_server(const Value& value, Policy& policy) {
  Server& out = policy.server;
  value.section([&](Map& server) {
    read_listen(server, out);
    read_slots(server, policy);
    server.at("tls").section([&](Map& tls) {
      out.tls.emplace();
      tls.require("certificate").text(out.tls->certificate_file);
      tls.require("key").text(out.tls->key_file);
    });
    server.at("limits").section([&](Map& limits) {
      limits.at("connections").whole(out.connections_max, 1, 1'000'000);
      std::uint64_t header_bytes = out.header_bytes_max;
      limits.at("header_bytes").bytes(header_bytes, 1U << 10, 1U << 20);
      out.header_bytes_max = static_cast<std::uint32_t>(header_bytes);
      limits.at("body_bytes").bytes(out.body_bytes_max, 1U << 10, 64U << 20);
      limits.at("sockets").whole(out.sockets_max, 0, 1'000'000);
      limits.at("sockets_per_account").whole(out.sockets_per_account, 0, 1'000'000);
      limits.at("socket_subscriptions").whole(out.socket_subscriptions_max, 1, 10'000);
      limits.at("socket_message_bytes").bytes(out.socket_message_bytes_max, 1U << 10, 1U << 20);
    });
    read_origins(server.at("origins"), out);
    server.at("idle_timeout").duration(out.idle_timeout, seconds(1), hours(1));
    server.at("read_timeout").duration(out.read_timeout, seconds(1), hours(1));
    server.at("drain_timeout").duration(out.drain_timeout, seconds(0), hours(1));
  });
}

void read_store(const Value& value, Policy& policy) {
  Store& out = policy.store;
  value.section([&](Map& store) {
    const Value kind = store.at("kind");
    if (kind.is_word("postgres")) {
      kind.mistake("`postgres` is not there yet in this version: write `sqlite`");
    } else {
      bool sqlite = true;
      kind.word(sqlite, {{"sqlite", true}});
    }
    store.at("retention").section([&](Map& retention) {
      retention.at("jobs").duration(out.keep_jobs, minutes(1), days(3650));
      const Value artifacts = retention.at("artifacts");
      if (!artifacts.duration(out.keep_artifacts, minutes(1), days(3650))) {
        out.keep_artifacts = std::max(out.keep_artifacts, out.keep_jobs);
      } else if (out.keep_artifacts < out.keep_jobs) {
        artifacts.mistake(
            fmt::format("must be at least as long as store.retention.jobs ({}): a kept job's files "
                        "are kept with it",
                        duration_text(out.keep_jobs)));
      }
      retention.at("events").duration(out.keep_events, minutes(1), days(365));
    });
  });
}

void read_webhooks(const Value& value, Policy& policy) {
  constexpr std::size_t kRetriesMax = 20;
  Webhooks& out = policy.webhooks;
  value.section([&](Map& webhooks) {
    webhooks.at("allow_private").flag(out.allow_private);
    webhooks.at("allow_http").flag(out.allow_http);
    webhooks.at("timeout").duration(out.timeout, seconds(1), minutes(1));
    webhooks.at("endpoints_per_account").whole(out.endpoints_per_account, 0, 100);
    const Value retry = webhooks.at("retry");
    if (!retry.present()) return;
    out.retry.clear();
    retry.list([&](const Value& item) {
      Duration wait{};
      if (item.duration(wait, std::chrono::milliseconds(10), hours(24))) out.retry.push_back(wait);
    });
    if (out.retry.size() > kRetriesMax) retry.mistake(fmt::format("must be at most {} waits", kRetriesMax));
  });
}

void read_pictures(const Value& value, Policy& policy) {
  Pictures& out = policy.pictures;
  value.section([&](Map& pictures) {
    pictures.at("allow_private").flag(out.allow_private);
    pictures.at("timeout").duration(out.timeout, seconds(1), minutes(5));
    pictures.at("edge").whole(out.edge_max, 1, 1'000'000);
    pictures.at("pixels").whole(out.pixels_max, 1, 100'000'000'000);
  });
}

void read_accounts(const Value& value, Policy& policy) {
  Accounts& out = policy.accounts;
  value.section([&](Map& accounts) {
    const Value plan = accounts.require("default_plan");
    if (plan.name(out.default_plan) && !policy.plans.contains(out.default_plan)) {
      plan.mistake(fmt::format("unknown plan `{}`: {}", out.default_plan,
                               suggestion(out.default_plan, keys_of(policy.plans))));
    }
    read_account_zone(accounts.at("time_zone"), policy);
    accounts.at("anonymous_per_minute").whole(out.anonymous_per_minute, 1, 60'000);
    accounts.at("tier_from").word(out.tier_from_request, {{"request", true}, {"none", false}});
  });
}

}  // namespace turnpike::policy
