// Answers without an upstream: the same seed, input and try give the same text, latency and fault on every
// machine. Every answer says that it is a sandbox's.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/random.h"
#include "provider/json_text.h"
#include "provider/provider_kinds.h"
#include "provider/sandbox_latency.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;
using SteadyClock = std::chrono::steady_clock;

constexpr std::array<std::string_view, 64> kWords = {
    "the",   "a",      "river", "lantern", "walks",  "over",   "quiet",  "morning", "under",  "silver",
    "old",   "garden", "finds", "small",   "bright", "stone",  "wind",   "carries", "story",  "between",
    "hills", "door",   "opens", "slow",    "water",  "bird",   "sings",  "against", "winter", "road",
    "turns", "home",   "light", "falls",   "on",     "green",  "field",  "child",   "asks",   "why",
    "stars", "keep",   "their", "names",   "ship",   "waits",  "beside", "harbour", "town",   "wakes",
    "with",  "bread",  "and",   "bells",   "far",    "clouds", "cross",  "blue",    "window", "letter",
    "comes", "from",   "north", "again"};

constexpr std::int64_t kMaxTokensDefault = 64;
constexpr std::int64_t kMaxTokensLimit = 4096;
constexpr std::size_t kEmbeddingSize = 16;
constexpr std::size_t kTextsMax = 256;
constexpr Duration kProgressFrom = std::chrono::milliseconds(200);  // shorter waits tell nothing on their way
constexpr int kProgressSteps = 4;

// FNV-1a; good enough to tell inputs apart, and the same everywhere.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

Failure failure(FailureClass kind, std::string message) {
  return Failure{.failure = kind, .message = std::move(message), .retry_after = {}};
}

// Sentences of 5 to 14 words, `words` words in all.
std::string make_text(Random random, std::int64_t words) {
  std::string text;
  text.reserve(static_cast<std::size_t>(words) * 7);
  std::int64_t left_in_sentence = 0;
  for (std::int64_t i = 0; i < words; ++i) {
    const bool begins = left_in_sentence == 0;
    if (begins) left_in_sentence = random.between(5, 14);
    if (i > 0) text += ' ';
    const std::size_t at = text.size();
    text += kWords[random.below(kWords.size())];
    if (begins) text[at] = static_cast<char>(text[at] - 'a' + 'A');
    if (--left_in_sentence == 0 || i + 1 == words) text += '.';
  }
  return text;
}

// About four bytes a token, as usual for English.
std::int64_t guess_tokens(std::size_t bytes) {
  return static_cast<std::int64_t>(bytes / 4) + 1;
}

