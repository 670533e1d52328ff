// What was promised: the validated configuration as values. Immutable once loaded; shared by pointer between
// threads. Everything here comes from one YAML file (policy/load.h) and is named as it is there.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/money.h"
#include "base/result.h"
#include "base/time.h"
#include "policy/alerts.h"
#include "policy/cache.h"
#include "policy/http_task.h"
#include "policy/meters.h"
#include "policy/models.h"
#include "policy/period.h"
#include "policy/price.h"
#include "policy/watch.h"

namespace turnpike::policy {

// --- Order
// -----------------------------------------------------------------------------------------------------------

// A property of the plan. A configuration may write the word or the number.
enum class PriorityClass : std::uint8_t { kLow = 1, kStandard = 2, kHigh = 3, kCritical = 4 };
constexpr std::size_t kClassCount = 4;
constexpr std::size_t class_index(PriorityClass c) {
  return static_cast<std::size_t>(c) - 1;
}
const char* class_name(PriorityClass c);

// What saturates together: one upstream, or a group of local runners.
struct Pool {
  std::string name;
  std::uint32_t slots = 1;     // tries at once, 1..100,000
  std::uint32_t headroom = 0;  // slots that classes `low` and `standard` leave free for higher ones; < slots
};

// --- Failures
// --------------------------------------------------------------------------------------------------------

// How a try failed, decided once by the provider that saw it.
enum class FailureClass : std::uint8_t {
  kTransient,      // the same try may succeed: connection lost, 5xx, a killed process
  kRateLimited,    // the upstream asked to slow down
  kTimeout,        // no end within the attempt's time
  kInvalidInput,   // the input can never succeed: do not retry
  kMisconfigured,  // the program or model is not there, credentials are refused: do not retry
  kBadOutput,      // the upstream answered garbage
};
constexpr std::size_t kFailureClassCount = 6;
const char* failure_class_name(FailureClass c);  // "transient", "rate_limited", ...
// False for the classes that can never succeed by trying again.
bool failure_class_retryable(FailureClass c);

struct Backoff {
  Duration base = std::chrono::seconds(1);
  std::uint32_t factor_permille = 2000;  // 2.0
  Duration cap = std::chrono::minutes(5);
  std::uint32_t jitter_permille = 200;  // each delay is spread by up to +-20 %
  std::uint32_t attempts = 3;           // in all, the first included; 1..100
  friend bool operator==(const Backoff&, const Backoff&) = default;
};

struct Retry {
  Backoff standard;
  std::array<std::optional<Backoff>, kFailureClassCount> by_class;
  const Backoff& for_class(FailureClass c) const {
    const auto& own = by_class[static_cast<std::size_t>(c)];
    return own ? *own : standard;
  }
  friend bool operator==(const Retry&, const Retry&) = default;
};

// --- Plans
// -----------------------------------------------------------------------------------------------------------

struct Limits {  // nullopt: unlimited
  std::optional<std::uint32_t>
      concurrent_jobs;  // jobs running at once, per account; may be 0 (nothing starts)
  std::optional<std::uint32_t> concurrent_calls;    // calls answered while the caller waits, at once
  std::optional<std::uint32_t> concurrent_batches;  // batches at once; kept for who asks, batches come later
  std::optional<std::uint32_t> agents;              // likewise
  std::optional<std::uint32_t> queue_depth;         // jobs waiting (queued + scheduled), per account
  std::uint32_t dispatch_batch = 1;                 // jobs of an account that one turn may take, 1..1,000
  std::optional<std::uint32_t> batch_operations;    // operations in one batch
  std::uint64_t upload_bytes_max = 25'000'000;      // one uploaded artifact
  friend bool operator==(const Limits&, const Limits&) = default;
};

// --- What is promised of quotas, rates and cost; to an account by its plan, to a team, or for the whole
// platform

struct Quotas {  // of one period; nullopt or absent: unlimited
  std::array<std::optional<std::int64_t>, kMeterCount> meters{};  // by index_of(Meter), in the meter's units
  std::map<std::string, std::optional<std::int64_t>, std::less<>> content{};  // by content type: jobs of it
  friend bool operator==(const Quotas&, const Quotas&) = default;
};

// How often work may begin: jobs wait, calls are refused. nullopt: no limit. Each is a bucket that fills
// steadily: `rps` a second with room for `burst` (default: rps), `rpm` a minute with room for `burst`
// (default: rpm), `tpm` tokens a minute with room for a minute's.
struct Rates {
  std::optional<std::uint32_t> rps, rpm, burst;
  std::optional<std::uint64_t> tpm;
  bool any() const { return rps || rpm || tpm; }
  friend bool operator==(const Rates&, const Rates&) = default;
};

struct CostCap {
  Money monthly;  // in one period of the plan; >= 0
  bool hard_stop =
      true;  // nothing is admitted that could pass it; false: warns at the thresholds and goes on
  friend bool operator==(const CostCap&, const CostCap&) = default;
};

// Tells once a period when so much of a quota or of the cap is used. Permille, ascending, 1..10,000.
using Thresholds = std::vector<std::uint32_t>;

struct Promise {
  Quotas quotas;
  Rates rates;
  std::optional<CostCap> cost_cap;
  PeriodRule period;
  Thresholds thresholds{500, 800, 1000};
  friend bool operator==(const Promise&, const Promise&) = default;
};

// Limits that accounts share: a team's, or the whole platform's.
struct Group {
  std::string name;  // of the team; "platform"
  Promise promise;
  std::string time_zone = "UTC";                 // of its periods
  std::optional<std::uint32_t> concurrent_jobs;  // running at once, all accounts together
  std::optional<std::uint32_t> concurrent_calls;
};

// When a call goes upstream: at once, its hold being committed behind it, or only after its hold is durable.
// Near a hard limit `fast` is `durable`.
enum class Admission : std::uint8_t { kFast = 0, kDurable = 1 };

struct Plan {
  std::string name;
  Promise promise;
  Admission admission = Admission::kFast;
  // Subscribers that are on the plan when it changes stay on it as it was. False: they move with the change.
  bool grandfather = false;
  std::optional<std::vector<std::string>> content_types;  // that the plan has; nullopt: all
  std::string
      upgrade_to;  // the plan to name in refusals; empty: the next dearer class that has what was asked
  PriorityClass priority_class = PriorityClass::kStandard;
  Limits limits;
  Retry retry;
  Duration attempt_timeout = std::chrono::minutes(5);  // one attempt
  Duration job_timeout = std::chrono::hours(1);  // from a job's first start to its end, retries included
  std::optional<Duration> expire_after;  // waiting longer than this (before a first start) ends as `expired`
  std::optional<std::vector<std::string>> tasks;  // tasks the plan has; nullopt: all
  std::map<std::string, std::vector<std::string>>
      providers;  // task -> providers in order; a task not named: the model's order
  ModelPolicy models;
  std::map<std::string, bool> features;
  std::optional<PlanCache> cache;  // nullopt: answers are not kept

