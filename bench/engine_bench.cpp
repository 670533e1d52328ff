// What a decision of the engine costs: a call admitted and settled, with quotas, rates and a hard cap, among
// many accounts.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>

#include "base/check.h"
#include "base/random.h"
#include "engine/engine.h"
#include "engine/rates.h"

namespace turnpike::engine {
namespace {

using policy::Meter;

policy::PolicyPtr bench_policy() {
  policy::Policy policy;
  policy::Plan plan;
  plan.name = "pro";
  plan.limits.concurrent_calls = 100;
  plan.promise.quotas.meters[policy::index_of(Meter::kTokens)] = 1'000'000'000'000;
  plan.promise.rates = {.rps = 1'000'000, .rpm = 60'000'000, .burst = {}, .tpm = 4'000'000'000};
  plan.promise.cost_cap = policy::CostCap{.monthly = {4'000'000'000'000'000}, .hard_stop = true};
  policy.plans[plan.name] = plan;
  policy.accounts.default_plan = plan.name;
  policy.pools["pool"] = {.name = "pool", .slots = 1'000, .headroom = 0};
  return std::make_shared<const policy::Policy>(policy);
}

class Desk {
 public:
  explicit Desk(std::int64_t accounts) : engine_(bench_policy(), {}) {
    engine_.recover({}, now_, out_);
    for (std::int64_t i = 0; i < accounts; ++i) {
      const auto made =
          engine_.ensure_account("user" + std::to_string(i), AccountId{++ids_}, {}, false, now_, out_);
      CHECK(made.has_value());
      accounts_.push_back(made->row.id);
    }
    clear();
    policy::Price price;
    price.tokens = {.input = Rate{150'000, 1}, .cached_input = {}, .output = Rate{600'000, 1}};
    route_ = std::make_shared<const policy::Route>(
        policy::Route{.candidates = {{.provider = "upstream",
                                      .pool = "pool",
                                      .model = "writer",
                                      .model_version = "1",
                                      .upstream_model = "gpt",
                                      .price = std::make_shared<const policy::Price>(price)}}});
  }

  void admit_and_settle() {
    now_.mono += Duration{10};
    now_.wall += Duration{10};
    NewCall call;
    call.id = JobId{++ids_};
    call.account = accounts_[random_.below(accounts_.size())];
    call.task = "text";
    call.route = route_;
    call.estimate[Meter::kInputTokens] = 400;
    call.estimate[Meter::kOutputTokens] = 200;
    call.estimate[Meter::kTokens] = 600;
    call.patience = std::chrono::seconds(10);
    call.timeout = std::chrono::seconds(60);
    call.body = body_;
    const auto admitted = engine_.admit(std::move(call), now_, out_);
    CHECK(admitted.has_value() && admitted->started);
    TryId id;
    for (const auto& effect : out_.effects)
      if (const auto* start = std::get_if<StartTry>(&effect)) id = start->try_id;
    engine_.settle(
        id, TryCompleted{.output = "{}", .artifacts = {}, .usage = {{"tokens_in", 100}, {"tokens_out", 50}}},
        now_, out_);
    clear();
  }

 private:
  // A batch takes what many commands changed: a few dozen under load.
  void clear() {
    if (++commands_ % kBatch == 0) engine_.close_batch(out_);
    out_.mutations.clear();
    out_.events.clear();
    out_.effects.clear();
    ++out_.batch;
  }

  Engine engine_;
  Timestamp now_{.mono = Monotonic{std::chrono::seconds(1)}, .wall = wall_from_seconds(1'790'000'000)};
  Changes out_{.batch = 1, .mutations = {}, .events = {}, .effects = {}};
  Random random_{1};
  static constexpr std::uint64_t kBatch = 64;
  std::uint64_t commands_ = 0;
  std::uint64_t ids_ = 0;
  std::vector<AccountId> accounts_;
  policy::RoutePtr route_;
  JobBodyPtr body_ = std::make_shared<const JobBody>();
};

void admit_and_settle(benchmark::State& state) {
  Desk desk(state.range(0));
  for (auto _ : state) desk.admit_and_settle();
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(admit_and_settle)->Arg(100)->Arg(100'000);

void rate_check(benchmark::State& state) {
  const policy::Rates rates{.rps = 1'000'000, .rpm = 60'000'000, .burst = {}, .tpm = 4'000'000'000};
  RateState limiter;
  Monotonic now{std::chrono::seconds(1)};
  for (auto _ : state) {
    now += Duration{10};
    if (limiter.wait(rates, 600, now) == Duration{0}) limiter.take(rates, 600, now);
    benchmark::DoNotOptimize(limiter);
  }
}
BENCHMARK(rate_check);

}  // namespace
}  // namespace turnpike::engine
