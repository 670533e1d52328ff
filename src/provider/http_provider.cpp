// A templated REST call: answered at once, or submitted and asked after until it is done.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <map>

#include "net/public_address.h"
#include "provider/http_wire.h"
#include "provider/json_text.h"
#include "provider/produced.h"
#include "provider/provider_kinds.h"
#include "provider/spawn.h"
#include "provider/upstream_failure.h"
#include "provider/upstream_try.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using boost::json::object;
using boost::json::value;
using policy::FailureClass;

constexpr std::uint64_t kPollBytesMax = 4ULL << 20U;         // what it says of its state
constexpr Duration kPollTimeout = std::chrono::seconds(30);  // one question
constexpr int kPollFailuresMax = 5;                          // questions in a row without a good answer
constexpr Duration kCancelTimeout = std::chrono::seconds(2);
constexpr int kDownloadsMax = 3;  // attempts at a file that has been paid for
constexpr Duration kDownloadPause = std::chrono::milliseconds(500);
constexpr std::size_t kStateBytesMax = 100;  // of the upstream's word for its state, in a progress message

bool is_success(int status) {
  return status >= 200 && status < 300;
}

// Waits unless asked to stop.
asio::awaitable<void> pause(Duration time) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer{executor, time};
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

Failure bad_answer(std::string_view what) {
  return failure(FailureClass::kBadOutput, fmt::format("the upstream's answer {}", what));
}

// What we could not send after the first answer: the answer is at fault, unless the input is.
Failure cannot_ask(const Error& error) {
  if (error.code == ErrorCode::kUpstreamError || error.param.starts_with("answer."))
    return failure(FailureClass::kBadOutput, error.message);
  return refused(error);
}

