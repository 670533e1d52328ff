// What every provider promises (provider.h), whatever stands behind it.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <map>
#include <mutex>
#include <thread>

#include "contract/provider/harness.h"
#include "contract/provider/local_server.h"
#include "contract/provider/scripted_server.h"
#include "net/client.h"
#include "provider/provider_kinds.h"
#include "provider/work_desk.h"

namespace turnpike::provider::test {
namespace {

using policy::FailureClass;
using std::chrono::milliseconds;
using std::chrono::seconds;

enum class Act { kSucceed, kHang, kTransient, kRateLimited, kMisconfigured, kInvalidInput, kBadOutput };

// One kind of upstream that can be made to do everything that upstreams do.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual Provider& provider(Act act) = 0;
  virtual Request request(Act act, const std::filesystem::path& work_dir) = 0;
  // Whether a hanging try has really begun.
  virtual bool hanging(const std::filesystem::path& work_dir) = 0;
  virtual bool can(Act act) const = 0;
};

class ExecSubject final : public Subject {
 public:
  explicit ExecSubject(Confinement confinement) {
    policy::Provider config;
    config.name = "local";
    config.kind = policy::ProviderKind::kExec;
    add(config, Act::kSucceed, "echo '{\"said\":1}'");
    add(config, Act::kHang, ": > hanging; sleep 600");
    add(config, Act::kTransient, "exit 1");
    add(config, Act::kMisconfigured, "exit 127");
    add(config, Act::kInvalidInput, "exit 65");
    add(config, Act::kBadOutput, "echo garbage");
    std::vector<std::string> warnings;
    provider_ = make_exec_provider(config, confinement, warnings);
  }
  Provider& provider(Act) override { return *provider_; }
  Request request(Act act, const std::filesystem::path& work_dir) override {
    return make_request(name(act), R"({"prompt":"x"})", work_dir);
  }
  bool hanging(const std::filesystem::path& work_dir) override {
    return std::filesystem::exists(work_dir / "hanging");
  }
  bool can(Act act) const override { return act != Act::kRateLimited; }

 private:
  static std::string name(Act act) { return "act" + std::to_string(static_cast<int>(act)); }
  static void add(policy::Provider& config, Act act, const std::string& script) {
    policy::ExecTask& task = config.exec_tasks[name(act)];
    task.steps = {{.command = {"sh", "-c", script}, .when = ""}};
    task.stdout_json = true;
  }
  std::unique_ptr<Provider> provider_;
};

// A program that stays, behind a Unix socket.
class ExecServerSubject final : public Subject {
 public:
  explicit ExecServerSubject(Confinement confinement) {
    std::vector<std::string> warnings;
    provider_ = make_exec_server_provider(server_.config(), confinement, warnings);
  }
  Provider& provider(Act) override { return *provider_; }
  Request request(Act act, const std::filesystem::path& work_dir) override {
    static const std::map<Act, const char*> names = {{Act::kSucceed, "ok"},
                                                     {Act::kHang, "hang"},
                                                     {Act::kTransient, "transient"},
                                                     {Act::kRateLimited, "rate_limited"},
                                                     {Act::kMisconfigured, "misconfigured"},
                                                     {Act::kInvalidInput, "invalid_input"},
                                                     {Act::kBadOutput, "html"}};
    return make_request("act", R"({"act":")" + std::string{names.at(act)} + R"("})", work_dir);
  }
  bool hanging(const std::filesystem::path&) override { return server_.made("hanging"); }
  bool can(Act) const override { return true; }

 private:
  LocalServer server_;
  std::unique_ptr<Provider> provider_;
};

class OpenAiSubject final : public Subject {
 public:
  OpenAiSubject() : server_([](const Asked& asked) { return reply(asked); }) {
    policy::Provider config;
    config.name = "upstream";
    config.kind = policy::ProviderKind::kOpenAi;
    config.base_url = server_.base_url();
    config.api_key = policy::Secret{"sk-very-secret"};
    provider_ = make_openai_provider(config, net::Client::create());
  }
  Provider& provider(Act) override { return *provider_; }
  Request request(Act act, const std::filesystem::path& work_dir) override {
    Request request = make_request("text", R"({"prompt":"x"})", work_dir);
    request.model = "act" + std::to_string(static_cast<int>(act));
    return request;
  }
  bool hanging(const std::filesystem::path&) override { return server_.hanging() > 0; }
  bool can(Act) const override { return true; }

