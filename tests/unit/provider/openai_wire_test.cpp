#include "provider/openai_wire.h"

#include <gtest/gtest.h>

namespace turnpike::provider {
namespace {

using policy::FailureClass;
constexpr auto kMaxTokens = TokenLimitField::kMaxTokens;

Request ask(const std::string& task, const std::string& input) {
  Request request;
  request.task = task;
  request.input = input;
  return request;
}

std::string body_of(const std::string& task, const std::string& input, const std::string& model = "m") {
  const auto wire = make_wire_request(ask(task, input), model, kMaxTokens);
  return wire ? wire->path + " " + wire->body : "refused: " + wire.error().message;
}

net::ClientResponse answer(int status, const std::string& body, net::Headers headers = {}) {
  return {.status = status, .headers = std::move(headers), .body = body};
}

TEST(OpenAiWire, TurnsAPromptIntoAMessage) {
  EXPECT_EQ(
      body_of("text", R"({"prompt":"hi","max_tokens":5,"temperature":0})"),
      R"(/chat/completions {"model":"m","max_tokens":5,"temperature":0,"messages":[{"role":"user","content":"hi"}]})");
}

TEST(OpenAiWire, PassesMessagesAsTheyAre) {
  EXPECT_EQ(body_of("text", R"({"messages":[{"role":"system","content":"x"}]})"),
            R"(/chat/completions {"model":"m","messages":[{"role":"system","content":"x"}]})");
}

TEST(OpenAiWire, NamesTheLimitAsNewerModelsWantIt) {
  const auto wire = make_wire_request(ask("text", R"({"prompt":"hi","max_tokens":5})"), "o",
                                      TokenLimitField::kMaxCompletionTokens);
  ASSERT_TRUE(wire);
  EXPECT_TRUE(wire->body.contains(R"("max_completion_tokens":5)")) << wire->body;
  EXPECT_FALSE(wire->body.contains(R"("max_tokens")")) << wire->body;
}

TEST(OpenAiWire, RefusesFieldsThatCouldCost) {
  EXPECT_EQ(body_of("text", R"({"prompt":"x","n":10})"), "refused: input.n is not known to this provider");
  EXPECT_EQ(body_of("text", R"({"prompt":"x","max_tokens":-1})"),
            "refused: input.max_tokens must be an integer of at least 1");
  EXPECT_EQ(body_of("text", "{}"), "refused: input.prompt or input.messages must be given, and not both");
  EXPECT_EQ(body_of("text", R"({"messages":"x"})"), "refused: input.messages must be a list of messages");
}

TEST(OpenAiWire, AsksForPicturesInTheAnswer) {
  EXPECT_EQ(
      body_of("image", R"({"prompt":"x","width":512,"height":256})", "dall-e-3"),
      R"(/images/generations {"model":"dall-e-3","n":1,"response_format":"b64_json","prompt":"x","size":"512x256"})");
  EXPECT_EQ(body_of("image", R"({"prompt":"x","format":"webp"})", "gpt-image-1"),
            R"(/images/generations {"model":"gpt-image-1","n":1,"prompt":"x","output_format":"webp"})");
  EXPECT_EQ(body_of("image", R"({"prompt":"x","width":512})"),
            "refused: input.height is required with the other edge");
}

TEST(OpenAiWire, AsksForEmbeddings) {
  EXPECT_EQ(body_of("embedding", R"({"texts":["a","b"]})"), R"(/embeddings {"model":"m","input":["a","b"]})");
  EXPECT_EQ(body_of("embedding", R"({"texts":["a",7]})"),
            "refused: input.texts must be a list of 1 to 2048 texts");
}

TEST(OpenAiWire, HasNoSpeech) {
  EXPECT_EQ(make_wire_request(ask("speech", "{}"), "m", kMaxTokens).error().code, ErrorCode::kConfiguration);
}

TEST(OpenAiWire, ReadsTextAndWhatItUsed) {
  const Outcome outcome = read_wire_answer(
      ask("text", "{}"),
      answer(200, R"({"choices":[{"message":{"content":"hello \"you\""},"finish_reason":"length"}],
                      "usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}})"),
      "");
  const auto* success = std::get_if<Success>(&outcome);
  ASSERT_NE(success, nullptr);
  EXPECT_EQ(success->output, R"({"text":"hello \"you\"","finish_reason":"length"})");
  const std::vector<std::pair<std::string, std::int64_t>> usage = {
      {"tokens_in", 9}, {"tokens_out", 4}, {"tokens_cached", 3}};
  EXPECT_EQ(success->usage, usage);
}

