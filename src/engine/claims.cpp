// Work that workers claim: a pool of kind pull starts nothing but into a claim, in the order of every pool.

#include <fmt/format.h>

#include <algorithm>

#include "engine/state.h"

namespace turnpike::engine {
namespace {

constexpr std::chrono::seconds kClaimAgain{1};  // when to come back, where as many claims wait as may

void stand(Pool& pool, const NewClaim& claim) {
  if (claim.account) {
    pool.own_claims[claim.account].insert(claim.id);
  } else {
    pool.claims.insert(claim.id);
  }
}

void step_out(Pool& pool, const NewClaim& claim) {
  pool.claims.erase(claim.id);
  const auto own = pool.own_claims.find(claim.account);
  if (own == pool.own_claims.end()) return;
  own->second.erase(claim.id);
  if (own->second.empty()) pool.own_claims.erase(own);
}

}  // namespace

Result<void> Engine::State::claim(NewClaim claim, Timestamp now, Changes& out) {
  if (draining_) {
    auto error = fail(ErrorCode::kUnavailable, "the server is stopping; come back in a moment");
    error.error().retryable = true;
    error.error().retry_after = kClaimAgain;
    return error;
  }
  for (const std::string& name : claim.pools) {
    const Pool& pool = pool_named(name);
    if (!pool.pull)
      return fail(ErrorCode::kInvalidRequest, fmt::format("provider `{}` is not of kind pull", name),
                  "providers");
    if (claims_of(pool) < pool.claims_max) continue;
    auto error = fail(ErrorCode::kRateLimited,
                      fmt::format("{} claims wait for work of provider `{}`, as many as may "
                                  "(providers.{}.claims): come back later",
                                  pool.claims_max, name, name),
                      "providers");
    error.error().retryable = true;
    error.error().retry_after = kClaimAgain;
    return error;
  }
  for (const std::string& name : claim.pools) {
    Pool& pool = pool_named(name);
    stand(pool, claim);
    touch(pool);
  }
  claims_.emplace(claim.id, std::move(claim));
  finish(now, out);
  return {};
}

bool Engine::State::withdraw(ClaimId id) {
  const auto it = claims_.find(id);
  if (it == claims_.end()) return false;
  for (const std::string& name : it->second.pools) step_out(pool_named(name), it->second);
  claims_.erase(it);
  return true;
}

void Engine::State::shape_claims(Pool& pool) {
  const auto provider = policy_->providers.find(pool.name);
  pool.pull = provider != policy_->providers.end() && provider->second.kind == policy::ProviderKind::kPull &&
              provider->second.pool == pool.name;
  pool.claims_max = pool.pull ? provider->second.claims_max : 0;
  if (pool.pull) return;
  // They wait in their other pools, or for nothing, until they are withdrawn.
  pool.claims.clear();
  pool.own_claims.clear();
}

std::size_t Engine::State::claims_of(const Pool& pool) {
  std::size_t count = pool.claims.size();
  for (const auto& [account, own] : pool.own_claims) count += own.size();
  return count;
}

bool Engine::State::claimed(const Pool& pool, AccountId account) {
  return !pool.claims.empty() || pool.own_claims.contains(account);
}

// Whose turn it is, and the claim that its work goes to: one for the account alone before one for anybody, so
// that the other stays free for others. Where whoever is next finds no claim, those follow that do.
std::optional<Engine::State::Hand> Engine::State::next_hand(const Pool& pool) const {
  if (pool.claims.empty() && pool.own_claims.empty()) return std::nullopt;
  const auto next = pool.order.next(estimate_in(pool));
  if (!next) return std::nullopt;
  const auto own = pool.own_claims.find(next->account);
  if (own != pool.own_claims.end()) return Hand{.claim = *own->second.begin(), .pick = *next};
  if (!pool.claims.empty()) return Hand{.claim = *pool.claims.begin(), .pick = *next};
  for (const auto& [account, claims] : pool.own_claims) {
    if (const auto pick = pool.order.pick(account)) return Hand{.claim = *claims.begin(), .pick = *pick};
  }
  return std::nullopt;
}

void Engine::State::hand_out(Pool& pool, Timestamp now, Changes& out) {
  std::size_t moves = 0;
  while (const auto hand = next_hand(pool)) {
    if (!fill(pool, *hand, moves, now, out)) return;
  }
}

// As much of one account as its plan hands out at once, while the order still has it first.
bool Engine::State::fill(Pool& pool, Hand hand, std::size_t& moves, Timestamp now, Changes& out) {
  const AccountId account = hand.pick.account;
  const NewClaim& claim = claims_.at(hand.claim);
  const bool own = static_cast<bool>(claim.account);
  const std::uint32_t most = std::min(claim.most, find_account(account)->plan->limits.dispatch_batch);
  std::vector<std::size_t> given;  // places of its tries among the effects
  Passage passage = Passage::kStart;
  std::optional<Order::Pick> pick = hand.pick;
  while (pick && pick->account == account) {
    passage = begin_next(pool, *pick, moves, now, out);
    if (passage == Passage::kShut) break;
    if (passage == Passage::kStart) {
      std::size_t at = out.effects.size();
      while (!std::holds_alternative<StartTry>(out.effects[--at])) {
      }
      given.push_back(at);
      if (given.size() >= most) break;
    }
    pick = own ? pool.order.pick(account) : pool.order.next(estimate_in(pool));
  }
  for (const std::size_t at : given) {
    auto& start = std::get<StartTry>(out.effects[at]);
    start.claim = hand.claim;
    start.claimed = static_cast<std::uint32_t>(given.size());
  }
  if (!given.empty()) withdraw(hand.claim);
  return passage != Passage::kShut;
}

}  // namespace turnpike::engine
