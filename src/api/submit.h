// From a request's fields to a submitted job; shared by POST /api/jobs, the operator's endpoints and the
// OpenAI wire.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>

#include "api/context.h"
#include "api/fields.h"
#include "api/input.h"

namespace turnpike::api {

// What `userTier` asks for: top level before videoConfig.userTier; empty if neither. Registers both fields,
// and `user` and `userId`, as known.
std::string tier_asked(Fields& fields, Mistakes& mistakes);

// `metadata`: an object of texts, as JSON text; empty: there is none, or it is among the mistakes.
std::string read_metadata(Fields& fields, Mistakes& mistakes);
// `user`, `userId` and `userTier` of an endpoint's body, and `videoConfig.userTier`, are taken out of it;
// returns what tier was asked for, as tier_asked().
std::string take_tier(boost::json::object& body, Mistakes& mistakes);

// The endpoint that is told how work of `account` ends; none where `url` is empty. Errors: those of
// Outbox::endpoint_for_jobs.
boost::asio::awaitable<Result<WebhookId>> endpoint_told(Context& context, AccountId account, std::string url);

// The account, then the job. `plan`: from tier_asked(). `request.account` and `request.body.request_id` are
// filled in. With `take_idempotency` the stored answer travels in the job's own commit.
struct Submission {
  node::SubmitRequest request;
  std::string input;     // JSON text
  std::string metadata;  // JSON text, or empty
  std::string plan;
  std::string webhook_url;  // told how the job ends; empty: none is
  InputFacts facts;
  std::string input_path;  // of the input in messages: "input." or ""
  int status = 202;
  bool store_answer = false;
};
boost::asio::awaitable<Result<node::SubmitAnswer>> submit(Context& context, Submission submission);

// The headers of a metered answer: what is left of the account's rates, as OpenAI writes it and as the IETF's
// draft does.
void add_rate_headers(net::Response& response, const engine::RateView& rates);
// How a header names a model: with its version, where it has one.
std::string model_name(const std::string& model, const std::string& version);
// Those, and what served it, of an answer with a job or a call.
void add_serving_headers(net::Response& response, const engine::JobRow& row);

}  // namespace turnpike::api
