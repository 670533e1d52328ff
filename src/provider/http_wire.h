// A task of a provider of kind http, without the wire: its templates parsed, what one try sends, and what is
// read out of the answers. Pure.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "net/client.h"
#include "policy/http_task.h"
#include "policy/policy.h"
#include "policy/template.h"
#include "provider/provider.h"

namespace turnpike::provider {

constexpr std::size_t kHttpBodyBytesMax = 8U << 20U;  // of one request, expanded

// A JSON body whose strings are templates.
struct JsonTemplate {
  using Fields = std::vector<std::pair<std::string, JsonTemplate>>;
  using Items = std::vector<JsonTemplate>;
  std::variant<boost::json::value, policy::Template, Fields, Items> it;
};

struct ParsedHttpRequest {
  std::string method;
  std::optional<policy::Template> path;  // or else
  std::vector<std::string> url_at;
  std::vector<std::pair<std::string, policy::Template>> headers;
  std::optional<JsonTemplate> json;
};

struct ParsedCondition {
  std::vector<std::string> at;
  std::vector<std::string> is;
};

struct ParsedPoll {
  ParsedHttpRequest request;
  ParsedCondition until;
  std::optional<ParsedCondition> failed;
  std::vector<std::string> message_at;
  std::optional<ParsedHttpRequest> result;
  std::optional<ParsedHttpRequest> cancel;
};

struct ParsedHttpTask {
  policy::HttpTask config;
  ParsedHttpRequest request;
  std::optional<ParsedPoll> poll;
};

// Errors: kConfiguration. The loader of the configuration has looked already; a task that was built otherwise
// is refused here.
Result<ParsedHttpTask> parse_http_task(const policy::HttpTask& config);

// Where the key goes, and nowhere else.
struct HttpUpstream {
  std::string base_url;  // without a slash at its end
  policy::HttpAuth auth;
  std::string key;  // may be empty
};

// True if `url` is on the server of `base_url`: the same scheme, host and port, written the same way.
bool is_same_server(std::string_view url, std::string_view base_url);

// What the templates of one try see.
class HttpExpansion {
 public:
  // Errors: kInvalidRequest (the input is no JSON object).
  static Result<HttpExpansion> make(const Request& request);

  // The first answer, for all that follows it.
  void set_answer(boost::json::value answer) { answer_ = std::move(answer); }

  // Method, URL, headers and body. Errors: kInvalidRequest with the field; kUpstreamError: the first answer
  // has no address where one should be, or one of another server's.
  Result<net::ClientRequest> make_request(const ParsedHttpRequest& request,
                                          const HttpUpstream& upstream) const;

  // The input's text field `name`, empty if there is none.
  std::string_view text_field(std::string_view name) const;

 private:
  std::optional<std::string> look_up(const policy::TemplateReference& reference) const;
  const boost::json::value* find(const policy::TemplateReference& reference) const;
  Result<std::optional<boost::json::value>> expand(const JsonTemplate& json) const;
  Result<std::optional<boost::json::value>> expand_text(const policy::Template& text) const;

  boost::json::value input_;
  boost::json::value answer_;
  std::string model_;
};

// Whether what stands there is one of the words.
bool holds(const ParsedCondition& condition, const boost::json::value& answer);

// The job's output: each field that the answer has.
boost::json::object output_of(const policy::HttpTask& task, const boost::json::value& answer);

// Adds what the configuration says was used; what it names replaces what was measured. Amounts are rounded
// up.
void apply_usage(const policy::HttpTask& task, const HttpExpansion& expansion,
                 const boost::json::value& answer, const net::Headers& headers, Success& success);

// The text at a PATH of the configuration; nullopt where there is none.
std::optional<std::string> text_at(const boost::json::value& answer, const std::string& path);

// "a.b.0" in its parts.
std::vector<std::string> split_path(std::string_view path);

// The type and bytes of data:TYPE;base64,…; nullopt where the text is none.
struct DataUrl {
  std::string mime;
  std::string bytes;
};
std::optional<DataUrl> read_data_url(std::string_view url);

}  // namespace turnpike::provider