  bool has_task(std::string_view task) const;
  friend bool operator==(const Plan&, const Plan&) = default;
};

// --- Catalogue
// -------------------------------------------------------------------------------------------------------

// A secret from ${env:NAME} or ${file:PATH}. Has no formatter and no stream operator, on purpose: it is
// printed nowhere.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string value) : value_(std::move(value)) {}
  const std::string& reveal() const { return value_; }
  bool empty() const { return value_.empty(); }
  friend bool operator==(const Secret&, const Secret&) = default;

 private:
  std::string value_;
};

// One local program for one task. Commands, `when`, standard input and the names of outputs are templates
// (policy/template.h); no shell ever sees them. Programs run in the try's work folder, so a relative name is
// a file there, which later steps find again.
struct ExecOutput {
  std::string name;  // as in ${output.NAME}
  // Its name in the work folder and its type. Templates whose references are all of the form
  // `${input.FIELD|one(...)...}`, so that every expansion is known when the configuration is loaded (and is a
  // plain file name): "speech.wav", "image.${input.format|one(png,jpeg):-png}".
  std::string file;
  std::string mime;  // "audio/wav", "image/${input.format|one(png,jpeg):-png}"
  friend bool operator==(const ExecOutput&, const ExecOutput&) = default;
};
struct ExecStep {
  std::vector<std::string> command;  // argv; each element is one template; an element that is exactly one
                                     // `${...?}` whose value is absent is left out
  std::string when;  // a template; the step runs if it is empty (not given) or expands to non-empty text
  friend bool operator==(const ExecStep&, const ExecStep&) = default;
};
struct ExecTask {
  std::vector<ExecStep> steps;               // run one after another in the same work folder; at least one
  std::string stdin_template;                // fed to the first step; empty: /dev/null
  bool stdin_json = false;                   // instead: the whole input as JSON on standard input
  std::vector<std::uint32_t> invalid_exits;  // exit statuses by which the program blames its input; 1..255
  bool stdout_json = false;  // standard output is the result as JSON; else it is kept only for error messages
  std::vector<ExecOutput> outputs;
  Duration time_max = std::chrono::seconds(60);
  std::uint64_t memory_bytes_max = 512ULL << 20;
  std::uint64_t file_bytes_max = 64ULL << 20;
  std::uint64_t output_bytes_max = 1ULL << 20;  // standard output and error, each
  std::uint32_t processes_max = 64;             // threads count, for the kernel counts them
  friend bool operator==(const ExecTask&, const ExecTask&) = default;
};

