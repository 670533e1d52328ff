// Any server that speaks OpenAI's wire: OpenAI itself, Ollama, vLLM, llama.cpp.

#include <fmt/format.h>

#include <mutex>
#include <set>

#include "provider/openai_stream.h"
#include "provider/openai_wire.h"
#include "provider/provider_kinds.h"
#include "provider/upstream_try.h"
#include "provider/wire_body.h"

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
constexpr std::uint64_t kStreamBytesMax = 64ULL << 20U;  // of one stream
constexpr std::chrono::seconds kSilenceMax{120};         // between two pieces of a stream
constexpr std::chrono::seconds kReadOnTime{60};          // after the client has left
constexpr std::uint64_t kReadOnBytesMax = 8ULL << 20U;   // likewise
constexpr std::chrono::milliseconds kMessageEndMax{50};  // between [DONE] and the end of its message
constexpr std::size_t kWordsBytesMax = 64 * 1024;        // of a refusal
constexpr std::chrono::seconds kWordsTimeout{5};         // likewise, between two pieces
constexpr std::size_t kNewerModelsMax = 1'000;

class OpenAiProvider final : public Provider {
 public:
  OpenAiProvider(const policy::Provider& config, std::shared_ptr<net::Client> client)
      : name_(config.name), base_url_(config.base_url), key_(config.api_key), client_(std::move(client)) {
    while (base_url_.ends_with('/')) base_url_.pop_back();
  }

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    asio::awaitable<Outcome> work = exchange(std::move(request));
    co_return co_await run_exchange(std::move(work), std::move(progress));
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
    if (request.wire) co_return co_await serve_wire(std::move(request));
    const Duration limit = request.timeout > Duration::zero() ? request.timeout : kTimeoutDefault;
    const auto deadline = SteadyClock::now() + limit;
    auto model = co_await upstream_model(request.model, deadline);
    if (!model) co_return std::move(model.error());

