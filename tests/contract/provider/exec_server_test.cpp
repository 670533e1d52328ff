// What programs that stay do to us, and how their processes come and go; with and without a sandbox around
// them.

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <set>
#include <thread>

#include "contract/provider/local_server.h"
#include "provider/json_text.h"
#include "provider/provider_kinds.h"

namespace turnpike::provider::test {
namespace {

using policy::FailureClass;
using std::chrono::milliseconds;
using std::chrono::seconds;

class ExecServer : public testing::TestWithParam<Confinement> {
 protected:
  void SetUp() override {
    if (GetParam() == Confinement::kBubblewrap && !bubblewrap_works())
      GTEST_SKIP() << bubblewrap_works().error().message;
    before_ = holdings();
  }
  void TearDown() override {
    if (IsSkipped()) return;
    provider_.reset();
    EXPECT_EQ(holdings(), before_);
    EXPECT_EQ(server_.processes(), 0U);
    EXPECT_FALSE(server_.made("."));  // its folders are gone
  }

  void use(const policy::Provider& config) {
    std::vector<std::string> warnings;
    provider_ = make_exec_server_provider(config, GetParam(), warnings);
    EXPECT_EQ(warnings, std::vector<std::string>{});
  }
  Request request(const std::string& input, const std::string& task = "act", std::uint64_t account = 1) {
    folders_.push_back(std::make_unique<TempFolder>());
    Request request = make_request(task, input, folders_.back()->path());
    request.account = AccountId{account};
    return request;
  }
  static std::string act(const std::string& what) { return fmt::format(R"({{"act":"{}"}})", what); }
  Outcome run(const std::string& what, Duration timeout = seconds(15)) {
    Request asked = request(act(what));
    asked.timeout = timeout;
    return run_try(*provider_, std::move(asked));
  }
  // Which process answered, by the name that it gave itself.
  std::string name_of(const Outcome& outcome) {
    const Success* success = as_success(outcome);
    if (success == nullptr) return describe(outcome);
    const auto output = parse_json(success->output);
    return std::string{text_in(output->get_object(), "server").value_or("nobody")};
  }
  std::string who(std::uint64_t account = 1) {
    return name_of(run_try(*provider_, request(act("ok"), "act", account)));
  }
  void expect_failure(const Outcome& outcome, FailureClass kind, const std::string& words) {
    const Failure* failure = as_failure(outcome);
    ASSERT_NE(failure, nullptr) << describe(outcome);
    EXPECT_EQ(policy::failure_class_name(failure->failure), std::string{policy::failure_class_name(kind)})
        << describe(outcome);
    EXPECT_TRUE(failure->message.contains(words)) << failure->message;
    EXPECT_FALSE(failure->message.contains("/tmp")) << failure->message;
    EXPECT_LE(failure->message.size(), 600U);
  }

