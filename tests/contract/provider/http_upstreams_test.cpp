// The examples that are shipped (examples/*.yaml) against servers that speak as the documentation of those
// upstreams says: elevenlabs.io/docs (create speech, errors), docs.fal.ai (queue).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "contract/provider/harness.h"
#include "contract/provider/scripted_server.h"
#include "net/client.h"
#include "policy/load.h"
#include "provider/provider_kinds.h"

namespace turnpike::provider::test {
namespace {

using policy::FailureClass;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

std::filesystem::path repository() {
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path().parent_path();
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
}

// A provider of an example, at another address.
policy::Provider example(const std::string& file, const std::string& name, const std::string& url,
                         const std::string& base_url) {
  std::string text = read_file(repository() / "examples" / file);
  replace(text, url, base_url);
  const policy::SecretSource secrets{.env = [](const std::string&) { return "very-secret"; },
                                     .file = [](const std::string&) { return std::nullopt; }};
  const policy::Loaded loaded = policy::load_text(std::move(text), file, secrets);
  for (const policy::Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
  if (!loaded.policy) throw std::runtime_error("an example has mistakes");
  return loaded.policy->providers.at(name);
}

std::unique_ptr<Provider> make(const policy::Provider& config) {
  std::vector<std::string> warnings;
  auto provider = make_http_provider(config, net::Client::create(), warnings);
  EXPECT_THAT(warnings, ElementsAre());
  return provider;
}

std::string raw(int status, const std::string& type, const std::string& body,
                const std::string& headers = "") {
  return "HTTP/1.1 " + std::to_string(status) + " Scripted\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body;
}

// Where the fake listens without the path that the harness's base URL has.
std::string root(const ScriptedServer& server) {
  const std::string url = server.base_url();
  return url.substr(0, url.rfind('/'));
}

// --- ElevenLabs

class ElevenLabs {
 public:
  explicit ElevenLabs(ScriptedServer::Script script) : server_(std::move(script)) {
    provider_ = make(example("elevenlabs.yaml", "elevenlabs", "https://api.elevenlabs.io", root(server_)));
  }
  Outcome speak(const std::string& input, const std::filesystem::path& folder) {
    Request request = make_request("speech", input, folder);
    request.model = "eleven_multilingual_v2";
    return run_try(*provider_, std::move(request));
  }
  std::vector<Asked> asked() const { return server_.asked(); }

 private:
  ScriptedServer server_;
  std::unique_ptr<Provider> provider_;
};

TEST(ElevenLabsExample, SpeechIsTheBody) {
  ElevenLabs upstream([](const Asked&) -> Reply {
    return {raw(200, "audio/mpeg", "ID3 sound", "request-id: r1\r\ncharacter-cost: 5\r\n")};
  });
  const TempFolder folder;
  const Outcome outcome =
      upstream.speak(R"({"text":"Grüße","voice":"21m00Tcm4TlvDq8ikWAM","speed":1.1})", folder.path());
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  ASSERT_EQ(success->files.size(), 1U);
  EXPECT_EQ(success->files[0].name, "audio");
  EXPECT_EQ(success->files[0].mime, "audio/mpeg");
  EXPECT_EQ(success->files[0].extension, "mp3");
  EXPECT_EQ(read_file(success->files[0].path), "ID3 sound");
  EXPECT_THAT(success->usage, ElementsAre(Pair("characters", 5)));
  const auto asked = upstream.asked();
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].path, "/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM?output_format=mp3_44100_128");
  EXPECT_EQ(asked[0].body,
            R"({"text":"Grüße","model_id":"eleven_multilingual_v2","voice_settings":{"speed":1.1E0}})");
  EXPECT_THAT(asked[0].head, HasSubstr("POST "));
  EXPECT_THAT(asked[0].head, HasSubstr("xi-api-key: very-secret\r\n"));
  EXPECT_THAT(asked[0].head, HasSubstr("Accept: audio/mpeg\r\n"));
  EXPECT_THAT(asked[0].head, HasSubstr("Content-Type: application/json\r\n"));
}

TEST(ElevenLabsExample, WhatIsNotSaidIsNotSent) {
  ElevenLabs upstream([](const Asked&) -> Reply { return {raw(200, "audio/mpeg", "x")}; });
  const TempFolder folder;
  ASSERT_NE(as_success(upstream.speak(R"({"text":"a"})", folder.path())), nullptr);
  EXPECT_EQ(upstream.asked().at(0).body, R"({"text":"a","model_id":"eleven_multilingual_v2"})");
  EXPECT_THAT(upstream.asked().at(0).path, HasSubstr("/JBFqnCBsd6RMkjVDRZzb?"));
}

TEST(ElevenLabsExample, BadInputIsNeverSent) {
  ElevenLabs upstream([](const Asked&) -> Reply { return {raw(200, "audio/mpeg", "x")}; });
  const TempFolder folder;
  for (const char* input : {R"({})", R"({"text":"a","voice":"../user"})", R"({"text":"a","speed":9})",
                            R"({"text":"a","voice":"..."})"}) {
    const Outcome outcome = upstream.speak(input, folder.path());
    ASSERT_NE(as_failure(outcome), nullptr) << input;
    EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kInvalidInput) << describe(outcome);
  }
  EXPECT_TRUE(upstream.asked().empty());
}

