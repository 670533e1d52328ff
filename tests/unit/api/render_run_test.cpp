#include "api/render_run.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "api/event_json.h"
#include "api/runs.h"
#include "api/step_input.h"

namespace turnpike::api {
namespace {

namespace json = boost::json;
using engine::JobState;
using engine::StepState;

// Of two steps, the second of which has two jobs: one that waits, and one that has failed.
node::RunView sample() {
  node::RunView run;
  run.row.id = RunId{1U << 20};
  run.row.account = AccountId{5};
  run.row.state = JobState::kProcessing;
  run.row.workflow = "story";
  run.row.steps = {{.name = "a", .state = StepState::kCompleted, .first_job = 0, .jobs = 1, .completed = 1},
                   {.name = "b", .state = StepState::kRunning, .first_job = 1, .jobs = 2}};
  run.row.created_at = wall_from_seconds(1'800'000'000);
  run.row.cost = Money{1'500'000};
  run.body = std::make_shared<const engine::RunBody>(
      R"({"steps": {"a": {"task": "write"}, "b": {"task": "say", "foreach": "${steps.a.output.list}"}}})",
      "{}", R"({"order":"7"})", "req_1");
  for (std::uint32_t place = 0; place < 3; ++place) {
    node::JobView job;
    job.row.id = engine::job_of(run.row.id, place);
    job.row.state = place == 0 ? JobState::kCompleted : place == 1 ? JobState::kQueued : JobState::kFailed;
    if (place == 1) job.queue = engine::QueueView{};
    if (place == 2) job.row.error = engine::JobError{.code = "timeout", .message = "late", .provider = {}};
    run.jobs.push_back(job);
  }
  return run;
}

json::object shown(const node::RunView& run) {
  return json::parse(run_json(run)).as_object();
}

TEST(RunJson, ShowsTheGraphWithItsJobs) {
  const json::object run = shown(sample());
  EXPECT_EQ(run.at("object"), "run");
  EXPECT_EQ(run.at("status"), "processing");
  EXPECT_EQ(run.at("result"), nullptr);
  EXPECT_EQ(run.at("metadata").at("order"), "7");
  const json::array& steps = run.at("steps").as_array();
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(steps[0].at("task"), "write");
  EXPECT_EQ(json::serialize(steps[1].at("needs")), R"(["a"])");
  EXPECT_EQ(steps[0].at("jobs").as_array().size(), 1U);
  const json::array& jobs = steps[1].at("jobs").as_array();
  ASSERT_EQ(jobs.size(), 2U);
  EXPECT_EQ(jobs[0].at("cost_usd"), nullptr);
  EXPECT_TRUE(jobs[0].at("queue").is_object());
  EXPECT_EQ(jobs[1].at("error").at("code"), "timeout");
}

TEST(RunJson, LeavesJobsOutOfLists) {
  Buffer out;
  append_run(out, sample(), false);
  const json::value run = json::parse(to_text(out));
  for (const json::value& step : run.at("steps").as_array()) EXPECT_FALSE(step.as_object().contains("jobs"));
}

TEST(RunJson, TellsWhatItHasWithoutABody) {
  node::RunView run = sample();
  run.body = nullptr;
  const json::object shown_run = shown(run);
  EXPECT_EQ(shown_run.at("steps").as_array()[1].at("task"), nullptr);
  EXPECT_EQ(json::serialize(shown_run.at("metadata")), "{}");
}

TEST(RunJson, HasItsResultOnceItHasCompleted) {
  node::RunView run = sample();
  run.row.state = JobState::kCompleted;
  run.row.output = R"({"n":1})";
  run.row.artifacts = {
      {.id = ArtifactId{3}, .sha256 = "ab", .mime = "video/mp4", .bytes = 9, .extension = "mp4"}};
  const json::object shown_run = shown(run);
  EXPECT_EQ(shown_run.at("result").at("output").at("n"), 1);
  EXPECT_EQ(shown_run.at("result").at("artifacts").at(0).at("url"), "/artifacts/ab.mp4");
  EXPECT_EQ(shown_run.at("progress").at("percent"), 100);
}

TEST(RunEvent, IsOfTheRunAndNamesTheStep) {
  const engine::Event step{.type = engine::EventType::kStepCompleted,
                           .at = wall_from_seconds(1'800'000'000),
                           .account = AccountId{5},
                           .text = "scenes",
                           .run = RunId{7}};
  const json::value event = json::parse(event_json({.id = EventId{9}, .event = step}, nullptr));
  EXPECT_EQ(event.at("type"), "run.step.completed");
  EXPECT_EQ(event.at("source"), "/api/runs");
  EXPECT_EQ(event.at("subject").as_string(), to_string(RunId{7}));
  EXPECT_EQ(event.at("data").at("step"), "scenes");
  const node::RunView run = sample();
  const engine::Event end{.type = engine::EventType::kRunFailed,
                          .at = step.at,
                          .account = AccountId{5},
                          .text = "timeout",
                          .run = run.row.id};
  const json::value last = json::parse(event_json({.id = EventId{9}, .event = end}, nullptr, &run));
  EXPECT_EQ(last.at("data").at("code"), "timeout");
  EXPECT_EQ(last.at("data").at("run").at("object"), "run");
}

TEST(JobEvent, NamesTheRunItsJobIsAStepOf) {
  const engine::Event event{.type = engine::EventType::kJobStarted,
                            .at = wall_from_seconds(1'800'000'000),
                            .account = AccountId{5},
                            .job = JobId{8},
                            .attempt = 1,
                            .text = "voice",
                            .run = RunId{7}};
  const json::value told = json::parse(event_json({.id = EventId{9}, .event = event}, nullptr));
  EXPECT_EQ(told.at("subject").as_string(), to_string(JobId{8}));
  EXPECT_EQ(told.at("data").at("run_id").as_string(), to_string(RunId{7}));
}

TEST(StepInput, IsReadAsThatOfARequest) {
  const auto good = read_step_input("speech", json::parse(R"({"text": "héllo"})").as_object());
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(good->ask.characters, 5);
  const auto bad = read_step_input("speech", json::parse(R"({"text": 7})").as_object());
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().param, "input.text");
  EXPECT_TRUE(read_step_input("a program of ours", {}));
}

TEST(RunId, IsToldApartFromAJobsId) {
  EXPECT_TRUE(names_a_run(to_string(RunId{7})));
  EXPECT_TRUE(names_a_run("run_"));
  EXPECT_FALSE(names_a_run(to_string(JobId{7})));
}

}  // namespace
}  // namespace turnpike::api