// A program of an exec provider that stays: it listens on a Unix socket, and each try is one request to it
// (docs/decisions/0020). Started when a try needs it, and again after its end.
struct ExecServe {
  // argv; the only reference in it is `${socket}`, the path that the program is to listen on (also in its
  // environment, as TURNPIKE_SOCKET).
  std::vector<std::string> command;
  std::vector<std::string> files;  // absolute paths of files and folders that it may read: scripts, weights
  std::uint32_t concurrency = 1;   // requests that one process takes at once; 1..1,024
  std::uint32_t instances = 1;     // processes at once; 1..256
  bool per_account = false;        // a process serves one account and no other
  Duration start_timeout = std::chrono::seconds(30);  // until it listens
  // How long a request that was cancelled, or is out of time, may keep its place in the process; then the
  // process is replaced.
  Duration cancel_grace = std::chrono::seconds(5);
  std::optional<Duration> idle_stop;  // ended after so long without a request; nullopt: never
  std::uint64_t memory_bytes_max = 512ULL << 20;
  std::uint64_t file_bytes_max = 64ULL << 20;  // each file it writes
  std::uint32_t processes_max = 64;            // and threads, of one instance
  friend bool operator==(const ExecServe&, const ExecServe&) = default;
};

enum class ProviderKind : std::uint8_t { kExec, kOpenAi, kSandbox, kAnthropic, kHttp, kPull };
// Whether it is an upstream of somebody else's, which may bill what it began, whatever came back, and costs
// what its prices say; else a program or a pretence of ours.
constexpr bool is_remote(ProviderKind kind) {
  return kind == ProviderKind::kOpenAi || kind == ProviderKind::kAnthropic || kind == ProviderKind::kHttp;
}

struct SandboxFault {
  FailureClass failure = FailureClass::kTransient;
  std::uint32_t permille = 0;  // share of tries that end so
  // The failed try reports as billed what its answer would have used, as an upstream does that fails late.
  bool bills = false;
  friend bool operator==(const SandboxFault&, const SandboxFault&) = default;
};

// --- What bounds the use of an upstream. Whoever waits at one of these bounds waits in the engine's order.

