// Anthropic's Messages API.

#include <fmt/format.h>

#include "provider/anthropic_wire.h"
#include "provider/provider_kinds.h"
#include "provider/upstream_try.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;

constexpr std::uint64_t kAnswerBytesMax = 16ULL << 20U;
constexpr std::uint64_t kModelsBytesMax = 4ULL << 20U;
constexpr Duration kTimeoutDefault = std::chrono::minutes(10);
constexpr std::string_view kVersionPath = "/v1";

class AnthropicProvider final : public Provider {
 public:
  AnthropicProvider(const policy::Provider& config, std::shared_ptr<net::Client> client)
      : name_(config.name), base_url_(config.base_url), key_(config.api_key), client_(std::move(client)) {
    // Written with or without the version, as addresses of other upstreams are.
    while (base_url_.ends_with('/')) base_url_.pop_back();
    if (base_url_.ends_with(kVersionPath)) base_url_.resize(base_url_.size() - kVersionPath.size());
  }

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    asio::awaitable<Outcome> work = exchange(std::move(request));
    co_return co_await run_exchange(std::move(work), std::move(progress));
  }

  asio::awaitable<Result<void>> probe(Duration timeout) override {
    net::ClientRequest message = client_request("GET", "/v1/models", timeout);
    message.response_bytes_max = kModelsBytesMax;
    const auto response = co_await send_request(client_, std::move(message));
    if (!response) co_return std::unexpected(response.error());
    if (response->status != 200)
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("{} answered {} when asked for its models", name_, response->status));
    co_return Result<void>{};
  }

 private:
  asio::awaitable<Outcome> exchange(Request request) {
    const TryDeadline deadline{request.timeout > Duration::zero() ? request.timeout : kTimeoutDefault};
    auto body = make_anthropic_body(request, request.model);
    if (!body) co_return refused(body.error());
    const bool cancelled = co_await is_cancelled();
    if (cancelled) co_return Cancelled{};
    net::ClientRequest message = client_request("POST", kAnthropicMessagesPath, deadline.remaining());
    message.body = std::move(*body);
    message.response_bytes_max = kAnswerBytesMax;
    const auto response = co_await send_request(client_, std::move(message));
    if (!response) co_return no_answer(response.error());
    co_return read_anthropic_answer(request, *response, key_.reveal());
  }

  net::ClientRequest client_request(const char* method, const char* path, Duration timeout) const {
    net::ClientRequest request;
    request.method = method;
    request.url = base_url_ + path;
    request.timeout = timeout;
    request.connect_timeout = std::min(request.connect_timeout, timeout);
    request.headers = anthropic_headers(key_.reveal(), false);
    return request;
  }

  const std::string name_;
  std::string base_url_;  // without a slash or version at its end; not changed after construction
  const policy::Secret key_;
  const std::shared_ptr<net::Client> client_;
};

}  // namespace

std::unique_ptr<Provider> make_anthropic_provider(const policy::Provider& config,
                                                  std::shared_ptr<net::Client> client) {
  return std::make_unique<AnthropicProvider>(config, std::move(client));
}

}  // namespace turnpike::provider