 private:
  static Reply reply(const Asked& asked) {
    const auto is = [&asked](Act act) {
      return asked.body.contains("\"act" + std::to_string(static_cast<int>(act)) + "\"");
    };
    const std::string error = R"({"error":{"message":"key sk-very-secret is bad","code":"x"}})";
    if (is(Act::kHang)) return {.bytes = "", .hangs = true};
    if (is(Act::kTransient)) return {http(500, error)};
    if (is(Act::kRateLimited)) return {http(429, error, "Retry-After: 3\r\n")};
    if (is(Act::kMisconfigured)) return {http(401, error)};
    if (is(Act::kInvalidInput)) return {http(400, error)};
    if (is(Act::kBadOutput)) return {http(200, "<html>")};
    return {http(200, R"({"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]})")};
  }
  ScriptedServer server_;
  std::unique_ptr<Provider> provider_;
};

class SandboxSubject final : public Subject {
 public:
  Provider& provider(Act act) override {
    auto& made = providers_[act];
    if (!made) made = make_sandbox_provider(config(act));
    return *made;
  }
  Request request(Act act, const std::filesystem::path& work_dir) override {
    return make_request("text", act == Act::kInvalidInput ? "{}" : R"({"prompt":"x"})", work_dir);
  }
  bool hanging(const std::filesystem::path&) override { return true; }
  bool can(Act) const override { return true; }

 private:
  static policy::Provider config(Act act) {
    policy::Provider config;
    config.name = "sandbox";
    const bool hangs = act == Act::kHang;
    config.latency_p50 = hangs ? Duration{std::chrono::hours(1)} : Duration{milliseconds(2)};
    config.latency_p99 = hangs ? Duration{std::chrono::hours(1)} : Duration{milliseconds(4)};
    if (act == Act::kTransient) config.faults = {{FailureClass::kTransient, 1000}};
    if (act == Act::kRateLimited) config.faults = {{FailureClass::kRateLimited, 1000}};
    if (act == Act::kMisconfigured) config.faults = {{FailureClass::kMisconfigured, 1000}};
    if (act == Act::kBadOutput) config.faults = {{FailureClass::kBadOutput, 1000}};
    return config;
  }
  std::map<Act, std::unique_ptr<Provider>> providers_;
};

class AnthropicSubject final : public Subject {
 public:
  AnthropicSubject() : server_([](const Asked& asked) { return reply(asked); }) {
    policy::Provider config;
    config.name = "upstream";
    config.kind = policy::ProviderKind::kAnthropic;
    config.base_url = server_.base_url();
    config.api_key = policy::Secret{"sk-ant-very-secret"};
    provider_ = make_anthropic_provider(config, net::Client::create());
  }
  Provider& provider(Act) override { return *provider_; }
  Request request(Act act, const std::filesystem::path& work_dir) override {
    Request request = make_request("text", R"({"prompt":"x"})", work_dir);
    request.model = "act" + std::to_string(static_cast<int>(act));
    return request;
  }
  bool hanging(const std::filesystem::path&) override { return server_.hanging() > 0; }
  bool can(Act) const override { return true; }

 private:
  static Reply reply(const Asked& asked) {
    const auto is = [&asked](Act act) {
      return asked.body.contains("\"act" + std::to_string(static_cast<int>(act)) + "\"");
    };
    const auto error = [](const std::string& type) {
      return R"({"type":"error","error":{"type":")" + type +
             R"(","message":"key sk-ant-very-secret is bad"}})";
    };
    if (is(Act::kHang)) return {.bytes = "", .hangs = true};
    if (is(Act::kTransient)) return {http(529, error("overloaded_error"))};
    if (is(Act::kRateLimited)) return {http(429, error("rate_limit_error"), "retry-after: 3\r\n")};
    if (is(Act::kMisconfigured)) return {http(401, error("authentication_error"))};
    if (is(Act::kInvalidInput)) return {http(400, error("invalid_request_error"))};
    if (is(Act::kBadOutput)) return {http(200, "<html>")};
    return {http(
        200, R"({"type":"message","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn"})")};
  }
  ScriptedServer server_;
  std::unique_ptr<Provider> provider_;
};