TEST(ElevenLabsExample, FailuresAreClassified) {
  const auto class_of = [](const std::string& reply) {
    ElevenLabs upstream([reply](const Asked&) -> Reply { return {reply}; });
    const TempFolder folder;
    const Outcome outcome = upstream.speak(R"({"text":"a"})", folder.path());
    const Failure* failure = as_failure(outcome);
    EXPECT_NE(failure, nullptr) << describe(outcome);
    if (failure == nullptr) return std::string{};
    EXPECT_THAT(failure->message, Not(HasSubstr("very-secret")));
    return std::string{policy::failure_class_name(failure->failure)};
  };
  const auto detail = [](const std::string& status) {
    return R"({"detail":{"status":")" + status + R"(","message":"no, very-secret"}})";
  };
  EXPECT_EQ(class_of(http(401, detail("invalid_api_key"))), "misconfigured");
  EXPECT_EQ(class_of(http(401, detail("quota_exceeded"))), "misconfigured");
  EXPECT_EQ(class_of(http(402, detail("paid_plan_required"))), "misconfigured");
  EXPECT_EQ(class_of(http(404, detail("voice_not_found"))), "misconfigured");
  EXPECT_EQ(
      class_of(http(422, R"({"detail":[{"loc":["body","text"],"msg":"field required","type":"missing"}]})")),
      "invalid_input");
  EXPECT_EQ(class_of(http(429, detail("too_many_concurrent_requests"))), "rate_limited");
  EXPECT_EQ(class_of(http(500, "{}")), "transient");
  EXPECT_EQ(class_of(http(200, R"({"not":"sound"})")), "bad_output");
  EXPECT_EQ(class_of(raw(200, "audio/mpeg", "")), "bad_output");
}

// --- fal

// A PNG of one pixel.
std::string pixel() {
  const auto byte = [](std::initializer_list<int> values) {
    std::string bytes;
    for (const int value : values) bytes += static_cast<char>(value);
    return bytes;
  };
  return byte({0x89, 'P',  'N',  'G',  0x0D, 0x0A, 0x1A, 0x0A, 0,    0,    0,    13,   'I',  'H',
               'D',  'R',  0,    0,    0,    1,    0,    0,    0,    1,    8,    6,    0,    0,
               0,    0x1F, 0x15, 0xC4, 0x89, 0,    0,    0,    13,   'I',  'D',  'A',  'T',  0x78,
               0xDA, 0x63, 0x64, 0x60, 0xF8, 0x5F, 0x0F, 0x00, 0x02, 0x87, 0x01, 0x80, 0xEB, 0x47,
               0xBA, 0x92, 0,    0,    0,    0,    'I',  'E',  'N',  'D',  0xAE, 0x42, 0x60, 0x82});
}

// fal's queue for one request: so many questions see it wait, then it is done.
class Fal {
 public:
  struct Options {
    int waits = 2;
    bool allow_private = true;  // the fake's files are on loopback
    std::string state_at_end = R"({"status":"COMPLETED","request_id":"r-1"})";
    std::function<Reply()> poll{};  // instead, where set
    std::string result{};           // instead of the picture's address
    std::function<Reply()> file{};  // instead of the picture
    std::string status_url{};       // instead of its own
    milliseconds every{10};
  };
  explicit Fal(Options options)
      : options_(std::move(options)), server_([this](const Asked& asked) { return reply(asked); }) {
    policy::Provider config = example("fal.yaml", "fal", "https://queue.fal.run", root(server_));
    config.allow_private = options_.allow_private;
    for (auto& [name, task] : config.http_tasks) task.poll->every = options_.every;
    provider_ = make(config);
  }
  Outcome paint(const std::filesystem::path& folder, const Try& options = {},
                const std::string& input = R"({"prompt":"a cat","width":512})",
                Duration timeout = seconds(15)) {
    Request request = make_request("image", input, folder);
    request.model = "fal-ai/flux/dev";
    request.timeout = timeout;
    return run_try(*provider_, std::move(request), options);
  }
  std::vector<Asked> asked() const { return server_.asked(); }
  int polls() const { return polls_; }
  int cancels() const { return cancels_; }
  std::string paths() const {
    std::string all;
    for (const Asked& each : asked()) all += each.head.substr(0, each.head.find(" HTTP")) + "\n";
    return all;
  }