// The media type of a header: without its parameters, in lower case.
std::string content_type(const net::Headers& headers) {
  const std::string* header = net::find_header(headers, "content-type");
  if (header == nullptr) return {};
  std::string type = header->substr(0, header->find(';'));
  while (type.ends_with(' ')) type.pop_back();
  std::ranges::transform(type, type.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return type;
}

// One try of one task, from its first request to its files.
class HttpTry {
 public:
  HttpTry(const ParsedHttpTask& task, const HttpUpstream& upstream, const policy::Provider& config,
          std::shared_ptr<net::Client> client, HttpExpansion expansion, Request request, Progress progress)
      : task_(task),
        upstream_(upstream),
        config_(config),
        client_(std::move(client)),
        expansion_(std::move(expansion)),
        request_(std::move(request)),
        progress_(std::move(progress)),
        deadline_(request_.timeout > Duration::zero() ? std::min(request_.timeout, task.config.time_max)
                                                      : task.config.time_max) {}

  asio::awaitable<Outcome> run() {
    auto message = expansion_.make_request(task_.request, upstream_);
    if (!message) co_return refused(message.error());
    const bool cancelled = co_await is_cancelled();
    if (cancelled) co_return Cancelled{};
    message->response_bytes_max = task_.poll ? kPollBytesMax : task_.config.answer_bytes_max;
    auto response = co_await send(std::move(*message), deadline_.remaining());
    if (!response) co_return no_answer(response.error());
    if (!is_success(response->status)) co_return classify_refusal(*response, upstream_.key, config_.statuses);
    if (task_.poll) {
      auto first = parse_json(response->body);
      if (!first || !first->is_object()) co_return begun(bad_answer("is no JSON object"));
      expansion_.set_answer(std::move(*first));
      auto last = co_await follow(*task_.poll);
      if (!last) co_return std::move(last.error());
      response = std::move(*last);
    }
    co_return co_await conclude(std::move(*response));
  }

 private:
  using Answer = std::expected<net::ClientResponse, Failure>;

  // A failure of ours after the upstream has taken the work: what it bills for it is not known.
  static Failure begun(Failure failure) {
    failure.billed.reset();
    return failure;
  }

  asio::awaitable<Result<net::ClientResponse>> send(net::ClientRequest message, Duration timeout) {
    message.timeout = timeout;
    message.connect_timeout = std::min(message.connect_timeout, timeout);
    carry_trace(request_, message.headers);
    return send_request(client_, std::move(message));
  }

  // --- asking after it

  asio::awaitable<Answer> follow(const ParsedPoll& poll) {
    const policy::HttpPoll& config = *task_.config.poll;
    Duration wait = config.every;
    int failures = 0;
    for (std::uint32_t count = 0; count < config.polls_max; ++count) {
      co_await pause(std::min(wait, deadline_.remaining()));
      wait = config.every;
      const bool cancelled = co_await is_cancelled();
      if (cancelled || deadline_.passed()) break;
      auto message = expansion_.make_request(poll.request, upstream_);
      if (!message) co_return std::unexpected(begun(cannot_ask(message.error())));
      message->response_bytes_max = poll.result ? kPollBytesMax : task_.config.answer_bytes_max;
      auto response = co_await ask(std::move(*message));
      if (!response) {
        const bool stopped = co_await is_cancelled();
        if (stopped || deadline_.passed()) break;
        const Failure& problem = response.error();
        const bool passes = policy::failure_class_retryable(problem.failure) && ++failures < kPollFailuresMax;
        if (!passes) {
          co_await cancel_upstream(poll);  // nobody would fetch it
          co_return std::unexpected(begun(std::move(response.error())));
        }
        wait = std::max(wait, problem.retry_after.value_or(Duration::zero()));
        continue;
      }
      failures = 0;
      const auto state = parse_json(response->body);
      if (!state) co_return std::unexpected(begun(bad_answer("is no JSON")));
      if (poll.failed && holds(*poll.failed, *state))
        co_return std::unexpected(failed_upstream(poll, *state));
      if (holds(poll.until, *state)) {
        if (!poll.result) co_return std::move(*response);
        co_return co_await fetch_result(*poll.result);
      }
      report(poll, *state);
    }
    co_await cancel_upstream(poll);
    co_return std::unexpected(begun(failure(FailureClass::kTimeout, "the upstream did not end in time")));
  }

  // One question whose answer must be a good one.
  asio::awaitable<Answer> ask(net::ClientRequest message) {
    auto response = co_await send(std::move(message), std::min(kPollTimeout, deadline_.remaining()));
    if (!response) co_return std::unexpected(classify_no_answer(response.error()));
    if (!is_success(response->status))
      co_return std::unexpected(classify_refusal(*response, upstream_.key, config_.statuses));
    co_return std::move(*response);
  }

  // The work is done and paid for: asked for again where the network failed.
  asio::awaitable<Answer> fetch_result(const ParsedHttpRequest& result) {
    for (int attempt = 1;; ++attempt) {
      auto message = expansion_.make_request(result, upstream_);
      if (!message) co_return std::unexpected(begun(cannot_ask(message.error())));
      message->response_bytes_max = task_.config.answer_bytes_max;
      auto response = co_await ask(std::move(*message));
      if (response) co_return response;
      const bool retryable = policy::failure_class_retryable(response.error().failure);
      const bool cancelled = co_await is_cancelled();
      if (!retryable || cancelled || attempt == kDownloadsMax || deadline_.passed())
        co_return std::unexpected(begun(std::move(response.error())));
      co_await pause(std::min(kDownloadPause, deadline_.remaining()));
    }
  }

  Failure failed_upstream(const ParsedPoll& poll, const value& state) const {
    const value* at = poll.message_at.empty() ? nullptr : value_at(state, poll.message_at);
    const auto words = at == nullptr ? std::nullopt : scalar_text(*at);
    return failure(FailureClass::kTransient,
                   fmt::format("the upstream failed{}", for_user(words.value_or(""), upstream_.key)));
  }

  void report(const ParsedPoll& poll, const value& state) const {
    const value* at = value_at(state, poll.until.at);
    const auto word = at == nullptr ? std::nullopt : scalar_text(*at);
    if (progress_ && word)
      progress_(0, fmt::format("the upstream says {}", clean_text(*word, kStateBytesMax, false)));
  }

  // What it makes of this is its own business: it may have begun.
  asio::awaitable<void> cancel_upstream(const ParsedPoll& poll) {
    if (!poll.cancel) co_return;
    auto message = expansion_.make_request(*poll.cancel, upstream_);
    if (!message) co_return;
    message->response_bytes_max = kPollBytesMax;
    co_await send(std::move(*message), kCancelTimeout);
  }

  // --- the result

  asio::awaitable<Outcome> conclude(net::ClientResponse response) {
    Success success;
    object output;
    value answer;
    if (task_.config.file) {
      auto facts = keep_body(*task_.config.file, response, success);
      if (!facts) co_return begun(std::move(facts.error()));
      output = std::move(*facts);
    } else {
      auto parsed = parse_json(response.body);
      if (!parsed) co_return begun(bad_answer("is no JSON"));
      answer = std::move(*parsed);
      output = output_of(task_.config, answer);
    }
    if (request_.task == "speech")
      add_usage(success, "characters", count_characters(expansion_.text_field("text")));
    apply_usage(task_.config, expansion_, answer, response.headers, success);
    for (const policy::HttpArtifact& artifact : task_.config.artifacts) {
      auto facts = co_await take_artifact(artifact, answer, success);
      if (!facts) co_return paid(std::move(facts.error()), success);
      if (task_.config.artifacts.size() > 1) {
        output[artifact.name] = std::move(*facts);
      } else {
        for (auto& [key, fact] : *facts) output[key] = fact;
      }
    }
    // Once more: what it names counts before what was measured.
    apply_usage(task_.config, expansion_, answer, response.headers, success);
    if (auto put = put_output(success, boost::json::serialize(output), request_.work_dir); !put)
      co_return paid(failure(FailureClass::kTransient, put.error().message), success);
    co_return success;
  }

  using Facts = std::expected<object, Failure>;

  // The upstream's part is done, and its price known.
  static Failure paid(Failure failure, const Success& success) {
    failure.billed = success.usage;
    return failure;
  }

  Facts keep_body(const policy::HttpArtifact& file, const net::ClientResponse& response,
                  Success& success) const {
    const std::string type = content_type(response.headers);
    const bool is_text = type == "application/json" || type == "text/html";
    if (is_text && type != file.mime)
      return std::unexpected(bad_answer(fmt::format("is {} and no file", type)));
    return keep_bytes(file, response.body, type, success);
  }

  Facts keep_bytes(const policy::HttpArtifact& artifact, std::string_view bytes, const std::string& type,
                   Success& success) const {
    const std::filesystem::path path = request_.work_dir / artifact.name;
    if (auto written = write_new_file(path, bytes); !written)
      return std::unexpected(failure(FailureClass::kTransient, written.error().message));
    return keep_file(artifact, path, bytes.size(), type, success);
  }

  // A file that is in the work folder becomes one of the result's. `type`: what who sent it calls it.
  static Facts keep_file(const policy::HttpArtifact& artifact, const std::filesystem::path& path,
                         std::uint64_t size, const std::string& type, Success& success) {
    const auto bad = [&artifact](std::string_view what) {
      return std::unexpected(
          failure(FailureClass::kBadOutput, fmt::format("the upstream's file {} {}", artifact.name, what)));
    };
    if (size == 0) return bad("is empty");
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    const auto measured = file ? measure(file.get(), size) : std::nullopt;
    if (!measured) return bad("is broken");
    if (is_measured_type(artifact.mime) && measured->mime != artifact.mime)
      return bad(fmt::format("is no {}", artifact.mime));
    std::string mime = !measured->mime.empty() ? measured->mime
                       : artifact.mime.empty() ? type
                                               : artifact.mime;
    if (mime.empty()) mime = "application/octet-stream";
    const std::string extension = extension_of_type(mime);
    success.files.push_back({artifact.name, path, std::move(mime), extension});
    return take_facts(*measured, success);
  }

  asio::awaitable<Facts> take_artifact(const policy::HttpArtifact& artifact, const value& answer,
                                       Success& success) {
    const bool inline_bytes = artifact.url_at.empty();
    const auto text = text_at(answer, inline_bytes ? artifact.base64_at : artifact.url_at);
    const auto missing = [&artifact] {
      return std::unexpected(bad_answer(fmt::format("holds no {}", artifact.name)));
    };
    if (!text || text->empty()) co_return missing();
    if (inline_bytes) {
      const auto bytes = decode_base64(*text);
      if (!bytes) co_return missing();
      co_return keep_bytes(artifact, *bytes, "", success);
    }
    if (const auto data = read_data_url(*text))
      co_return keep_bytes(artifact, data->bytes, data->mime, success);
    for (int attempt = 1;; ++attempt) {
      auto file = co_await download(*text, request_.work_dir / artifact.name);
      if (file) co_return keep_file(artifact, file->path, file->bytes, file->type, success);
      const bool retryable = file.error().failure == FailureClass::kTransient ||
                             file.error().failure == FailureClass::kRateLimited;
      const bool cancelled = co_await is_cancelled();
      if (!retryable || cancelled || attempt == kDownloadsMax || deadline_.passed())
        co_return std::unexpected(std::move(file.error()));
      co_await pause(std::min(kDownloadPause, deadline_.remaining()));
    }
  }

  struct Download {
    std::filesystem::path path;
    std::uint64_t bytes = 0;
    std::string type;
  };

  // From wherever it says, without our key: to public addresses only, unless the operator allows others.
  asio::awaitable<std::expected<Download, Failure>> download(std::string url, std::filesystem::path path) {
    const auto cannot = [](FailureClass kind, std::string_view what) {
      return std::unexpected(failure(kind, fmt::format("the upstream's file {}", what)));
    };
    const auto fit = config_.allow_private ? net::check_url(url) : net::check_public_url(url);
    if (!fit) co_return cannot(FailureClass::kBadOutput, "is where it may not be fetched");
    const Descriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!file) co_return cannot(FailureClass::kTransient, "could not be kept");
    net::ClientRequest message;
    message.url = std::move(url);
    message.timeout = deadline_.remaining();
    message.connect_timeout = std::min(message.connect_timeout, message.timeout);
    message.public_only = !config_.allow_private;
    message.response_bytes_max = task_.config.artifact_bytes_max;
    Download result{.path = std::move(path), .bytes = 0, .type = {}};
    bool written = true;
    std::function<bool(std::string_view)> keep = [&](std::string_view bytes) {
      result.bytes += bytes.size();
      while (written && !bytes.empty()) {
        const ssize_t count = ::write(file.get(), bytes.data(), bytes.size());
        if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
        written = count > 0 || (count < 0 && errno == EINTR);
      }
      return written;
    };
    auto response = co_await stream(std::move(message), std::move(keep));
    if (!written) co_return cannot(FailureClass::kTransient, "could not be kept");
    if (!response) {
      const ErrorCode code = response.error().code;
      if (code == ErrorCode::kUpstreamTimeout)
        co_return cannot(FailureClass::kTimeout, "did not come in time");
      if (code == ErrorCode::kInvalidRequest || !response.error().retryable)
        co_return cannot(FailureClass::kBadOutput,
                         "is where it may not be fetched, or larger than it may be");
      co_return cannot(FailureClass::kTransient, "could not be fetched");
    }
    if (response->status != 200) {
      const FailureClass kind = classify_refusal(*response, "").failure;
      const bool later = kind == FailureClass::kTransient || kind == FailureClass::kRateLimited;
      co_return cannot(later ? kind : FailureClass::kBadOutput,
                       fmt::format("could not be fetched: {} answered where it is", response->status));
    }
    result.type = content_type(response->headers);
    co_return result;
  }

  asio::awaitable<Result<net::ClientResponse>> stream(net::ClientRequest message,
                                                      std::function<bool(std::string_view)> on_bytes) {
    try {
      co_return co_await client_->stream(std::move(message), std::move(on_bytes));
    } catch (const std::exception& problem) {
      auto failed = fail(ErrorCode::kUpstreamError, "the exchange broke off");
      failed.error().cause = problem.what();
      failed.error().retryable = true;
      co_return failed;
    }
  }

  const ParsedHttpTask& task_;
  const HttpUpstream& upstream_;
  const policy::Provider& config_;
  const std::shared_ptr<net::Client> client_;
  HttpExpansion expansion_;
  const Request request_;
  const Progress progress_;
  const TryDeadline deadline_;
};

