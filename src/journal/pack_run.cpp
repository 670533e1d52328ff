// The packed forms of a run of a workflow.
#include <memory>

#include "journal/pack.h"
#include "journal/pack_parts.h"

namespace turnpike::journal {
namespace {

constexpr std::uint8_t kRunVersion = 1;
constexpr std::uint8_t kRunBodyVersion = 1;

// Bits of the first byte after the version: which of the optional parts follow.
constexpr unsigned kHasStartedAt = 1;
constexpr unsigned kHasWebhook = 2;
constexpr unsigned kHasError = 4;
constexpr unsigned kHasCancelledBy = 8;
constexpr unsigned kHasResult = 16;  // output, artifacts
constexpr unsigned kRunParts = 31;

// Bits of a step's state.
constexpr unsigned kStepHolds = 0x20;
constexpr unsigned kStepStarted = 0x40;
constexpr unsigned kStepFinished = 0x80;

void write_step(ByteWriter& out, const engine::StepRow& step, std::int64_t created) {
  unsigned state = static_cast<unsigned>(step.state);
  if (step.hold) state |= kStepHolds;
  if (step.started_at != kNever) state |= kStepStarted;
  if (step.finished_at != kNever) state |= kStepFinished;
  out.u8(static_cast<std::uint8_t>(state));
  out.text(step.name);
  out.varint(step.first_job);
  out.varint(step.jobs);
  out.varint(step.completed);
  if (step.started_at != kNever) out.difference(unix_micros(step.started_at), created);
  if (step.finished_at != kNever) out.difference(unix_micros(step.finished_at), created);
  if (step.hold) write_hold(out, *step.hold, created);
}
engine::StepRow read_step(ByteReader& in, std::int64_t created) {
  engine::StepRow step;
  const unsigned first = in.u8();
  const unsigned state = first & ~(kStepHolds | kStepStarted | kStepFinished);
  if (state > static_cast<unsigned>(engine::StepState::kCancelled)) in.spoil();
  step.state = static_cast<engine::StepState>(state);
  step.name = in.text();
  step.first_job = in.u32();
  step.jobs = in.u32();
  step.completed = in.u32();
  if ((first & kStepStarted) != 0) step.started_at = wall_from_micros(in.difference(created));
  if ((first & kStepFinished) != 0) step.finished_at = wall_from_micros(in.difference(created));
  if ((first & kStepHolds) != 0) step.hold = read_hold(in, created);
  return step;
}

unsigned parts_of(const engine::RunRow& row) {
  unsigned parts = 0;
  if (row.started_at != kNever) parts |= kHasStartedAt;
  if (row.webhook) parts |= kHasWebhook;
  if (row.error) parts |= kHasError;
  if (!row.cancelled_by.empty()) parts |= kHasCancelledBy;
  if (!row.output.empty() || !row.artifacts.empty()) parts |= kHasResult;
  return parts;
}

}  // namespace

void pack_run(const engine::RunRow& row, std::string& buffer) {
  ByteWriter out(buffer);
  const auto created = unix_micros(row.created_at);
  out.u8(kRunVersion);
  out.u8(static_cast<std::uint8_t>(parts_of(row)));
  out.text(row.plan);
  out.zigzag(row.priority);
  out.varint(row.revision);
  out.varint(row.next_job);
  out.zigzag(created);
  if (row.started_at != kNever) out.difference(unix_micros(row.started_at), created);
  out.zigzag(row.cost.nanos);
  if (row.webhook) out.fixed64(row.webhook.value);
  if (row.error) {
    out.text(row.error->code);
    out.text(row.error->message);
    out.text(row.error->provider);
  }
  if (!row.cancelled_by.empty()) out.text(row.cancelled_by);
  if (!row.output.empty() || !row.artifacts.empty()) {
    out.text(row.output);
    out.varint(row.artifacts.size());
    for (const auto& artifact : row.artifacts) write_artifact(out, artifact);
  }
  out.varint(row.steps.size());
  for (const auto& step : row.steps) write_step(out, step, created);
}

Result<void> unpack_run(std::string_view packed, engine::RunRow& row) {
  ByteReader in(packed);
  if (in.u8() != kRunVersion) return malformed("a run");
  const unsigned parts = in.u8();
  if (parts > kRunParts) in.spoil();
  row.plan = in.text();
  const auto priority = in.zigzag();
  if (priority < INT32_MIN || priority > INT32_MAX) in.spoil();
  row.priority = static_cast<std::int32_t>(priority);
  row.revision = in.varint();
  row.next_job = in.u32();
  const auto created = in.zigzag();
  row.created_at = wall_from_micros(created);
  row.started_at = (parts & kHasStartedAt) != 0 ? wall_from_micros(in.difference(created)) : kNever;
  row.cost = {in.zigzag()};
  row.webhook = (parts & kHasWebhook) != 0 ? WebhookId{in.fixed64()} : WebhookId{};
  row.error.reset();
  if ((parts & kHasError) != 0) {
    auto& error = row.error.emplace();
    error.code = in.text();
    error.message = in.text();
    error.provider = in.text();
  }
  row.cancelled_by = (parts & kHasCancelledBy) != 0 ? in.text() : std::string();
  row.output.clear();
  row.artifacts.clear();
  if ((parts & kHasResult) != 0) {
    row.output = in.text();
    for (auto n = in.count(kArtifactBytesMin); n > 0; --n) row.artifacts.push_back(read_artifact(in));
  }
  row.steps.clear();
  for (auto n = in.count(5); n > 0; --n) row.steps.push_back(read_step(in, created));
  if (!in.at_end()) return malformed("a run");
  return {};
}

void pack_run_body(const engine::RunBody& body, std::string& buffer) {
  ByteWriter out(buffer);
  out.u8(kRunBodyVersion);
  out.text(body.workflow);
  out.text(body.input);
  out.text(body.metadata);
  out.text(body.request_id);
}

Result<engine::RunBodyPtr> unpack_run_body(std::string_view packed) {
  ByteReader in(packed);
  if (in.u8() != kRunBodyVersion) return malformed("a run's input");
  auto body = std::make_shared<engine::RunBody>();
  body->workflow = in.text();
  body->input = in.text();
  body->metadata = in.text();
  body->request_id = in.text();
  if (!in.at_end()) return malformed("a run's input");
  return body;
}

}  // namespace turnpike::journal