 private:
  Reply reply(const Asked& asked) {
    const std::string request = root(server_) + "/fal-ai/flux/requests/r-1";
    if (asked.path == "/fal-ai/flux/dev") {
      const std::string status = options_.status_url.empty() ? request + "/status" : options_.status_url;
      return {http(200, R"({"request_id":"r-1","response_url":")" + request + R"(","status_url":")" + status +
                            R"(","cancel_url":")" + request + R"(/cancel","queue_position":0})")};
    }
    if (asked.path.ends_with("/status")) {
      ++polls_;
      if (options_.poll) return options_.poll();
      if (polls_ <= options_.waits)
        return {http(202, R"({"status":")" + std::string{polls_ == 1 ? "IN_QUEUE" : "IN_PROGRESS"} +
                              R"(","queue_position":0})")};
      return {http(200, options_.state_at_end)};
    }
    if (asked.path.ends_with("/cancel")) {
      ++cancels_;
      return {http(202, R"({"status":"CANCELLATION_REQUESTED"})")};
    }
    if (asked.path.ends_with("/requests/r-1")) {
      if (!options_.result.empty()) return {options_.result};
      return {http(200, R"({"images":[{"url":")" + root(server_) +
                            R"(/files/a.png","width":1,"height":1,"content_type":"image/png"}],"seed":42})")};
    }
    return options_.file ? options_.file() : Reply{raw(200, "image/png", pixel())};
  }

  const Options options_;
  std::atomic<int> polls_{0};
  std::atomic<int> cancels_{0};
  ScriptedServer server_;
  std::unique_ptr<Provider> provider_;
};

TEST(FalExample, IsSubmittedAskedAfterAndFetched) {
  Fal fal({});
  const TempFolder folder;
  std::vector<std::string> said;
  Try options;
  options.progress = [&said](int percent, std::string_view message) {
    said.push_back(std::to_string(percent) + " " + std::string{message});
  };
  const Outcome outcome = fal.paint(folder.path(), options);
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  EXPECT_EQ(success->output, R"({"seed":42,"width":1,"height":1})");
  ASSERT_EQ(success->files.size(), 1U);
  EXPECT_EQ(success->files[0].name, "image");
  EXPECT_EQ(success->files[0].mime, "image/png");
  EXPECT_EQ(success->files[0].extension, "png");
  EXPECT_EQ(read_file(success->files[0].path), pixel());
  EXPECT_THAT(success->usage, ElementsAre(Pair("images", 1), Pair("pixels", 1)));
  EXPECT_EQ(fal.paths(),
            "POST /fal-ai/flux/dev\n"
            "GET /fal-ai/flux/requests/r-1/status\n"
            "GET /fal-ai/flux/requests/r-1/status\n"
            "GET /fal-ai/flux/requests/r-1/status\n"
            "GET /fal-ai/flux/requests/r-1\n"
            "GET /files/a.png\n");
  EXPECT_THAT(said,
              ElementsAre("0 the upstream says IN_QUEUE", "0 the upstream says IN_PROGRESS", "100 answered"));
  const auto asked = fal.asked();
  EXPECT_EQ(
      asked[0].body,
      R"({"prompt":"a cat","image_size":{"width":512,"height":1024},"output_format":"jpeg","num_images":1})");
  for (std::size_t i = 0; i + 1 < asked.size(); ++i)
    EXPECT_THAT(asked[i].head, HasSubstr("Authorization: Key very-secret\r\n"));
  // Files are elsewhere, as a rule: the key is not for them.
  EXPECT_THAT(asked.back().head, Not(HasSubstr("very-secret")));
}

TEST(FalExample, CancellingATryCancelsItUpstream) {
  Fal fal({.waits = 1'000'000});
  const TempFolder folder;
  Try options;
  options.cancel = CancelAt::kWhenReady;
  options.ready = [&fal] { return fal.polls() > 0; };
  const Outcome outcome = fal.paint(folder.path(), options);
  const auto* cancelled = std::get_if<Cancelled>(&outcome);
  ASSERT_NE(cancelled, nullptr) << describe(outcome);
  EXPECT_FALSE(cancelled->billed);  // it may have begun
  EXPECT_EQ(fal.cancels(), 1);
  EXPECT_THAT(fal.paths(), HasSubstr("PUT /fal-ai/flux/requests/r-1/cancel\n"));
}

