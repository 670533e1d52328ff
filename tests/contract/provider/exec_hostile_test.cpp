// What programs do to us, with and without a sandbox around them.

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "contract/provider/harness.h"
#include "provider/process_tree.h"
#include "provider/provider_kinds.h"

namespace turnpike::provider::test {
namespace {

using policy::FailureClass;
using std::chrono::milliseconds;
using std::chrono::seconds;

policy::ExecTask shell(const std::string& script) {
  policy::ExecTask task;
  task.steps = {{.command = {"sh", "-c", script}, .when = ""}};
  task.time_max = seconds(10);
  return task;
}

class ExecHostile : public testing::TestWithParam<Confinement> {
 protected:
  void SetUp() override {
    if (confined() && !bubblewrap_works()) GTEST_SKIP() << bubblewrap_works().error().message;
    before_ = holdings();
  }
  void TearDown() override {
    if (!IsSkipped()) EXPECT_EQ(holdings(), before_);
  }

  static bool confined() { return GetParam() == Confinement::kBubblewrap; }

  std::unique_ptr<Provider> provider(const policy::ExecTask& task) {
    policy::Provider config;
    config.name = "local";
    config.kind = policy::ProviderKind::kExec;
    config.exec_tasks["act"] = task;
    return make_exec_provider(config, GetParam(), warnings_);
  }

  Outcome act(const policy::ExecTask& task, const std::string& input = "{}", const Try& options = {}) {
    return run_try(*provider(task), make_request("act", input, folder_.path()), options);
  }

  void expect_failure(const Outcome& outcome, FailureClass kind, const std::string& words) {
    const Failure* failure = as_failure(outcome);
    ASSERT_NE(failure, nullptr) << describe(outcome);
    EXPECT_EQ(policy::failure_class_name(failure->failure), std::string{policy::failure_class_name(kind)})
        << describe(outcome);
    EXPECT_TRUE(failure->message.contains(words)) << failure->message;
    EXPECT_FALSE(failure->message.contains(folder_.path().string())) << failure->message;
    EXPECT_LE(failure->message.size(), 600U);
  }

  // A sleep that nobody else has, to be looked for.
  std::string unique_sleep() {
    static int next = 0;
    return fmt::format("sleep 3{}.{}", ::getpid(), ++next);
  }
  static std::string as_command_line(std::string command) {
    for (char& c : command) {
      if (c == ' ') c = '\0';
    }
    return command;
  }