  LocalServer server_;
  std::vector<std::unique_ptr<TempFolder>> folders_;
  std::unique_ptr<Provider> provider_;
  Holdings before_;
};

TEST_P(ExecServer, IsAskedWithAllThatATryIs) {
  use(server_.config());
  Request asked = request(R"({"act":"echo","n":[1,2.5]})");
  asked.model = "small";
  asked.max_output_tokens = 77;
  const Outcome outcome = run_try(*provider_, std::move(asked));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  const auto output = parse_json(as_success(outcome)->output);
  EXPECT_EQ(text_in(output->get_object(), "path"), "/run");
  const boost::json::object* said = object_in(output->get_object(), "asked");
  ASSERT_NE(said, nullptr);
  EXPECT_EQ(text_in(*said, "task"), "act");
  EXPECT_EQ(text_in(*said, "model"), "small");
  EXPECT_EQ(count_of(*said, "max_output_tokens"), 77);
  EXPECT_GT(count_of(*said, "timeout_ms"), 1000);
  ASSERT_NE(object_in(*said, "input"), nullptr);
  EXPECT_EQ(array_in(*object_in(*said, "input"), "n")->size(), 2U);
  if (GetParam() == Confinement::kBubblewrap) EXPECT_TRUE(text_in(*said, "work_dir")->starts_with("/tries/"));
}

TEST_P(ExecServer, OneProcessServesEverybodyAndReportsUsage) {
  use(server_.config());
  const std::string first = who(1);
  EXPECT_EQ(first.size(), 16U) << first;
  EXPECT_EQ(who(2), first);
  const Outcome outcome = run("ok");
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  const std::vector<std::pair<std::string, std::int64_t>> usage = {{"tokens_in", 3}, {"tokens_out", 4}};
  EXPECT_EQ(as_success(outcome)->usage, usage);
}

TEST_P(ExecServer, DedicatedIsAProcessForEachAccountAndTheIdleOneGivesWay) {
  policy::Provider config = server_.config();
  config.serve->per_account = true;
  config.serve->instances = 2;
  use(config);
  const std::string first = who(1);
  const std::string second = who(2);
  EXPECT_NE(first, second);
  EXPECT_EQ(who(1), first);
  EXPECT_EQ(who(2), second);
  EXPECT_NE(who(3), first);  // in the place of 1, which has been idle longest
  EXPECT_EQ(who(2), second);
  EXPECT_NE(who(1), first);
}

TEST_P(ExecServer, DedicatedWaitsWhereAllAreBusyAndFailsInTime) {
  policy::Provider config = server_.config();
  config.serve->per_account = true;
  config.serve->instances = 1;
  config.serve->cancel_grace = milliseconds(50);
  use(config);
  Request busy = request(act("hang"), "act", 1);
  busy.timeout = seconds(3);
  Request waits = request(act("ok"), "act", 2);
  waits.timeout = milliseconds(1500);
  std::vector<std::pair<Provider*, Request>> tries;
  tries.emplace_back(provider_.get(), std::move(busy));
  tries.emplace_back(provider_.get(), std::move(waits));
  const auto outcomes = run_all(std::move(tries));
  expect_failure(outcomes[0], FailureClass::kTimeout, "did not answer in time");
  expect_failure(outcomes[1], FailureClass::kTimeout, "had no place in time");
}

TEST_P(ExecServer, NoMoreRequestsAtOnceThanItTakes) {
  policy::Provider config = server_.config();
  config.serve->concurrency = 1;
  config.serve->instances = 2;
  use(config);
  std::vector<std::pair<Provider*, Request>> tries;
  for (int i = 0; i < 12; ++i) tries.emplace_back(provider_.get(), request(act("ok")));
  std::set<std::string> names;
  for (const Outcome& outcome : run_all(std::move(tries))) {
    ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
    names.insert(name_of(outcome));
  }
  EXPECT_LE(names.size(), 2U);
}

TEST_P(ExecServer, DeathMidRequestIsTransientSaysItsLastWordsAndTheNextStartsItAgain) {
  use(server_.config());
  const std::string first = who();
  expect_failure(run("die"), FailureClass::kTransient, "signal 9: died of act");
  const std::string second = who();
  EXPECT_EQ(second.size(), 16U) << second;
  EXPECT_NE(second, first);
  expect_failure(run("exit"), FailureClass::kTransient, "status 3: ");
}

TEST_P(ExecServer, NeverReadyIsTransientWithTheReason) {
  policy::Provider config = server_.config();
  config.serve->command = {"sh", "-c", "echo loading for ever >&2; sleep 600 # " + server_.script().string()};
  config.serve->start_timeout = seconds(2);
  use(config);
  expect_failure(run("ok"), FailureClass::kTransient,
                 "sh did not listen on its socket within 2000 ms: loading for ever");
}

TEST_P(ExecServer, DyingAtOnceIsToldAndStartedLaterAndLater) {
  use(server_.config("crash"));
  Duration before{0};
  for (int i = 0; i < 3; ++i) {
    const Outcome outcome = run("ok");
    expect_failure(outcome, FailureClass::kTransient, "cannot find the weights");
    ASSERT_TRUE(as_failure(outcome)->retry_after.has_value());
    EXPECT_GT(*as_failure(outcome)->retry_after, before);
    before = *as_failure(outcome)->retry_after;
  }
}

TEST_P(ExecServer, MissingProgramIsMisconfigured) {
  policy::Provider config = server_.config();
  config.serve->command = {"/opt/no-such-server"};
  std::vector<std::string> warnings;
  provider_ = make_exec_server_provider(config, GetParam(), warnings);
  EXPECT_EQ(warnings.size(), 1U);
  EXPECT_FALSE(run_probe(*provider_, seconds(1)));
  expect_failure(run("ok"), FailureClass::kMisconfigured, "no-such-server is not installed");
}

TEST_P(ExecServer, AnswersThatAreNoneAreTold) {
  use(server_.config());
  expect_failure(run("garbage"), FailureClass::kTransient, "broke off");
  expect_failure(run("half"), FailureClass::kTransient, "broke off");
  expect_failure(run("endless"), FailureClass::kBadOutput, "more than it may");
  const std::pair<const char*, const char*> answers[] = {
      {R"([1])", "no JSON object"},
      {R"({"output":1})", "`output` that is no object"},
      {R"({"outptu":{}})", "unknown key `outptu`"},
      {R"({"usage":{"tokens_in":-1}})", "no whole number"},
      {R"({"usage":{"tokens_in":1.5}})", "no whole number"},
      {R"({"usage":{"apples":1}})", "`apples`, which is no meter"}};
  for (const auto& [answer, words] : answers)
    expect_failure(run_try(*provider_, request(fmt::format(R"({{"act":"answer","answer":{}}})", answer))),
                   FailureClass::kBadOutput, words);
  EXPECT_EQ(who().size(), 16U);
}

TEST_P(ExecServer, FilesAreCopiedOutAndIn) {
  use(server_.config());
  Request makes = request(act("file"), "file");
  const std::string made_for = to_string(makes.try_id);
  const Outcome made = run_try(*provider_, std::move(makes));
  ASSERT_NE(as_success(made), nullptr) << describe(made);
  ASSERT_EQ(as_success(made)->files.size(), 1U);
  EXPECT_EQ(as_success(made)->files[0].mime, "text/plain");
  EXPECT_EQ(as_success(made)->files[0].path.parent_path(), folders_.back()->path());
  EXPECT_EQ(read_file(as_success(made)->files[0].path), "made for " + made_for);

  Request reads = request(act("read"));
  write_file(folders_.back()->path() / "given.txt", "what was given");
  reads.files.push_back(
      {.field = "source", .path = folders_.back()->path() / "given.txt", .mime = "text/plain"});
  const Outcome read = run_try(*provider_, std::move(reads));
  ASSERT_NE(as_success(read), nullptr) << describe(read);
  if (GetParam() == Confinement::kBubblewrap)
    EXPECT_EQ(as_success(read)->output, R"({"seen":"what was given"})");
  EXPECT_EQ(read_file(folders_.back()->path() / "given.txt"), "what was given");
}

TEST_P(ExecServer, NoLinkLeadsOutOfItsFolder) {
  use(server_.config());
  expect_failure(run_try(*provider_, request(act("ok"), "file")), FailureClass::kBadOutput, "output text");
  expect_failure(run_try(*provider_, request(act("link"), "file")), FailureClass::kBadOutput, "output text");
  expect_failure(run_try(*provider_, request(act("swap"), "file")), FailureClass::kBadOutput, "output text");
  EXPECT_TRUE(std::filesystem::exists("/etc/passwd"));
  EXPECT_NE(as_success(run("unlisten")), nullptr);
  expect_failure(run("ok"), FailureClass::kTransient, "no longer listens");
  EXPECT_EQ(who().size(), 16U);
}

TEST_P(ExecServer, WhoLeavesIsSeenAndTheProcessLivesOn) {
  use(server_.config());
  const std::string first = who();
  Try options;
  options.cancel = CancelAt::kWhenReady;
  options.ready = [this] { return server_.made("waiting"); };
  EXPECT_TRUE(std::holds_alternative<Cancelled>(run_try(*provider_, request(act("wait")), options)));
  EXPECT_EQ(who(), first);
}

TEST_P(ExecServer, ARequestThatItDoesNotLetGoOfCostsTheProcessItsLife) {
  policy::Provider config = server_.config();
  config.serve->concurrency = 1;
  config.serve->cancel_grace = milliseconds(100);
  use(config);
  const std::string first = who();
  Try options;
  options.cancel = CancelAt::kWhenReady;
  options.ready = [this] { return server_.made("hanging"); };
  EXPECT_TRUE(std::holds_alternative<Cancelled>(run_try(*provider_, request(act("hang")), options)));
  const std::string second = who();  // waits for the place, and gets one in another
  EXPECT_EQ(second.size(), 16U) << second;
  EXPECT_NE(second, first);
}

TEST_P(ExecServer, IdleIsEnded) {
  policy::Provider config = server_.config();
  config.serve->idle_stop = milliseconds(100);
  use(config);
  const std::string first = who();
  const auto until = std::chrono::steady_clock::now() + seconds(10);
  while (server_.processes() > 0 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_EQ(server_.processes(), 0U);
  EXPECT_NE(who(), first);
}

INSTANTIATE_TEST_SUITE_P(Confinements, ExecServer,
                         testing::Values(Confinement::kBubblewrap, Confinement::kNone), [](const auto& each) {
                           return each.param == Confinement::kBubblewrap ? "Bubblewrap" : "Bare";
                         });

}  // namespace
}  // namespace turnpike::provider::test