class SandboxProvider final : public Provider {
 public:
  explicit SandboxProvider(const policy::Provider& config) : config_(config) {}

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    Random random = random_for(request);
    const bool instant = config_.latency_p50 <= Duration::zero() && config_.latency_p99 <= Duration::zero();
    if (!instant) {
      const Duration latency = draw_latency(random, config_.latency_p50, config_.latency_p99);
      const bool late = request.timeout > Duration::zero() && latency > request.timeout;
      const bool slept = co_await sleep(late ? request.timeout : latency, std::move(progress));
      if (!slept) co_return Cancelled{};
      if (late) co_return failure(FailureClass::kTimeout, "sandbox: no answer in time");
    }
    const policy::SandboxFault* fault = draw_fault(random);
    if (fault == nullptr) co_return answer(request);
    Failure failed = failure(fault->failure, fmt::format("sandbox: a {} fault, as configured",
                                                         failure_class_name(fault->failure)));
    if (fault->failure == FailureClass::kRateLimited) failed.retry_after = std::chrono::seconds(1);
    if (fault->bills) failed.billed = would_have_used(request);
    co_return failed;
  }

  asio::awaitable<Result<void>> probe(Duration) override { co_return Result<void>{}; }

 private:
  Random random_for(const Request& request) const {
    Random random{config_.seed};
    std::uint64_t mixed = random.next() ^ request.job.value;
    mixed = Random{mixed}.next() ^ request.try_id.value;
    return Random{mixed};
  }

  // False: cancelled.
  static asio::awaitable<bool> sleep(Duration latency, Progress progress) {
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    const auto executor = co_await asio::this_coro::executor;
    const auto begin = SteadyClock::now();
    asio::steady_timer timer{executor};
    const int steps = progress && latency >= kProgressFrom ? kProgressSteps : 1;
    bool cancelled = false;
    for (int step = 1; step <= steps && !cancelled; ++step) {
      const auto before = co_await asio::this_coro::cancellation_state;
      cancelled = before.cancelled() != asio::cancellation_type::none;
      if (cancelled) break;
      timer.expires_at(begin + latency * step / steps);
      co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
      const auto after = co_await asio::this_coro::cancellation_state;
      cancelled = after.cancelled() != asio::cancellation_type::none;
      if (!cancelled && step < steps) progress(100 * step / steps, "sandbox");
    }
    co_await asio::this_coro::throw_if_cancelled(throws);
    co_return !cancelled;
  }

  // Null: the try does not fail.
  const policy::SandboxFault* draw_fault(Random& random) const {
    if (config_.faults.empty()) return nullptr;
    std::uint64_t drawn = random.below(1000);
    for (const policy::SandboxFault& fault : config_.faults) {
      if (drawn < fault.permille) return &fault;
      drawn -= fault.permille;
    }
    return nullptr;
  }

  // Usage of the answer that a fault takes the place of; none where there would have been none.
  std::vector<std::pair<std::string, std::int64_t>> would_have_used(const Request& request) const {
    Outcome outcome = answer(request);
    auto* success = std::get_if<Success>(&outcome);
    return success != nullptr ? std::move(success->usage)
                              : std::vector<std::pair<std::string, std::int64_t>>();
  }

  Outcome answer(const Request& request) const {
    if (request.task == "text") return answer_text(request);
    if (request.task == "embedding") return answer_embedding(request);
    for (const std::string_view media : {"speech", "image", "image_edit", "video"}) {
      if (request.task == media)
        return failure(FailureClass::kMisconfigured,
                       fmt::format("sandbox makes no files, so it cannot do {}", media));
    }
    Success success;
    success.output = R"({"sandbox":true})";
    return success;
  }

  Outcome answer_text(const Request& request) const {
    const auto input = parse_json(request.input);
    if (!input || !input->is_object())
      return failure(FailureClass::kInvalidInput, "the input must be a JSON object");
    const boost::json::object& fields = input->get_object();
    const auto* prompt = fields.if_contains("prompt");
    const auto* messages = fields.if_contains("messages");
    const bool asked =
        (prompt != nullptr && prompt->is_string()) || (messages != nullptr && messages->is_array());
    if (!asked)
      return failure(FailureClass::kInvalidInput,
                     "input.prompt (a text) or input.messages (a list) is required");
    const std::int64_t asked_tokens = count_of(fields, "max_tokens");
    const std::int64_t held_tokens =
        request.max_output_tokens > 0 ? request.max_output_tokens : kMaxTokensDefault;
    const std::int64_t limit = std::min(asked_tokens > 0 ? asked_tokens : held_tokens, kMaxTokensLimit);
    Random random{config_.seed ^ hash_of(request.model) ^ hash_of(request.input)};
    const std::int64_t wanted = random.between(12, 96);
    const std::int64_t words = std::min(wanted, limit);
    Success success;
    success.output = fmt::format(R"({{"text":"{}","finish_reason":"{}","sandbox":true}})",
                                 make_text(random, words), wanted > limit ? "length" : "stop");
    success.usage = {{"tokens_in", guess_tokens(request.input.size())}, {"tokens_out", words}};
    return success;
  }

  Outcome answer_embedding(const Request& request) const {
    const auto input = parse_json(request.input);
    const auto* fields = input ? input->if_object() : nullptr;
    const auto* texts = fields == nullptr ? nullptr : fields->if_contains("texts");
    if (texts == nullptr || !texts->is_array() || texts->get_array().empty() ||
        texts->get_array().size() > kTextsMax)
      return failure(FailureClass::kInvalidInput,
                     fmt::format("input.texts must be a list of 1 to {} texts", kTextsMax));
    std::string vectors;
    for (const auto& text : texts->get_array()) {
      if (!text.is_string()) return failure(FailureClass::kInvalidInput, "input.texts must hold texts");
      vectors +=
          fmt::format("{}[{}]", vectors.empty() ? "" : ",", vector_of(std::string_view{text.get_string()}));
    }
    Success success;
    success.output = fmt::format(R"({{"embeddings":[{}],"sandbox":true}})", vectors);
    success.usage = {{"tokens_in", guess_tokens(request.input.size())}};
    return success;
  }

  // Numbers from -1 to 1 with four decimals.
  std::string vector_of(std::string_view text) const {
    Random random{config_.seed ^ hash_of(text)};
    std::string numbers;
    for (std::size_t i = 0; i < kEmbeddingSize; ++i) {
      const std::int64_t value = random.between(-9999, 9999);
      numbers +=
          fmt::format("{}{}0.{:04}", i == 0 ? "" : ",", value < 0 ? "-" : "", value < 0 ? -value : value);
    }
    return numbers;
  }

  const policy::Provider config_;
};

}  // namespace

std::unique_ptr<Provider> make_sandbox_provider(const policy::Provider& config) {
  return std::make_unique<SandboxProvider>(config);
}

}  // namespace turnpike::provider
