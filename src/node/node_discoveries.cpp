// What providers' lists have: what of it is new becomes rows, events and versions that wait for the operator.
#include <algorithm>
#include <utility>

#include "node/log.h"
#include "node/node_impl.h"
#include "policy/event_json.h"

namespace turnpike::node {
namespace {

// Kept of one provider; beyond, new entries are left out and the log says so.
constexpr std::size_t kDiscoveriesMax = 10'000;
constexpr const char* kActor = "watch";  // in the audit

}  // namespace

void NodeImpl::recall(std::vector<journal::DiscoveryRow> rows) {
  const std::scoped_lock lock(discoveries_mutex_);
  for (journal::DiscoveryRow& row : rows) {
    discovered_.emplace(row.found.provider, row.found.kind, row.found.id);
    ++discovered_of_[row.found.provider];
    discoveries_.push_back(std::move(row.found));
  }
}

policy::PolicyPtr NodeImpl::discovered_in(policy::PolicyPtr policy) const {
  const std::scoped_lock lock(discoveries_mutex_);
  return policy::with_discovered(std::move(policy), discoveries_);
}

std::vector<policy::Discovery> NodeImpl::discoveries() {
  const std::scoped_lock lock(discoveries_mutex_);
  return discoveries_;
}

std::unique_ptr<ModelWatch> NodeImpl::make_watch() {
  ModelWatchParts parts{.readers = readers_,
                        .clock = *clock_,
                        .client = options_.list_client ? options_.list_client : net::Client::create(),
                        .policy = [this] { return policy(); },
                        .overlay = [this] { return overlay(); },
                        .unavailable = options_.unavailable_providers,
                        .store = [this](Looked looked) { return store_looked(std::move(looked)); }};
  return std::make_unique<ModelWatch>(std::move(parts));
}

asio::awaitable<void> NodeImpl::look_due(std::string provider) {
  auto looking = watch_->look(std::move(provider));
  co_await std::move(looking);  // what came of it is in the watch's state and the log
}

asio::awaitable<Result<void>> NodeImpl::look(std::string provider) {
  std::vector<std::string> names;
  if (provider.empty()) {
    for (const WatchState& state : watch_->states()) names.push_back(state.provider);
  } else {
    names.push_back(provider);
  }
  for (std::string& name : names) {
    auto looking = watch_->look(std::move(name));
    auto looked = co_await std::move(looking);
    if (looked) continue;
    const ErrorCode code = looked.error().code;
    const bool told = code == ErrorCode::kUpstreamError || code == ErrorCode::kUpstreamTimeout;
    const bool passed_over = provider.empty() && code == ErrorCode::kConflict;
    if (!told && !passed_over) co_return looked;
  }
  co_return Result<void>{};
}

// Under both mutexes. Takes what is new as known.
std::vector<policy::Discovery> NodeImpl::fresh_in(const Looked& looked, Wall now) {
  std::vector<policy::Discovery> fresh;
  const policy::PolicyPtr policy = this->policy();
  std::size_t& kept = discovered_of_[looked.provider];
  for (const auto& [kind, entry] : looked.entries) {
    if (kind == policy::DiscoveryKind::kModel && policy::in_file(*policy, looked.provider, entry.id))
      continue;
    if (kept >= kDiscoveriesMax) {
      log_event(LogLevel::kWarn, "model_watch.full",
                {{"provider", looked.provider}, {"entries_max", kDiscoveriesMax}});
      break;
    }
    if (!discovered_.emplace(looked.provider, kind, entry.id).second) continue;
    ++kept;
    fresh.push_back({.provider = looked.provider,
                     .kind = kind,
                     .id = entry.id,
                     .name = entry.name,
                     .released = entry.released,
                     .found_at = now});
  }
  return fresh;
}

// What a list had when it was first read is no news, unless it is a version of a model of ours.
void NodeImpl::announce(CommitLoop::Turn& turn, const std::vector<policy::Discovery>& fresh,
                        const policy::Policy& policy, bool first_look) const {
  for (const policy::Discovery& found : fresh) {
    const auto place = policy::place_of(policy, found);
    if (!place && first_look) continue;
    std::string text = policy::discovered_json(found, place);
    turn.record(journal::AuditRow{
        .at = turn.now().wall,
        .actor = kActor,
        .action = "model.discovered",
        .subject = place ? place->model + "@" + place->version : found.provider + "/" + found.id,
        .detail = text});
    turn.changes().events.push_back(engine::Event{.type = engine::EventType::kModelDiscovered,
                                                  .at = turn.now().wall,
                                                  .account = {},
                                                  .job = {},
                                                  .text = std::move(text)});
  }
}

asio::awaitable<Result<std::size_t>> NodeImpl::store_looked(Looked looked) {
  std::vector<policy::Discovery> fresh;
  bool first_look = false;
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    policy::PolicyPtr after;
    {
      const std::scoped_lock lock(discoveries_mutex_);
      policy::Discovery list{.provider = looked.provider,
                             .kind = policy::DiscoveryKind::kList,
                             .id = policy::list_kind_name(looked.list),
                             .name = {},
                             .found_at = turn.now().wall};
      first_look = discovered_.emplace(list.provider, list.kind, list.id).second;
      fresh = fresh_in(looked, turn.now().wall);
      std::vector<policy::Discovery> rows = fresh;
      if (first_look) rows.insert(rows.begin(), std::move(list));
      for (policy::Discovery& row : rows) {
        discoveries_.push_back(std::move(row));
        turn.record(journal::DiscoveryRow{.number = discoveries_.size(), .found = discoveries_.back()});
      }
      after = policy();
      const bool models = std::ranges::any_of(
          fresh, [](const auto& each) { return each.kind == policy::DiscoveryKind::kModel; });
      if (models) after = policy::with_discovered(std::move(after), discoveries_);
    }
    if (after != policy()) {
      const std::uint64_t version = policy_version();
      turn.engine().apply(after, version, price_version_, turn.now(), turn.changes());
      put_in_force(after, version, price_version_);
    }
    announce(turn, fresh, *after, first_look);
    batch = turn.seal();
  }
  if (!co_await loop_->committed(batch)) co_return stopping();
  if (!fresh.empty() || first_look) {
    log_event("model_watch.discovered",
              {{"provider", looked.provider}, {"entries", fresh.size()}, {"first_look", first_look}});
  }
  co_return fresh.size();
}

}  // namespace turnpike::node
