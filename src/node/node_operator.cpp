// What the operator decides beside the policy: one value, changed in a turn, kept as one row.
#include <utility>

#include "node/log.h"
#include "node/node_impl.h"
#include "policy/overlay_json.h"

namespace turnpike::node {

policy::OverlayPtr NodeImpl::read_overlay(const std::optional<journal::OverlayRow>& row) {
  if (row) {
    auto overlay = policy::overlay_from_json(row->text);
    if (overlay) return std::make_shared<const policy::Overlay>(std::move(*overlay));
    log_event(LogLevel::kError, "overlay.unreadable", {{"message", overlay.error().message}});
  }
  return std::make_shared<const policy::Overlay>();
}

policy::OverlayPtr NodeImpl::overlay() {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().overlay();
}

engine::Canaries NodeImpl::canaries() {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().canaries();
}

asio::awaitable<Result<policy::OverlayPtr>> NodeImpl::decide(OperatorDecision decision) {
  policy::OverlayPtr decided;
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    engine::Engine& engine = turn.engine();
    policy::Overlay overlay = *engine.overlay();
    if (auto changed = decision.change(overlay, *engine.policy()); !changed)
      co_return std::unexpected(std::move(changed.error()));
    if (auto sound = policy::check_overlay(*engine.policy(), overlay); !sound)
      co_return std::unexpected(std::move(sound.error()));
    decided = std::make_shared<const policy::Overlay>(std::move(overlay));
    if (*decided != *engine.overlay()) {
      const std::string text = policy::overlay_json(*decided);
      turn.record(
          journal::OverlayRow{.text = text, .changed_at = turn.now().wall, .changed_by = decision.by});
      turn.record(journal::AuditRow{.at = turn.now().wall,
                                    .actor = decision.by,
                                    .action = decision.action,
                                    .subject = decision.subject,
                                    .detail = policy::decision_json(decision.reason, text)});
      engine.set_overlay(decided, turn.now(), turn.changes());
    }
    batch = turn.seal();
  }
  if (!co_await loop_->committed(batch)) co_return stopping();
  log_event("operator.decided",
            {{"action", decision.action}, {"subject", decision.subject}, {"by", decision.by}});
  co_return decided;
}

asio::awaitable<void> NodeImpl::roll_back(engine::CanaryFailed failed) {
  OperatorDecision decision{.change =
                                [id = failed.canary](policy::Overlay& overlay, const policy::Policy& policy) {
                                  return policy::end_canary(policy, overlay, id,
                                                            policy::VersionStatus::kUnverified);
                                },
                            .by = "canary:" + failed.canary,
                            .action = "canary.rolled_back",
                            .subject = failed.canary,
                            .reason = failed.why};
  auto deciding = decide(std::move(decision));
  const auto decided = co_await std::move(deciding);
  log_event(LogLevel::kWarn, "canary.rolled_back",
            {{"canary", failed.canary}, {"why", failed.why}, {"done", decided.has_value()}});
}

}  // namespace turnpike::node
