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

// A hold with something in every field.
inline engine::Hold make_hold() {
  policy::Price price;
  price.tokens = {.input = Rate{150'000, 1}, .cached_input = std::nullopt, .output = Rate{600'000, 1}};
  price.tiers = {{.above = 200'000, .tokens = price.tokens}};
  price.batch = policy::TokenRates{};
  price.audio = Rate{100, 1'000};
  engine::Hold hold;
  hold.amounts[policy::Meter::kTokens] = 4'200;
  hold.amounts[policy::Meter::kJobs] = 1;
  hold.cost = {630};
  hold.content = "blog";
  hold.team = "acme";
  hold.account_period = at_second(-86'400);
  hold.team_period = at_second(-200);
  hold.platform_period = at_second(-300);
  hold.price = std::make_shared<const policy::Price>(price);
  hold.price_version = 12;
  hold.may_bill = true;
  return hold;
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
  row.options.webhook = {77};
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
  row.cost = {987'654'321};
  row.content_type = "blog";
  row.estimate[policy::Meter::kTokens] = INT64_MAX;
  row.hold = make_hold();
  row.route = {{"espeak", "local", "en+f3"}, {"cloud", "cloud", ""}};
  row.step = 1;
  row.falls_back = true;
  row.run = {id - 1};
  return row;
}

// A run of account 1 that has just begun; its jobs' ids follow its own.
inline engine::RunRow make_run(std::uint64_t id, std::uint64_t account = 1) {
  engine::RunRow row;
  row.id = {id};
  row.account = {account};
  row.workflow = "story";
  row.plan = "tier1";
  row.steps = {{.name = "split"}, {.name = "video"}};
  row.created_at = at_second(0);
  return row;
}
inline engine::RunBodyPtr make_run_body(std::string input = R"({"script":"once"})") {
  return std::make_shared<engine::RunBody>(engine::RunBody{
      .workflow = R"({"steps":{}})", .input = std::move(input), .metadata = "{}", .request_id = "req_1"});
}
// A run with something in every field.
inline engine::RunRow make_full_run(std::uint64_t id, std::uint64_t account = 1) {
  auto row = make_run(id, account);
  row.state = engine::JobState::kFailed;
  row.live_jobs = 3;
  row.priority = -9;
  row.revision = UINT64_MAX;
  row.next_job = 7;
  row.steps = {
      {.name = "a",
       .state = engine::StepState::kCancelled,
       .first_job = 5,
       .jobs = 2,
       .completed = 1,
       .started_at = at_second(-1),
       .finished_at = at_second(9)},
      {.name = std::string("b\0", 2), .state = engine::StepState::kSkipped, .finished_at = at_second(3)},
      {.name = "", .state = engine::StepState::kRunning, .jobs = UINT32_MAX, .started_at = at_second(2)}};
  row.started_at = at_second(1);
  row.finished_at = at_second(5);
  row.cost = {INT64_MIN};
  row.webhook = {77};
  row.error = engine::JobError{"invalid_step", std::string("no\0way", 6), "espeak"};
  row.cancelled_by = "key_1";
  row.output = R"({"a":1})";
  row.artifacts = {{{77}, std::string(64, 'a'), "video/mp4", 5'000'000'000, "mp4"}};
  return row;
}

// Books with something in every field.
inline engine::PeriodRow make_period(engine::Scope scope, std::uint64_t account, std::string team,
                                     Wall start) {
  engine::PeriodRow row;
  row.scope = scope;
  row.account = {account};
  row.team = std::move(team);
  row.start = start;
  row.end = start + std::chrono::hours(24 * 31);
  row.used[policy::Meter::kTokens] = 7;
  row.held[policy::Meter::kJobs] = 2;
  row.calls_held[policy::Meter::kCalls] = 1;
  row.cost_used = {1};
  row.cost_held = {2};
  row.cost_calls_held = {3};
  row.debt[policy::Meter::kPixels] = 4;
  row.cost_debt = {5};
  row.content = {{"blog", 1, 2, 1}};
  row.holds = 3;
  row.told = {{0, 500}, {255, 1000}};
  return row;
}

inline engine::LedgerEntry make_entry(std::uint64_t try_id, std::uint64_t account, Wall at) {
  engine::LedgerEntry entry;
  entry.at = at;
  entry.account = {account};
  entry.team = "acme";
  entry.plan = "pro";
  entry.job = {try_id + 1};
  entry.attempt = 2;
  entry.try_id = {try_id};
  entry.task = "text";
  entry.provider = "openai";
  entry.model = "writer";
  entry.model_version = "1";
  entry.price_version = 3;
  entry.meters[policy::Meter::kTokens] = 100;
  entry.meters[policy::Meter::kJobs] = 1;
  entry.content = "blog";
  entry.cost = {1'000};
  entry.debt = {10};
  entry.account_period = at_second(-100);
  entry.team_period = at_second(-200);
  entry.platform_period = at_second(-300);
  return entry;
}

inline auto fields_of(const engine::JobRow& r) {
  return std::tie(r.id, r.account, r.state, r.pool, r.priority, r.due_at, r.expires_at, r.dedupe_key, r.task,
                  r.plan, r.provider, r.model, r.model_version, r.upstream_model, r.attempt, r.max_attempts,
                  r.lost, r.current_try, r.options, r.created_at, r.queued_at, r.first_started_at,
                  r.started_at, r.finished_at, r.usage, r.error, r.output, r.artifacts, r.history, r.cost,
                  r.content_type, r.estimate, r.hold, r.route, r.step, r.falls_back, r.run);
}
inline auto fields_of(const engine::RunRow& r) {
  return std::tie(r.id, r.account, r.state, r.live_jobs, r.workflow, r.plan, r.priority, r.revision,
                  r.next_job, r.steps, r.created_at, r.started_at, r.finished_at, r.cost, r.webhook, r.error,
                  r.cancelled_by, r.output, r.artifacts);
}
inline auto fields_of(const engine::RunBody& r) {
  return std::tie(r.workflow, r.input, r.metadata, r.request_id);
}
inline auto fields_of(const engine::AccountRow& r) {
  return std::tie(r.id, r.user_id, r.plan, r.created_at, r.plan_version, r.overrides, r.team, r.time_zone,
                  r.anchor_at, r.grants);
}
inline auto fields_of(const engine::PeriodRow& r) {
  return std::tie(r.scope, r.account, r.team, r.start, r.end, r.used, r.held, r.calls_held, r.cost_used,
                  r.cost_held, r.cost_calls_held, r.debt, r.cost_debt, r.content, r.holds, r.told, r.current);
}
inline auto fields_of(const engine::LedgerEntry& r) {
  return std::tie(r.kind, r.at, r.account, r.team, r.plan, r.job, r.attempt, r.try_id, r.call, r.task,
                  r.provider, r.model, r.model_version, r.price_version, r.meters, r.content, r.cost, r.debt,
                  r.account_period, r.team_period, r.platform_period);
}
inline auto fields_of(const journal::UsageRow& r) {
  return std::tie(r.at, r.account, r.plan, r.task, r.model, r.provider, r.meters, r.cost, r.completed,
                  r.failed);
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
  return std::tie(r.version, r.hash, r.text, r.applied_at, r.applied_by, r.reason, r.price_version);
}
inline auto fields_of(const journal::AuditRow& r) {
  return std::tie(r.at, r.actor, r.action, r.subject, r.detail);
}
inline auto fields_of(const engine::Event& r) {
  return std::tie(r.type, r.at, r.account, r.job, r.attempt, r.percent, r.text, r.webhook, r.run);
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
