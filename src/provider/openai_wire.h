// OpenAI's wire, without the wire: what is asked becomes a body, and an answer becomes a result. Pure but for
// the picture that is written to the work folder. Source: platform.openai.com/docs/api-reference, chat,
// images, embeddings, models, errors (2025-05).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "net/client.h"
#include "provider/provider.h"

namespace turnpike::provider {

struct WireRequest {
  std::string path;  // below the base URL, e.g. "/chat/completions"
  std::string body;
};

// Newer models of OpenAI's take the limit under another name and refuse the first one.
enum class TokenLimitField : std::uint8_t { kMaxTokens, kMaxCompletionTokens };

// Errors: kInvalidRequest naming the field (a field that is not known is refused, for it could cost),
// kConfiguration (a task that this wire does not have).
Result<WireRequest> make_wire_request(const Request& request, const std::string& model,
                                      TokenLimitField limit_field);

// The answer to a request of `task`. `key` is what may appear in no message.
Outcome read_wire_answer(const Request& request, const net::ClientResponse& response, const std::string& key);

// The reply to a wire call that does not stream: it goes to the client as it came. `key` as above.
Outcome read_reply(const WireCall& call, net::ClientResponse response, const std::string& key);
// What the upstream says of an input that is at fault goes to who sent it; other failures are as they are.
void keep_words(const net::ClientResponse& response, const std::string& key, Failure& failure);

// Why an answer with a status other than 200 failed.
Failure classify_refusal(const net::ClientResponse& response, const std::string& key);
// Why there was no answer.
Failure classify_no_answer(const Error& error);

// True where the upstream says that it wants the limit as max_completion_tokens.
bool wants_completion_limit(const net::ClientResponse& response);

// The first model of an answer to GET /models. Errors: kUpstreamError.
Result<std::string> first_model(const net::ClientResponse& response);

}  // namespace turnpike::provider