  TempFolder folder_;
  std::vector<std::string> warnings_;
  Holdings before_;
};

TEST_P(ExecHostile, MissingProgramIsMisconfiguredAndWarnedOf) {
  policy::ExecTask task;
  task.steps = {{.command = {"no-such-program-anywhere"}, .when = ""}};
  expect_failure(act(task), FailureClass::kMisconfigured, "no-such-program-anywhere is not installed");
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_TRUE(warnings_[0].contains("no-such-program-anywhere")) << warnings_[0];
}

TEST_P(ExecHostile, ProgramThatIsNoExecutableFormatIsMisconfigured) {
  const auto path = folder_.path() / "garbage";
  write_file(path, "\x01\x02\x03 not a program");
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  policy::ExecTask task;
  task.steps = {{.command = {path.string()}, .when = ""}};
  const Outcome outcome = act(task);
  const Failure* failure = as_failure(outcome);
  ASSERT_NE(failure, nullptr);
  EXPECT_EQ(failure->failure, FailureClass::kMisconfigured) << describe(outcome);
}

TEST_P(ExecHostile, ScriptOutsideOfTheSystemFoldersRuns) {
  const auto path = folder_.path() / "mine.sh";
  write_script(path, "echo '{\"ran\":true}'");
  policy::ExecTask task;
  task.steps = {{.command = {path.string()}, .when = ""}};
  task.stdout_json = true;
  const Outcome outcome = act(task);
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_success(outcome)->output, R"({"ran":true})");
}

TEST_P(ExecHostile, ProgramThatHangsIsKilledAtItsTime) {
  policy::ExecTask task = shell("trap '' TERM INT HUP; while :; do :; done");
  task.time_max = milliseconds(300);
  const auto begin = std::chrono::steady_clock::now();
  expect_failure(act(task), FailureClass::kTimeout, "sh did not end in time");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
}

TEST_P(ExecHostile, AttemptsTimeoutBindsWhereItIsShorter) {
  Request request = make_request("act", "{}", folder_.path());
  request.timeout = milliseconds(200);
  expect_failure(run_try(*provider(shell("sleep 30")), std::move(request)), FailureClass::kTimeout, "");
}

TEST_P(ExecHostile, ChildrenLeftBehindDieWithTheProgram) {
  const std::string sleep = unique_sleep();
  const Outcome outcome = act(shell(fmt::format("{} & {} & exit 0", sleep, sleep)));
  EXPECT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(processes_with(as_command_line(sleep)), 0U);
}

TEST_P(ExecHostile, ChildrenThatLeaveTheSessionDieToo) {
  const std::string sleep = unique_sleep();
  const Outcome outcome = act(
      shell(fmt::format("setsid {} >/dev/null 2>&1 & setsid sh -c 'setsid {} &' & sleep 0.1", sleep, sleep)));
  EXPECT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(processes_with(as_command_line(sleep)), 0U);
}

TEST_P(ExecHostile, EscapeesDieOnCancelToo) {
  const std::string sleep = unique_sleep();
  Try options;
  options.cancel = CancelAt::kWhenReady;
  options.ready = [this] { return std::filesystem::exists(folder_.path() / "ready"); };
  const Outcome outcome =
      act(shell(fmt::format("setsid {} & {} & : > ready; wait", sleep, sleep)), "{}", options);
  EXPECT_TRUE(std::holds_alternative<Cancelled>(outcome)) << describe(outcome);
  EXPECT_EQ(processes_with(as_command_line(sleep)), 0U);
}

TEST_P(ExecHostile, OneFileThatGrowsTooLargeIsBadOutput) {
  policy::ExecTask task = shell("exec head -c 3000000 /dev/zero > big");
  task.file_bytes_max = 1 << 20;
  expect_failure(act(task), FailureClass::kBadOutput, "wrote a file larger than 1 MiB");
  EXPECT_LE(std::filesystem::file_size(folder_.path() / "big"), 1U << 20U);
}

TEST_P(ExecHostile, ManyFilesThatGrowTooLargeTogetherAreBadOutput) {
  policy::ExecTask task =
      shell("i=0; while :; do head -c 500000 /dev/zero > f$i; i=$((i+1)); sleep 0.01; done");
  task.file_bytes_max = 1 << 20;
  expect_failure(act(task), FailureClass::kBadOutput, "wrote more files than it may");
}

TEST_P(ExecHostile, EndlessOutputIsCutOff) {
  policy::ExecTask task = shell("exec cat /dev/zero");
  task.output_bytes_max = 1 << 20;
  expect_failure(act(task), FailureClass::kBadOutput, "printed more than 1 MiB");
}

TEST_P(ExecHostile, HugeStandardErrorIsCutOff) {
  policy::ExecTask task = shell("exec cat /dev/zero 1>&2");
  task.output_bytes_max = 1 << 20;
  expect_failure(act(task), FailureClass::kBadOutput, "printed more than 1 MiB");
}

TEST_P(ExecHostile, GarbageWhereJsonWasPromisedIsBadOutput) {
  policy::ExecTask task = shell("head -c 1000 /dev/urandom");
  task.stdout_json = true;
  expect_failure(act(task), FailureClass::kBadOutput, "did not print a JSON object");
}

TEST_P(ExecHostile, DeepJsonIsBadOutput) {
  policy::ExecTask task = shell("head -c 10000 /dev/zero | tr '\\0' '['");
  task.stdout_json = true;
  expect_failure(act(task), FailureClass::kBadOutput, "did not print a JSON object");
}

TEST_P(ExecHostile, StandardInputMayBeLeftUnread) {
  policy::ExecTask task = shell("exec <&-; echo '{}'");
  task.stdin_json = true;
  task.stdout_json = true;
  const std::string input = fmt::format(R"({{"text":"{}"}})", std::string(900'000, 'x'));
  const Outcome outcome = act(task, input);
  EXPECT_NE(as_success(outcome), nullptr) << describe(outcome);
}

TEST_P(ExecHostile, StandardInputArrivesWhole) {
  policy::ExecTask task = shell("printf '{\"bytes\":%s}' $(wc -c)");
  task.stdin_template = "${input.text}";
  task.stdout_json = true;
  const std::string input = fmt::format(R"({{"text":"{}"}})", std::string(900'000, 'x'));
  const Outcome outcome = act(task, input);
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_success(outcome)->output, R"({"bytes":900000})");
}

TEST_P(ExecHostile, EndBySignalIsTransient) {
  expect_failure(act(shell("kill -SEGV $$")), FailureClass::kTransient, "ended by signal 11");
}

TEST_P(ExecHostile, FailureCarriesTheLastWordsWithoutPaths) {
  const Outcome outcome = act(
      shell("echo /usr/share/secret/file.txt: cannot read >&2; printf 'bad \\001 \\377 byte' >&2; exit 3"));
  expect_failure(outcome, FailureClass::kTransient,
                 "sh failed with status 3: file.txt: cannot read bad ? byte");
}

TEST_P(ExecHostile, StatusOfDataErrorBlamesTheInput) {
  expect_failure(act(shell("echo no such voice >&2; exit 65")), FailureClass::kInvalidInput,
                 "sh refused the input: no such voice");
}

TEST_P(ExecHostile, TooManyProcessesAreKilled) {
  policy::ExecTask task = shell("i=0; while [ $i -lt 60 ]; do sleep 20 & i=$((i+1)); done; wait");
  task.processes_max = 20;
  expect_failure(act(task), FailureClass::kBadOutput, "started more than 20 processes");
}

TEST_P(ExecHostile, MemoryOfAllProcessesTogetherIsBounded) {
  // Each stays below the limit of one process, all of them do not.
  const std::string eat = "x=$(head -c 30000000 /dev/zero | tr \"\\0\" a); sleep 20";
  policy::ExecTask task = shell(fmt::format("for i in 1 2 3 4 5 6; do sh -c '{}' - $i & done; wait", eat));
  task.memory_bytes_max = 120ULL << 20U;
  expect_failure(act(task), FailureClass::kBadOutput, "used more memory than 120 MiB");
}

TEST_P(ExecHostile, MemoryOfOneProcessIsBounded) {
  policy::ExecTask task = shell("x=$(head -c 200000000 /dev/zero | tr '\\0' a); echo ${#x}");
  task.memory_bytes_max = 64ULL << 20U;
  EXPECT_NE(as_failure(act(task)), nullptr);
}

TEST_P(ExecHostile, NeighbourOfAHogIsServed) {
  policy::ExecTask hog = shell("while :; do :; done");
  hog.time_max = seconds(2);
  const auto bad = provider(hog);
  const auto good = provider(shell("exit 0"));
  const TempFolder other;
  const auto outcomes = run_all({{bad.get(), make_request("act", "{}", folder_.path())},
                                 {good.get(), make_request("act", "{}", other.path())}});
  EXPECT_NE(as_failure(outcomes[0]), nullptr);
  EXPECT_NE(as_success(outcomes[1]), nullptr) << describe(outcomes[1]);
}

TEST_P(ExecHostile, NothingOfOursIsInherited) {
  const int open_here = ::dup(1);
  ::setenv("TURNPIKE_SECRET_OF_THE_SERVER", "sesame", 1);
  const Outcome outcome = act(shell("ls /proc/self/fd > fds; env > env"));
  ::unsetenv("TURNPIKE_SECRET_OF_THE_SERVER");
  ::close(open_here);
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  // 0, 1, 2 and the folder that ls itself reads.
  EXPECT_EQ(read_file(folder_.path() / "fds"), "0\n1\n2\n3\n");
  EXPECT_FALSE(read_file(folder_.path() / "env").contains("sesame"));
}

TEST_P(ExecHostile, DiesWithItsServer) {
  const std::string sleep = unique_sleep();
  const auto script = fmt::format(": > ready; {}", sleep);
  Request request = make_request("act", "{}", folder_.path());
  const std::string marker = "TURNPIKE_TRY=" + to_string(request.try_id);
  const pid_t server = ::fork();
  if (server == 0) {
    run_try(*provider(shell(script)), std::move(request));
    ::_exit(0);
  }
  const auto patience = std::chrono::steady_clock::now() + seconds(10);
  const auto running = [&] { return processes_with(as_command_line(sleep)) > 0; };
  while (!running() && std::chrono::steady_clock::now() < patience) {
  }
  ASSERT_TRUE(running());
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  const std::string program = confined() ? as_command_line(sleep) : script;
  while (processes_with(program) > 0 && std::chrono::steady_clock::now() < patience) {
  }
  EXPECT_EQ(processes_with(program), 0U);
  // Bare, only the program itself is sure to follow; what it had started stays, and is ended here.
  kill_marked(marker);
}

INSTANTIATE_TEST_SUITE_P(Confinements, ExecHostile,
                         testing::Values(Confinement::kBubblewrap, Confinement::kNone), [](const auto& each) {
                           return each.param == Confinement::kBubblewrap ? "Bubblewrap" : "Bare";
                         });

class ExecOutputs : public ExecHostile {
 protected:
  Outcome make(const std::string& script) {
    policy::ExecTask task = shell(script);
    task.outputs = {{.name = "result", .file = "result.txt", .mime = "text/plain"}};
    return act(task);
  }
};

TEST_P(ExecOutputs, AreTakenFromTheWorkFolder) {
  const Outcome outcome = make("echo hello > result.txt");
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  ASSERT_EQ(success->files.size(), 1U);
  EXPECT_EQ(success->files[0].path, folder_.path() / "result.txt");
  EXPECT_EQ(success->files[0].extension, "txt");
  EXPECT_EQ(read_file(success->files[0].path), "hello\n");
}

TEST_P(ExecOutputs, MustBeThere) {
  expect_failure(make("exit 0"), FailureClass::kBadOutput, "output result is missing");
}
TEST_P(ExecOutputs, MustHoldSomething) {
  expect_failure(make(": > result.txt"), FailureClass::kBadOutput, "output result is empty");
}
TEST_P(ExecOutputs, MayBeNoLinkOutOfTheFolder) {
  expect_failure(make("ln -s /etc/passwd result.txt"), FailureClass::kBadOutput, "no plain file");
}
TEST_P(ExecOutputs, MayBeNoSecondNameOfAFile) {
  expect_failure(make("echo x > other; ln other result.txt"), FailureClass::kBadOutput, "linked elsewhere");
}
TEST_P(ExecOutputs, MayBeNoPipe) {
  expect_failure(make("mkfifo result.txt"), FailureClass::kBadOutput, "no plain file");
}
TEST_P(ExecOutputs, MayBeNoFolder) {
  expect_failure(make("mkdir result.txt"), FailureClass::kBadOutput, "no plain file");
}

INSTANTIATE_TEST_SUITE_P(Confinements, ExecOutputs,
                         testing::Values(Confinement::kBubblewrap, Confinement::kNone), [](const auto& each) {
                           return each.param == Confinement::kBubblewrap ? "Bubblewrap" : "Bare";
                         });

class ExecSandbox : public ExecHostile {};

TEST_P(ExecSandbox, HasNoNetwork) {
  const Outcome outcome = act(shell("cat /proc/net/dev > net"));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  const std::string devices = read_file(folder_.path() / "net");
  EXPECT_TRUE(devices.contains("lo:"));
  EXPECT_EQ(std::ranges::count(devices, ':'), 1) << devices;
}

TEST_P(ExecSandbox, WritesNowhereButInItsFolder) {
  const Outcome outcome =
      act(shell("for f in /x /usr/x /etc/x /dev/x /dev/shm/x /input/x; do (: > $f) 2>/dev/null && echo $f; "
                "done > wrote; "
                ": > /tmp/scratch && exit 0"));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(read_file(folder_.path() / "wrote"), "");
}

// Libraries of which there are several are found by links into /etc/alternatives.
TEST_P(ExecSandbox, MayEnterTheFoldersOfTheSystemsFiles) {
  const Outcome outcome = act(shell("ls /etc > seen; [ -x /etc ] && ls /etc/alternatives/awk >> seen"));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_TRUE(read_file(folder_.path() / "seen").contains("/etc/alternatives/awk"));
}

TEST_P(ExecSandbox, SeesNothingElseOfTheMachine) {
  const TempFolder secret;
  write_file(secret.path() / "diary", "dear diary");
  const Outcome outcome = act(shell(fmt::format(
      "cat {}/diary; ls /root /home /var/lib /etc/shadow /etc/passwd > seen 2>/dev/null; ls /proc > procs; "
      "pwd > where; exit 0",
      secret.path().string())));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(read_file(folder_.path() / "seen"), "");
  EXPECT_EQ(read_file(folder_.path() / "where"), "/work\n");
  EXPECT_FALSE(read_file(folder_.path() / "procs").contains(std::to_string(::getpid()) + "\n"));
}

TEST_P(ExecSandbox, ScratchMemoryIsBounded) {
  policy::ExecTask task = shell("head -c 20000000 /dev/zero > /tmp/a && exit 0; exit 65");
  expect_failure(act(task), FailureClass::kInvalidInput, "No space left");
}

TEST_P(ExecSandbox, InputFilesCanBeReadAndNotWritten) {
  const TempFolder elsewhere;
  write_file(elsewhere.path() / "abc.png", "picture");
  policy::ExecTask task;
  task.steps = {
      {.command = {"sh", "-c", "cat \"$1\" > copy; (: > \"$1\") 2>/dev/null && exit 1; echo $1 > name", "-",
                   "${file.image}"},
       .when = ""}};
  Request request = make_request("act", "{}", folder_.path());
  request.files = {{"image", elsewhere.path() / "abc.png", "image/png"}};
  const Outcome outcome = run_try(*provider(task), std::move(request));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(read_file(folder_.path() / "copy"), "picture");
  EXPECT_EQ(read_file(folder_.path() / "name"), "/input/image.png\n");
}

// Starts sleepers one by one until it may not or has 60, tells how many it got, and whether it was refused.
policy::ExecTask crowd(std::uint32_t processes_max) {
  policy::ExecTask task;
  const char* script =
      "$n = 0; $why = ''; while ($n < 60) { $p = fork; if (!defined $p) { $why = $!; last } "
      "if (!$p) { exec 'sleep', '20' } $n++ } "
      "open F, '>', 'count'; print F $n; close F; "
      "die \"fork: $why\\n\" if $why";
  task.steps = {{.command = {"perl", "-e", script}, .when = ""}};
  task.time_max = seconds(10);
  task.processes_max = processes_max;
  return task;
}

TEST_P(ExecSandbox, KernelRefusesProcessesBeyondTheBound) {
  if (process_bound() == ProcessBound::kWatched) GTEST_SKIP() << "the kernel bounds nothing here";
  expect_failure(act(crowd(16)), FailureClass::kBadOutput, "perl started more than 16 processes");
  EXPECT_EQ(read_file(folder_.path() / "count"), "15");  // and perl itself
}

TEST_P(ExecSandbox, BoundOfOneTryDoesNotBindAnother) {
  if (process_bound() == ProcessBound::kWatched) GTEST_SKIP() << "the kernel bounds nothing here";
  const std::string others = "i=0; while [ $i -lt 12 ]; do sleep 0.5 & i=$((i+1)); done; wait; exit 0";
  policy::ExecTask small = shell(others);
  small.processes_max = 16;
  const auto full = provider(crowd(16));
  const auto first = provider(small);
  const auto second = provider(small);
  const TempFolder one;
  const TempFolder two;
  const auto outcomes = run_all({{first.get(), make_request("act", "{}", one.path())},
                                 {full.get(), make_request("act", "{}", folder_.path())},
                                 {second.get(), make_request("act", "{}", two.path())}});
  EXPECT_NE(as_success(outcomes[0]), nullptr) << describe(outcomes[0]);
  EXPECT_NE(as_success(outcomes[2]), nullptr) << describe(outcomes[2]);
  expect_failure(outcomes[1], FailureClass::kBadOutput, "perl started more than 16 processes");
  EXPECT_EQ(read_file(folder_.path() / "count"), "15");
}

TEST_P(ExecSandbox, IsNotRootAndHasNoPrivilege) {
  const Outcome outcome = act(shell("id -u > who; grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status > caps"));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  if (::geteuid() != 0 || process_bound() == ProcessBound::kOwnUser)
    EXPECT_NE(read_file(folder_.path() / "who"), "0\n");
  const std::string none = "\t0000000000000000\n";
  EXPECT_EQ(read_file(folder_.path() / "caps"),
            "CapInh:" + none + "CapPrm:" + none + "CapEff:" + none + "CapAmb:" + none);
}

TEST_P(ExecSandbox, MayOpenItsStandardStreamsByName) {
  policy::ExecTask task = shell("cat /dev/stdin > /dev/stdout; echo noise > /dev/stderr");
  task.stdin_json = true;
  task.stdout_json = true;
  const Outcome outcome = act(task, R"({"a":1})");
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_success(outcome)->output, R"({"a":1})");
}

TEST_P(ExecSandbox, InputThatOnlyItsGroupMayReadCanBeRead) {
  const TempFolder elsewhere;
  const auto path = elsewhere.path() / "abc.png";
  write_file(path, "picture");
  std::filesystem::permissions(path, std::filesystem::perms{0640});
  policy::ExecTask task;
  task.steps = {{.command = {"sh", "-c", "cat \"$1\" > copy", "-", "${file.image}"}, .when = ""}};
  Request request = make_request("act", "{}", folder_.path());
  request.files = {{"image", path, "image/png"}};
  const Outcome outcome = run_try(*provider(task), std::move(request));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(read_file(folder_.path() / "copy"), "picture");
}

TEST_P(ExecSandbox, StepsOfOneTryShareTheirFilesAndOutputsBecomeOurs) {
  policy::ExecTask task;
  task.steps = {{.command = {"sh", "-c", "umask 077; echo one > result.txt"}, .when = ""},
                {.command = {"sh", "-c", "echo two >> result.txt"}, .when = ""}};
  task.outputs = {{.name = "result", .file = "result.txt", .mime = "text/plain"}};
  const Outcome outcome = act(task);
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(read_file(folder_.path() / "result.txt"), "one\ntwo\n");
  struct stat status{};
  ASSERT_EQ(::stat((folder_.path() / "result.txt").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, ::geteuid());
}

INSTANTIATE_TEST_SUITE_P(Confinements, ExecSandbox, testing::Values(Confinement::kBubblewrap),
                         [](const auto&) { return "Bubblewrap"; });

}  // namespace
}  // namespace turnpike::provider::test
