// How tries end, and time.
#include <algorithm>

#include "simulation/gateway.h"
#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::Changes;
using policy::FailureClass;
using policy::Meter;
using std::chrono::milliseconds;
using std::chrono::seconds;

// --- Tries

engine::Usage Gateway::some_usage(const policy::Amounts& held) {
  engine::Usage usage;
  for (const Meter meter : {Meter::kInputTokens, Meter::kOutputTokens, Meter::kCharacters, Meter::kVideoMs}) {
    if (held[meter] == 0) continue;
    usage.emplace_back(policy::meter_name(meter).usage,
                       random_.between(0, held[meter] * (random_.chance(50) ? 2 : 1)));
  }
  return usage;
}

void Gateway::began(const engine::StartTry& start) {
  const engine::JobRow& row = start.row;
  tally_->add(Seen::kStarts);
  say(fmt::format("{} starts at {} {}", to_string(row.id), row.provider, start.key));
  require(row.hold.has_value(), "I5", "{} starts and holds nothing", to_string(row.id));
  model_.began(policy_, overlay_, start, now_.mono);
  require(!row.falls_back, "fallback", "{} has begun and is still to fall back", to_string(row.id));
  Live live{.job = row.id,
            .account = row.account,
            .provider = row.provider,
            .price = row.hold->price,
            .shared = row.pool == kSharedPool};
  const std::uint64_t dice = random_.below(1000);
  if (calm_ || dice < 930) {
    const Duration takes = Duration{random_.between(0, 20'000'000)};
    later(takes, [this, id = start.try_id] { finish(id); });
  } else {
    live.silent = dice < 965;  // else it goes on until it is asked to stop
  }
  require(live_.emplace(start.try_id, live).second, "I4", "{} was given twice", to_string(start.try_id));
}

void Gateway::finish(TryId id) {
  const auto found = live_.find(id);
  if (found == live_.end()) return;
  const Live live = found->second;
  const policy::Amounts held = held_of(live);
  if (calm_ || random_.chance(550)) {
    engine::Usage usage = some_usage(held);
    const std::int64_t tokens = policy::amounts_of(usage)[Meter::kTokens];
    const auto used = tokens > 0 ? std::optional(tokens) : std::nullopt;
    return end(id, engine::TryCompleted{.output = "{}", .artifacts = {}, .usage = std::move(usage)},
               Said::kAnswer, used);
  }
  engine::TryFailed failed{.failure = static_cast<FailureClass>(random_.below(policy::kFailureClassCount)),
                           .message = "as told",
                           .retry_after = {}};
  if (random_.chance(300)) failed.retry_after = seconds(random_.between(1, 20));
  if (random_.chance(400)) failed.billed = some_usage(held);
  failed.began = random_.chance(100);
  failed.key_refused = failed.failure == FailureClass::kMisconfigured && random_.chance(500);
  failed.lost = random_.chance(30);
  Said said = Said::kAnswer;
  if (failed.failure == FailureClass::kTransient || failed.failure == FailureClass::kTimeout ||
      failed.failure == FailureClass::kBadOutput)
    said = (live.cancelled && !live.timed_out) || failed.lost ? Said::kNothing : Said::kFailure;
  if (failed.failure == FailureClass::kRateLimited || failed.key_refused) said = Said::kTooFast;
  const std::int64_t used = policy::amounts_of(*failed.billed)[Meter::kTokens];
  const auto retry_after = failed.retry_after;
  end(id, std::move(failed), said, used, retry_after);
}

void Gateway::end(TryId id, engine::TryOutcome outcome, Said said, std::optional<std::int64_t> used,
                  std::optional<Duration> retry_after) {
  say(fmt::format("{} of {} ends, {}", to_string(id), to_string(live_.at(id).job), static_cast<int>(said)));
  live_.erase(id);
  model_.ended(id, said, used, retry_after, now_.mono);
  command([&](Changes& out) {
    require(engine_->settle(id, std::move(outcome), now_, out), "I4", "{} is live and was not settled",
            to_string(id));
    for (const auto& mutation : out.mutations) {
      const auto* put = std::get_if<engine::PutJob>(&mutation);
      if (put != nullptr && put->row.falls_back) tally_->add(Seen::kFallbacks);
    }
  });
}

void Gateway::stop(const engine::StopTry& stop) {
  const auto found = live_.find(stop.try_id);
  if (found == live_.end()) return;
  if (stop.reason == engine::StopReason::kLeaseLost) {
    tally_->add(Seen::kLostTries);
    live_.erase(found);
    model_.ended(stop.try_id, Said::kNothing, std::nullopt, {}, now_.mono);
    return;
  }
  if (stop.reason == engine::StopReason::kTimeout) found->second.timed_out = true;
  later(milliseconds(random_.between(1, 500)), [this, id = stop.try_id] {
    const auto live = live_.find(id);
    if (live == live_.end()) return;
    const Said said = live->second.timed_out ? Said::kFailure : Said::kNothing;
    end(id, engine::TryStopped{.billed = random_.chance(500) ? std::optional(engine::Usage{}) : std::nullopt},
        said, std::nullopt);
  });
}

// --- Time

void Gateway::run_for(Duration duration) {
  const Monotonic until = now_.mono + duration;
  const auto pass_to = [this](Monotonic to) {
    if (to <= now_.mono) return;
    now_.wall += to - now_.mono;
    now_.mono = to;
  };
  for (int at_once = 0;; ++at_once) {
    const auto wakeup = engine_->next_wakeup(now_);
    const Monotonic wake = wakeup ? now_.mono + *wakeup : Monotonic::max();
    const Monotonic event = events_.empty() ? Monotonic::max() : events_.begin()->first.first;
    const Monotonic next = std::min(wake, event);
    if (next > until) break;
    if (next > now_.mono) at_once = 0;
    require(at_once < 10'000, "progress", "time stands still");
    pass_to(next);
    if (wake <= event) {
      command([&](Changes& out) {
        while (engine_->advance(now_, 100, out).more) {
        }
      });
    } else {
      const auto action = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      action();
    }
  }
  pass_to(until);
}

void Gateway::extend_leases() {
  std::vector<TryId> alive;
  for (const auto& [id, live] : live_)
    if (!live.silent) alive.push_back(id);
  engine_->extend_leases(alive, now_);
  later(settings_.lease / 3, [this] { extend_leases(); });
}

}  // namespace turnpike::simulation