    auto limit_field = TokenLimitField::kMaxTokens;
    for (int round = 0;; ++round) {
      const bool cancelled = co_await is_cancelled();
      if (cancelled) co_return Cancelled{};
      auto wire = make_wire_request(request, *model, limit_field);
      if (!wire) co_return refused(wire.error());
      auto message = client_request("POST", wire->path, remaining(deadline));
      message.body = std::move(wire->body);
      message.response_bytes_max = kAnswerBytesMax;
      const auto response = co_await send_request(client_, std::move(message));
      if (!response) co_return no_answer(response.error());
      if (round == 0 && request.task == "text" && wants_completion_limit(*response)) {
        limit_field = TokenLimitField::kMaxCompletionTokens;
        continue;
      }
      if (response->status == 404) forget_model();  // what "auto" meant may have gone
      co_return read_wire_answer(request, *response, key_.reveal());
    }
  }

  // --- Calls over the wire: the client's own bytes there, the upstream's own bytes back

  asio::awaitable<Outcome> serve_wire(Request request) {
    const Duration limit = request.timeout > Duration::zero() ? request.timeout : kTimeoutDefault;
    const auto deadline = SteadyClock::now() + limit;
    auto model = co_await upstream_model(request.model, deadline);
    if (!model) co_return std::move(model.error());
    const WireCall& call = *request.wire;
    WireChange change{.model = *model,
                      .output_limit = request.max_output_tokens / std::max<std::int64_t>(1, call.choices),
                      .limit_name = limit_name_of(call.kind, *model)};
    for (int round = 0;; ++round) {
      const bool cancelled = co_await is_cancelled();
      if (cancelled) co_return Cancelled{};
      auto body = change_body(call, change);
      if (!body) co_return refused(body.error());
      auto message = client_request("POST", std::string(wire_path(call.kind)), remaining(deadline));
      message.headers = wire_headers(call);
      message.body = std::move(*body);
      Wired wired = request.sink && call.stream ? co_await stream_wire(request, std::move(message))
                                                : co_await send_wire(request, std::move(message));
      const bool ours = call.body.find("\"max_tokens\"") == std::string::npos;  // the limit is ours to rename
      if (round == 0 && call.kind == Wire::kChat && wired.wants_other_limit && ours) {
        change.limit_name = "max_completion_tokens";
        remember_newer(*model);
        continue;
      }
      co_return std::move(wired.outcome);
    }
  }

  struct Wired {
    Outcome outcome;
    bool wants_other_limit = false;
  };

  asio::awaitable<Wired> send_wire(const Request& request, net::ClientRequest message) {
    message.response_bytes_max = kReplyBytesMax;
    auto response = co_await send_request(client_, std::move(message));
    if (!response) co_return Wired{.outcome = no_answer(response.error())};
    if (response->status != 200) co_return refused_by(*response);
    co_return Wired{.outcome = read_reply(*request.wire, std::move(*response), key_.reveal())};
  }

  asio::awaitable<Wired> stream_wire(const Request& request, net::ClientRequest message) {
    message.response_bytes_max = kStreamBytesMax;
    auto opened = co_await open_stream(client_, std::move(message));
    if (!opened) co_return Wired{.outcome = no_answer(opened.error())};
    net::ClientStream& upstream = **opened;
    if (upstream.status() != 200) {
      net::ClientResponse response{.status = upstream.status(), .headers = upstream.headers(), .body = {}};
      response.body = co_await read_words(upstream);
      co_return refused_by(response);
    }
    const std::string* type = net::find_header(upstream.headers(), "content-type");
    if (type == nullptr || !type->starts_with("text/event-stream"))
      co_return Wired{.outcome = co_await take_whole(request, upstream)};
    co_return Wired{.outcome = co_await relay_events(request, upstream)};
  }

  // Reads on when the client has left, for usage is known only at the end: so long, and so much.
  struct ReadingOn {
    std::optional<SteadyClock::time_point> until;
    std::uint64_t bytes = 0;
    // False: the client has left, and that has been enough.
    bool goes_on(bool client_reads, std::uint64_t more) {
      if (client_reads) return true;
      if (!until) until = SteadyClock::now() + kReadOnTime;
      bytes += more;
      return bytes <= kReadOnBytesMax && SteadyClock::now() < *until;
    }
  };

  asio::awaitable<Outcome> relay_events(const Request& request, net::ClientStream& upstream) {
    StreamFilter filter(request.wire->kind);
    ReadingOn reading_on;
    bool client_reads = true;
    bool headed = false;
    while (filter.state() == StreamFilter::State::kOpen) {
      auto bytes = co_await upstream.read(kSilenceMax);
      if (!bytes) co_return broken_stream(bytes.error(), filter);
      if (bytes->empty()) {
        filter.finish();
        break;
      }
      const std::uint64_t size = bytes->size();
      std::string events = filter.feed(std::move(*bytes));
      if (!co_await request.sink->spend(filter.output_tokens())) co_return cut_off(filter);
      if (client_reads && !events.empty() && (headed || filter.begun())) {
        if (!std::exchange(headed, true)) request.sink->head(200, "text/event-stream");
        client_reads = co_await request.sink->write(std::move(events));
      }
      if (!reading_on.goes_on(client_reads, size)) co_return left(filter);
    }
    if (filter.state() == StreamFilter::State::kFailed) co_return failed(filter);
    // What is left of the message is its end: read, so that the connection can be kept.
    (void)co_await upstream.read(kMessageEndMax);
    // An answer that was empty is an answer.
    if (client_reads && !headed) request.sink->head(200, "text/event-stream");
    Success success;
    success.output.clear();
    success.content_type = "text/event-stream";
    success.stream_end = filter.take_end();
    if (filter.usage()) success.usage = *filter.usage();
    co_return success;
  }

  // Some models answer in one piece though they were asked for a stream: as a rule those that make sound.
  asio::awaitable<Outcome> take_whole(const Request& request, net::ClientStream& upstream) {
    const Wire kind = request.wire->kind;
    if (kind == Wire::kChat || kind == Wire::kCompletions || kind == Wire::kResponses) {
      Failure garbage{.failure = FailureClass::kBadOutput,
                      .message = "the upstream was asked for a stream, and its answer is none",
                      .retry_after = {}};
      garbage.billed.reset();
      co_return garbage;
    }
    net::ClientResponse response{.status = 200, .headers = upstream.headers(), .body = {}};
    for (;;) {
      const auto bytes = co_await upstream.read(kSilenceMax);
      if (!bytes) co_return no_answer(bytes.error());
      if (bytes->empty()) break;
      response.body += *bytes;
    }
    co_return read_reply(*request.wire, std::move(response), key_.reveal());
  }

  // What has come of it is billed; how much, only the upstream knows.
  static Outcome with_usage_so_far(Failure failure, const StreamFilter& filter) {
    failure.billed.reset();
    if (filter.usage()) failure.billed = *filter.usage();
    return failure;
  }
  static Outcome broken_stream(const Error& error, const StreamFilter& filter) {
    return with_usage_so_far(classify_no_answer(error), filter);
  }
  Outcome failed(const StreamFilter& filter) const {
    const auto& fault = filter.fault();
    std::string message = fault.message;
    const std::string& key = key_.reveal();
    if (!key.empty() && message.contains(key)) message = "the upstream failed";
    return with_usage_so_far({.failure = fault.failure, .message = std::move(message), .retry_after = {}},
                             filter);
  }
  static Outcome left(const StreamFilter& filter) {
    return with_usage_so_far({.failure = FailureClass::kTransient,
                              .message = "the client left, and the upstream did not come to an end in time",
                              .retry_after = {}},
                             filter);
  }
  static Outcome cut_off(const StreamFilter& filter) {
    Success cut;
    cut.output.clear();
    cut.content_type = "text/event-stream";
    if (filter.usage()) cut.usage = *filter.usage();
    return cut;
  }

  // An upstream's refusal, as far as it is heard.
  static asio::awaitable<std::string> read_words(net::ClientStream& upstream) {
    std::string words;
    while (words.size() < kWordsBytesMax) {
      const auto bytes = co_await upstream.read(kWordsTimeout);
      if (!bytes || bytes->empty()) break;
      words += *bytes;
    }
    co_return words;
  }

  Wired refused_by(const net::ClientResponse& response) {
    if (response.status == 404) forget_model();
    Failure failure = classify_refusal(response, key_.reveal());
    keep_words(response, key_.reveal(), failure);
    return Wired{.outcome = std::move(failure), .wants_other_limit = wants_completion_limit(response)};
  }

  net::Headers wire_headers(const WireCall& call) const {
    net::Headers headers;
    const bool sound = call.kind == Wire::kSpeech || call.kind == Wire::kTranscriptions;
    headers.emplace_back("Accept", sound ? "*/*" : call.stream ? "text/event-stream" : "application/json");
    headers.emplace_back("Content-Type", call.content_type);
    if (!key_.empty()) headers.emplace_back("Authorization", "Bearer " + key_.reveal());
    return headers;
  }

  // What the output limit is called where the body names none.
  std::string_view limit_name_of(Wire kind, const std::string& model) {
    if (kind == Wire::kCompletions) return "max_tokens";
    if (kind == Wire::kResponses) return "max_output_tokens";
    if (kind != Wire::kChat) return "";
    const std::lock_guard lock{mutex_};
    return newer_.contains(model) ? "max_completion_tokens" : "max_tokens";
  }
  void remember_newer(const std::string& model) {
    const std::lock_guard lock{mutex_};
    if (newer_.size() < kNewerModelsMax) newer_.insert(model);
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

  asio::awaitable<Result<net::ClientResponse>> ask_models(Duration timeout) {
    auto request = client_request("GET", "/models", timeout);
    request.response_bytes_max = kModelsBytesMax;
    return send_request(client_, std::move(request));
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

  std::mutex mutex_;                          // guards what follows; tries run on several threads
  std::set<std::string, std::less<>> newer_;  // models that take their limit as max_completion_tokens
  std::string model_;
  SteadyClock::time_point model_until_{};
};

}  // namespace

std::unique_ptr<Provider> make_openai_provider(const policy::Provider& config,
                                               std::shared_ptr<net::Client> client) {
  return std::make_unique<OpenAiProvider>(config, std::move(client));
}

}  // namespace turnpike::provider
