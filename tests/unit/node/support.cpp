#include "support.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "policy/load.h"

namespace turnpike::node::testing {
namespace asio = boost::asio;
namespace fs = std::filesystem;

policy::PolicyPtr sample_policy(const std::string& basic_concurrency, const std::string& expire) {
  const std::string text = fmt::format(R"(
server:
  slots: {{lab: 8}}
accounts: {{default_plan: basic}}
providers:
  stage: {{kind: sandbox, pool: lab}}
  easel: {{kind: openai, pool: lab, base_url: "http://127.0.0.1:1/v1"}}
models:
  worker: {{task: noop, version: "1", providers: [stage]}}
  painter: {{task: paint, version: "1", providers: [easel]}}
defaults:
  plan:
    limits: {{queue_depth: 100000}}
    retry: {{attempts: 2, base: 1ms, factor: 1.0, cap: 1ms, jitter: 0%}}
    attempt_timeout: 1m
    job_timeout: 5m
    expire_after: {}
plans:
  basic:
    priority_class: low
    limits: {{concurrent_jobs: {}}}
  team:
    priority_class: high
    limits: {{concurrent_jobs: 4}}
  free:
    priority_class: low
    limits: {{concurrent_jobs: 0}}
)",
                                       expire, basic_concurrency);
  const policy::Loaded loaded = policy::load_text(text, "sample.yaml");
  for (const policy::Mistake& mistake : loaded.mistakes) ADD_FAILURE() << policy::to_string(mistake);
  return loaded.policy;
}

// --- Stage

void Stage::release() {
  std::vector<std::function<void()>> wakes;
  {
    const std::scoped_lock lock(mutex_);
    released_ = true;
    wakes.swap(wakes_);
  }
  for (const auto& wake : wakes) wake();
}

bool Stage::released() const {
  const std::scoped_lock lock(mutex_);
  return released_;
}

void Stage::on_release(std::function<void()> wake) {
  const std::scoped_lock lock(mutex_);
  wakes_.push_back(std::move(wake));
}

void Stage::note(const provider::Request& request) {
  const std::scoped_lock lock(mutex_);
  begun_.push_back(request);
  changed_.notify_all();
}

bool Stage::wait_begun(std::size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return begun_.size() >= count; });
}

std::vector<provider::Request> Stage::begun() const {
  const std::scoped_lock lock(mutex_);
  return begun_;
}

namespace {

std::string word(const std::string& input, const char* field) {
  boost::system::error_code error;
  const auto value = boost::json::parse(input, error);
  if (error || !value.is_object()) return {};
  const auto* found = value.get_object().if_contains(field);
  return found != nullptr && found->is_string() ? std::string(found->get_string()) : std::string();
}

class StageProvider final : public provider::Provider {
 public:
  explicit StageProvider(std::shared_ptr<Stage> stage) : stage_(std::move(stage)) {}

  asio::awaitable<provider::Outcome> run(provider::Request request, provider::Progress progress) override {
    stage_->note(request);
    const std::string what = word(request.input, "do");
    if (what == "throw") throw std::runtime_error("thrown by the stage");
    if (what == "progress") progress(50, "half");
    if (what == "hold" || what == "progress") {
      if (!co_await hold()) co_return provider::Cancelled{};
    }
    co_return outcome(what, request);
  }

  asio::awaitable<Result<void>> probe(Duration) override { co_return Result<void>{}; }

 private:
  // False: cancelled.
  asio::awaitable<bool> hold() {
    if (stage_->released()) co_return true;
    const auto executor = co_await asio::this_coro::executor;
    auto timer = std::make_shared<asio::steady_timer>(executor, std::chrono::seconds(60));
    stage_->on_release([timer, executor] { asio::post(executor, [timer] { timer->cancel(); }); });
    if (stage_->released()) co_return true;
    co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
    const auto state = co_await asio::this_coro::cancellation_state;
    co_return state.cancelled() == asio::cancellation_type::none;
  }

  static provider::Outcome outcome(const std::string& what, const provider::Request& request) {
    using policy::FailureClass;
    if (what == "fail") return provider::Failure{FailureClass::kTransient, "failed as asked", std::nullopt};
    if (what == "reject")
      return provider::Failure{FailureClass::kInvalidInput, "rejected as asked", std::nullopt};
    provider::Success success{.output = R"({"ok":true})", .files = {}, .usage = {{"units", 3}}};
    if (what == "large") success.output = "\"" + std::string(provider::kOutputBytesMax, 'x') + "\"";
    if (what == "file") {
      const fs::path path = request.work_dir / "note.txt";
      std::ofstream(path) << word(request.input, "text");
      success.files.push_back({.name = "note", .path = path, .mime = "text/plain", .extension = "txt"});
    }
    return success;
  }

  const std::shared_ptr<Stage> stage_;
};

}  // namespace

std::unique_ptr<provider::Provider> make_stage_provider(std::shared_ptr<Stage> stage) {
  return std::make_unique<StageProvider>(std::move(stage));
}

// --- World

World::World() : tasks([](std::string_view what) { ADD_FAILURE() << "a task threw: " << what; }) {}

World::~World() {
  stage->release();
  node.reset();
  tasks.stop(std::chrono::seconds(5));
  threads.stop();
}

Options World::options() {
  Options made;
  made.data_dir = folder.path();
  made.policy = policy;
  made.on_fatal = [this](std::string_view why) {
    if (!fatal_told_.exchange(true)) fatal.set_value(std::string(why));
  };
  made.make_provider = [stage = stage](const policy::Provider&, std::vector<std::string>&) {
    return make_stage_provider(stage);
  };
  return made;
}

void World::start(Options options) {
  auto started = Node::start(std::move(options), threads);
  if (!started) throw std::runtime_error("the node did not start: " + started.error().message);
  node = std::move(*started);
}

AccountId World::account(const std::string& user, const std::string& plan) {
  auto ensured = run(node->ensure_account(user, plan, true, "test"));
  if (!ensured) throw std::runtime_error(ensured.error().message);
  return ensured->row.id;
}

bool World::wait_all_ended() {
  const auto idle = [this] {
    const auto stats = node->stats();
    return stats.queued + stats.scheduled + stats.processing == 0;
  };
  const Monotonic until = node->now().mono + std::chrono::seconds(20);
  while (!idle() && node->now().mono < until) {
    (void)run(node->read([](journal::Journal&) {}));  // a turn of the node's other threads
    std::this_thread::yield();
  }
  (void)run(node->store({}));  // what the engine knows is committed
  return idle();
}

SubmitRequest World::request(AccountId account, const std::string& input, const std::string& task) {
  SubmitRequest made;
  made.account = account;
  made.task = task;
  made.body = std::make_shared<engine::JobBody>(
      engine::JobBody{.input = input, .metadata = "{}", .request_id = "req_test"});
  return made;
}

JobView World::submit(AccountId account, const std::string& input, const std::string& task) {
  auto answer = run(node->submit(request(account, input, task)));
  if (!answer) throw std::runtime_error(answer.error().message);
  return std::move(answer->job);
}

JobView World::ended(JobId id) {
  auto view = run(node->wait(id, std::nullopt, std::chrono::seconds(10)));
  if (!view) throw std::runtime_error(view.error().message);
  if (!engine::ended(view->row.state)) throw std::runtime_error("the job has not ended in time");
  return std::move(*view);
}

JobView World::job(JobId id) {
  auto view = run(node->job(id, std::nullopt, true));
  if (!view) throw std::runtime_error(view.error().message);
  return std::move(*view);
}

}  // namespace turnpike::node::testing