// One credential of a provider's pool. The limits of the keys add up; an account stays with its key while
// that has room, so that the upstream's own caches stay warm.
struct ProviderKey {
  std::string name;  // unique in its provider; what is shown in place of the key
  Secret key;
  std::optional<std::uint32_t> requests_per_minute;  // in any 60 s; nullopt: no limit
  std::optional<std::uint64_t> tokens_per_minute;    // likewise, as held before and settled after
  std::optional<std::uint32_t> concurrency;          // tries at once
  friend bool operator==(const ProviderKey&, const ProviderKey&) = default;
};

// Of the upstream as a whole, across its keys, accounts and nodes: no more than `requests` tries begin in any
// stretch of `per` (a sliding log, exact).
struct UpstreamLimit {
  std::uint32_t requests = 0;  // 1..100,000
  Duration per{0};             // 1 s..1 d
  friend bool operator==(const UpstreamLimit&, const UpstreamLimit&) = default;
};

// Stops asking an upstream that only fails: after `failures` one after another (transient, timeout,
// bad_output) nothing is sent for `cool_down`, then one try looks whether it is back.
struct Breaker {
  std::uint32_t failures = 5;  // 1..1,000
  Duration cool_down = std::chrono::seconds(30);
  friend bool operator==(const Breaker&, const Breaker&) = default;
};

// What a request does when the provider that is its turn has no room: no slot, no key with room, its limit
// reached, cooling down.
enum class Saturation : std::uint8_t {
  kWait,   // waits for it
  kSpill,  // goes to the next provider of its route; waits only at the last one
};

struct Provider {
  std::string name;
  ProviderKind kind = ProviderKind::kSandbox;
  std::string pool;  // its own name unless it shares one of server.slots
  // Slots of its own pool; unused where the pool is shared. If each of `keys` has a concurrency: their sum,
  // unless the file says less.
  std::uint32_t concurrency = 4;
  enum class Use : std::uint8_t {
    kAlways,
    kIfReachable,
    kIfKey
  } use = Use::kAlways;  // looked at once, at start
  std::optional<UpstreamLimit> limit;
  std::optional<Breaker>
      breaker;  // remote kinds have one unless the file says `off`, others only if it says so
  Duration cool_down =
      std::chrono::seconds(15);  // after rate_limited by an upstream that does not say how long
  Saturation saturation = Saturation::kWait;
  std::optional<Duration>
      timeout;  // of one attempt; the shorter of this and the plan's attempt_timeout holds
  // remote kinds: either api_key (one key without a name or limits; empty: the upstream wants none), or keys.
  // With Use::kIfKey those that are not there are left out.
  Secret api_key;
  std::vector<ProviderKey> keys;
  bool has_key() const { return !api_key.empty() || !keys.empty(); }
  // The secret of a key of the pool; an empty name: api_key. Null: there is no such key.
  const Secret* secret(std::string_view key_name) const;
  // exec
  std::map<std::string, ExecTask> exec_tasks;
  std::optional<ExecServe> serve;  // its tasks then have outputs, a time and an output limit, and no steps
  // openai, anthropic, http
  std::string base_url;            // without a slash at its end, e.g. "https://api.openai.com/v1"
  std::optional<ListWatch> watch;  // nullopt: its lists are not read
  // http
  HttpAuth auth;
  std::map<std::string, HttpTask> http_tasks;
  std::map<int, FailureClass> statuses;  // what a status of this upstream means where it is not as usual
  bool allow_private = false;            // files at addresses that are not public
  // sandbox
  std::uint64_t seed = 1;
  Duration latency_p50 = std::chrono::milliseconds(50);
  Duration latency_p99 = std::chrono::milliseconds(500);
  std::vector<SandboxFault> faults;
  // pull: workers of the operator's own claim its jobs. Its pool is always its own.
  Duration lease =
      std::chrono::seconds(30);      // a worker not heard of for so long is lost, and its try with it
  std::uint32_t claims_max = 1'000;  // claims that wait for work at once, 1..10,000
  std::uint64_t file_bytes_max = 64ULL << 20;  // of each file that a worker makes
  friend bool operator==(const Provider&, const Provider&) = default;
};

