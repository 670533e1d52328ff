// Alerts as the node tells of them: what is looked at, and what becomes of a change.
#include <filesystem>
#include <utility>

#include "node/log.h"
#include "node/node_impl.h"

namespace turnpike::node {
namespace {

constexpr std::size_t kRecalledMax = 1'000;  // of the newest alerts that are read at the start

// Permille of the disk under `folder` that is not to be had any more; 0 where that is not known.
std::int64_t used_permille(const std::filesystem::path& folder) {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  if (error || space.capacity == 0 || space.available > space.capacity) return 0;
  return static_cast<std::int64_t>(static_cast<double>(space.capacity - space.available) * 1'000 /
                                   static_cast<double>(space.capacity));
}

}  // namespace

// What was raised before this start, and not cleared, as far as the newest kRecalledMax alerts say.
void NodeImpl::recall_alerts() {
  const auto newest = journal_->alerts({}, kRecalledMax);
  if (!newest) {
    log_event(LogLevel::kError, "alerts.unread", {{"message", newest.error().message}});
    return;
  }
  std::set<std::string> seen;
  for (const journal::StoredEvent& stored : *newest) {
    const bool raised = stored.event.type == engine::EventType::kAlertRaised;
    if (!raised && stored.event.type != engine::EventType::kAlertCleared) continue;
    const std::string name = alert_named_in(stored.event.text);
    if (!name.empty() && seen.insert(name).second && raised)
      alerts_->recall(stored.event.text, stored.event.at);
  }
}

void NodeImpl::look_at_alerts(Timestamp now) {
  if (!alerts_->any() || draining()) return;
  Alerts::Gauges gauges{.storage_permille = used_permille(options_.data_dir), .upstreams_down = {}};
  CommitLoop::Turn turn(*loop_);
  const engine::Engine::Stats stats = turn.engine().stats();
  gauges.queued = stats.queued;
  for (const auto& pool : stats.pools) {
    if (pool.breaker_open) gauges.upstreams_down.push_back(pool.name);
  }
  for (const AlertChange& change : alerts_->look(gauges, now)) {
    std::string text = alert_json(change);
    log_event(change.raised ? LogLevel::kWarn : LogLevel::kInfo,
              change.raised ? "alert.raised" : "alert.cleared",
              {{"alert", alert_named_in(text)}, {"detail", text}});
    turn.changes().events.push_back(engine::Event{
        .type = change.raised ? engine::EventType::kAlertRaised : engine::EventType::kAlertCleared,
        .at = now.wall,
        .account = {},
        .job = {},
        .text = std::move(text)});
  }
}

}  // namespace turnpike::node
