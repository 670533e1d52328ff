// Any server that speaks OpenAI's wire: OpenAI itself, Ollama, vLLM, llama.cpp.

#include <fmt/format.h>

#include <boost/asio/this_coro.hpp>
#include <mutex>

#include "provider/openai_wire.h"
#include "provider/provider_kinds.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;
using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kModelKept{60};           // what "auto" has meant
constexpr std::chrono::seconds kModelsTimeout{10};       // of asking what there is
constexpr std::uint64_t kAnswerBytesMax = 64ULL << 20U;  // a picture in base64 among them
constexpr std::uint64_t kModelsBytesMax = 4ULL << 20U;
constexpr Duration kTimeoutDefault = std::chrono::minutes(5);

bool is_cancelled(const asio::cancellation_state& state) {
  return state.cancelled() != asio::cancellation_type::none;
}

class OpenAiProvider final : public Provider {
 public:
  OpenAiProvider(const policy::Provider& config, std::shared_ptr<net::Client> client)
      : name_(config.name), base_url_(config.base_url), key_(config.api_key), client_(std::move(client)) {
    while (base_url_.ends_with('/')) base_url_.pop_back();
  }

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    // The client's own awaits must see a cancellation as an error, not as a throw past its connection's
    // return.
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    Outcome outcome = co_await exchange(std::move(request));
    const auto state = co_await asio::this_coro::cancellation_state;
    // What was cancelled midway looks like a broken connection; an answer that had come is an answer.
    if (is_cancelled(state) && std::holds_alternative<Failure>(outcome))
      outcome = Cancelled{.billed = std::get<Failure>(outcome).billed};
    if (progress && std::holds_alternative<Success>(outcome)) progress(100, "answered");
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return outcome;
  }

  asio::awaitable<Result<void>> probe(Duration timeout) override {
    const auto response = co_await ask_models(timeout);
    if (!response) co_return std::unexpected(response.error());
    if (response->status != 200)
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("{} answered {} when asked for its models", name_, response->status));
    auto model = first_model(*response);
    if (!model) co_return std::unexpected(model.error());
    co_return Result<void>{};
  }

 private:
  asio::awaitable<Outcome> exchange(Request request) {
    const Duration limit = request.timeout > Duration::zero() ? request.timeout : kTimeoutDefault;
    const auto deadline = SteadyClock::now() + limit;
    auto model = co_await upstream_model(request.model, deadline);
    if (!model) co_return std::move(model.error());

    auto limit_field = TokenLimitField::kMaxTokens;
    for (int round = 0;; ++round) {
      const auto state = co_await asio::this_coro::cancellation_state;
      if (is_cancelled(state)) co_return Cancelled{};
      auto wire = make_wire_request(request, *model, limit_field);
      if (!wire) co_return refused(wire.error());
      auto message = client_request("POST", wire->path, remaining(deadline));
      message.body = std::move(wire->body);
      message.response_bytes_max = kAnswerBytesMax;
      const auto response = co_await send(std::move(message));
      if (!response) {
        // It was sent, as far as can be known: what the upstream made of it, and bills for it, is not known.
        Failure broken = classify_no_answer(response.error());
        if (broken.failure != FailureClass::kMisconfigured) broken.billed.reset();
        co_return broken;
      }
      if (round == 0 && request.task == "text" && wants_completion_limit(*response)) {
        limit_field = TokenLimitField::kMaxCompletionTokens;
        continue;
      }
      if (response->status == 404) forget_model();  // what "auto" meant may have gone
      co_return read_wire_answer(request, *response, key_.reveal());
    }
  }

  static Duration remaining(SteadyClock::time_point deadline) {
    const auto left = std::chrono::duration_cast<Duration>(deadline - SteadyClock::now());
    return std::max<Duration>(left, std::chrono::milliseconds(1));
  }

  net::ClientRequest client_request(const char* method, const std::string& path, Duration timeout) const {
    net::ClientRequest request;
    request.method = method;
    request.url = base_url_ + path;
    request.timeout = timeout;
    request.connect_timeout = std::min(request.connect_timeout, timeout);
    request.headers.emplace_back("Accept", "application/json");
    if (request.method == "POST") request.headers.emplace_back("Content-Type", "application/json");
    if (!key_.empty()) request.headers.emplace_back("Authorization", "Bearer " + key_.reveal());
    return request;
  }

  // A client that throws is a bug of ours; a try must still end as a value.
  asio::awaitable<Result<net::ClientResponse>> send(net::ClientRequest request) {
    try {
      co_return co_await client_->send(std::move(request));
    } catch (const std::exception& problem) {
      auto failed = fail(ErrorCode::kUpstreamError, "the exchange broke off");
      failed.error().cause = problem.what();
      co_return failed;
    }
  }

  asio::awaitable<Result<net::ClientResponse>> ask_models(Duration timeout) {
    auto request = client_request("GET", "/models", timeout);
    request.response_bytes_max = kModelsBytesMax;
    return send(std::move(request));
  }

  // "auto" becomes the first model that the server lists, asked for once a minute.
  asio::awaitable<std::expected<std::string, Failure>> upstream_model(std::string wanted,
                                                                      SteadyClock::time_point deadline) {
    if (wanted != "auto") co_return wanted;
    if (auto known = known_model()) co_return std::move(*known);
    const Duration timeout = std::min<Duration>(remaining(deadline), kModelsTimeout);
    const auto response = co_await ask_models(timeout);
    if (!response) co_return std::unexpected(classify_no_answer(response.error()));
    if (response->status != 200) co_return std::unexpected(classify_refusal(*response, key_.reveal()));
    auto model = first_model(*response);
    if (!model)
      co_return std::unexpected(Failure{
          .failure = FailureClass::kMisconfigured, .message = model.error().message, .retry_after = {}});
    remember_model(*model);
    co_return std::move(*model);
  }

  std::optional<std::string> known_model() {
    const std::lock_guard lock{mutex_};
    if (model_.empty() || SteadyClock::now() > model_until_) return std::nullopt;
    return model_;
  }

  void remember_model(const std::string& model) {
    const std::lock_guard lock{mutex_};
    model_ = model;
    model_until_ = SteadyClock::now() + kModelKept;
  }

  void forget_model() {
    const std::lock_guard lock{mutex_};
    model_.clear();
  }

  const std::string name_;
  std::string base_url_;  // without a slash at its end; not changed after construction
  const policy::Secret key_;
  const std::shared_ptr<net::Client> client_;

  std::mutex mutex_;  // guards what follows; tries run on several threads
  std::string model_;
  SteadyClock::time_point model_until_{};
};

}  // namespace

std::unique_ptr<Provider> make_openai_provider(const policy::Provider& config,
                                               std::shared_ptr<net::Client> client) {
  return std::make_unique<OpenAiProvider>(config, std::move(client));
}

}  // namespace turnpike::provider