// A job that is submitted and asked after; hangs where it is never done.
class HttpSubject final : public Subject {
 public:
  HttpSubject() : server_([this](const Asked& asked) { return reply(asked); }) {
    policy::Provider config;
    config.name = "upstream";
    config.kind = policy::ProviderKind::kHttp;
    config.base_url = server_.base_url();
    config.api_key = policy::Secret{"very-secret"};
    policy::HttpTask& task = config.http_tasks["text"];
    task.request.path = "/submit";
    task.request.json = R"({"prompt":"${input.prompt}","model":"${model}"})";
    policy::HttpPoll& poll = task.poll.emplace();
    poll.request = {.method = "GET", .path = "/jobs/${answer.id}", .url_at = "", .headers = {}, .json = ""};
    poll.every = milliseconds(10);
    poll.until = {.at = "status", .is = {"done"}};
    poll.failed = policy::HttpCondition{.at = "status", .is = {"failed"}};
    poll.message_at = "why";
    task.output = {{"text", "text"}};
    std::vector<std::string> warnings;
    provider_ = make_http_provider(config, net::Client::create(), warnings);
    EXPECT_TRUE(warnings.empty());
  }
  Provider& provider(Act) override { return *provider_; }
  Request request(Act act, const std::filesystem::path& work_dir) override {
    Request request = make_request("text", R"({"prompt":"x"})", work_dir);
    request.model = "act" + std::to_string(static_cast<int>(act));
    return request;
  }
  bool hanging(const std::filesystem::path&) override { return waited_ > 0; }
  bool can(Act) const override { return true; }

 private:
  Reply reply(const Asked& asked) {
    const auto is = [&asked](Act act) {
      const std::string name = "act" + std::to_string(static_cast<int>(act));
      return asked.body.contains(name) || asked.path.contains(name);
    };
    const std::string error = R"({"detail":{"status":"x","message":"key very-secret is bad"}})";
    if (asked.path == "/v1/submit") {
      if (is(Act::kRateLimited)) return {http(429, error, "Retry-After: 3\r\n")};
      if (is(Act::kMisconfigured)) return {http(401, error)};
      if (is(Act::kInvalidInput)) return {http(422, error)};
      const std::size_t at = asked.body.find("act");
      return {http(200, R"({"id":")" + asked.body.substr(at, asked.body.find('"', at) - at) + R"("})")};
    }
    if (is(Act::kTransient)) return {http(200, R"({"status":"failed","why":"key very-secret is bad"})")};
    if (is(Act::kBadOutput)) return {http(200, "<html>")};
    if (is(Act::kHang)) {
      ++waited_;
      return {http(200, R"({"status":"running"})")};
    }
    return {http(200, R"({"status":"done","text":"hello"})")};
  }
  std::atomic<int> waited_{0};
  ScriptedServer server_;
  std::unique_ptr<Provider> provider_;
};

// A worker that takes what is started for it, and reports at once, or never.
class PullSubject final : public Subject {
 public:
  PullSubject() {
    policy::Provider config;
    config.name = "own";
    config.kind = policy::ProviderKind::kPull;
    provider_ = make_pull_provider(config, desk_);
  }
  ~PullSubject() override {
    stops_ = true;
    worker_.join();
  }
  Provider& provider(Act) override { return *provider_; }
  Request request(Act act, const std::filesystem::path& work_dir) override {
    Request request =
        make_request("act" + std::to_string(static_cast<int>(act)), R"({"prompt":"x"})", work_dir);
    request.claim = ClaimId{request.job.value};
    desk_->open(request.claim, {}, std::make_shared<Bell>(nobody_.get_executor()));
    desk_->expect(request.claim, 1);
    const std::scoped_lock lock(mutex_);
    open_.push_back(request.claim);
    return request;
  }
  bool hanging(const std::filesystem::path&) override { return hanging_; }
  bool can(Act) const override { return true; }