class HttpProvider final : public Provider {
 public:
  HttpProvider(const policy::Provider& config, std::shared_ptr<net::Client> client)
      : config_(config),
        upstream_{.base_url = config.base_url, .auth = config.auth, .key = config.api_key.reveal()},
        client_(std::move(client)) {
    while (upstream_.base_url.ends_with('/')) upstream_.base_url.pop_back();
  }

  void add_task(const std::string& name, const policy::HttpTask& config, std::vector<std::string>& warnings) {
    auto parsed = parse_http_task(config);
    if (parsed) {
      tasks_.emplace(name, std::move(*parsed));
    } else {
      warnings.push_back(
          fmt::format("provider {}: task {} cannot run: {}", config_.name, name, parsed.error().message));
    }
  }

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    asio::awaitable<Outcome> work = exchange(std::move(request), progress);
    co_return co_await run_exchange(std::move(work), std::move(progress));
  }

  // Whoever answers, whatever it says, is there: what is at the root of an API is not known.
  asio::awaitable<Result<void>> probe(Duration timeout) override {
    net::ClientRequest message;
    message.url = upstream_.base_url + "/";
    message.timeout = timeout;
    message.connect_timeout = std::min(message.connect_timeout, timeout);
    message.response_bytes_max = kPollBytesMax;
    const auto response = co_await send_request(client_, std::move(message));
    if (!response) co_return std::unexpected(response.error());
    co_return Result<void>{};
  }

 private:
  asio::awaitable<Outcome> exchange(Request request, Progress progress) {
    const auto task = tasks_.find(request.task);
    if (task == tasks_.end())
      co_return failure(FailureClass::kMisconfigured,
                        fmt::format("provider {} has no task {}", config_.name, request.task));
    auto expansion = HttpExpansion::make(request);
    if (!expansion) co_return refused(expansion.error());
    HttpTry work{task->second,       upstream_,          config_, client_, std::move(*expansion),
                 std::move(request), std::move(progress)};
    co_return co_await work.run();
  }

  const policy::Provider config_;
  HttpUpstream upstream_;  // not changed after construction
  const std::shared_ptr<net::Client> client_;
  std::map<std::string, ParsedHttpTask, std::less<>> tasks_;  // likewise
};

}  // namespace

std::unique_ptr<Provider> make_http_provider(const policy::Provider& config,
                                             std::shared_ptr<net::Client> client,
                                             std::vector<std::string>& warnings) {
  auto provider = std::make_unique<HttpProvider>(config, std::move(client));
  for (const auto& [task, settings] : config.http_tasks) provider->add_task(task, settings, warnings);
  return provider;
}

}  // namespace turnpike::provider
