// Accounts: who they are, what applies to them, what they use, and what they were refused.
#include <fmt/format.h>

#include <utility>

#include "base/json_escape.h"
#include "node/node_impl.h"

namespace turnpike::node {
namespace {

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || c == '"' || c == '\\' ? json_escape(byte) : std::string(1, c);
  }
  return out + "\"";
}

// What an operator may change of an account, as JSON.
std::string terms_json(const engine::AccountRow& row) {
  std::string grants;
  for (const engine::Grant& grant : row.grants) {
    const std::string of = grant.meter             ? policy::meter_name(*grant.meter).name
                           : grant.content.empty() ? "cost_nano_usd"
                                                   : grant.content;
    grants +=
        fmt::format(R"({}{{"id":"{}","of":"{}","amount":{},"spent":{},"expires_at":{}}})",
                    grants.empty() ? "" : ",", to_string(grant.id), of, grant.amount, grant.spent,
                    grant.expires_at == kNever ? "null" : fmt::to_string(unix_seconds(grant.expires_at)));
  }
  return fmt::format(R"({{"plan":{},"overrides":{},"team":{},"time_zone":{},"anchor_at":{},"grants":[{}]}})",
                     json_text(row.plan), json_text(row.overrides), json_text(row.team),
                     json_text(row.time_zone),
                     row.anchor_at == kNever ? "null" : fmt::to_string(unix_seconds(row.anchor_at)), grants);
}

// A rate is held by nobody: it comes back with time.
bool work_may_hold(const LimitReached* limit) {
  return limit != nullptr && (limit->held != "0" || limit->meter == "concurrent_calls");
}

}  // namespace

asio::awaitable<Result<engine::Engine::EnsuredAccount>> NodeImpl::ensure_account(std::string user_id,
                                                                                 std::string plan,
                                                                                 bool set_plan,
                                                                                 std::string actor) {
  Result<engine::Engine::EnsuredAccount> ensured;
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    const engine::AccountRow* known = turn.engine().account_by_user(user_id);
    const AccountId fresh{known == nullptr ? turn.fresh_id() : 0};
    ensured = turn.engine().ensure_account(user_id, fresh, plan, set_plan, turn.now(), turn.changes(), actor);
    if (!ensured) co_return ensured;
    batch = turn.seal();
    if (!turn.account_pending(ensured->row.id)) co_return ensured;
  }
  if (!co_await loop_->committed(batch)) co_return stopping();
  co_return ensured;
}

asio::awaitable<Result<engine::AccountRow>> NodeImpl::change_account(AccountId id,
                                                                     engine::Engine::AccountChange change,
                                                                     std::string reason) {
  Result<engine::AccountRow> changed;
  engine::Batch batch = 0;
  {
    CommitLoop::Turn turn(*loop_);
    const engine::AccountRow* known = turn.engine().account(id);
    const std::string before = known != nullptr ? terms_json(*known) : std::string();
    const std::string actor = change.by;
    if (change.grant) change.grant->id = GrantId{turn.fresh_id()};
    changed = turn.engine().change_account(id, std::move(change), turn.now(), turn.changes());
    if (!changed) co_return changed;
    turn.record(journal::AuditRow{.at = turn.now().wall,
                                  .actor = actor,
                                  .action = "account.changed",
                                  .subject = to_string(id),
                                  .detail = fmt::format(R"({{"from":{},"to":{},"reason":{}}})", before,
                                                        terms_json(*changed), json_text(reason))});
    batch = turn.seal();
  }
  if (!co_await loop_->committed(batch)) co_return stopping();
  co_return changed;
}

std::optional<engine::AccountRow> NodeImpl::account(AccountId id) {
  CommitLoop::Turn turn(*loop_);
  const engine::AccountRow* row = turn.engine().account(id);
  return row == nullptr ? std::nullopt : std::optional(*row);
}

std::optional<engine::AccountRow> NodeImpl::account_by_user(std::string_view user_id) {
  CommitLoop::Turn turn(*loop_);
  const engine::AccountRow* row = turn.engine().account_by_user(user_id);
  return row == nullptr ? std::nullopt : std::optional(*row);
}

std::vector<engine::AccountRow> NodeImpl::accounts(AccountId starting_after, std::size_t limit) {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().accounts(starting_after, limit);
}

policy::Plan NodeImpl::plan_of(AccountId id) {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().plan_of(id);
}

engine::UsageView NodeImpl::usage(AccountId id) {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().usage(id, turn.now());
}

std::optional<engine::UsageView> NodeImpl::team_usage(std::string_view team) {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().team_usage(team, turn.now());
}

engine::UsageView NodeImpl::platform_usage() {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().platform_usage(turn.now());
}

engine::RateView NodeImpl::rates(AccountId id) {
  CommitLoop::Turn turn(*loop_);
  return turn.engine().rates(id, turn.now());
}

std::string NodeImpl::overrides_mistake(AccountId id) {
  CommitLoop::Turn turn(*loop_);
  return std::string(turn.engine().overrides_mistake(id));
}

void NodeImpl::note_refusal(Refusal refusal) {
  {
    CommitLoop::Turn turn(*loop_);
    refusal.plan = turn.engine().plan_of(refusal.account).name;
    if (work_may_hold(refusal.limit.get()) && looks_.may_look(turn.now().mono)) {
      engine::Holders holders =
          turn.engine().holders(refusal.account, Refusals::kHoldersMax, refusal.limit->meter);
      looks_.looked(holders.looked_at);
      refusal.held_by = std::move(holders.most);
    }
  }
  metrics_.refused(refusal);
  refusals_.keep(std::move(refusal));
}

std::shared_ptr<const Refusal> NodeImpl::refusal(std::string_view request_id,
                                                 std::optional<AccountId> account) {
  return refusals_.find(request_id, account, clock_->now().wall);
}

}  // namespace turnpike::node