 private:
  void work() {
    while (!stops_) {
      std::vector<ClaimId> open;
      {
        const std::scoped_lock lock(mutex_);
        open = open_;
      }
      for (const ClaimId claim : open) {
        if (!desk_->filled(claim)) continue;
        for (const Work& work : desk_->take(claim)) report(work);
        const std::scoped_lock lock(mutex_);
        std::erase(open_, claim);
      }
      std::this_thread::yield();
    }
  }
  void report(const Work& work) {
    const auto bell = std::make_shared<Bell>(nobody_.get_executor());
    const auto failed = [&](FailureClass kind) {
      Failure failure{.failure = kind, .message = "as asked", .retry_after = {}};
      if (kind == FailureClass::kRateLimited) failure.retry_after = seconds(3);
      EXPECT_TRUE(desk_->report(work.id, {}, std::move(failure), bell));
    };
    const auto is = [&work](Act act) { return work.task == "act" + std::to_string(static_cast<int>(act)); };
    if (is(Act::kHang)) {
      EXPECT_TRUE(desk_->progress(work.id, {}, 10, "at it"));
      hanging_ = true;
      return;
    }
    if (is(Act::kTransient)) return failed(FailureClass::kTransient);
    if (is(Act::kRateLimited)) return failed(FailureClass::kRateLimited);
    if (is(Act::kMisconfigured)) return failed(FailureClass::kMisconfigured);
    if (is(Act::kInvalidInput)) return failed(FailureClass::kInvalidInput);
    if (is(Act::kBadOutput)) return failed(FailureClass::kBadOutput);
    EXPECT_TRUE(desk_->progress(work.id, {}, 60, "nearly"));
    EXPECT_TRUE(desk_->report(work.id, {}, Success{.output = R"({"made":1})"}, bell));
  }

  boost::asio::io_context nobody_{1};  // of bells that nobody waits for
  const std::shared_ptr<WorkDesk> desk_ = std::make_shared<WorkDesk>();
  std::unique_ptr<Provider> provider_;
  std::mutex mutex_;
  std::vector<ClaimId> open_;  // guarded by mutex_
  std::atomic<bool> hanging_ = false;
  std::atomic<bool> stops_ = false;
  std::thread worker_{[this] { work(); }};  // last: it uses all of them
};

enum class Kind {
  kExecBubblewrap,
  kExecBare,
  kServerBubblewrap,
  kServerBare,
  kOpenAi,
  kAnthropic,
  kHttp,
  kSandbox,
  kPull
};

std::string kind_name(const testing::TestParamInfo<Kind>& each) {
  constexpr std::array names = {"ExecBubblewrap", "ExecBare", "ServerBubblewrap", "ServerBare", "OpenAi",
                                "Anthropic",      "Http",     "Sandbox",          "Pull"};
  return names[static_cast<std::size_t>(each.param)];
}

Try cancelled(CancelAt when, bool awaits_afterwards = false) {
  Try options;
  options.cancel = when;
  options.awaits_afterwards = awaits_afterwards;
  return options;
}

std::unique_ptr<Subject> make_subject(Kind kind) {
  switch (kind) {
    case Kind::kExecBubblewrap:
      return std::make_unique<ExecSubject>(Confinement::kBubblewrap);
    case Kind::kExecBare:
      return std::make_unique<ExecSubject>(Confinement::kNone);
    case Kind::kServerBubblewrap:
      return std::make_unique<ExecServerSubject>(Confinement::kBubblewrap);
    case Kind::kServerBare:
      return std::make_unique<ExecServerSubject>(Confinement::kNone);
    case Kind::kOpenAi:
      return std::make_unique<OpenAiSubject>();
    case Kind::kAnthropic:
      return std::make_unique<AnthropicSubject>();
    case Kind::kHttp:
      return std::make_unique<HttpSubject>();
    case Kind::kSandbox:
      return std::make_unique<SandboxSubject>();
    case Kind::kPull:
      return std::make_unique<PullSubject>();
  }
  return nullptr;
}

class ProviderContract : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const bool confined = GetParam() == Kind::kExecBubblewrap || GetParam() == Kind::kServerBubblewrap;
    if (confined && !bubblewrap_works()) GTEST_SKIP() << bubblewrap_works().error().message;
    before_ = holdings();
    subject_ = make_subject(GetParam());
  }
  void TearDown() override {
    if (IsSkipped()) return;
    subject_.reset();
    EXPECT_EQ(holdings(), before_);
  }

  Outcome act(Act act, const Try& options = {}, Duration timeout = seconds(15)) {
    const TempFolder folder;
    Request request = subject_->request(act, folder.path());
    request.timeout = timeout;
    Try with_folder = options;
    with_folder.ready = [this, &folder] { return subject_->hanging(folder.path()); };
    return run_try(subject_->provider(act), std::move(request), with_folder);
  }

  Holdings before_;
  std::unique_ptr<Subject> subject_;
};

