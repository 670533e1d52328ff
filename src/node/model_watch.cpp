#include "node/model_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "node/log.h"

namespace turnpike::node {
namespace asio = boost::asio;
namespace {

constexpr int kOk = 200;

std::unexpected<Error> not_now(const std::string& provider, std::string_view why) {
  return fail(ErrorCode::kConflict, fmt::format("provider {} {}: its lists are not read", provider, why));
}

// Of a family whose only label is the provider.
void append_family(std::string& out, std::string_view name, std::string_view type, std::string_view help,
                   const std::vector<WatchState>& states,
                   const std::function<std::uint64_t(const WatchState&)>& value) {
  if (states.empty()) return;
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  for (const WatchState& state : states)
    out += fmt::format("{}{{provider=\"{}\"}} {}\n", name, state.provider, value(state));
}

}  // namespace

std::vector<std::string> ModelWatch::due(Monotonic now) {
  if (until(now) > Duration{0}) return {};
  const policy::PolicyPtr policy = parts_.policy();
  const policy::OverlayPtr overlay = parts_.overlay();
  std::vector<std::string> names;
  const std::scoped_lock lock(mutex_);
  for (const auto& [name, provider] : policy->providers) {
    if (!provider.watch) continue;
    Kept& kept = kept_[name];
    if (kept.begun && now < kept.at + provider.watch->every) continue;
    kept.begun = true;
    kept.at = now;
    // What cannot be asked is not, and is no failure.
    if (key_for(provider, *overlay)) names.push_back(name);
  }
  return names;
}

Duration ModelWatch::until(Monotonic now) const {
  const policy::PolicyPtr policy = parts_.policy();
  Duration wait = kLookAgainMax;
  const std::scoped_lock lock(mutex_);
  for (const auto& [name, provider] : policy->providers) {
    if (!provider.watch) continue;
    const auto kept = kept_.find(name);
    if (kept == kept_.end() || !kept->second.begun) return Duration{0};
    wait = std::min(wait, kept->second.at + provider.watch->every - now);
  }
  return std::max(wait, Duration{0});
}

Result<std::string> ModelWatch::key_for(const policy::Provider& provider,
                                        const policy::Overlay& overlay) const {
  if (parts_.unavailable.contains(provider.name)) return not_now(provider.name, "was not there at the start");
  if (overlay.provider_paused(provider.name)) return not_now(provider.name, "is paused");
  if (provider.keys.empty()) return provider.api_key.reveal();
  const auto key = std::ranges::find_if(provider.keys, [&](const policy::ProviderKey& each) {
    return !overlay.key_paused(provider.name, each.name);
  });
  if (key == provider.keys.end()) return not_now(provider.name, "has only keys that are paused");
  return key->key.reveal();
}

asio::awaitable<Result<void>> ModelWatch::look(std::string provider) {
  const policy::PolicyPtr policy = parts_.policy();
  const auto found = policy->providers.find(provider);
  if (found == policy->providers.end() || !found->second.watch) {
    co_return fail(ErrorCode::kNotFound, fmt::format("the lists of provider {} are not watched", provider),
                   "provider");
  }
  auto key = key_for(found->second, *parts_.overlay());
  if (!key) co_return std::unexpected(std::move(key.error()));
  auto reading = read(provider, *found->second.watch, *std::move(key));
  Result<Looked> looked = co_await std::move(reading);
  if (!looked) {
    note(provider, looked, 0);
    co_return std::unexpected(std::move(looked.error()));
  }
  auto storing = parts_.store(*looked);
  const auto stored = co_await std::move(storing);
  if (!stored) co_return std::unexpected(stored.error());  // the node stops
  note(provider, looked, *stored);
  co_return Result<void>{};
}

asio::awaitable<Result<Looked>> ModelWatch::read(std::string provider, policy::ListWatch watch,
                                                 std::string key) {
  Looked looked{.provider = std::move(provider), .list = watch.list, .entries = {}};
  for (provider::ListAsk& each : provider::list_asks(watch, key)) {
    const policy::DiscoveryKind kind = each.kind;
    auto asking = ask(watch, std::move(each));
    auto answer = co_await std::move(asking);
    if (!answer) co_return std::unexpected(std::move(answer.error()));
    looked.left_out += answer->left_out;
    for (provider::ListEntry& entry : answer->entries) looked.entries.emplace_back(kind, std::move(entry));
  }
  co_return looked;
}

asio::awaitable<Result<provider::ListAnswer>> ModelWatch::ask(policy::ListWatch watch,
                                                              provider::ListAsk ask) {
  net::ClientRequest request;
  request.url = std::move(ask.url);
  request.headers = std::move(ask.headers);
  request.timeout = kAskTimeout;
  request.response_bytes_max = watch.bytes_max;
  auto sending = parts_.client->send(std::move(request));
  const auto response = co_await std::move(sending);
  if (!response) co_return std::unexpected(response.error());
  // What it says of its refusal may repeat the key.
  if (response->status != kOk)
    co_return fail(ErrorCode::kUpstreamError, fmt::format("it answered with status {}", response->status));
  Result<provider::ListAnswer> answer;
  auto work = [&] { answer = provider::parse_list(watch, ask.kind, response->body); };
  if (auto done = co_await parts_.readers.run(std::move(work)); !done)
    co_return std::unexpected(std::move(done.error()));
  co_return answer;
}

void ModelWatch::note(const std::string& provider, const Result<Looked>& looked, std::size_t found) {
  bool failed_before = false;
  {
    const std::scoped_lock lock(mutex_);
    WatchState& state = kept_[provider].state;
    failed_before = !state.error.empty();
    state.looked_at = parts_.clock.now().wall;
    ++state.looks;
    if (looked) {
      state.read_at = state.looked_at;
      state.error.clear();
      state.entries = looked->entries.size();
      state.left_out = looked->left_out;
      state.found += found;
    } else {
      ++state.failed;
      state.error = looked.error().message;
    }
  }
  if (!looked && !failed_before) {
    log_event(LogLevel::kWarn, "model_watch.failed",
              {{"provider", provider}, {"message", looked.error().message}, {"cause", looked.error().cause}});
  } else if (looked && failed_before) {
    log_event("model_watch.recovered", {{"provider", provider}});
  }
}

std::vector<WatchState> ModelWatch::states() const {
  const policy::PolicyPtr policy = parts_.policy();
  std::vector<WatchState> states;
  const std::scoped_lock lock(mutex_);
  for (const auto& [name, provider] : policy->providers) {
    if (!provider.watch) continue;
    const auto kept = kept_.find(name);
    WatchState& state = states.emplace_back(kept == kept_.end() ? WatchState{} : kept->second.state);
    state.provider = name;
  }
  return states;
}

std::string ModelWatch::metrics_text() const {
  const std::vector<WatchState> watched = states();
  std::string out;
  append_family(out, "turnpike_model_watch_looks_total", "counter", "Looks at a provider's lists of models",
                watched, [](const WatchState& state) { return state.looks; });
  append_family(out, "turnpike_model_watch_failures_total", "counter", "Looks that failed", watched,
                [](const WatchState& state) { return state.failed; });
  append_family(out, "turnpike_model_watch_failing", "gauge", "1 while the last look failed", watched,
                [](const WatchState& state) { return state.error.empty() ? 0U : 1U; });
  append_family(out, "turnpike_model_watch_discovered_total", "counter",
                "Entries of its lists that were new since the start", watched,
                [](const WatchState& state) { return state.found; });
  return out;
}

}  // namespace turnpike::node
