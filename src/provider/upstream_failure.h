// Why an upstream that is spoken to over HTTP did not do what was asked: one reading of statuses, words and
// waits for every kind of provider, so that the same failure is the same class whoever it comes from.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/client.h"
#include "provider/provider.h"

namespace turnpike::provider {

Failure failure(policy::FailureClass kind, std::string message);

// What a status means where the operator says otherwise (providers.NAME.statuses); the rest is as usual.
using StatusClasses = std::map<int, policy::FailureClass>;

// What the upstream says of its failure: {"error":{"message","code" or "type"}}, {"error":"…"},
// {"message":"…"}, {"detail":"…" or {"message","status"} or [{"msg"}]}; anything else says nothing.
struct UpstreamWords {
  std::string code;
  std::string message;
};
UpstreamWords words_of(const net::ClientResponse& response);

// The upstream's words for a user: one bounded line behind ": ", without `key`; empty if there are none.
std::string for_user(std::string message, const std::string& key);

// Why an answer with a status that is no success failed. `key` is what may appear in no message.
Failure classify_refusal(const net::ClientResponse& response, const std::string& key,
                         const StatusClasses& statuses = {});
// Why there was no answer.
Failure classify_no_answer(const Error& error);
// Why we sent nothing: the input is at fault, or the configuration.
Failure refused(const Error& error);

}  // namespace turnpike::provider
