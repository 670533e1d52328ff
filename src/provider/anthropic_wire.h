// Anthropic's wire, without the wire: a chat as OpenAI's clients ask for it becomes a request of the Messages
// API, and its answer, whole or streamed, becomes OpenAI's again. Pure. Sources: platform.claude.com/docs,
// API reference (messages, streaming, errors, versioning), stop reasons, structured outputs, effort
// (2026-06); platform.openai.com/docs/api-reference/chat (2025-05).
//
// What cannot be kept is refused with the field's name, never left out silently: seed, logprobs, logit_bias,
// penalties other than 0, n other than 1, stored answers, audio, predictions, custom tools, message names,
// response_format json_object (Anthropic constrains an answer only by a schema), reasoning_effort minimal.
//
// What is kept in another form:
// - system and developer messages, wherever they stand, become the one `system`, in their order;
// - neighbours of one role become one message, as that API wants turns to alternate; `tool` messages become
//   tool_result blocks of a user's turn;
// - a temperature above 1 (OpenAI knows 0 to 2, Anthropic 0 to 1) is sent as 1, as Anthropic's own layer for
//   OpenAI clients does;
// - response_format json_schema becomes output_config.format, always strict there;
// - reasoning_effort low, medium, high and xhigh become output_config.effort; none turns thinking off.
// What the model thinks is billed with its output and is not shown, as with OpenAI.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/client.h"
#include "provider/provider.h"
#include "provider/sse.h"
#include "provider/upstream_failure.h"

namespace turnpike::provider {

constexpr const char* kAnthropicMessagesPath = "/v1/messages";
// Sent where neither the request nor Request::max_output_tokens names a limit: that API knows no request
// without one.
constexpr std::int64_t kAnthropicMaxTokensDefault = 4'096;

// `key` may be empty.
net::Headers anthropic_headers(const std::string& key, bool stream);

// The body for a chat (OpenAI's, as it came) to `model`; `max_output_tokens`: sent where the chat names no
// limit, 0: none. Errors: kInvalidRequest with the field as param ("messages[2].content[0].image_url").
Result<std::string> make_anthropic_body(std::string_view chat, const std::string& model,
                                        std::int64_t max_output_tokens);
// The body for a job of task `text`. Errors: kInvalidRequest with the field ("input.tools"), kConfiguration
// (another task).
Result<std::string> make_anthropic_body(const Request& request, const std::string& model);

// Usage by meter: tokens_in (cached ones and those written to the cache included), tokens_cached (read from
// the cache), tokens_out.
struct AnthropicUsage {
  std::int64_t input = 0;
  std::int64_t cached = 0;
  std::int64_t output = 0;
  std::vector<std::pair<std::string, std::int64_t>> meters() const;  // those that are not 0
};

// An answer in OpenAI's shape.
struct ChatCompletion {
  std::string body;  // chat.completion, JSON
  AnthropicUsage usage;
};
// `created`: Unix seconds. `key` is what may appear in no message.
std::expected<ChatCompletion, Failure> read_anthropic_chat(const net::ClientResponse& response,
                                                           std::int64_t created, const std::string& key);
// A failure of a wire call, whose client gets OpenAI's error where its own input is at fault. `param`: the
// field, where it is known.
Failure with_reply(Failure failure, int status, const std::string& param);
// The answer to a job of task `text`: {"text","finish_reason"}, as of every provider of that task.
Outcome read_anthropic_answer(const Request& request, const net::ClientResponse& response,
                              const std::string& key);

// One answer as it streams: Anthropic's events in, the bytes of OpenAI's chunks out, each as soon as the
// event is there. Without a usage chunk and without [DONE].
class AnthropicStream {
 public:
  AnthropicStream(std::int64_t created, std::string key) : created_(created), key_(std::move(key)) {}

  // What to write to the client: whole events, or nothing.
  std::string take(const SseEvent& event);

  // The usage chunk's JSON, for who asked for it.
  std::string usage_chunk() const;

  // message_stop came: the answer is whole.
  bool ended() const { return ended_; }
  // The upstream broke the stream off with an error, or sent what is none of its events. Nothing that comes
  // afterwards is read.
  const std::optional<Failure>& failure() const { return failure_; }
  // As far as it was said; complete once ended().
  const AnthropicUsage& usage() const { return usage_; }
  // Output tokens: as counted upstream once it has, until then about one for each four bytes that came.
  std::int64_t output_tokens() const;

 private:
  enum class Block : std::uint8_t { kText, kTool, kHidden };

  std::string start(const boost::json::object& event);
  std::string start_block(const boost::json::object& event);
  std::string take_delta(const boost::json::object& event);
  std::string stop_block();
  std::string take_end(const boost::json::object& event);
  std::string tool_arguments(std::string_view json);
  boost::json::object envelope(boost::json::array choices) const;
  std::string chunk(boost::json::object delta, std::optional<std::string_view> finish_reason = {}) const;
  void break_off(const boost::json::object& event);

  const std::int64_t created_;
  const std::string key_;
  std::string id_;
  std::string model_;
  Block block_ = Block::kHidden;  // the one that is open: they come one after another
  std::int64_t tool_ = -1;        // index of the last tool call
  bool has_arguments_ = false;    // of that call
  std::int64_t bytes_ = 0;        // of text, thinking and arguments
  AnthropicUsage usage_;
  bool counted_ = false;  // usage_.output is the whole answer's
  bool ended_ = false;
  std::optional<Failure> failure_;
};

}  // namespace turnpike::provider