TEST(OpenAiWire, CallsGarbageBadOutput) {
  for (const char* body : {"", "<html>", "[]", "{}", R"({"choices":[]})", R"({"choices":[{"message":7}]})"}) {
    const Outcome outcome = read_wire_answer(ask("text", "{}"), answer(200, body), "");
    const auto* failure = std::get_if<Failure>(&outcome);
    ASSERT_NE(failure, nullptr) << body;
    EXPECT_EQ(failure->failure, FailureClass::kBadOutput) << body;
  }
  for (const char* body :
       {"{}", R"({"data":[{"b64_json":"!!!!"}]})", R"({"data":[{"url":"http://x/y.png"}]})"}) {
    const Outcome outcome = read_wire_answer(ask("image", "{}"), answer(200, body), "");
    EXPECT_EQ(std::get<Failure>(outcome).failure, FailureClass::kBadOutput) << body;
  }
}

TEST(OpenAiWire, ClassifiesStatuses) {
  const std::pair<int, FailureClass> expected[] = {
      {400, FailureClass::kInvalidInput},  {401, FailureClass::kMisconfigured},
      {403, FailureClass::kMisconfigured}, {404, FailureClass::kMisconfigured},
      {408, FailureClass::kTransient},     {413, FailureClass::kInvalidInput},
      {422, FailureClass::kInvalidInput},  {429, FailureClass::kRateLimited},
      {500, FailureClass::kTransient},     {502, FailureClass::kTransient},
      {503, FailureClass::kTransient},     {504, FailureClass::kTimeout},
      {301, FailureClass::kMisconfigured}, {204, FailureClass::kBadOutput}};
  for (const auto& [status, kind] : expected)
    EXPECT_EQ(classify_refusal(answer(status, "{}"), "").failure, kind) << status;
}

TEST(OpenAiWire, SpentCreditIsNoMatterOfWaiting) {
  const auto refusal =
      classify_refusal(answer(429, R"({"error":{"message":"m","code":"insufficient_quota"}})"), "");
  EXPECT_EQ(refusal.failure, FailureClass::kMisconfigured);
}

TEST(OpenAiWire, TakesTheUpstreamsWordWhenToComeBack) {
  const auto after = [](net::Headers headers) {
    return classify_refusal(answer(429, "{}", std::move(headers)), "").retry_after;
  };
  EXPECT_EQ(after({{"Retry-After", "7"}}), std::chrono::seconds(7));
  EXPECT_EQ(after({{"retry-after", "0.5"}}), std::chrono::milliseconds(500));
  EXPECT_EQ(after({{"retry-after-ms", "250"}, {"retry-after", "1"}}), std::chrono::milliseconds(250));
  EXPECT_EQ(after({{"retry-after", "1e300"}}), std::chrono::hours(24));
  EXPECT_EQ(after({{"retry-after", "-1"}}), std::nullopt);
  EXPECT_EQ(after({{"retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"}}), std::nullopt);
  EXPECT_EQ(after({}), std::nullopt);
}

TEST(OpenAiWire, NeverTellsTheKey) {
  const std::string body = R"({"error":{"message":"Incorrect API key provided: sk-secret-1234."}})";
  for (const int status : {400, 401, 403, 429, 500})
    EXPECT_FALSE(classify_refusal(answer(status, body), "sk-secret-1234").message.contains("secret"))
        << status;
}

TEST(OpenAiWire, FindsTheFirstModel) {
  EXPECT_EQ(first_model(answer(200, R"({"data":[{"id":"llama3"},{"id":"b"}]})")).value(), "llama3");
  EXPECT_FALSE(first_model(answer(200, R"({"data":[]})")));
  EXPECT_FALSE(first_model(answer(200, "nonsense")));
}

}  // namespace
}  // namespace turnpike::provider