TEST_P(ProviderContract, SucceedsWithAJsonObject) {
  const Outcome outcome = act(Act::kSucceed);
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  EXPECT_TRUE(success->output.starts_with('{'));
  EXPECT_LE(success->output.size(), kOutputBytesMax);
}

TEST_P(ProviderContract, ClassifiesFailuresAndTellsNoSecret) {
  const std::map<Act, FailureClass> expected = {{Act::kTransient, FailureClass::kTransient},
                                                {Act::kRateLimited, FailureClass::kRateLimited},
                                                {Act::kMisconfigured, FailureClass::kMisconfigured},
                                                {Act::kInvalidInput, FailureClass::kInvalidInput},
                                                {Act::kBadOutput, FailureClass::kBadOutput}};
  for (const auto& [what, kind] : expected) {
    if (!subject_->can(what)) continue;
    const Outcome outcome = act(what);
    const Failure* failure = as_failure(outcome);
    ASSERT_NE(failure, nullptr) << describe(outcome);
    EXPECT_EQ(failure->failure, kind) << describe(outcome);
    EXPECT_FALSE(failure->message.empty());
    EXPECT_FALSE(failure->message.contains("very-secret")) << failure->message;
    EXPECT_EQ(failure->retry_after.has_value(), kind == FailureClass::kRateLimited);
  }
}

TEST_P(ProviderContract, EndsWithinTheAttemptsTime) {
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome = act(Act::kHang, {}, milliseconds(200));
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kTimeout) << describe(outcome);
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(elapsed, milliseconds(190));
  EXPECT_LT(elapsed, seconds(5));
}

TEST_P(ProviderContract, CanBeCancelledAtOnce) {
  const Outcome outcome = act(Act::kHang, cancelled(CancelAt::kOnce));
  EXPECT_TRUE(std::holds_alternative<Cancelled>(outcome)) << describe(outcome);
}

TEST_P(ProviderContract, CanBeCancelledMidway) {
  const Outcome outcome = act(Act::kHang, cancelled(CancelAt::kWhenReady));
  EXPECT_TRUE(std::holds_alternative<Cancelled>(outcome)) << describe(outcome);
}

TEST_P(ProviderContract, CallerMayGoOnAwaitingAfterACancellation) {
  const Outcome outcome = act(Act::kHang, cancelled(CancelAt::kWhenReady, true));
  EXPECT_TRUE(std::holds_alternative<Cancelled>(outcome)) << describe(outcome);
}

TEST_P(ProviderContract, ProgressOnlyGrowsFromZeroToHundred) {
  int last = 0;
  Try options;
  options.progress = [&last](int percent, std::string_view message) {
    EXPECT_GE(percent, last);
    EXPECT_LE(percent, 100);
    EXPECT_LE(message.size(), 200U);
    last = percent;
  };
  EXPECT_NE(as_success(act(Act::kSucceed, options)), nullptr);
}

TEST_P(ProviderContract, ManyTriesAtOnceEndEachWithItsOwn) {
  std::vector<std::unique_ptr<TempFolder>> folders;
  std::vector<std::pair<Provider*, Request>> tries;
  for (int i = 0; i < 24; ++i) {
    const Act what = i % 3 == 0 ? Act::kTransient : Act::kSucceed;
    folders.push_back(std::make_unique<TempFolder>());
    tries.emplace_back(&subject_->provider(what), subject_->request(what, folders.back()->path()));
  }
  const std::vector<Outcome> outcomes = run_all(std::move(tries));
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    EXPECT_EQ(as_failure(outcomes[i]) != nullptr, i % 3 == 0) << i << " " << describe(outcomes[i]);
}

TEST_P(ProviderContract, RefusesInputThatIsNoJsonObject) {
  for (const char* input : {"", "nonsense", "[1,2]", "\"x\""}) {
    const TempFolder folder;
    Request request = subject_->request(Act::kSucceed, folder.path());
    request.input = input;
    const Outcome outcome = run_try(subject_->provider(Act::kSucceed), std::move(request));
    ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
    EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kInvalidInput) << describe(outcome);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, ProviderContract,
                         testing::Values(Kind::kExecBubblewrap, Kind::kExecBare, Kind::kServerBubblewrap,
                                         Kind::kServerBare, Kind::kOpenAi, Kind::kAnthropic, Kind::kHttp,
                                         Kind::kSandbox, Kind::kPull),
                         kind_name);

