#include "simulation/ledger.h"

#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::ended;
using engine::JobRow;
using engine::JobState;

void Ledger::put(const JobRow& row, engine::Batch batch) {
  const auto [it, fresh] = jobs_.try_emplace(row.id, row);
  if (!fresh) {
    take_out(it->second);
    it->second = row;
  }
  put_in(row);
  changed_[row.id] = batch;
  if (!row.dedupe_key.empty()) key_changed_[{row.account, row.dedupe_key}] = batch;
}

void Ledger::drop(JobId id) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return;
  take_out(it->second);
  jobs_.erase(it);
}

void Ledger::take_out(const JobRow& row) {
  if (row.state == JobState::kQueued) queues_[{row.account, row.pool}].queued.erase({row.priority, row.id});
  if (row.state == JobState::kScheduled) --queues_[{row.account, row.pool}].scheduled;
  due_.erase({row.due_at, row.id});
  expiring_.erase({row.expires_at, row.id});
  if (!row.dedupe_key.empty() && !ended(row.state)) holders_.erase({row.account, row.dedupe_key});
}

void Ledger::put_in(const JobRow& row) {
  if (row.state == JobState::kQueued) {
    queues_[{row.account, row.pool}].queued.insert({row.priority, row.id});
    if (row.expires_at != kNever) expiring_.insert({row.expires_at, row.id});
  }
  if (row.state == JobState::kScheduled) {
    ++queues_[{row.account, row.pool}].scheduled;
    due_.insert({row.due_at, row.id});
  }
  if (!row.dedupe_key.empty() && !ended(row.state)) {
    const auto [it, fresh] = holders_.try_emplace({row.account, row.dedupe_key}, row.id);
    require(fresh || it->second == row.id, "I1", "dedupe key {} is held by {} and by {}", row.dedupe_key,
            to_string(it->second), to_string(row.id));
  }
}

const JobRow* Ledger::job(JobId id) const {
  const auto it = jobs_.find(id);
  return it == jobs_.end() ? nullptr : &it->second;
}

const engine::AccountRow* Ledger::account(AccountId id) const {
  const auto it = accounts_.find(id);
  return it == accounts_.end() ? nullptr : &it->second;
}

std::uint64_t Ledger::waiting(AccountId account) const {
  std::uint64_t sum = 0;
  for (auto it = queues_.lower_bound({account, ""}); it != queues_.end() && it->first.first == account; ++it)
    sum += it->second.queued.size() + it->second.scheduled;
  return sum;
}

JobId Ledger::holder(AccountId account, const std::string& dedupe_key) const {
  const auto it = holders_.find({account, dedupe_key});
  return it == holders_.end() ? JobId{} : it->second;
}

engine::Batch Ledger::changed(JobId id) const {
  const auto it = changed_.find(id);
  return it == changed_.end() ? 0 : it->second;
}

engine::Batch Ledger::changed(AccountId account, const std::string& dedupe_key) const {
  const auto it = key_changed_.find({account, dedupe_key});
  return it == key_changed_.end() ? 0 : it->second;
}

}  // namespace turnpike::simulation
