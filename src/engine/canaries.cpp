#include "engine/canaries.h"

#include <fmt/format.h>

#include <algorithm>

namespace turnpike::engine {
namespace {

using Wide = __int128;

constexpr std::uint32_t kTail = 900;  // permille: latency is compared at the ninth of ten

std::uint64_t permille(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : part * 1000 / whole;
}

}  // namespace

void Canaries::follow(const policy::Overlay& overlay) {
  std::map<std::string, policy::Canary, std::less<>> terms;
  for (const policy::Canary& canary : overlay.canaries) terms.emplace(canary.id, canary);
  std::erase_if(books_, [&](const auto& book) {
    const auto before = terms_.find(book.first);
    const auto now = terms.find(book.first);
    return before == terms_.end() || now == terms.end() || before->second.model != now->second.model ||
           before->second.candidate != now->second.candidate ||
           before->second.baseline != now->second.baseline;
  });
  for (const auto& [id, canary] : terms) books_.try_emplace(id);
  terms_ = std::move(terms);
}

void Canaries::completed(std::string_view id, bool candidate, Duration took, Money cost) {
  const auto found = books_.find(id);
  if (found == books_.end()) return;
  CanarySide& side = candidate ? found->second.candidate : found->second.baseline;
  ++side.tries;
  side.took.add(took);
  side.cost += cost;
}

void Canaries::failed(std::string_view id, bool candidate) {
  const auto found = books_.find(id);
  if (found == books_.end()) return;
  CanarySide& side = candidate ? found->second.candidate : found->second.baseline;
  ++side.tries;
  ++side.failed;
}

std::optional<std::string> Canaries::judge(std::string_view id) {
  const auto found = books_.find(id);
  const auto terms = terms_.find(id);
  if (found == books_.end() || terms == terms_.end() || found->second.judged) return std::nullopt;
  const policy::CanaryGuard& guard = terms->second.guard;
  const auto& [baseline, candidate, judged] = found->second;
  if (guard.tries_min == 0 || candidate.tries < guard.tries_min) return std::nullopt;
  const auto is_worse = [&](std::string why) {
    found->second.judged = true;
    return std::optional(std::move(why));
  };
  const std::uint64_t errors = permille(candidate.failed, candidate.tries);
  const std::uint64_t usual = permille(baseline.failed, baseline.tries);
  if (errors > usual + guard.errors_permille) {
    return is_worse(fmt::format("{} of {} tries of {} failed, of {} {} of {}", candidate.failed,
                                candidate.tries, terms->second.candidate, terms->second.baseline,
                                baseline.failed, baseline.tries));
  }
  // Time and cost are compared only where there is something to compare with.
  if (candidate.completed() < guard.tries_min || baseline.completed() < guard.tries_min) return std::nullopt;
  const Duration slow = candidate.took.percentile(kTail);
  const Duration pace = baseline.took.percentile(kTail);
  if (guard.latency_permille > 0 && Wide{slow.count()} * 1000 > Wide{pace.count()} * guard.latency_permille) {
    return is_worse(fmt::format("nine of ten tries of {} end within {} ms, of {} within {} ms",
                                terms->second.candidate, slow.count() / 1000, terms->second.baseline,
                                pace.count() / 1000));
  }
  const Wide dear = Wide{candidate.cost.nanos} * static_cast<Wide>(baseline.completed()) * 1000;
  const Wide usual_cost = Wide{baseline.cost.nanos} * static_cast<Wide>(candidate.completed());
  if (guard.cost_permille > 0 && dear > usual_cost * guard.cost_permille) {
    return is_worse(fmt::format("{} tries of {} cost {} USD, {} of {} {} USD", candidate.completed(),
                                terms->second.candidate, to_string(candidate.cost), baseline.completed(),
                                terms->second.baseline, to_string(baseline.cost)));
  }
  return std::nullopt;
}

}  // namespace turnpike::engine
