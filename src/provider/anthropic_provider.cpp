// Anthropic's Messages API.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "base/time.h"
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
constexpr int kOk = 200;
constexpr int kBadRequest = 400;
constexpr Duration kReadOnTime = std::chrono::seconds(60);  // after the client has left
constexpr std::uint64_t kReadOnBytesMax = 8ULL << 20U;      // likewise
constexpr Duration kMessageEndMax =
    std::chrono::milliseconds(50);  // between message_stop and its message's end
constexpr const char* kEventStream = "text/event-stream";
constexpr Duration kSilenceMax =
    std::chrono::minutes(2);  // between two bytes of a stream: it pings meanwhile

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
    net::ClientRequest message = client_request("GET", "/v1/models", timeout, false);
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
    auto body = make_body(request);
    if (!body) co_return std::move(body.error());
    const bool cancelled = co_await is_cancelled();
    if (cancelled) co_return Cancelled{};
    const bool streams = request.wire != nullptr && request.wire->stream;
    net::ClientRequest message =
        client_request("POST", kAnthropicMessagesPath, deadline.remaining(), streams);
    message.body = std::move(*body);
    message.response_bytes_max = kAnswerBytesMax;
    if (streams) co_return co_await stream(request, std::move(message));
    const auto response = co_await send_request(client_, std::move(message));
    if (!response) co_return no_answer(response.error());
    if (request.wire == nullptr) co_return read_anthropic_answer(request, *response, key_.reveal());
    auto chat = read_anthropic_chat(*response, unix_now(), key_.reveal());
    if (!chat) co_return with_reply(std::move(chat.error()), response->status, "");
    Success success;
    success.output = std::move(chat->body);
    success.usage = chat->usage.meters();
    co_return success;
  }

  static std::expected<std::string, Failure> make_body(const Request& request) {
    if (request.wire != nullptr && request.wire->kind != Wire::kChat)
      return std::unexpected(failure(FailureClass::kMisconfigured, "Anthropic answers chats only"));
    auto body = request.wire == nullptr
                    ? make_anthropic_body(request, request.model)
                    : make_anthropic_body(request.wire->body, request.model, request.max_output_tokens);
    if (body) return std::move(*body);
    Failure refusal = refused(body.error());
    if (request.wire == nullptr) return std::unexpected(std::move(refusal));
    return std::unexpected(with_reply(std::move(refusal), kBadRequest, body.error().param));
  }

  std::int64_t unix_now() const { return unix_seconds(clock_.now().wall); }

  // An answer as it comes. Once its first bytes are written nobody else can answer.
  asio::awaitable<Outcome> stream(const Request& request, net::ClientRequest message) {
    auto opened = co_await open_stream(client_, std::move(message));
    if (!opened) co_return no_answer(opened.error());
    net::ClientStream& upstream = **opened;
    if (upstream.status() != kOk) {
      const auto response = co_await read_rest(upstream, kSilenceMax);
      if (!response) co_return no_answer(response.error());
      Failure refusal = classify_refusal(*response, key_.reveal());
      co_return with_reply(std::move(refusal), response->status, "");
    }
    co_return co_await relay(*request.sink, upstream);
  }

  // Reads on when the client has left, for usage is known only at the end: so long, and so much.
  struct ReadingOn {
    std::optional<TryDeadline> until;
    std::uint64_t bytes = 0;
    // False: the client has left, and that has been enough.
    bool goes_on(bool client_reads, std::uint64_t more) {
      if (client_reads) return true;
      if (!until) until.emplace(kReadOnTime);
      bytes += more;
      return bytes <= kReadOnBytesMax && !until->passed();
    }
  };

  asio::awaitable<Outcome> relay(ReplySink& sink, net::ClientStream& upstream) const {
    SseParser events;
    AnthropicStream answer{unix_now(), key_.reveal()};
    ReadingOn reading_on;
    bool headed = false;
    bool client_reads = true;
    while (!answer.ended()) {
      auto bytes = co_await upstream.read(kSilenceMax);
      if (!bytes) co_return no_answer(bytes.error());
      if (bytes->empty()) co_return unfinished(FailureClass::kTransient, "the upstream's stream broke off");
      std::string chunks;
      for (const SseEvent& event : events.feed(*bytes)) chunks += answer.take(event);
      if (events.failed())
        co_return unfinished(FailureClass::kBadOutput,
                             "the upstream's stream holds an event that is too large");
      const bool more = co_await sink.spend(answer.output_tokens());
      if (!more) {
        Success cut;
        cut.output.clear();
        cut.content_type = kEventStream;
        co_return cut;
      }
      if (client_reads && !chunks.empty()) {
        if (!std::exchange(headed, true)) sink.head(kOk, kEventStream);
        client_reads = co_await sink.write(std::move(chunks));
      }
      if (answer.failure()) co_return broken_off(*answer.failure(), headed);
      if (answer.ended()) break;
      if (!reading_on.goes_on(client_reads, bytes->size()))
        co_return unfinished(FailureClass::kTransient,
                             "the client left, and the upstream did not come to an end in time");
    }
    // What is left of the message is its end: read, so that the connection can be kept.
    (void)co_await upstream.read(kMessageEndMax);
    Success success;
    success.output.clear();
    success.content_type = kEventStream;
    success.stream_end = answer.usage_chunk();
    success.usage = answer.usage().meters();
    co_return success;
  }

  // What the upstream bills for an answer without an end is not known.
  static Failure unfinished(FailureClass kind, std::string message) {
    Failure broken = failure(kind, std::move(message));
    broken.billed.reset();
    return broken;
  }

  static Failure broken_off(Failure failure, bool headed) {
    if (headed) failure.billed.reset();
    return failure;
  }

  net::ClientRequest client_request(const char* method, const char* path, Duration timeout,
                                    bool streams) const {
    net::ClientRequest request;
    request.method = method;
    request.url = base_url_ + path;
    request.timeout = timeout;
    request.connect_timeout = std::min(request.connect_timeout, timeout);
    request.headers = anthropic_headers(key_.reveal(), streams);
    return request;
  }

  const std::string name_;
  std::string base_url_;  // without a slash or version at its end; not changed after construction
  const policy::Secret key_;
  const std::shared_ptr<net::Client> client_;
  const SystemClock clock_;  // of the answers' `created`
};

}  // namespace

std::unique_ptr<Provider> make_anthropic_provider(const policy::Provider& config,
                                                  std::shared_ptr<net::Client> client) {
  return std::make_unique<AnthropicProvider>(config, std::move(client));
}

}  // namespace turnpike::provider
