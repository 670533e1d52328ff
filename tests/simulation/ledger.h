// The checker's own books: every job as last written (committed or not), kept in the order it should start
// in. Built from mutations alone, so that it shares nothing with the engine it is compared with.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace turnpike::simulation {

using QueueName = std::pair<AccountId, std::string>;

struct BestFirst {  // priority descending, then oldest
  bool operator()(const engine::QueueKey& a, const engine::QueueKey& b) const {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  }
};

// What waits of one account in one pool, by its rows.
struct WaitingJobs {
  std::set<engine::QueueKey, BestFirst> queued;
  std::uint64_t scheduled = 0;
};

class Ledger {
 public:
  void put(const engine::JobRow& row, engine::Batch batch);
  void put(const engine::AccountRow& row) { accounts_[row.id] = row; }
  void put(const engine::PutQueueCount& count) { told_[{count.account, count.pool}] = count; }
  void drop(JobId id);

  const engine::JobRow* job(JobId id) const;
  const engine::AccountRow* account(AccountId id) const;
  const std::unordered_map<JobId, engine::JobRow>& jobs() const { return jobs_; }
  const std::map<AccountId, engine::AccountRow>& accounts() const { return accounts_; }
  const std::map<QueueName, WaitingJobs>& queues() const { return queues_; }
  const std::set<std::pair<Wall, JobId>>& due() const { return due_; }
  const std::set<std::pair<Wall, JobId>>& expiring() const { return expiring_; }
  // What PutQueueCount last said.
  const std::map<QueueName, engine::PutQueueCount>& told() const { return told_; }

  std::uint64_t waiting(AccountId account) const;  // queued and scheduled, all pools
  // The job of the account that has the key and has not ended; none: JobId{}.
  JobId holder(AccountId account, const std::string& dedupe_key) const;
  // The batch that last wrote the job, or any job with the key; 0: none since the books were opened.
  engine::Batch changed(JobId id) const;
  engine::Batch changed(AccountId account, const std::string& dedupe_key) const;

 private:
  void take_out(const engine::JobRow& row);
  void put_in(const engine::JobRow& row);

  std::unordered_map<JobId, engine::JobRow> jobs_;
  std::map<AccountId, engine::AccountRow> accounts_;
  std::map<QueueName, WaitingJobs> queues_;
  std::map<QueueName, engine::PutQueueCount> told_;
  std::set<std::pair<Wall, JobId>> due_;
  std::set<std::pair<Wall, JobId>> expiring_;
  std::map<std::pair<AccountId, std::string>, JobId> holders_;
  std::unordered_map<JobId, engine::Batch> changed_;
  std::map<std::pair<AccountId, std::string>, engine::Batch> key_changed_;
};

}  // namespace turnpike::simulation