// Moves an account between plans by what it uses (ST8), each move audited.
struct Rule {
  std::string name;
  std::string from, to;  // plans
  // Exactly one of these is meant: a meter, or cost.
  std::optional<Meter> meter;
  bool cost = false;
  // kAbove: as soon as the period's use is at least `amount` (meter's units, or nano-USD); kBelow: when a
  // period ends with less than that.
  enum class When : std::uint8_t { kAbove, kBelow } when = When::kAbove;
  std::int64_t amount = 0;
};

// On for named accounts, for plans, or for a share of all accounts (by a hash of flag and user id: an account
// keeps its side as the share grows).
struct Flag {
  std::string name;
  std::uint32_t share_permille = 0;
  std::vector<std::string> plans;
  std::vector<std::string> accounts;  // the application's user ids
};
bool flag_on(const Flag& flag, std::string_view user_id, std::string_view plan);
// 0..999: where a user stands when a share is taken, by a hash of what the share is of and the user id; the
// same on every machine and after every restart. A share of n permille has those below n.
std::uint32_t place_in_share(std::string_view of, std::string_view user_id);

// --- The whole
// -------------------------------------------------------------------------------------------------------

struct Tls {
  std::string certificate_file, key_file;
};

struct Server {
  std::string listen = "127.0.0.1:8080";
  bool allow_public = false;  // listen addresses other than loopback are refused unless true
  std::optional<Tls> tls;
  std::uint32_t connections_max = 10'000;
  std::uint32_t header_bytes_max = 16 * 1024;
  std::uint64_t body_bytes_max = 1ULL << 20;
  std::uint32_t sockets_max = 5'000;  // WebSockets open at once; they are among the connections
  std::uint32_t sockets_per_account = 100;
  std::uint32_t socket_subscriptions_max = 100;        // of each
  std::uint64_t socket_message_bytes_max = 16 * 1024;  // that a client sends
  // Pages that read answers and open WebSockets beside those of the server's own host: "https://app.example",
  // or "*".
  std::vector<std::string> origins;
  // Between requests; and how long a WebSocket may be silent, which is asked after half of it.
  Duration idle_timeout = std::chrono::seconds(60);
  Duration read_timeout =
      std::chrono::seconds(20);  // from a request's first byte to its last (slow senders are cut)
  Duration drain_timeout = std::chrono::seconds(30);  // running attempts after SIGTERM
};

struct Store {
  Duration keep_jobs = std::chrono::hours(24 * 30);  // ended jobs
  Duration keep_artifacts =
      std::chrono::hours(24 * 30);                // not needed by a kept job; never shorter than keep_jobs
  Duration keep_events = std::chrono::hours(24);  // how far back Last-Event-ID reaches
};

// Outgoing webhooks.
struct Webhooks {
  bool allow_private = false;                   // endpoints at addresses that are not public
  bool allow_http = false;                      // endpoints without TLS
  Duration timeout = std::chrono::seconds(15);  // of one attempt
  std::uint32_t endpoints_per_account = 10;
  // The waits between attempts; after the last attempt it is given up. Three days in all, as Standard
  // Webhooks has it.
  std::vector<Duration> retry = {std::chrono::seconds(5), std::chrono::minutes(5), std::chrono::minutes(30),
                                 std::chrono::hours(2),   std::chrono::hours(5),   std::chrono::hours(10),
                                 std::chrono::hours(14),  std::chrono::hours(20),  std::chrono::hours(24)};
};

// Pictures that inputs name: uploaded ones, and those that are fetched from an address (image_url).
struct Pictures {
  bool allow_private = false;                   // addresses that are not public
  Duration timeout = std::chrono::seconds(30);  // from looking up the host's name to the last byte
  // What a picture's own header may say of its size: it is looked at before a program decodes it.
  std::uint32_t edge_max = 16'384;         // pixels
  std::uint64_t pixels_max = 100'000'000;  // width * height
};

