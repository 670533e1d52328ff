// Rows as tests of the journal need them, and their comparison field by field.
#pragma once

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "journal/journal.h"

namespace turnpike::testing {

inline Wall at_second(std::int64_t seconds) {
  return wall_from_seconds(1'800'000'000 + seconds);
}

inline engine::JobBodyPtr make_body(std::string input = R"({"text":"hello"})", std::string metadata = "{}",
                                    std::string request_id = "req_1") {
  return std::make_shared<engine::JobBody>(
      engine::JobBody{std::move(input), std::move(metadata), std::move(request_id)});
}

// A queued job of account 1 in pool "local".
inline engine::JobRow make_job(std::uint64_t id, std::uint64_t account = 1) {
  engine::JobRow row;
  row.id = {id};
  row.account = {account};
  row.pool = "local";
  row.task = "speech";
  row.plan = "tier1";
  row.created_at = at_second(0);
  row.queued_at = at_second(1);
  return row;
}

// A job with something in every field.
inline engine::JobRow make_full_job(std::uint64_t id, std::uint64_t account = 1) {
  using engine::HistoryKind;
  auto row = make_job(id, account);
  row.state = engine::JobState::kFailed;
  row.priority = -7;
  row.due_at = at_second(-3);
  row.expires_at = at_second(99);
  row.dedupe_key = std::string("key\0with \xff and \xc3\xa9", 17);
  row.provider = "espeak";
  row.model = "voice-1";
  row.model_version = "1.2";
  row.upstream_model = "en+f3";
  row.attempt = 4'000'000'000;
  row.max_attempts = 100;
  row.lost = 5;
  row.current_try = {0x7fff'ffff'ffff'0000};
  row.options.backoff = policy::Backoff{.base = Duration{17},
                                        .factor_permille = 1500,
                                        .cap = std::chrono::hours(30),
                                        .jitter_permille = 0,
                                        .attempts = 9};
  row.options.timeout = Duration{123'456'789};
  row.first_started_at = at_second(2);
  row.started_at = at_second(-2);  // the clock was set back
  row.finished_at = at_second(5);
  row.usage = {{"audio_ms", 2350}, {"pixels", -1}, {"", INT64_MIN}};
  row.error = engine::JobError{"transient", std::string("no\0route", 8), "espeak"};
  row.output = std::string("{\"a\":\"\0\"}", 9);
  row.artifacts = {{{77}, std::string(64, 'a'), "audio/wav", 5'000'000'000, "wav"}, {{78}, "", "", 0, ""}};
  row.history = {{HistoryKind::kSubmitted, at_second(0), 0, 0, "turn"},
                 {HistoryKind::kStarted, at_second(-9), INT64_MAX, INT64_MIN, "espeak"},
                 {HistoryKind::kRetriedByUser, kNever, 1, 2, ""}};
  return row;
}

inline auto fields_of(const engine::JobRow& r) {
  return std::tie(r.id, r.account, r.state, r.pool, r.priority, r.due_at, r.expires_at, r.dedupe_key, r.task,
                  r.plan, r.provider, r.model, r.model_version, r.upstream_model, r.attempt, r.max_attempts,
                  r.lost, r.current_try, r.options, r.created_at, r.queued_at, r.first_started_at,
                  r.started_at, r.finished_at, r.usage, r.error, r.output, r.artifacts, r.history);
}
inline auto fields_of(const engine::AccountRow& r) {
  return std::tie(r.id, r.user_id, r.plan, r.created_at);
}
inline auto fields_of(const engine::PutQueueCount& r) {
  return std::tie(r.account, r.pool, r.queued, r.scheduled);
}
inline auto fields_of(const journal::KeyRow& r) {
  return std::tie(r.id, r.hash, r.role, r.account, r.name, r.created_at, r.expires_at, r.revoked_at);
}
inline auto fields_of(const journal::ArtifactRow& r) {
  return std::tie(r.ref, r.account, r.job, r.created_at);
}
inline auto fields_of(const journal::IdempotencyRow& r) {
  return std::tie(r.scope, r.body_hash, r.status, r.content_type, r.body, r.expires_at);
}
inline auto fields_of(const journal::PolicyVersionRow& r) {
  return std::tie(r.version, r.hash, r.text, r.applied_at, r.applied_by);
}
inline auto fields_of(const journal::AuditRow& r) {
  return std::tie(r.at, r.actor, r.action, r.subject, r.detail);
}
inline auto fields_of(const engine::Event& r) {
  return std::tie(r.type, r.at, r.account, r.job, r.attempt, r.percent, r.text);
}
inline auto fields_of(const engine::JobBody& r) {
  return std::tie(r.input, r.metadata, r.request_id);
}

// Every field equal.
template <typename Row>
bool same(const Row& a, const Row& b) {
  return fields_of(a) == fields_of(b);
}
template <typename Row>
bool same(const std::vector<Row>& a, const std::vector<Row>& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const Row& x, const Row& y) { return same(x, y); });
}

inline std::vector<std::uint64_t> ids_of(const std::vector<journal::StoredJob>& jobs) {
  std::vector<std::uint64_t> ids;
  ids.reserve(jobs.size());
  for (const auto& job : jobs) ids.push_back(job.row.id.value);
  return ids;
}

}  // namespace turnpike::testing
