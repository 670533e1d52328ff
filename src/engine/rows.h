// What the engine decided, as rows for the journal. The journal stores them as they are and gives them back;
// it knows none of their rules. Every persisted field is documented here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "policy/policy.h"

namespace turnpike::engine {

// Numbers group commits, from 1, without a gap. Everything decided into one batch becomes durable together.
using Batch = std::uint64_t;

struct AccountRow {
  AccountId id;
  std::string user_id;  // the application's own id of this user: unique, 1..255 bytes of UTF-8
  std::string plan;     // name of the plan that applies
  Wall created_at;
};

enum class JobState : std::uint8_t {
  kScheduled = 0,  // waits for a time: run_at, or the delay before a retry
  kQueued = 1,     // waits for its turn
  kProcessing = 2,
  kCompleted = 3,
  kFailed = 4,
  kCancelled = 5,
  kExpired = 6,  // waited longer than its plan allows
};
constexpr bool ended(JobState s) {
  return s >= JobState::kCompleted;
}
const char* job_state_name(JobState s);  // as api.md spells `status`

struct JobError {
  std::string code;      // "transient", "timeout", ... (failure_class_name), "crashed", "provider_removed"
  std::string message;   // for a person
  std::string provider;  // who failed; empty if none was asked
  friend bool operator==(const JobError&, const JobError&) = default;
};

// What decided so far, for `why`. At most kHistoryMax entries a job; beyond, the oldest after the first are
// dropped.
enum class HistoryKind : std::uint8_t {
  kSubmitted,      // text: what it waits for at first
  kStarted,        // a: account's running jobs with this one, b: its cap (0: unlimited); text: provider
  kAttemptFailed,  // a: attempt; text: code: message
  kRetryAt,        // a: Unix microseconds of the next attempt
  kTryLost,        // a: tries lost so far; text: why (server stopped, lease ran out)
  kHandedBack,     // drain: back to the queue, not an attempt
  kCompleted,
  kFailed,     // text: code: message
  kCancelled,  // text: by whom
  kExpired,
  kRetriedByUser,
};
struct HistoryEntry {
  HistoryKind kind{};
  Wall at;
  std::int64_t a = 0;
  std::int64_t b = 0;
  std::string text;
  friend bool operator==(const HistoryEntry&, const HistoryEntry&) = default;
};
constexpr std::size_t kHistoryMax = 24;

struct ArtifactRef {
  ArtifactId id;
  std::string sha256;  // hex
  std::string mime;
  std::uint64_t bytes = 0;
  std::string extension;  // without dot: the name of the file is sha256.extension
  friend bool operator==(const ArtifactRef&, const ArtifactRef&) = default;
};

using Usage =
    std::vector<std::pair<std::string, std::int64_t>>;  // meter -> amount, e.g. audio_ms 2350, pixels 65536

// Overrides a request may carry for its own job.
struct JobOptions {
  std::optional<policy::Backoff> backoff;  // whole: base, factor, cap, jitter; attempts are in max_attempts
  std::optional<Duration> timeout;         // of each attempt
  friend bool operator==(const JobOptions& a, const JobOptions& b);
};

// The part of a job that changes. An update writes this and leaves the body alone.
struct JobRow {
  JobId id;  // also its age: smaller is older
  AccountId account;
  JobState state = JobState::kQueued;
  std::string pool;           // where it waits and runs
  std::int32_t priority = 0;  // the account's own; higher first
  Wall due_at = kNever;       // kScheduled: when it becomes queued
  Wall expires_at = kNever;   // queued before its first start: when it expires
  std::string dedupe_key;     // unique among the account's jobs that have not ended; empty: none
  // Below: not looked up by the journal.
  std::string task;
  std::string plan;      // of the last start; before that, of the submit
  std::string provider;  // candidate that serves it
  std::string model;     // as users name it
  std::string model_version;
  std::string upstream_model;  // as the provider names it
  std::uint32_t attempt = 0;   // attempts begun; a try lost in a crash does not count
  std::uint32_t max_attempts = 3;
  std::uint32_t lost = 0;  // tries lost (crash, lease); bounded by kLostMax
  TryId current_try;       // while processing
  JobOptions options;
  Wall created_at;
  Wall queued_at = kNever;  // when it last began to wait for its turn
  Wall first_started_at = kNever;
  Wall started_at = kNever;  // of the last attempt
  Wall finished_at = kNever;
  Usage usage;                    // of the try that completed it
  std::optional<JobError> error;  // of the last failed attempt; cleared on completion
  std::string output;             // completed: the result's `output`, JSON text, at most 64 KiB
  std::vector<ArtifactRef> artifacts;
  std::vector<HistoryEntry> history;
};
constexpr std::uint32_t kLostMax = 16;

// The part of a job that never changes. Written once.
struct JobBody {
  std::string input;       // JSON text, at most 1 MiB
  std::string metadata;    // JSON object text, at most 16 KiB; empty: {}
  std::string request_id;  // of the request that submitted it
};
using JobBodyPtr = std::shared_ptr<const JobBody>;

// --- Mutations: upserts by key; within a batch the last one wins
// --------------------------------------------------------

struct PutAccount {
  AccountRow row;
};
struct PutJob {
  JobRow row;
  JobBodyPtr body;  // set exactly once, with the first PutJob of a job
};
// How many jobs of an account wait in a pool (state kQueued) and how many are scheduled. Counts are kept,
// never counted.
struct PutQueueCount {
  AccountId account;
  std::string pool;
  std::uint64_t queued = 0;
  std::uint64_t scheduled = 0;
};
struct DropJob {
  JobId id;
};  // retention

using Mutation = std::variant<PutAccount, PutJob, PutQueueCount, DropJob>;

// --- Events: what users are told, in order for each subject
// --------------------------------------------------------------

enum class EventType : std::uint8_t {
  kJobQueued,
  kJobStarted,
  kJobProgress,
  kJobCompleted,
  kJobFailed,
  kJobCancelled,
  kJobExpired,
};
const char* event_type_name(EventType t);  // "job.queued"
// An event's id is (batch << 20) | its index in the batch.
struct Event {
  EventType type{};
  Wall at;
  AccountId account;
  JobId job;
  std::uint32_t attempt = 0;
  std::uint8_t percent = 0;  // kJobProgress, 0..100
  std::string text;          // progress: message; failed: code; started: provider
};

}  // namespace turnpike::engine
