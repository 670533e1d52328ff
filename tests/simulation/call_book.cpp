#include "simulation/call_book.h"

#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::Scope;

void CallBook::count(const Call& call, std::int32_t delta) {
  at_once_[{Scope::kAccount, call.account, {}}] += delta;
  if (!call.team.empty()) at_once_[{Scope::kTeam, {}, call.team}] += delta;
  at_once_[{Scope::kPlatform, {}, {}}] += delta;
  open_ += static_cast<std::size_t>(delta);
}

std::uint32_t CallBook::at_once(const Who& who) const {
  const auto it = at_once_.find(who);
  return it == at_once_.end() ? 0 : static_cast<std::uint32_t>(it->second);
}

const CallBook::Call* CallBook::find(JobId id) const {
  const auto it = calls_.find(id);
  return it == calls_.end() || it->second.answered != 0 ? nullptr : &it->second;
}

void CallBook::admit(Call call) {
  count(call, 1);
  waiting_[{call.account, call.pool}].insert(call.id);
  const JobId id = call.id;
  require(calls_.emplace(id, std::move(call)).second, "calls", "{} was admitted twice", to_string(id));
  tally_->add(Seen::kCalls);
}

void CallBook::start(const engine::StartTry& start, std::uint32_t limit_or_0) {
  const auto it = calls_.find(start.row.id);
  const std::string id = to_string(start.row.id);
  require(it != calls_.end() && it->second.answered == 0, "calls", "{} was started and is no open call", id);
  Call& call = it->second;
  require(!call.running, "I3", "the call {} was started twice", id);
  auto& waits = waiting_[{call.account, call.pool}];
  require(!waits.empty() && *waits.begin() == call.id, "I7",
          "the call {} started before an older one of its account", id);
  waits.erase(call.id);
  call.running = start.try_id;
  require(start.row.hold && *start.row.hold == call.hold, "I5",
          "the call {} holds something else than it asked for", id);
  require(start.active == at_once({Scope::kAccount, call.account, {}}), "I2",
          "the call {} was started as number {} of {}", id, start.active,
          at_once({Scope::kAccount, call.account, {}}));
  require(start.limit.value_or(0) == limit_or_0, "I2", "the call {} was started with another limit", id);
  require(!start.at_once || call.fast, "calls", "{} may not start before its hold is durable", id);
  tally_->add(start.at_once ? Seen::kFastCalls : Seen::kDurableCalls);
}

const CallBook::Call& CallBook::answer(const engine::AnswerCall& answer, engine::Batch batch, Timestamp now,
                                       bool draining) {
  const auto it = calls_.find(answer.row.id);
  const std::string id = to_string(answer.row.id);
  require(it != calls_.end() && it->second.answered == 0, "calls", "{} was answered and is no open call", id);
  Call& call = it->second;
  require(answer.row.state == engine::JobState::kCompleted || answer.row.state == engine::JobState::kFailed,
          "calls", "{} was answered as {}", id, job_state_name(answer.row.state));
  require(!answer.row.hold, "I5", "the call {} has ended and holds something", id);
  if (call.running) {
    require(!answer.error, "calls", "{} ran, and was refused", id);
    require((answer.row.state == engine::JobState::kFailed) == answer.row.error.has_value(), "calls",
            "{} is {} and {} an error", id, job_state_name(answer.row.state),
            answer.row.error ? "has" : "lacks");
    tally_->add(answer.row.error ? Seen::kCallsFailed : Seen::kCallsAnswered);
  } else {
    waiting_[{call.account, call.pool}].erase(call.id);
    const bool impatient = answer.error && call.patience_end <= now.mono &&
                           (answer.error->code == ErrorCode::kConcurrencyLimited ||
                            answer.error->code == ErrorCode::kUnavailable);
    const bool sent_away = answer.error && answer.error->code == ErrorCode::kUnavailable && draining;
    require(impatient || sent_away, "calls", "{} never ran, and was answered for no reason", id);
    require(answer.error->retry_after.has_value(), "calls", "{} is not told when to come back", id);
    tally_->add(Seen::kCallsSentAway);
  }
  call.answered = batch;
  count(call, -1);
  return call;
}

void CallBook::told(const engine::AnswerCall& answer, engine::Batch durable) {
  const std::string id = to_string(answer.row.id);
  require(told_.insert(answer.row.id).second, "calls", "{} was answered twice", id);
  const auto it = calls_.find(answer.row.id);
  if (it == calls_.end()) return;  // its charge is durable
  const Call& call = it->second;
  require(call.answered != 0, "calls", "{} was told before it was answered", id);
  if (call.answered <= durable) return;
  tally_->add(Seen::kCallsToldAtOnce);
  require(call.fast && call.admitted <= durable, "N1", "{} was told before its hold was durable", id);
  policy::Amounts used = policy::amounts_of(answer.row.usage);
  used[policy::Meter::kCachedTokens] = 0;
  for (std::size_t i = 0; i < policy::kMeterCount; ++i)
    require(used.of[i] <= call.hold.amounts.of[i], "N1",
            "{} used {} of meter {} and held {}, and was told before that was durable", id, used.of[i], i,
            call.hold.amounts.of[i]);
  require(answer.row.cost <= call.hold.cost && call.hold.content.empty(), "N1",
          "{} cost {} and held {}, and was told before that was durable", id, to_string(answer.row.cost),
          to_string(call.hold.cost));
}

void CallBook::committed(engine::Batch batch) {
  if (batch > lost_at_) lost_.clear();
  std::erase_if(calls_, [batch](const auto& each) {
    return each.second.answered != 0 && each.second.answered <= batch;
  });
}

std::vector<CallBook::Call> CallBook::crashed(engine::Batch batch) {
  // Lost in an earlier crash, and what takes their holds as used was lost in this one.
  std::vector<Call> durable = std::move(lost_);
  for (const auto& [id, call] : calls_) {
    if (call.admitted <= batch && (call.answered == 0 || call.answered > batch)) durable.push_back(call);
    // Who was waiting for it has lost the connection.
    if (!told_.contains(id)) tally_->add(Seen::kCallsLost);
    told_.insert(id);
  }
  calls_.clear();
  waiting_.clear();
  at_once_.clear();
  open_ = 0;
  lost_ = durable;
  lost_at_ = batch;
  return durable;
}

void CallBook::check_patience(Timestamp now) const {
  for (const auto& [name, ids] : waiting_) {
    for (const JobId id : ids)
      require(calls_.at(id).patience_end > now.mono, "due", "the call {} waits beyond its patience",
              to_string(id));
  }
}

}  // namespace turnpike::simulation
