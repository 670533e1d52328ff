#include "journal/last_id.h"

#include <algorithm>

namespace turnpike::journal {
namespace {

std::uint64_t last_id(const engine::JobRow& row) {
  std::uint64_t last = std::max({row.id.value, row.account.value, row.current_try.value});
  for (const auto& artifact : row.artifacts) last = std::max(last, artifact.id.value);
  return last;
}

// The ids of its jobs are set aside with its own.
std::uint64_t last_id(const engine::RunRow& row) {
  std::uint64_t last = std::max(row.id.value + engine::kRunJobsMax, row.account.value);
  for (const auto& artifact : row.artifacts) last = std::max(last, artifact.id.value);
  return last;
}

std::uint64_t last_id(const engine::Mutation& mutation) {
  if (const auto* job = std::get_if<engine::PutJob>(&mutation)) return last_id(job->row);
  if (const auto* account = std::get_if<engine::PutAccount>(&mutation)) {
    std::uint64_t last = account->row.id.value;
    for (const auto& grant : account->row.grants) last = std::max(last, grant.id.value);
    return last;
  }
  if (const auto* period = std::get_if<engine::PutPeriod>(&mutation)) return period->row.account.value;
  // Calls and their tries have no rows of their own.
  if (const auto* add = std::get_if<engine::AddEntry>(&mutation)) {
    return std::max({add->entry.account.value, add->entry.job.value, add->entry.try_id.value});
  }
  if (const auto* drop = std::get_if<engine::DropJob>(&mutation)) return drop->id.value;
  if (const auto* run = std::get_if<engine::PutRun>(&mutation)) return last_id(run->row);
  return std::get<engine::PutQueueCount>(mutation).account.value;
}

std::uint64_t last_id(const Record& record) {
  if (const auto* key = std::get_if<KeyRow>(&record)) return std::max(key->id.value, key->account.value);
  if (const auto* artifact = std::get_if<ArtifactRow>(&record)) {
    return std::max({artifact->ref.id.value, artifact->account.value, artifact->job.value});
  }
  if (const auto* webhook = std::get_if<WebhookEndpointRow>(&record)) {
    return std::max(webhook->id.value, webhook->account.value);
  }
  return 0;  // the others are named by hashes, numbers and text
}

}  // namespace

std::uint64_t last_id(const Commit& commit) {
  std::uint64_t last = 0;
  for (const auto& mutation : commit.mutations) last = std::max(last, last_id(mutation));
  for (const auto& record : commit.records) last = std::max(last, last_id(record));
  return last;
}

}  // namespace turnpike::journal
