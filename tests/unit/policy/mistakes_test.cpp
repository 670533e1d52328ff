// Every mistake is found, all at once, and says where it is and what would be right.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "policy/load.h"
#include "unit/policy/bad_file.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class BadConfiguration : public testing::TestWithParam<BadFile> {};

TEST_P(BadConfiguration, IsRefusedWithWhatWouldBeRight) {
  EXPECT_THAT(mistakes_of(sample_with(GetParam().from, GetParam().to)), ElementsAre(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    Serve, BadConfiguration,
    testing::Values(BadFile{"ServeWithoutAProgram", "kind: sandbox",
                            "kind: exec\n    serve: {concurrency: 2}\n    tasks: {text: {}}",
                            "t.yaml:22:5: providers.fake.serve: `command` is missing"},
                    BadFile{"ServeWhoseProgramIsATemplate", "kind: sandbox",
                            "kind: exec\n    serve: {command: [\"${socket}\"]}\n    tasks: {text: {}}",
                            "t.yaml:22:23: providers.fake.serve.command[0]: the program must be named as it "
                            "is, without ${...}"},
                    BadFile{"ServeThatRefersToAnInput", "kind: sandbox",
                            "kind: exec\n    serve: {command: [a, \"${input.text}\"]}\n    tasks: {text: {}}",
                            "t.yaml:22:26: providers.fake.serve.command[1]: may refer to ${socket} alone: "
                            "the program is started before there is an input"},
                    BadFile{"ServeWithARelativeFile", "kind: sandbox",
                            "kind: exec\n    serve: {command: [a], files: [model]}\n    tasks: {text: {}}",
                            "t.yaml:22:35: providers.fake.serve.files[0]: must be the absolute path of a "
                            "file or folder, without `.`, `..` or a slash at its end"},
                    BadFile{"ServeWithAFileOfTheSandbox", "kind: sandbox",
                            "kind: exec\n    serve: {command: [a], files: [/proc/x]}\n    tasks: {text: {}}",
                            "t.yaml:22:35: providers.fake.serve.files[0]: must not be in /proc, which the "
                            "sandbox has of its own"},
                    BadFile{"ServeDedicatedToWhom", "kind: sandbox",
                            "kind: exec\n    serve: {command: [a], dedicated: team}\n    tasks: {text: {}}",
                            "t.yaml:22:38: providers.fake.serve.dedicated: must be one of none, account"},
                    BadFile{"ServeAndACommand", "kind: sandbox",
                            "kind: exec\n    serve: {command: [a]}\n    tasks: {text: {command: [b]}}",
                            "t.yaml:23:20: providers.fake.tasks.text.command: belongs to programs that are "
                            "started for each try; this provider has `serve`"},
                    BadFile{
                        "ServeAndATasksMemory", "kind: sandbox",
                        "kind: exec\n    serve: {command: [a]}\n    tasks: {text: {limits: {memory: 1GiB}}}",
                        "t.yaml:23:37: providers.fake.tasks.text.limits.memory: is of the program as a "
                        "whole: write it in `serve.limits`"},
                    BadFile{"ServeOfAnotherKind", "kind: sandbox", "kind: sandbox\n    serve: {command: [a]}",
                            "t.yaml:22:5: providers.fake.serve: belongs to providers of kind exec"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Keys, BadConfiguration,
    testing::Values(
        BadFile{
            "UnknownKeyNearAKnownOne", "concurrent_jobs: 2", "concurent_jobs: 2",
            "t.yaml:31:14: plans.free.limits: unknown key `concurent_jobs`: did you mean `concurrent_jobs`?"},
        BadFile{"UnknownKeyFarFromAll", "default_plan: free", "default_plan: free\n  colour: blue",
                "t.yaml:7:3: accounts: unknown key `colour`: there are anonymous_per_minute, default_plan, "
                "tier_from, time_zone"},
        BadFile{"WebhooksTriedTooOften", "store: {kind: sqlite}", "webhooks: {retry: [0s]}",
                "t.yaml:4:20: webhooks.retry[0]: must be a duration from 10ms to 1d"},
        BadFile{"WebhooksWithoutTime", "store: {kind: sqlite}", "webhooks: {timeout: 0s}",
                "t.yaml:4:21: webhooks.timeout: must be a duration from 1s to 1m"},
        BadFile{"PicturesThatTakeLong", "store: {kind: sqlite}", "pictures: {timeout: 10m}",
                "t.yaml:4:21: pictures.timeout: must be a duration from 1s to 5m"},
        BadFile{"PicturesWithoutAnEdge", "store: {kind: sqlite}", "pictures: {edge: 0}",
                "t.yaml:4:18: pictures.edge: must be a whole number from 1 to 1000000"},
        BadFile{"UnknownSection", "store: {kind: sqlite}", "stor: {kind: sqlite}",
                "t.yaml:4:1: unknown key `stor`: did you mean `store`?"},
        BadFile{"DuplicateKey", "concurrent_jobs: 2", "concurrent_jobs: 2, concurrent_jobs: 3",
                "t.yaml:31:34: plans.free.limits: duplicate key `concurrent_jobs`: keep one"},
        BadFile{"DuplicatePlan", "  pro:\n", "  free:\n    priority_class: low\n  pro:\n",
                "t.yaml:32:3: plans: duplicate key `free`: keep one"},
        BadFile{"MissingKey", "accounts:\n  default_plan: free", "accounts:\n  tier_from: none",
                "t.yaml:5:1: accounts: `default_plan` is missing"},
        BadFile{"NotASection", "store: {kind: sqlite}", "store: sqlite",
                "t.yaml:4:8: store: must be a section (key: value)"},
        BadFile{"NotAList", "providers: [voice]", "providers: voice",
                "t.yaml:24:39: models.narrator.providers: must be a list ([a, b] or lines beginning with -)"},
        BadFile{"NotBuiltYet", "store: {kind: sqlite}", "billing: {}",
                "t.yaml:4:1: billing: is not there yet in this version"},
        BadFile{"BadName", "  pro:\n", "  \"p r o\":\n",
                "t.yaml:32:3: plans: `p r o` must be a name: 1 to 64 letters, digits and _ . : / -, "
                "beginning with a letter or a digit"},
        BadFile{"Tag", "default_plan: free", "default_plan: !env free",
                "t.yaml:6:17: accounts.default_plan: tags (`!name`) are not understood here: write the value "
                "alone"},
        BadFile{"KeyThatIsNoText", "store: {kind: sqlite}", "store: {[a]: b}",
                "t.yaml:4:9: store: a key must be text"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Values, BadConfiguration,
    testing::Values(
        BadFile{"TextForANumber", "concurrent_jobs: 2", "concurrent_jobs: two",
                "t.yaml:31:31: plans.free.limits.concurrent_jobs: must be a whole number from 0 to 1000000, "
                "or `unlimited`"},
        BadFile{"QuotedNumber", "concurrent_jobs: 2", "concurrent_jobs: \"2\"",
                "t.yaml:31:31: plans.free.limits.concurrent_jobs: must be a whole number from 0 to 1000000, "
                "or `unlimited`, without quotes"},
        BadFile{"NegativeNumber", "concurrent_jobs: 2", "concurrent_jobs: -1",
                "t.yaml:31:31: plans.free.limits.concurrent_jobs: must be a whole number from 0 to 1000000, "
                "or `unlimited`"},
        BadFile{"NumberOutOfRange", "{concurrent_jobs: 2}", "{dispatch_batch: 1001}",
                "t.yaml:31:30: plans.free.limits.dispatch_batch: must be a whole number from 1 to 1000"},
        BadFile{"NumberBeyond64Bits", "concurrent_jobs: 2", "concurrent_jobs: 99999999999999999999",
                "t.yaml:31:31: plans.free.limits.concurrent_jobs: must be a whole number from 0 to 1000000, "
                "or `unlimited`"},
        BadFile{"DurationWithoutUnit", "priority_class: high", "attempt_timeout: 30",
                "t.yaml:33:22: plans.pro.attempt_timeout: must be a duration such as 500ms, 30s, 5m, 2h or "
                "30d, from 10ms to 1d"},
        BadFile{"DurationOutOfRange", "priority_class: high", "attempt_timeout: 9d",
                "t.yaml:33:22: plans.pro.attempt_timeout: must be a duration from 10ms to 1d"},
        BadFile{"BadExpiry", "priority_class: high", "expire_after: soon",
                "t.yaml:33:19: plans.pro.expire_after: must be a duration such as 500ms, 30s, 5m, 2h or 30d, "
                "from 1s to 365d"},
        BadFile{"BadBytes", "{concurrent_jobs: 2}", "{upload_bytes: 25 megs}",
                "t.yaml:31:28: plans.free.limits.upload_bytes: must be a size such as 512KiB, 25MB or 64MiB, "
                "from 1 byte to 1GiB"},
        BadFile{"BadPercent", "priority_class: high", "retry: {jitter: 0.2}",
                "t.yaml:33:21: plans.pro.retry.jitter: must be a share such as 20% or 0.5%, from 0% to 100%"},
        BadFile{"BadFactor", "priority_class: high", "retry: {factor: 0.5}",
                "t.yaml:33:21: plans.pro.retry.factor: must be a number such as 2 or 1.5, from 1 to 100, "
                "with at most 3 decimals"},
        BadFile{"CapBelowBase", "priority_class: high", "retry: {base: 10s, cap: 5s}",
                "t.yaml:33:29: plans.pro.retry.cap: must be at least base (10s)"},
        BadFile{"TooManyAttempts", "priority_class: high", "retry: {attempts: 101}",
                "t.yaml:33:23: plans.pro.retry.attempts: must be a whole number from 1 to 100"},
        BadFile{"UnknownFailureClass", "priority_class: high", "retry: {by_class: {timeouts: {}}}",
                "t.yaml:33:24: plans.pro.retry.by_class: unknown key `timeouts`: did you mean `timeout`?"},
        BadFile{
            "RetryOfWhatCannotSucceed", "priority_class: high",
            "retry: {by_class: {invalid_input: {attempts: 2}}}",
            "t.yaml:33:24: plans.pro.retry.by_class.invalid_input: is never tried again: it cannot succeed"},
        BadFile{"UnknownPriorityClass", "priority_class: high", "priority_class: hihg",
                "t.yaml:33:21: plans.pro.priority_class: must be one of critical, high, standard, low, 4, 3, "
                "2, 1: did you mean `high`?"},
        BadFile{"FeatureThatIsNoFlag", "priority_class: high", "features: {beta: yes}",
                "t.yaml:33:22: plans.pro.features.beta: must be true or false"},
        BadFile{"TasksThatAreNoList", "priority_class: high", "tasks: everything",
                "t.yaml:33:12: plans.pro.tasks: must be a list of tasks, or `all`"},
        BadFile{"ReferenceWhereNoSecretIs", "https://api.example.com/v1", "\"${env:CLOUD_URL}\"",
                "t.yaml:18:15: providers.cloud.base_url: ${env:NAME} and ${file:PATH} are for secrets "
                "(api_key) and are not looked up here"},
        BadFile{"BadUrl", "https://api.example.com/v1", "api.example.com",
                "t.yaml:18:15: providers.cloud.base_url: must be http://HOST/PATH or https://HOST/PATH "
                "without a slash at the end, a user, a query or a fragment"},
        BadFile{"ShortRetentionOfArtifacts", "store: {kind: sqlite}",
                "store: {retention: {jobs: 30d, artifacts: 1d}}",
                "t.yaml:4:43: store.retention.artifacts: must be at least as long as store.retention.jobs "
                "(30d): a kept job's files are kept with it"},
        BadFile{"OtherDatabase", "kind: sqlite", "kind: postgres",
                "t.yaml:4:15: store.kind: `postgres` is not there yet in this version: write `sqlite`"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    References, BadConfiguration,
    testing::Values(
        BadFile{"UnknownDefaultPlan", "default_plan: free", "default_plan: fre",
                "t.yaml:6:17: accounts.default_plan: unknown plan `fre`: did you mean `free`?"},
        BadFile{"UnknownTaskOfAPlan", "priority_class: high", "tasks: [text, speach]",
                "t.yaml:33:19: plans.pro.tasks[1]: unknown task `speach`: did you mean `speech`?"},
        BadFile{"UnknownTaskInProviderOrder", "priority_class: high", "providers: {video: [fake]}",
                "t.yaml:33:17: plans.pro.providers.video: unknown task `video`: there are speech, text"},
        BadFile{"UnknownProviderOfAPlan", "priority_class: high", "providers: {text: [clod]}",
                "t.yaml:33:24: plans.pro.providers.text[0]: unknown provider `clod`: did you mean `cloud`?"},
        BadFile{
            "ProviderThatServesAnotherTask", "priority_class: high", "providers: {text: [voice]}",
            "t.yaml:33:17: plans.pro.providers.text: no model of task `text` is served by provider `voice`"},
        BadFile{"TaskNamedTwice", "priority_class: high", "tasks: [text, text]",
                "t.yaml:33:19: plans.pro.tasks[1]: task `text` is named twice: keep one"},
        BadFile{"UnknownProviderOfAModel", "[cloud, fake]", "[cloud, fak]",
                "t.yaml:23:43: models.writer.providers[1]: unknown provider `fak`: did you mean `fake`?"},
        BadFile{"ModelOnAProviderWithoutTheTask", "[cloud, fake]", "[voice]",
                "t.yaml:23:36: models.writer.providers[0]: provider `voice` has no task `text`: there is "
                "only speech"},
        BadFile{"ModelWithoutProviders", "[cloud, fake]", "[]",
                "t.yaml:23:24: models.writer.providers: needs at least one provider"},
        BadFile{"UnknownPool", "pool: local", "pool: locla",
                "t.yaml:10:11: providers.voice.pool: unknown pool `locla` (pools are named in server.slots): "
                "did you mean `local`?"},
        BadFile{"PoolNamedAsAProvider", "slots: {local: 2}", "slots: {local: 2, fake: 3}",
                "t.yaml:20:3: providers.fake: has the name of a pool of server.slots: rename one, or write a "
                "pool of another name and `pool:` here to share it"},
        BadFile{
            "ConcurrencyOfASharedPool", "pool: local", "pool: local\n    concurrency: 3",
            "t.yaml:11:18: providers.voice.concurrency: is given by server.slots.local: the pool is shared"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Promises, BadConfiguration,
    testing::Values(
        BadFile{"TwoSharesOfOneClass", "  pro:\n    priority_class: high\n",
                "  pro:\n    priority_class: high\n    guaranteed_share: 20%\n"
                "  team:\n    priority_class: high\n    guaranteed_share: 30%\n",
                "t.yaml:35:3: plans.team: promises class high a guaranteed_share of 30%, but plan `pro` of "
                "the same class promises 20%: a share belongs to the class, give them the same"},
        BadFile{"SharesBeyondNinetyPercent", "defaults:\n",
                "defaults:\n  guaranteed_share: {high: 50%, standard: 30%, low: 20%}\n",
                "t.yaml:26:3: defaults.guaranteed_share: the guaranteed shares of all classes add up to "
                "100%, and may be at most 90%: the rest is what priorities decide about"},
        BadFile{"HeadroomOfAllSlots", "slots: {local: 2}", "slots: {local: 2}\n  headroom: {local: 2}",
                "t.yaml:4:21: server.headroom.local: must be less than the pool's slots (2): classes "
                "standard and low could never run"},
        BadFile{"HeadroomOfAnUnknownPool", "slots: {local: 2}", "slots: {local: 2}\n  headroom: {lokal: 1}",
                "t.yaml:4:21: server.headroom.lokal: unknown pool `lokal` (pools are named in server.slots): "
                "did you mean `local`?"},
        BadFile{"ReachableByOthers", "listen: 127.0.0.1:8080", "listen: 0.0.0.0:8080",
                "t.yaml:2:11: server.listen: is not a loopback address: others could reach the server. Write "
                "127.0.0.1:PORT, or server.allow_public: true if that is meant"},
        BadFile{"ListensOnAName", "listen: 127.0.0.1:8080", "listen: example.com:8080",
                "t.yaml:2:11: server.listen: must be ADDRESS:PORT, e.g. 127.0.0.1:8080, [::1]:8080 or "
                "localhost:8080"},
        BadFile{"ListensWithoutAPort", "listen: 127.0.0.1:8080", "listen: 127.0.0.1",
                "t.yaml:2:11: server.listen: must be ADDRESS:PORT, e.g. 127.0.0.1:8080, [::1]:8080 or "
                "localhost:8080"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Secrets, BadConfiguration,
    testing::Values(
        BadFile{"LiteralSecret", "${env:CLOUD_KEY}", "sk-very-secret-value",
                "t.yaml:19:14: providers.cloud.api_key: write ${env:NAME} or ${file:PATH}: a secret never "
                "stands in the configuration itself"},
        BadFile{"SecretThatIsNotThere", "${env:CLOUD_KEY}", "${env:NO_SUCH_KEY}",
                "t.yaml:19:14: providers.cloud.api_key: environment variable NO_SUCH_KEY is not set"},
        BadFile{"EmptySecret", "${env:CLOUD_KEY}", "${env:EMPTY_KEY}",
                "t.yaml:19:14: providers.cloud.api_key: environment variable EMPTY_KEY is not set"},
        BadFile{
            "SecretFileThatIsNotThere", "${env:CLOUD_KEY}", "${file:/run/nothing}",
            "t.yaml:19:14: providers.cloud.api_key: file /run/nothing is not there, not readable or empty"},
        BadFile{"SecretWithASpace", "${env:CLOUD_KEY}", "${env:SPACED_KEY}",
                "t.yaml:19:14: providers.cloud.api_key: the secret contains a space or a control character, "
                "which no key has"},
        BadFile{
            "SecretInAWrongPlace", "kind: sandbox", "kind: sk-very-secret-value",
            "t.yaml:21:11: providers.fake.kind: must be one of exec, openai, anthropic, http, sandbox, pull"},
        BadFile{"SecretAsASection", "kind: sandbox", "kind: sandbox\n    faults: sk-very-secret-value",
                "t.yaml:22:13: providers.fake.faults: must be a section (key: value)"},
        BadFile{
            "KeyOfAnotherKind", "kind: sandbox", "kind: sandbox\n    api_key: sk-very-secret-value",
            "t.yaml:22:14: providers.fake.api_key: belongs to providers of kind openai, anthropic and http"},
        BadFile{"IfKeyWithoutAKey", "api_key: ${env:CLOUD_KEY}", "use: if_key",
                "t.yaml:16:3: providers.cloud: `api_key` is missing"},
        BadFile{"IfKeyOfASandbox", "kind: sandbox", "kind: sandbox\n    use: if_key",
                "t.yaml:22:10: providers.fake.use: `if_key` belongs to providers that have an api_key "
                "(kinds openai, anthropic and http)"}),
    name_of);

// The provider `fake` as one of kind http: `task` is what stands under tasks.text.
BadFile bad_http(const char* name, const std::string& task, const std::string& expected) {
  return {name, "kind: sandbox",
          "kind: http\n    base_url: https://api.example.com\n    tasks: {text: {" + task + "}}", expected};
}

constexpr const char* kGoodRequest = "request: {path: /say}";
constexpr const char* kGoodResponse = "response: {file: {name: audio}}";

std::string with_request(const std::string& request) {
  return "request: {" + request + "}, " + kGoodResponse;
}
std::string with_response(const std::string& response) {
  return std::string{kGoodRequest} + ", response: {" + response + "}";
}
std::string with_poll(const std::string& poll) {
  return std::string{kGoodRequest} + ", " + kGoodResponse + ", poll: {" + poll + "}";
}
std::string with_usage(const std::string& usage) {
  return std::string{kGoodRequest} + ", " + kGoodResponse + ", usage: {" + usage + "}";
}

INSTANTIATE_TEST_SUITE_P(
    Http, BadConfiguration,
    testing::Values(
        bad_http("HttpTaskWithoutRequest", kGoodResponse,
                 "t.yaml:23:13: providers.fake.tasks.text: `request` is missing"),
        bad_http("HttpTaskWithoutResponse", kGoodRequest,
                 "t.yaml:23:13: providers.fake.tasks.text: `response` is missing"),
        bad_http("HttpPathThatIsAnAddress", with_request("path: 'https://evil/'"),
                 "t.yaml:23:36: providers.fake.tasks.text.request.path: must begin with / (it is below "
                 "base_url)"),
        bad_http(
            "HttpPathWithAFragment", with_request("path: '/a#b'"),
            "t.yaml:23:36: providers.fake.tasks.text.request.path: must be a path and query of an address, "
            "without # and spaces"),
        bad_http("HttpPathWithAnotherRoot", with_request("path: '/a/${answer.id}'"),
                 "t.yaml:23:36: providers.fake.tasks.text.request.path: `answer.id` is not known: a "
                 "reference is "
                 "model or begins with input. (at character 4)"),
        bad_http(
            "HttpUnknownMethod", with_request("path: /a, method: FETCH"),
            "t.yaml:23:48: providers.fake.tasks.text.request.method: must be one of GET, POST, PUT, PATCH, "
            "DELETE: did you mean `PATCH`?"),
        bad_http("HttpBodyOfAGet", with_request("path: /a, method: GET, json: {a: 1}"),
                 "t.yaml:23:53: providers.fake.tasks.text.request.json: stands beside method GET, which "
                 "has no body"),
        bad_http(
            "HttpBodyThatIsAText", with_request("path: /a, json: text"),
            "t.yaml:23:46: providers.fake.tasks.text.request.json: must be a section or a list: the body, "
            "whose texts are templates"),
        bad_http("HttpTemplateDeepInABody", with_request("path: /a, json: {a: [{b: '${inptu.x}'}]}"),
                 "t.yaml:23:55: providers.fake.tasks.text.request.json.a[0].b: `inptu.x` is not known: a "
                 "reference "
                 "is model or begins with input. (at character 1)"),
        bad_http("HttpHeaderOfTheKey", with_request("path: /a, headers: {authorization: x}"),
                 "t.yaml:23:65: providers.fake.tasks.text.request.headers.authorization: is the header of "
                 "the key: "
                 "write `api_key` and `auth`"),
        bad_http("HttpHeaderOfTheClient", with_request("path: /a, headers: {Content-Type: x}"),
                 "t.yaml:23:64: providers.fake.tasks.text.request.headers.Content-Type: is written by the "
                 "client "
                 "itself (a body is always application/json)"),
        bad_http("HttpResponseWithNothing", with_response(""),
                 "t.yaml:23:43: providers.fake.tasks.text.response: needs `file` (the body is it), or "
                 "`output` or "
                 "`artifacts` (where they stand in the answer)"),
        bad_http("HttpResponseWithBoth", with_response("file: {name: a}, output: {x: y}"),
                 "t.yaml:23:54: providers.fake.tasks.text.response.file: stands beside `output` or "
                 "`artifacts`: a "
                 "body is a file or it is JSON"),
        bad_http("HttpPathOfAnAnswer", with_response("output: {x: a..b}"),
                 "t.yaml:23:66: providers.fake.tasks.text.response.output.x: must be a path in the answer "
                 "such as "
                 "images.0.url: at most 8 names or numbers with dots between"),
        bad_http("HttpArtifactFromNowhere", with_response("artifacts: {x: {mime: image/png}}"),
                 "t.yaml:23:66: providers.fake.tasks.text.response.artifacts.x: needs either `url_at` "
                 "(where its "
                 "address stands) or `base64_at` (where its bytes do)"),
        bad_http("HttpFileOfNoType", with_response("file: {name: a, mime: mp3}"),
                 "t.yaml:23:76: providers.fake.tasks.text.response.file.mime: must be a media type such as "
                 "audio/mpeg"),
        bad_http("HttpPollWithoutEnd", with_poll("request: {url_at: a}"),
                 "t.yaml:23:76: providers.fake.tasks.text.poll: `until` is missing"),
        bad_http(
            "HttpPollOfNowhere", with_poll("request: {}, until: {at: a, is: b}"),
            "t.yaml:23:83: providers.fake.tasks.text.poll.request: needs either `path` (below base_url) or "
            "`url_at` (where the first answer has the address)"),
        bad_http("HttpPollTooOften", with_poll("request: {url_at: a}, until: {at: a, is: b}, every: 1ms"),
                 "t.yaml:23:135: providers.fake.tasks.text.poll.every: must be a duration from 10ms to 1h"),
        bad_http("HttpPollUntilNothing", with_poll("request: {url_at: a}, until: {at: a, is: []}"),
                 "t.yaml:23:120: providers.fake.tasks.text.poll.until.is: needs at least one word"),
        bad_http(
            "HttpUnknownMeter", with_usage("charakters: {value: 1}"),
            "t.yaml:23:84: providers.fake.tasks.text.usage.charakters: unknown meter `charakters`: did you "
            "mean `characters`?"),
        bad_http("HttpUsageFromTwoPlaces", with_usage("characters: {value: 1, at: x}"),
                 "t.yaml:23:84: providers.fake.tasks.text.usage.characters: needs one of `at`, `header`, "
                 "`characters_of` and `value`"),
        bad_http(
            "HttpUsageTimesNothing", with_usage("characters: {value: 1, times: 2}"),
            "t.yaml:23:114: providers.fake.tasks.text.usage.characters.times: belongs to `at` or `header`: "
            "what is said there is multiplied by it"),
        BadFile{"HttpStatusThatIsNone", "kind: sandbox",
                "kind: http\n    base_url: https://a\n    statuses: {200: timeout}\n    tasks: {text: "
                "{request: "
                "{path: /a}, response: {file: {name: a}}}}",
                "t.yaml:23:21: providers.fake.statuses.200: must stand under a status from 300 to 599"},
        BadFile{
            "HttpStatusOfNoClass", "kind: sandbox",
            "kind: http\n    base_url: https://a\n    statuses: {400: timout}\n    tasks: {text: {request: "
            "{path: /a}, response: {file: {name: a}}}}",
            "t.yaml:23:21: providers.fake.statuses.400: must be one of transient, rate_limited, timeout, "
            "invalid_input, misconfigured, bad_output: did you mean `timeout`?"},
        BadFile{"HttpAuthWithoutHeader", "kind: sandbox",
                "kind: http\n    base_url: https://a\n    auth: {prefix: x}\n    tasks: {text: {request: "
                "{path: /a}, response: {file: {name: a}}}}",
                "t.yaml:23:5: providers.fake.auth: `header` is missing"},
        BadFile{"HttpWithoutTasks", "kind: sandbox", "kind: http\n    base_url: https://a",
                "t.yaml:20:3: providers.fake: `tasks` is missing"},
        BadFile{"HttpKeysElsewhere", "kind: sandbox", "kind: sandbox\n    statuses: {400: timeout}",
                "t.yaml:22:5: providers.fake.statuses: belongs to providers of kind http"},
        BadFile{"AnthropicWithoutModel", "kind: openai\n    base_url: https://api.example.com/v1",
                "kind: anthropic",
                "t.yaml:22:36: models.writer.providers[0]: must name the model that provider `cloud` is "
                "asked for: "
                "{provider: cloud, model: NAME}"},
        BadFile{"OpenAiWithAuth", "api.example.com/v1", "api.example.com/v1\n    auth: {header: a}",
                "t.yaml:19:5: providers.cloud.auth: belongs to providers of kind http"}),
    name_of);

TEST(Mistakes, HttpModelIsNamedWhereATemplateHasIt) {
  const auto sample = [](const std::string& path) {
    return mistakes_of(sample_with(
        "kind: sandbox\nmodels:\n  writer: {task: text, providers: [cloud, fake]}",
        "kind: http\n    base_url: https://a\n    tasks: {text: {request: {path: " + path +
            "}, response: {output: {text: a}}}}\nmodels:\n  writer: {task: text, providers: [cloud, fake]}"));
  };
  EXPECT_THAT(sample("/say"), ElementsAre());
  EXPECT_THAT(
      sample("'/${model}'"),
      ElementsAre("t.yaml:25:43: models.writer.providers[1]: must name the model that provider `fake` is "
                  "asked for: {provider: fake, model: NAME}"));
}

TEST(Mistakes, KindsThatHaveTasksSayWhichTheyHave) {
  EXPECT_THAT(
      mistakes_of(sample_with("providers: [voice]", "providers: [{provider: cloud, model: m}, voice]")),
      ElementsAre());
  std::string text = sample_with("kind: openai\n    base_url: https://api.example.com/v1", "kind: anthropic");
  text.replace(text.find("[cloud, fake]"), 13, "[fake]");
  text.replace(text.find("[voice]"), 7, "[{provider: cloud, model: m}]");
  EXPECT_THAT(mistakes_of(text), ElementsAre(HasSubstr("provider `cloud` has no task `speech`: ")));
}

INSTANTIATE_TEST_SUITE_P(
    Programs, BadConfiguration,
    testing::Values(
        BadFile{"TemplateWithoutEnd", "\"${output.audio}\"", "\"${output.audio\"",
                "t.yaml:13:43: providers.voice.tasks.speech.command[3]: `${` at character 1 has no `}`"},
        BadFile{"UnknownOutput", "\"${output.audio}\"", "\"${output.audoi}\"",
                "t.yaml:13:43: providers.voice.tasks.speech.command[3]: unknown output `audoi`: did you mean "
                "`audio`?"},
        BadFile{"UnknownFilter", "\"${input.text}\"", "\"${input.text|upper}\"",
                "t.yaml:14:16: providers.voice.tasks.speech.stdin: filter `upper` is not known: there are "
                "markup, int, number, name, one and is (at character 1)"},
        BadFile{"ProgramChosenByTheUser", "[espeak-ng, --stdin", "[\"${input.program}\", --stdin",
                "t.yaml:13:19: providers.voice.tasks.speech.command[0]: the program must be named as it is, "
                "without ${...}: no user chooses what is run"},
        BadFile{"NoProgram", "[espeak-ng, --stdin, -w, \"${output.audio}\"]", "[]",
                "t.yaml:13:9: providers.voice.tasks.speech.command: needs a program and its arguments: "
                "[PROGRAM, ARGUMENT, ...]"},
        BadFile{"CommandAndSteps", "stdin: \"${input.text}\"", "steps: []",
                "t.yaml:12:7: providers.voice.tasks.speech: needs either `command` or `steps`"},
        BadFile{"TwoKindsOfStandardInput", "stdin: \"${input.text}\"",
                "stdin: \"${input.text}\"\n        stdin_json: true",
                "t.yaml:15:21: providers.voice.tasks.speech.stdin_json: stands beside `stdin`: the program "
                "reads one or the other"},
        BadFile{"OutputOutsideTheWorkFolder", "file: a.wav", "file: ../a.wav",
                "t.yaml:15:33: providers.voice.tasks.speech.outputs.audio.file: must be a file name such as "
                "speech.wav: at most 64 letters, digits and . _ -, not beginning with . or -"},
        BadFile{"OutputNamedByTheUser", "file: a.wav", "file: \"${input.name}\"",
                "t.yaml:15:33: providers.voice.tasks.speech.outputs.audio.file: may refer only to words that "
                "are listed, as in ${input.format|one(png,jpeg):-png}, 64 in all"},
        BadFile{"OutputNamedByADangerousWord", "file: a.wav", "file: \"${input.name|one(a,../b)}\"",
                "t.yaml:15:33: providers.voice.tasks.speech.outputs.audio.file: must be a file name such as "
                "speech.wav: at most 64 letters, digits and . _ -, not beginning with . or -"},
        BadFile{
            "TwoOutputsInOneFile", "{audio: {file: a.wav, mime: audio/wav}}",
            "{audio: {file: a.wav, mime: audio/wav}, more: {file: \"a.${input.f|one(wav,mp3)}\", mime: a/b}}",
            "t.yaml:15:71: providers.voice.tasks.speech.outputs.more.file: another output is written to "
            "`a.wav` too"},
        BadFile{"BadMediaType", "mime: audio/wav", "mime: wav",
                "t.yaml:15:46: providers.voice.tasks.speech.outputs.audio.mime: must be a media type such as "
                "audio/wav"},
        BadFile{"NoResult",
                "[espeak-ng, --stdin, -w, \"${output.audio}\"]\n        stdin: \"${input.text}\"\n"
                "        outputs: {audio: {file: a.wav, mime: audio/wav}}",
                "[espeak-ng]",
                "t.yaml:12:7: providers.voice.tasks.speech: has no result: declare `outputs`, or "
                "`stdout_json: true`"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Sandbox, BadConfiguration,
    testing::Values(
        BadFile{"P99BelowP50", "kind: sandbox", "kind: sandbox\n    latency: {p50: 2s, p99: 1s}",
                "t.yaml:22:29: providers.fake.latency.p99: must be at least p50"},
        BadFile{"FaultsBeyondAll", "kind: sandbox",
                "kind: sandbox\n    faults: {transient: 60%, timeout: 50%}",
                "t.yaml:22:5: providers.fake.faults: the shares of all faults together must be at most 100%"},
        BadFile{"FaultWithoutShare", "kind: sandbox", "kind: sandbox\n    faults: {timeout: {bills: true}}",
                "t.yaml:22:14: providers.fake.faults.timeout: `share` is missing"},
        BadFile{"UnknownFault", "kind: sandbox", "kind: sandbox\n    faults: {trasient: 1%}",
                "t.yaml:22:14: providers.fake.faults: unknown key `trasient`: did you mean `transient`?"},
        BadFile{
            "UnknownKind", "kind: sandbox", "kind: sandboxx",
            "t.yaml:21:11: providers.fake.kind: must be one of exec, openai, anthropic, http, sandbox, pull: "
            "did you mean "
            "`sandbox`?"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Endpoints, BadConfiguration,
    testing::Values(
        BadFile{"NeitherTaskNorAlias", "defaults:\n", "endpoints:\n  - {path: /speak}\ndefaults:\n",
                "t.yaml:26:5: endpoints[0]: needs one of `task`, `workflow` and `alias`"},
        BadFile{"UnknownTask", "defaults:\n", "endpoints:\n  - {path: /speak, task: speach}\ndefaults:\n",
                "t.yaml:26:26: endpoints[0].task: unknown task `speach`: no model serves it; did you mean "
                "`speech`?"},
        BadFile{"OwnPath", "defaults:\n", "endpoints:\n  - {path: /api/jobs/x, task: speech}\ndefaults:\n",
                "t.yaml:26:12: endpoints[0].path: is a path of Turnpike's own: choose another"},
        BadFile{"BadPath", "defaults:\n", "endpoints:\n  - {path: speak, task: speech}\ndefaults:\n",
                "t.yaml:26:12: endpoints[0].path: must be a path such as /speak: letters, digits and - _ . ~ "
                "between slashes"},
        BadFile{"TwoOfOnePath", "defaults:\n",
                "endpoints:\n  - {path: /s, task: speech}\n  - {path: /s, task: text}\ndefaults:\n",
                "t.yaml:27:12: endpoints[1].path: `/s` is published twice: keep one"},
        BadFile{"RespondAndWait", "defaults:\n",
                "endpoints:\n  - {path: /s, task: speech, respond: job, wait: 5s}\ndefaults:\n",
                "t.yaml:26:50: endpoints[0].wait: stands beside `respond`: write `respond: job` (answer at "
                "once) or `wait: 20s`, not both"},
        BadFile{"AliasOfSomethingElse", "defaults:\n",
                "endpoints:\n  - {path: /s, alias: /elsewhere}\ndefaults:\n",
                "t.yaml:26:23: endpoints[0].alias: must be a path of Turnpike's own, such as /api/jobs"},
        BadFile{"AliasWithStatus", "defaults:\n",
                "endpoints:\n  - {path: /s, alias: /api/jobs, status: 200}\ndefaults:\n",
                "t.yaml:26:42: endpoints[0].status: belongs to an endpoint with a task or a workflow: an "
                "alias answers as "
                "the path that it stands for"},
        BadFile{"StatusOutOfRange", "defaults:\n",
                "endpoints:\n  - {path: /s, task: speech, status: 500}\ndefaults:\n",
                "t.yaml:26:38: endpoints[0].status: must be a whole number from 200 to 299"},
        BadFile{"TaskAndWorkflow", "defaults:\n",
                "endpoints:\n  - {path: /s, task: speech, workflow: story}\ndefaults:\n",
                "t.yaml:26:5: endpoints[0]: needs one of `task`, `workflow` and `alias`"},
        BadFile{"UnknownWorkflow", "defaults:\n", "endpoints:\n  - {path: /s, workflow: story}\ndefaults:\n",
                "t.yaml:26:26: endpoints[0].workflow: unknown workflow `story`: there are none"},
        BadFile{"OwnPathOfRuns", "defaults:\n",
                "endpoints:\n  - {path: /api/runs, task: speech}\ndefaults:\n",
                "t.yaml:26:12: endpoints[0].path: is a path of Turnpike's own: choose another"}),
    name_of);

TEST(Mistakes, AreAllFoundAtOnceInTheOrderOfTheFile) {
  std::string text = sample_with("concurrent_jobs: 2", "concurent_jobs: 2");
  const auto change = [&text](std::string_view from, std::string_view to) {
    text.replace(text.find(from), from.size(), to);
  };
  change("default_plan: free", "default_plan: gold");
  change("listen: 127.0.0.1:8080", "listen: 0.0.0.0:80");
  change("pool: local", "pool: loca");
  std::vector<int> lines;
  for (const Mistake& mistake : load_sample(text).mistakes) lines.push_back(mistake.line);
  EXPECT_THAT(lines, ElementsAre(2, 6, 10, 31));
}

TEST(Mistakes, AreBoundedInNumber) {
  std::string text{kSample};
  for (int i = 0; i < 1000; ++i) text += "  p" + std::to_string(i) + ": {colour: blue}\n";
  const std::vector<std::string> mistakes = mistakes_of(text);
  ASSERT_EQ(mistakes.size(), 201U);
  EXPECT_EQ(mistakes.back(), "t.yaml: there are more mistakes than are listed here");
}

TEST(Mistakes, SayWhereTextIsNotYaml) {
  EXPECT_THAT(mistakes_of("server:\n  listen: [1, 2\nplans: {}\n"),
              ElementsAre(HasSubstr("t.yaml:3:6: is not YAML: ")));
  EXPECT_THAT(mistakes_of("a: *nothing\n"), ElementsAre(HasSubstr("t.yaml:1:4: is not YAML: ")));
}

TEST(Mistakes, RefuseWhatCannotBeAConfiguration) {
  EXPECT_THAT(mistakes_of(""),
              ElementsAre("t.yaml: is empty: a configuration needs at least providers, models, "
                          "plans and accounts"));
  EXPECT_THAT(mistakes_of("just text"), ElementsAre("t.yaml:1:1: must be a section (key: value)"));
  EXPECT_THAT(mistakes_of(std::string{kSample} + "---\na: 1\n"),
              ElementsAre(HasSubstr("a second YAML document begins here")));
  EXPECT_THAT(mistakes_of(std::string(2 << 20, ' ')),
              ElementsAre("t.yaml: is larger than 1 MiB, which no configuration is"));
  EXPECT_THAT(mistakes_of(std::string("server:\n  listen: x") + '\0' + "\n"),
              ElementsAre("t.yaml:2:12: a control character: only text, tabs and line ends are allowed"));
}

TEST(Mistakes, StopAtDocumentsThatUnfoldWithoutEnd) {
  std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c < 'j'; ++c) {
    const std::string before(1, static_cast<char>(c - 1));
    bomb += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 10; ++i) bomb += "*" + before + (i < 9 ? "," : "]\n");
  }
  EXPECT_THAT(mistakes_of(bomb),
              ElementsAre(HasSubstr("too much: a configuration has at most 50000 values")));
  EXPECT_THAT(mistakes_of("a: &a [*a]\n"), ElementsAre(HasSubstr("nested at most 64 deep")));
  EXPECT_THAT(mistakes_of(std::string(10'000, '[')), ElementsAre(HasSubstr("is not YAML")));
}

TEST(Mistakes, OfAFileThatIsNotThereNameIt) {
  const Loaded loaded = load_file("/nonexistent/turnpike.yaml", sample_secrets());
  ASSERT_EQ(loaded.mistakes.size(), 1U);
  EXPECT_EQ(to_string(loaded.mistakes.front()),
            "/nonexistent/turnpike.yaml: cannot be read: No such file or directory");
  EXPECT_THAT(to_string(load_file("/tmp", sample_secrets()).mistakes.at(0)),
              HasSubstr("/tmp: cannot be read: "));
}

}  // namespace
}  // namespace turnpike::policy
