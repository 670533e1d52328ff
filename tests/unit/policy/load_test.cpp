// Good configurations become the values they say, with the documented defaults.
#include "policy/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/policy/sample.h"

namespace turnpike::policy {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

PolicyPtr good(std::string text) {
  Loaded loaded = load_sample(std::move(text));
  for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
  return loaded.policy != nullptr ? loaded.policy : std::make_shared<const Policy>();
}

TEST(Load, KeepsDefaultsWhereNothingIsSaid) {
  const PolicyPtr policy = good(std::string{kSample});
  EXPECT_EQ(policy->server.read_timeout, 20s);
  EXPECT_EQ(policy->server.body_bytes_max, 1U << 20);
  EXPECT_EQ(policy->store.keep_events, 24h);
  EXPECT_FALSE(policy->webhooks.allow_private || policy->webhooks.allow_http);
  EXPECT_EQ(policy->webhooks.retry.front(), 5s);
  EXPECT_FALSE(policy->pictures.allow_private);
  EXPECT_EQ(policy->pictures.timeout, 30s);
  EXPECT_EQ(policy->pictures.edge_max, 16'384U);
  EXPECT_EQ(policy->pictures.pixels_max, 100'000'000U);
  EXPECT_FALSE(policy->accounts.tier_from_request);
  EXPECT_THAT(policy->share_permille, ElementsAre(50, 100, 200, 0));
  const Model& writer = policy->models.at("writer");
  ASSERT_EQ(writer.versions.size(), 1U);
  EXPECT_EQ(writer.versions[0].version, "1");
  EXPECT_EQ(writer.versions[0].status, VersionStatus::kApproved);
  EXPECT_EQ(writer.versions[0].routes.at(0).upstream_model, "auto");
  EXPECT_EQ(writer.default_version, "1");
  EXPECT_THAT(policy->model_order, ElementsAre("writer", "narrator"));
}

TEST(Load, ReadsWhatPicturesMayBe) {
  const PolicyPtr policy = good(sample_with(
      "store: {kind: sqlite}", "pictures: {allow_private: true, timeout: 5s, edge: 4096, pixels: 8000000}"));
  EXPECT_TRUE(policy->pictures.allow_private);
  EXPECT_EQ(policy->pictures.timeout, 5s);
  EXPECT_EQ(policy->pictures.edge_max, 4096U);
  EXPECT_EQ(policy->pictures.pixels_max, 8'000'000U);
}

TEST(Load, StartsEveryPlanFromTheDefaultPlan) {
  const PolicyPtr policy = good(sample_with("priority_class: high", "limits: {queue_depth: unlimited}"));
  EXPECT_EQ(policy->plan("free")->limits.queue_depth, 100U);
  EXPECT_EQ(policy->plan("free")->limits.concurrent_jobs, 2U);
  EXPECT_EQ(policy->plan("pro")->limits.queue_depth, std::nullopt);
  EXPECT_EQ(policy->plan("pro")->name, "pro");
  EXPECT_EQ(policy->plan("gold"), nullptr);
}

TEST(Load, ReadsAPlanInFull) {
  const PolicyPtr policy = good(sample_with("priority_class: high", R"(priority_class: 4
    guaranteed_share: 12.5%
    limits: {concurrent_jobs: 0, dispatch_batch: 7, batch_operations: ~, upload_bytes: 64MiB}
    retry: {attempts: 5, base: 250ms, factor: 1.5, cap: 2h, jitter: 0%, by_class: {timeout: {attempts: 1}}}
    attempt_timeout: 90s
    job_timeout: 1d
    expire_after: 30d
    tasks: [text]
    providers: {text: [fake, cloud]}
    features: {beta: true})"));
  const Plan& plan = *policy->plan("pro");
  EXPECT_EQ(plan.priority_class, PriorityClass::kCritical);
  EXPECT_EQ(policy->share_permille[class_index(PriorityClass::kCritical)], 125U);
  EXPECT_EQ(plan.limits.concurrent_jobs, 0U);
  EXPECT_EQ(plan.limits.dispatch_batch, 7U);
  EXPECT_EQ(plan.limits.batch_operations, std::nullopt);
  EXPECT_EQ(plan.limits.upload_bytes_max, 64ULL << 20);
  EXPECT_EQ(plan.retry.standard.base, 250ms);
  EXPECT_EQ(plan.retry.standard.factor_permille, 1500U);
  EXPECT_EQ(plan.retry.for_class(FailureClass::kTransient).attempts, 5U);
  EXPECT_EQ(plan.retry.for_class(FailureClass::kTimeout).attempts, 1U);
  EXPECT_EQ(plan.retry.for_class(FailureClass::kTimeout).cap, 2h);  // the rest from the plan's own
  EXPECT_EQ(plan.attempt_timeout, 90s);
  EXPECT_EQ(plan.expire_after, 30 * 24h);
  EXPECT_TRUE(plan.has_task("text"));
  EXPECT_FALSE(plan.has_task("speech"));
  EXPECT_THAT(plan.providers.at("text"), ElementsAre("fake", "cloud"));
  EXPECT_TRUE(plan.features.at("beta"));
}

TEST(Load, GivesAProviderAPoolOfItsOwnUnlessItSharesOne) {
  const PolicyPtr policy =
      good(sample_with("kind: sandbox", "kind: sandbox\n    concurrency: 9\n    headroom: 3"));
  EXPECT_EQ(policy->providers.at("voice").pool, "local");
  EXPECT_EQ(policy->pools.at("local").slots, 2U);
  EXPECT_EQ(policy->providers.at("fake").pool, "fake");
  EXPECT_EQ(policy->pools.at("fake").slots, 9U);
  EXPECT_EQ(policy->pools.at("fake").headroom, 3U);
  EXPECT_FALSE(policy->pools.contains("voice"));
}

TEST(Load, ReadsLocalPrograms) {
  const PolicyPtr policy = good(sample_with("outputs: {audio: {file: a.wav, mime: audio/wav}}", R"(outputs:
          audio: {file: "a.${input.format|one(wav,mp3):-wav}", mime: "audio/${input.format|one(wav,mp3):-wav}"}
        limits: {time: 5s, memory: 128MiB, file_size: 1MB, output: 4KiB, processes: 3})"));
  const ExecTask& task = policy->providers.at("voice").exec_tasks.at("speech");
  ASSERT_EQ(task.steps.size(), 1U);
  EXPECT_THAT(task.steps[0].command, ElementsAre("espeak-ng", "--stdin", "-w", "${output.audio}"));
  EXPECT_EQ(task.stdin_template, "${input.text}");
  EXPECT_EQ(task.outputs.at(0).file, "a.${input.format|one(wav,mp3):-wav}");
  EXPECT_EQ(task.time_max, 5s);
  EXPECT_EQ(task.memory_bytes_max, 128ULL << 20);
  EXPECT_EQ(task.file_bytes_max, 1'000'000U);
  EXPECT_EQ(task.output_bytes_max, 4096U);
  EXPECT_EQ(task.processes_max, 3U);
}

TEST(Load, ReadsAProgramThatStays) {
  const PolicyPtr policy = good(sample_with("kind: sandbox", R"(kind: exec
    serve:
      command: [python3, "--listen=${socket}"]
      files: [/opt/model, /opt/serve.py]
      concurrency: 3
      dedicated: account
      instances: 5
      start_timeout: 2m
      cancel_grace: 1s
      idle_stop: never
      limits: {memory: 4GiB, file_size: 1MB, processes: 9}
    tasks:
      text: {limits: {time: 5s, output: 4KiB}})"));
  const Provider& provider = policy->providers.at("fake");
  ASSERT_TRUE(provider.serve);
  EXPECT_THAT(provider.serve->command, ElementsAre("python3", "--listen=${socket}"));
  EXPECT_THAT(provider.serve->files, ElementsAre("/opt/model", "/opt/serve.py"));
  EXPECT_EQ(provider.serve->concurrency, 3U);
  EXPECT_TRUE(provider.serve->per_account);
  EXPECT_EQ(provider.serve->instances, 5U);
  EXPECT_EQ(provider.serve->start_timeout, 2min);
  EXPECT_EQ(provider.serve->cancel_grace, 1s);
  EXPECT_FALSE(provider.serve->idle_stop);
  EXPECT_EQ(provider.serve->memory_bytes_max, 4ULL << 30);
  EXPECT_EQ(provider.serve->file_bytes_max, 1'000'000U);
  EXPECT_EQ(provider.serve->processes_max, 9U);
  EXPECT_EQ(policy->pools.at("fake").slots, 15U);  // what its processes take
  EXPECT_EQ(provider.exec_tasks.at("text").time_max, 5s);
  EXPECT_EQ(provider.exec_tasks.at("text").output_bytes_max, 4096U);
  EXPECT_EQ(provider.exec_tasks.at("text").file_bytes_max, 1'000'000U);
}

TEST(Load, AProgramThatStaysIsSharedUnlessItSays) {
  const auto with = [](const char* more) {
    return sample_with("kind: sandbox", std::string{"kind: exec\n    serve: {command: [a]"} + more +
                                            "}\n    tasks: {text: {}}");
  };
  const PolicyPtr shared = good(with(""));
  EXPECT_FALSE(shared->providers.at("fake").serve->per_account);
  EXPECT_EQ(shared->providers.at("fake").serve->instances, 1U);
  EXPECT_FALSE(shared->providers.at("fake").serve->idle_stop);
  EXPECT_EQ(shared->pools.at("fake").slots, 1U);
  const PolicyPtr dedicated = good(with(", dedicated: account"));
  EXPECT_EQ(dedicated->providers.at("fake").serve->instances, 8U);
  EXPECT_EQ(dedicated->providers.at("fake").serve->idle_stop, 10min);
}

TEST(Load, ReadsTheSandbox) {
  const PolicyPtr policy = good(sample_with("kind: sandbox",
                                            "kind: sandbox\n    seed: 7\n    latency: {p50: 0s, p99: 0s}\n   "
                                            " faults: {transient: 1%, bad_output: 0.5%}"));
  const Provider& provider = policy->providers.at("fake");
  EXPECT_EQ(provider.seed, 7U);
  EXPECT_EQ(provider.latency_p99, 0s);
  ASSERT_EQ(provider.faults.size(), 2U);
  EXPECT_EQ(provider.faults[0].permille, 10U);
  EXPECT_EQ(provider.faults[1].failure, FailureClass::kBadOutput);
  EXPECT_EQ(provider.faults[1].permille, 5U);
}

TEST(Load, ASandboxsFaultMayBill) {
  const PolicyPtr policy = good(sample_with(
      "kind: sandbox", "kind: sandbox\n    faults: {transient: 1%, timeout: {share: 2%, bills: true}}"));
  const Provider& provider = policy->providers.at("fake");
  ASSERT_EQ(provider.faults.size(), 2U);
  EXPECT_FALSE(provider.faults[0].bills);
  EXPECT_EQ(provider.faults[1].failure, FailureClass::kTimeout);
  EXPECT_EQ(provider.faults[1].permille, 20U);
  EXPECT_TRUE(provider.faults[1].bills);
}

TEST(Load, FetchesSecretsAndKeepsTheReferenceInTheText) {
  const PolicyPtr from_env = good(std::string{kSample});
  EXPECT_EQ(from_env->providers.at("cloud").api_key.reveal(), kSecret);
  EXPECT_FALSE(from_env->text.contains(kSecret));
  EXPECT_TRUE(from_env->text.contains("${env:CLOUD_KEY}"));
  const PolicyPtr from_file = good(sample_with("${env:CLOUD_KEY}", "${file:/run/key}"));
  EXPECT_EQ(from_file->providers.at("cloud").api_key.reveal(), kSecret);  // without the end of its line
}

TEST(Load, LeavesTheKeyEmptyWhereAProviderIsUsedOnlyIfThereIsOne) {
  const PolicyPtr policy = good(sample_with("${env:CLOUD_KEY}", "${env:NO_SUCH_KEY}\n    use: if_key"));
  EXPECT_TRUE(policy->providers.at("cloud").api_key.empty());
  EXPECT_EQ(policy->providers.at("cloud").use, Provider::Use::kIfKey);
}

TEST(Load, HashesTheTextAsItWasRead) {
  const std::string tiny =
      "providers: {a: {kind: sandbox}}\nmodels: {m: {task: text, providers: [a]}}\n"
      "plans: {p: {}}\naccounts: {default_plan: p}\n";
  // As sha256sum prints for the same bytes.
  EXPECT_EQ(good(tiny)->hash, "a49e03328a40b22738152373cae0b5b348822e2a0366c4535f75414ec7f19d76");
}

TEST(Load, ListensBeyondThisMachineOnlyWhenThatIsSaid) {
  const auto listens = [](const std::string& server) {
    return load_sample(sample_with("listen: 127.0.0.1:8080", server)).policy != nullptr;
  };
  EXPECT_TRUE(listens("listen: \"[::1]:80\""));
  EXPECT_TRUE(listens("listen: localhost:0"));
  EXPECT_TRUE(listens("listen: 127.9.9.9:80"));
  EXPECT_FALSE(listens("listen: \"[::]:80\""));
  EXPECT_FALSE(listens("listen: 10.0.0.1:80"));
  EXPECT_TRUE(listens("listen: 10.0.0.1:80\n  allow_public: true"));
}

TEST(Load, KeepsArtifactsAsLongAsJobsUnlessToldOtherwise) {
  EXPECT_EQ(good(sample_with("kind: sqlite", "retention: {jobs: 90d}"))->store.keep_artifacts, 90 * 24h);
  EXPECT_EQ(good(sample_with("kind: sqlite", "retention: {jobs: 1d}"))->store.keep_artifacts, 30 * 24h);
}

TEST(Load, ReadsEndpoints) {
  const PolicyPtr policy = good(sample_with("defaults:\n", R"(endpoints:
  - {path: /speak, task: speech, wait: 20s, status: 200}
  - {path: /say, task: speech, respond: job}
  - {path: /api/old/jobs, alias: /api/jobs}
defaults:
)"));
  ASSERT_EQ(policy->endpoints.size(), 3U);
  EXPECT_EQ(policy->endpoints[0].wait, 20s);
  EXPECT_EQ(policy->endpoints[0].status, 200);
  EXPECT_EQ(policy->endpoints[1].wait, 0s);
  EXPECT_EQ(policy->endpoints[1].status, 202);
  EXPECT_EQ(policy->endpoints[2].alias, "/api/jobs");
}

TEST(Load, UnderstandsAnchors) {
  const PolicyPtr policy = good(sample_with("limits: {concurrent_jobs: 2}\n  pro:\n    priority_class: high",
                                            "limits: &l {concurrent_jobs: 2}\n  pro:\n    limits: *l"));
  EXPECT_EQ(policy->plan("pro")->limits.concurrent_jobs, 2U);
}

TEST(Load, ReadsAnHttpProviderWhole) {
  const Loaded loaded = load_sample(sample_with("kind: sandbox\nmodels:", R"(kind: http
    base_url: https://api.example.com
    api_key: ${env:CLOUD_KEY}
    auth: {header: X-Key}
    statuses: {418: transient}
    allow_private: true
    tasks:
      text:
        request:
          path: /say/${model}
          headers: {Accept: "${input.accept:-*/*}"}
          json: {a: "${input.x|int?}", b: [1, true, "1", ~, word, 1.5], c: {}}
        poll:
          request: {path: "/jobs/${answer.id}"}
          every: 2s
          polls_max: 7
          until: {at: state, is: [done, true]}
          failed: {at: state, is: dead}
          message_at: why.0
          result: {url_at: result}
          cancel: {method: DELETE, url_at: urls.cancel}
        response:
          output: {text: choices.0.text}
          artifacts:
            sound: {base64_at: audio, mime: audio/wav}
        usage:
          audio_ms: {at: seconds, times: 1000}
          characters: {header: x-characters}
        limits: {time: 2m, answer: 2MiB, artifact: 3MiB}
models:)"));
  for (const Mistake& mistake : loaded.mistakes) {
    // The sample's model asks `fake` for no model by name: that is said, and is all.
    EXPECT_NE(to_string(mistake).find("must name the model that provider `fake` is asked for"),
              std::string::npos)
        << to_string(mistake);
  }
  EXPECT_EQ(loaded.mistakes.size(), 1U);

  std::string text = sample_with("kind: sandbox\nmodels:", R"(kind: http
    base_url: https://api.example.com
    auth: {header: Authorization, prefix: "Key "}
    tasks:
      text:
        request:
          path: /say
          json: {a: "${input.x|int?}", b: [1, true, "1", ~, word, 1.5], c: {}}
        response: {output: {text: choices.0.text}}
models:)");
  const Loaded good = load_sample(std::move(text));
  for (const Mistake& mistake : good.mistakes) ADD_FAILURE() << to_string(mistake);
  ASSERT_TRUE(good.policy);
  const Provider& provider = good.policy->providers.at("fake");
  EXPECT_EQ(provider.auth.prefix, "Key ");
  const HttpTask& task = provider.http_tasks.at("text");
  EXPECT_EQ(task.request.method, "POST");
  EXPECT_EQ(task.request.json, R"({"a":"${input.x|int?}","b":[1,true,"1",null,"word",1.5E0],"c":{}})");
  EXPECT_FALSE(task.names_model);
  EXPECT_FALSE(task.poll);
}

TEST(Load, KindsOfSomebodyElsesAreRemote) {
  EXPECT_TRUE(is_remote(ProviderKind::kOpenAi));
  EXPECT_TRUE(is_remote(ProviderKind::kAnthropic));
  EXPECT_TRUE(is_remote(ProviderKind::kHttp));
  EXPECT_FALSE(is_remote(ProviderKind::kExec));
  EXPECT_FALSE(is_remote(ProviderKind::kSandbox));
}

TEST(Load, AnthropicKnowsItsAddress) {
  std::string text = sample_with("kind: openai\n    base_url: https://api.example.com/v1", "kind: anthropic");
  text.replace(text.find("[cloud, fake]"), 13, "[{provider: cloud, model: claude}, fake]");
  const Loaded loaded = load_sample(std::move(text));
  for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
  ASSERT_TRUE(loaded.policy);
  EXPECT_EQ(loaded.policy->providers.at("cloud").base_url, "https://api.anthropic.com");
  EXPECT_EQ(loaded.policy->providers.at("cloud").api_key.reveal(), kSecret);
  EXPECT_EQ(loaded.policy->price("cloud", "claude"), nullptr);  // what it costs is not known
}

}  // namespace
}  // namespace turnpike::policy