// Traces of calls, sent to a collector by OTLP over HTTP.
struct Otlp {
  std::string endpoint;  // spans go to this and /v1/traces; no slash at its end
  std::vector<std::pair<std::string, Secret>>
      headers;                           // of each request to the collector, in the file's order
  std::uint32_t sample_permille = 1000;  // of the traces that begin here
  std::string service_name = "turnpike";
};

struct Accounts {
  std::string default_plan;
  bool tier_from_request = false;  // accounts.tier_from: request
  std::string time_zone = "UTC";   // of accounts that name none
  // Accounts made in a minute for addresses that ask without a key and are new; as many at once as in ten
  // minutes. 1..60,000.
  std::uint32_t anonymous_per_minute = 60;
};

class BodySchema;
class Workflow;

// A path of the operator's own.
struct Endpoint {
  std::string path;            // "/speak"; an alias also answers its sub-paths
  std::string alias;           // an own path, e.g. "/api/jobs"; or empty
  std::string task;            // the body is this task's input; or empty
  std::string workflow;        // the body is this workflow's input; or empty
  Duration wait{0};            // > 0: answer with the ended job if it ends within this time
  std::uint16_t status = 202;  // of an answer with a job
  // What the body must look like, without `user`, `userId` and `userTier`; null: as the task has it.
  std::shared_ptr<const BodySchema> schema;
  // Whoever has no key may ask, as an account of this plan (docs/decisions/0029); empty: it takes a key.
  std::string public_plan;
};

struct Policy {
  Server server;
  Store store;
  Accounts accounts;
  Webhooks webhooks;
  Pictures pictures;
  CacheLimits cache;
  std::optional<Otlp> otlp;                        // telemetry.otlp; nullopt: nothing is traced
  std::map<std::string, Pool, std::less<>> pools;  // by name: server.slots and one for each provider without
  std::map<std::string, Provider, std::less<>> providers;
  std::map<std::string, Model, std::less<>> models;
  std::vector<std::string> model_order;  // as in the file: the first of a task is its default
  std::map<std::string, std::string, std::less<>> aliases;  // other names: -> "writer" or "writer@2"
  std::map<std::string, Plan, std::less<>> plans;
  std::array<std::uint32_t, kClassCount> share_permille{};  // guaranteed share by class_index
  std::vector<Endpoint> endpoints;
  std::map<std::string, std::shared_ptr<const Workflow>, std::less<>> workflows;  // by name; never null
  PriceTable prices;
  std::string prices_hash;  // SHA-256 of the table's values, hex: a change is a new price version
  std::vector<std::string> content_types;  // that quotas and jobs may name
  std::map<std::string, Group, std::less<>> teams;
  Group platform;
  std::vector<Rule> rules;
  std::vector<AlertRule> alerts;  // names are unique
  std::map<std::string, Flag, std::less<>> flags;
  std::string text;  // the file as it was read (secrets unexpanded)
  std::string hash;  // SHA-256 of text, hex

  const Plan* plan(std::string_view name) const;
  // The plan of whoever has no key, by its public endpoints; empty: there are none.
  const std::string& anonymous_plan() const;
  // The price of a model (as the provider names it); null: none is known. Local programs (exec) and the
  // sandbox cost nothing unless the table says otherwise.
  PricePtr price(std::string_view provider, std::string_view upstream_model) const;
};
using PolicyPtr = std::shared_ptr<const Policy>;

// A plan with an account's own overrides: a JSON or YAML object with the keys of a plan (limits, quotas,
// rates, cost_cap, period, thresholds, priority_class, ...), each of which replaces the plan's; what is left
// out stays. Empty text: the plan. Errors: kInvalidRequest, with the key at fault as `param`
// ("overrides.limits.concurrent_jobs") and what would be right.
Result<Plan> overridden(const Policy& policy, const Plan& plan, std::string_view overrides);

}  // namespace turnpike::policy
