#include <fmt/format.h>
#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <map>

#include "contract/provider/harness.h"
#include "provider/json_text.h"
#include "provider/provider_kinds.h"

namespace turnpike::provider {
namespace {

using test::as_failure;
using test::as_success;
using test::describe;

policy::Provider instant() {
  policy::Provider config;
  config.name = "sandbox";
  config.latency_p50 = Duration::zero();
  config.latency_p99 = Duration::zero();
  return config;
}

Outcome ask(const policy::Provider& config, const std::string& task, const std::string& input,
            std::uint64_t job = 1) {
  const auto provider = make_sandbox_provider(config);
  Request request;
  request.task = task;
  request.input = input;
  request.job = JobId{job};
  request.try_id = TryId{job * 7};
  return test::run_try(*provider, std::move(request));
}

std::string text_of(const Outcome& outcome) {
  const Success* success = as_success(outcome);
  if (success == nullptr) return describe(outcome);
  return std::string{parse_json(success->output)->at("text").as_string()};
}

TEST(Sandbox, SaysTheSameToTheSame) {
  const std::string input = R"({"prompt":"a lighthouse"})";
  EXPECT_EQ(text_of(ask(instant(), "text", input, 1)), text_of(ask(instant(), "text", input, 2)));
  EXPECT_NE(text_of(ask(instant(), "text", input)),
            text_of(ask(instant(), "text", R"({"prompt":"a ship"})")));
  policy::Provider other = instant();
  other.seed = 2;
  EXPECT_NE(text_of(ask(instant(), "text", input)), text_of(ask(other, "text", input)));
}

TEST(Sandbox, KeepsToTheTokensAskedFor) {
  const Outcome outcome = ask(instant(), "text", R"({"prompt":"x","max_tokens":5})");
  const std::string text = text_of(outcome);
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 4) << text;
  EXPECT_TRUE(text.ends_with('.'));
  EXPECT_TRUE(as_success(outcome)->output.contains(R"("finish_reason":"length","sandbox":true)"));
  const std::map<std::string, std::int64_t> usage(as_success(outcome)->usage.begin(),
                                                  as_success(outcome)->usage.end());
  EXPECT_EQ(usage.at("tokens_out"), 5);
}

TEST(Sandbox, MarksEveryAnswer) {
  EXPECT_EQ(as_success(ask(instant(), "noop", "{}")) == nullptr, false);
  for (const auto& [task, input] : std::map<std::string, std::string>{
           {"noop", "{}"}, {"text", R"({"prompt":"x"})"}, {"embedding", R"({"texts":["a","b"]})"}}) {
    const Outcome outcome = ask(instant(), task, input);
    ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
    EXPECT_TRUE(as_success(outcome)->output.contains(R"("sandbox":true)"));
    EXPECT_TRUE(parse_json(as_success(outcome)->output));
  }
}

TEST(Sandbox, MakesNoFiles) {
  for (const char* task : {"speech", "image", "image_edit", "video"}) {
    const Outcome outcome = ask(instant(), task, "{}");
    ASSERT_NE(as_failure(outcome), nullptr) << task;
    EXPECT_EQ(as_failure(outcome)->failure, policy::FailureClass::kMisconfigured);
  }
}

TEST(Sandbox, NamesTheFieldOfABadInput) {
  const Outcome outcome = ask(instant(), "text", R"({"prompt":7})");
  ASSERT_NE(as_failure(outcome), nullptr);
  EXPECT_EQ(as_failure(outcome)->failure, policy::FailureClass::kInvalidInput);
  EXPECT_TRUE(as_failure(outcome)->message.contains("input.prompt"));
}

TEST(Sandbox, FailsAsOftenAsConfigured) {
  policy::Provider config = instant();
  config.faults = {{policy::FailureClass::kTransient, 100}, {policy::FailureClass::kRateLimited, 50}};
  std::map<policy::FailureClass, int> failures;
  for (std::uint64_t job = 1; job <= 2000; ++job) {
    const Outcome outcome = ask(config, "noop", "{}", job);
    if (const Failure* failure = as_failure(outcome)) {
      ++failures[failure->failure];
      EXPECT_EQ(failure->retry_after.has_value(), failure->failure == policy::FailureClass::kRateLimited);
    }
  }
  EXPECT_NEAR(failures[policy::FailureClass::kTransient], 200, 50);
  EXPECT_NEAR(failures[policy::FailureClass::kRateLimited], 100, 40);
}

TEST(Sandbox, AFaultThatBillsReportsWhatItsAnswerWouldHaveUsed) {
  const std::string input = R"({"prompt":"a lighthouse","max_tokens":7})";
  const Outcome answered = ask(instant(), "text", input);
  ASSERT_NE(as_success(answered), nullptr) << describe(answered);
  policy::Provider config = instant();
  config.faults = {{.failure = policy::FailureClass::kTimeout, .permille = 1000, .bills = true}};
  const Outcome failed = ask(config, "text", input);
  ASSERT_NE(as_failure(failed), nullptr) << describe(failed);
  EXPECT_EQ(as_failure(failed)->failure, policy::FailureClass::kTimeout);
  EXPECT_EQ(as_failure(failed)->billed, as_success(answered)->usage);
}

TEST(Sandbox, AFaultThatDoesNotBillReportsNothing) {
  policy::Provider config = instant();
  config.faults = {{.failure = policy::FailureClass::kTransient, .permille = 1000}};
  const Outcome failed = ask(config, "text", R"({"prompt":"x"})");
  ASSERT_NE(as_failure(failed), nullptr) << describe(failed);
  ASSERT_TRUE(as_failure(failed)->billed);
  EXPECT_TRUE(as_failure(failed)->billed->empty());
}

}  // namespace
}  // namespace turnpike::provider
