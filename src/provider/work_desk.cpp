#include "provider/work_desk.h"

#include <algorithm>

namespace turnpike::provider {
namespace {

using SteadyClock = std::chrono::steady_clock;

bool may(const Worker& holder, const Worker& worker) {
  return worker.admin || holder.key == worker.key;
}

const char* words_of(WorkDesk::End end) {
  switch (end) {
    case WorkDesk::End::kReported:
      return "its end has been reported already";
    case WorkDesk::End::kGivenBack:
      return "it was handed back to the queue";
    case WorkDesk::End::kStopped:
      return "it was cancelled, or the server is stopping";
    case WorkDesk::End::kTimedOut:
      return "its time was up";
    case WorkDesk::End::kLost:
      return "its lease ran out without a heartbeat";
  }
  return "it has ended";
}

}  // namespace

struct WorkDesk::Held {
  const Work work;
  const ClaimId claim;
  const std::filesystem::path work_dir;
  const std::uint64_t file_bytes_max;
  const std::shared_ptr<Bell> bell;
  // Guarded by WorkDesk::mutex_:
  Worker worker;
  bool taken = false;
  bool given_back = false;
  Time lease_until{};
  int percent = 0;
  std::optional<std::string> message;  // progress that was not looked at yet
  std::vector<ProducedFile> files;
  std::optional<WorkReport> report;
  bool reported = false;
};

// --- Claims

void WorkDesk::open(ClaimId claim, Worker worker, std::shared_ptr<Bell> bell) {
  const std::scoped_lock lock(mutex_);
  Claim& opened = claims_[claim];
  opened.worker = worker;
  opened.bell = std::move(bell);
}

void WorkDesk::expect(ClaimId claim, std::uint32_t tries) {
  const std::scoped_lock lock(mutex_);
  const auto found = claims_.find(claim);
  if (found == claims_.end()) return;
  found->second.expected = tries;
  if (found->second.filled()) found->second.bell->ring();
}

bool WorkDesk::filled(ClaimId claim) const {
  const std::scoped_lock lock(mutex_);
  const auto found = claims_.find(claim);
  return found != claims_.end() && found->second.filled();
}

std::vector<Work> WorkDesk::take(ClaimId claim) {
  const std::scoped_lock lock(mutex_);
  std::vector<Work> works;
  const auto found = claims_.find(claim);
  if (found == claims_.end()) return works;
  // In the order in which the engine started them; they arrive as their threads come to it.
  std::ranges::sort(found->second.tries, {}, [](const HeldPtr& held) { return held->work.id; });
  for (const HeldPtr& held : found->second.tries) {
    held->taken = true;
    held->lease_until = SteadyClock::now() + held->work.lease;
    held->bell->ring();
    works.push_back(held->work);
  }
  claims_.erase(found);
  return works;
}

void WorkDesk::close(ClaimId claim) {
  const std::scoped_lock lock(mutex_);
  const auto found = claims_.find(claim);
  if (found == claims_.end()) return;
  for (const HeldPtr& held : found->second.tries) {
    held->given_back = true;
    held->bell->ring();
  }
  claims_.erase(found);
}

void WorkDesk::give_back(TryId id) {
  const std::scoped_lock lock(mutex_);
  const auto found = held_.find(id);
  if (found == held_.end()) return;
  found->second->given_back = true;
  found->second->bell->ring();
}

void WorkDesk::stop() {
  const std::scoped_lock lock(mutex_);
  stopped_ = true;
  for (const auto& [id, claim] : claims_) claim.bell->ring();
}

bool WorkDesk::stopped() const {
  const std::scoped_lock lock(mutex_);
  return stopped_;
}

// --- What workers say

// One message for all that is not this worker's: that a try of others exists is not told.
std::unexpected<Error> WorkDesk::late(TryId id, Worker worker) const {
  const auto past = past_.find(id);
  const bool known = past != past_.end() && may(past->second.worker, worker);
  return fail(ErrorCode::kConflict,
              std::string("this work is not yours (any more): ") +
                  (known ? words_of(past->second.end) : "it is not known to be with you") +
                  "; nothing was changed, leave it and claim again",
              "try");
}

Result<WorkDesk::HeldPtr> WorkDesk::find(TryId id, Worker worker) const {
  const auto found = held_.find(id);
  if (found == held_.end()) return late(id, worker);
  const HeldPtr& held = found->second;
  if (!held->taken || held->given_back || held->reported || !may(held->worker, worker)) {
    if (held->reported && may(held->worker, worker))
      return fail(ErrorCode::kConflict,
                  std::string("this work is not yours any more: ") + words_of(End::kReported), "try");
    return late(id, worker);
  }
  return held;
}

Result<WorkDesk::Beat> WorkDesk::heartbeat(TryId id, Worker worker) {
  const std::scoped_lock lock(mutex_);
  const auto held = find(id, worker);
  if (!held) {
    const auto past = past_.find(id);
    const bool stopped = past != past_.end() && past->second.end == End::kStopped;
    if (stopped && may(past->second.worker, worker)) return Beat{.cancelled = true};
    return std::unexpected(held.error());
  }
  (*held)->lease_until = SteadyClock::now() + (*held)->work.lease;
  return Beat{.lease = (*held)->work.lease};
}

Result<WorkDesk::Beat> WorkDesk::progress(TryId id, Worker worker, int percent, std::string message) {
  auto beat = heartbeat(id, worker);
  if (!beat || beat->cancelled) return beat;
  const std::scoped_lock lock(mutex_);
  const auto found = held_.find(id);
  if (found == held_.end()) return beat;
  Held& held = *found->second;
  held.percent = std::max(held.percent, percent);
  held.message = std::move(message);
  held.bell->ring();
  return beat;
}

Result<JobId> WorkDesk::job_of(TryId id, Worker worker) const {
  const std::scoped_lock lock(mutex_);
  const auto held = find(id, worker);
  if (!held) return std::unexpected(held.error());
  return (*held)->work.job;
}

Result<WorkDesk::Folder> WorkDesk::folder(TryId id, Worker worker) const {
  const std::scoped_lock lock(mutex_);
  const auto held = find(id, worker);
  if (!held) return std::unexpected(held.error());
  return Folder{.work_dir = (*held)->work_dir,
                .inputs = (*held)->work.files,
                .file_bytes_max = (*held)->file_bytes_max,
                .files = (*held)->files.size()};
}

Result<void> WorkDesk::attach(TryId id, Worker worker, ProducedFile file) {
  const std::scoped_lock lock(mutex_);
  const auto held = find(id, worker);
  if (!held) return std::unexpected(held.error());
  if ((*held)->files.size() >= kFilesMax)
    return fail(ErrorCode::kUnprocessable,
                "this work has " + std::to_string(kFilesMax) + " files, which is as many as it may have");
  (*held)->files.push_back(std::move(file));
  (*held)->lease_until = SteadyClock::now() + (*held)->work.lease;
  return {};
}

Result<void> WorkDesk::report(TryId id, Worker worker, WorkReport report, std::shared_ptr<Bell> settled) {
  const std::scoped_lock lock(mutex_);
  const auto found = find(id, worker);
  if (!found) return std::unexpected(found.error());
  Held& held = **found;
  if (auto* success = std::get_if<Success>(&report)) success->files = std::move(held.files);
  held.report = std::move(report);
  held.reported = true;
  settling_[id] = std::move(settled);
  held.bell->ring();
  return {};
}

bool WorkDesk::has_settled(TryId id) const {
  const std::scoped_lock lock(mutex_);
  return !settling_.contains(id);
}

// --- The try's side

void WorkDesk::see(ClaimId claim, TryId id) {
  const auto found = claims_.find(claim);
  if (found == claims_.end()) return;
  found->second.seen.insert(id);
  if (found->second.filled()) found->second.bell->ring();
}

WorkDesk::HeldPtr WorkDesk::arrive(ClaimId claim, Work work, std::filesystem::path work_dir,
                                   std::uint64_t file_bytes_max, std::shared_ptr<Bell> bell) {
  const std::scoped_lock lock(mutex_);
  const auto found = claims_.find(claim);
  if (found == claims_.end()) return nullptr;
  const TryId id = work.id;
  auto held = std::make_shared<Held>(Held{.work = std::move(work),
                                          .claim = claim,
                                          .work_dir = std::move(work_dir),
                                          .file_bytes_max = file_bytes_max,
                                          .bell = std::move(bell),
                                          .worker = found->second.worker,
                                          .message = {},
                                          .files = {},
                                          .report = {}});
  held_.emplace(id, held);
  found->second.tries.push_back(held);
  see(claim, id);
  return held;
}

WorkDesk::News WorkDesk::news(const HeldPtr& held) {
  const std::scoped_lock lock(mutex_);
  News news{.progress = {},
            .report = std::exchange(held->report, std::nullopt),
            .given_back = held->given_back,
            .taken = held->taken,
            .lease_until = held->lease_until};
  if (held->message) news.progress.emplace(held->percent, *std::exchange(held->message, std::nullopt));
  return news;
}

bool WorkDesk::leave(const HeldPtr& held, End end) {
  const std::scoped_lock lock(mutex_);
  if (end != End::kReported && held->report) return false;
  if (end == End::kLost && SteadyClock::now() < held->lease_until) return false;
  const TryId id = held->work.id;
  held_.erase(id);
  const auto claim = claims_.find(held->claim);
  if (claim != claims_.end()) std::erase(claim->second.tries, held);
  if (!held->taken) return true;
  if (past_.size() >= kPastMax) {
    past_.erase(past_order_.front());
    past_order_.pop_front();
  }
  past_.insert_or_assign(id, Past{.worker = held->worker, .end = end});
  past_order_.push_back(id);
  return true;
}

void WorkDesk::settled(ClaimId claim, TryId id) {
  const std::scoped_lock lock(mutex_);
  see(claim, id);
  const auto waiting = settling_.find(id);
  if (waiting == settling_.end()) return;
  waiting->second->ring();
  settling_.erase(waiting);
}

}  // namespace turnpike::provider