TEST(FalExample, TimeOutCancelsItUpstream) {
  Fal fal({.waits = 1'000'000});
  const TempFolder folder;
  const Outcome outcome = fal.paint(folder.path(), {}, R"({"prompt":"x"})", milliseconds(200));
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kTimeout);
  EXPECT_FALSE(as_failure(outcome)->billed);
  EXPECT_EQ(fal.cancels(), 1);
}

TEST(FalExample, FailuresUpstreamAreSaid) {
  Fal fal({.state_at_end = R"({"status":"FAILED","error":"runner very-secret died"})"});
  const TempFolder folder;
  const Outcome outcome = fal.paint(folder.path());
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kTransient);
  EXPECT_EQ(as_failure(outcome)->message, "the upstream failed: runner *** died");
}

TEST(FalExample, InputThatTheModelRefusesIsInvalid) {
  Fal fal({.result =
               http(422, R"({"detail":[{"loc":["body","prompt"],"msg":"too long","type":"value_error"}]})")});
  const TempFolder folder;
  const Outcome outcome = fal.paint(folder.path());
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kInvalidInput);
  EXPECT_THAT(as_failure(outcome)->message, HasSubstr("too long"));
}

TEST(FalExample, AFewBadAnswersToQuestionsArePassedOver) {
  std::atomic<int> count{0};
  Fal fal({.poll = [&count]() -> Reply {
    const int now = ++count;
    if (now <= 3) return {http(503, "{}")};
    return {http(200, R"({"status":"COMPLETED"})")};
  }});
  const TempFolder folder;
  EXPECT_NE(as_success(fal.paint(folder.path())), nullptr);
  EXPECT_EQ(count, 4);
}

TEST(FalExample, GivesUpWhereQuestionsFindNoAnswer) {
  Fal fal({.poll = [] { return Reply{http(503, "{}")}; }});
  const TempFolder folder;
  const Outcome outcome = fal.paint(folder.path());
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kTransient);
  EXPECT_FALSE(as_failure(outcome)->billed);
  EXPECT_EQ(fal.polls(), 5);
  EXPECT_EQ(fal.cancels(), 1);
}

TEST(FalExample, TheKeyGoesToNoOtherServer) {
  const ScriptedServer other([](const Asked&) -> Reply { return {http(200, R"({"status":"COMPLETED"})")}; });
  Fal fal({.status_url = root(other) + "/status"});
  const TempFolder folder;
  const Outcome outcome = fal.paint(folder.path());
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kBadOutput) << describe(outcome);
  EXPECT_TRUE(other.asked().empty());
}

TEST(FalExample, FilesComeFromPublicAddressesOnly) {
  Fal fal({.allow_private = false});
  const TempFolder folder;
  const Outcome outcome = fal.paint(folder.path());
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kBadOutput);
  EXPECT_THAT(fal.paths(), Not(HasSubstr("/files/")));
  // It was made all the same.
  EXPECT_TRUE(as_failure(outcome)->billed.has_value());
}

TEST(FalExample, FilesAreNoSocketsOfThisMachine) {
  Fal fal({.result = http(200, R"({"images":[{"url":"unix:/run/some.sock:/"}]})")});
  const TempFolder folder;
  const Outcome outcome = fal.paint(folder.path());
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kBadOutput);
}

TEST(FalExample, FilesMayStandInTheAnswerItself) {
  Fal fal(
      {.result = http(
           200,
           R"({"images":[{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="}],"seed":1})")});
  const TempFolder folder;
  const Outcome outcome = fal.paint(folder.path());
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_success(outcome)->files.at(0).mime, "image/png");
}

TEST(FalExample, ADownloadThatBreaksIsTriedAgain) {
  std::atomic<int> count{0};
  Fal fal({.file = [&count]() -> Reply {
    if (++count == 1) return {http(500, "{}")};
    return {raw(200, "image/png", pixel())};
  }});
  const TempFolder folder;
  EXPECT_NE(as_success(fal.paint(folder.path())), nullptr);
  EXPECT_EQ(count, 2);
}

TEST(FalExample, BrokenAnswersAreBadOutput) {
  for (const std::string& result : {http(200, "<html>"), http(200, "{}"), http(200, R"({"images":[]})")}) {
    Fal fal({.result = result});
    const TempFolder folder;
    const Outcome outcome = fal.paint(folder.path());
    ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
    EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kBadOutput) << describe(outcome);
  }
}

}  // namespace
}  // namespace turnpike::provider::test