// --- What only an OpenAI-compatible server does

policy::Provider upstream(const ScriptedServer& server) {
  policy::Provider config;
  config.name = "upstream";
  config.base_url = server.base_url() + "/";
  config.api_key = policy::Secret{"sk-very-secret"};
  return config;
}

TEST(OpenAiUpstream, AutoIsTheFirstModelAndAskedForOnce) {
  const ScriptedServer server([](const Asked& asked) -> Reply {
    if (asked.path == "/v1/models") return {http(200, R"({"data":[{"id":"first"},{"id":"second"}]})")};
    return {http(200, R"({"choices":[{"message":{"content":"x"}}]})")};
  });
  const auto provider = make_openai_provider(upstream(server), net::Client::create());
  const TempFolder folder;
  for (int i = 0; i < 2; ++i) {
    Request request = make_request("text", R"({"prompt":"x"})", folder.path());
    request.model = "auto";
    const Outcome outcome = run_try(*provider, std::move(request));
    ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  }
  const auto asked = server.asked();
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(asked[0].path, "/v1/models");
  EXPECT_EQ(asked[1].path, "/v1/chat/completions");
  EXPECT_TRUE(asked[1].body.contains(R"("model":"first")"));
  EXPECT_TRUE(asked[1].head.contains("Authorization: Bearer sk-very-secret\r\n")) << asked[1].head;
}

TEST(OpenAiUpstream, LimitIsRenamedWhereTheModelWantsIt) {
  const ScriptedServer server([](const Asked& asked) -> Reply {
    if (asked.body.contains("\"max_tokens\""))
      return {http(400, R"({"error":{"message":"Use 'max_completion_tokens' instead."}})")};
    return {http(200, R"({"choices":[{"message":{"content":"x"}}]})")};
  });
  const auto provider = make_openai_provider(upstream(server), net::Client::create());
  const TempFolder folder;
  const Outcome outcome =
      run_try(*provider, make_request("text", R"({"prompt":"x","max_tokens":9})", folder.path()));
  EXPECT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(server.asked().size(), 2U);
}

TEST(OpenAiUpstream, PicturesBecomeFiles) {
  // A PNG of one pixel.
  const std::string png =
      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
  const ScriptedServer server(
      [&png](const Asked&) -> Reply { return {http(200, R"({"data":[{"b64_json":")" + png + R"("}]})")}; });
  const auto provider = make_openai_provider(upstream(server), net::Client::create());
  const TempFolder folder;
  const Outcome outcome = run_try(*provider, make_request("image", R"({"prompt":"x"})", folder.path()));
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  EXPECT_EQ(success->output, R"({"width":1,"height":1})");
  ASSERT_EQ(success->files.size(), 1U);
  EXPECT_EQ(success->files[0].mime, "image/png");
  EXPECT_EQ(success->files[0].extension, "png");
  EXPECT_EQ(std::filesystem::file_size(success->files[0].path), 70U);
}

TEST(OpenAiUpstream, WhoBreaksOffIsTransient) {
  const ScriptedServer server([](const Asked&) -> Reply { return {}; });
  const auto provider = make_openai_provider(upstream(server), net::Client::create());
  const TempFolder folder;
  const Outcome outcome = run_try(*provider, make_request("text", R"({"prompt":"x"})", folder.path()));
  ASSERT_NE(as_failure(outcome), nullptr);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kTransient) << describe(outcome);
}

TEST(OpenAiUpstream, ProbeSeesWhoIsThere) {
  const ScriptedServer server(
      [](const Asked&) -> Reply { return {http(200, R"({"data":[{"id":"first"}]})")}; });
  EXPECT_TRUE(run_probe(*make_openai_provider(upstream(server), net::Client::create()), seconds(2)));
  policy::Provider nobody = upstream(server);
  {
    const ScriptedServer gone([](const Asked&) -> Reply { return {}; });
    nobody.base_url = gone.base_url();
  }
  EXPECT_FALSE(run_probe(*make_openai_provider(nobody, net::Client::create()), seconds(2)));
}

}  // namespace
}  // namespace turnpike::provider::test
