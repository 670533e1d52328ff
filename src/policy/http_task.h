// One task of a provider of kind http: a templated REST call, answered at once or asked after until it is
// done. Named as in the configuration. Templates are those of policy/template.h; a PATH names a field of an
// answer: names and indices, separated by dots ("images.0.url").
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"

namespace turnpike::policy {

// How the key is shown: `HEADER: PREFIX` and then the key. Sent to base_url's own server and to no other.
struct HttpAuth {
  std::string header = "Authorization";
  std::string prefix = "Bearer ";
  friend bool operator==(const HttpAuth&, const HttpAuth&) = default;
};

struct HttpRequest {
  std::string method = "POST";  // GET, POST, PUT, PATCH or DELETE
  // A template, begins with '/': below base_url. Or else `url_at`.
  std::string path;
  // A PATH in the first answer, where an address stands that it gave. It must be on base_url's own server,
  // for the key is sent there.
  std::string url_at;
  std::vector<std::pair<std::string, std::string>> headers;  // values are templates
  // JSON text whose strings are templates; empty: no body. A string that is one reference and nothing else
  // becomes what stands there, a number say; one that is left out takes its field with it, and the
  // last field its section.
  std::string json;
  friend bool operator==(const HttpRequest&, const HttpRequest&) = default;
};

struct HttpCondition {
  std::string at;               // PATH
  std::vector<std::string> is;  // texts (numbers and booleans as JSON writes them), at least one
  friend bool operator==(const HttpCondition&, const HttpCondition&) = default;
};

struct HttpPoll {
  HttpRequest request;  // GET
  Duration every = std::chrono::seconds(1);
  std::uint32_t polls_max = 3600;  // then it is a timeout
  HttpCondition until;
  std::optional<HttpCondition> failed;
  std::string message_at;             // PATH to the upstream's words where it failed; may be empty
  std::optional<HttpRequest> result;  // asked for once it is done; else the last answer is the result
  std::optional<HttpRequest> cancel;  // sent when the try is cancelled or out of time
  friend bool operator==(const HttpPoll&, const HttpPoll&) = default;
};

// A file that the answer names or holds.
struct HttpArtifact {
  std::string name;       // of the produced file
  std::string url_at;     // PATH to its address; or
  std::string base64_at;  // PATH to its bytes
  std::string mime;       // empty: as its bytes, or who sends it, say
  friend bool operator==(const HttpArtifact&, const HttpArtifact&) = default;
};

// One meter of usage; exactly one source.
struct HttpUsage {
  std::string meter;          // as providers report it: "characters", "audio_ms", "tokens_out"
  std::string at;             // PATH to a number, or to a list, which is counted
  std::string header;         // of the answer, holding a number
  std::string characters_of;  // a text field of the input
  std::int64_t value = 0;     // always so much
  std::int64_t times = 1;     // what `at` or `header` says, in units of the meter (seconds to audio_ms: 1000)
  friend bool operator==(const HttpUsage&, const HttpUsage&) = default;
};

struct HttpTask {
  HttpRequest request;
  std::optional<HttpPoll> poll;
  // The answer's body is this file (kind of `file:`); else it is JSON.
  std::optional<HttpArtifact> file;
  std::vector<std::pair<std::string, std::string>> output;  // field of the job's output -> PATH in the answer
  std::vector<HttpArtifact> artifacts;
  std::vector<HttpUsage> usage;
  bool names_model = false;                         // some template has ${model}
  std::uint64_t answer_bytes_max = 16ULL << 20;     // one answer; with `file` the file
  std::uint64_t artifact_bytes_max = 256ULL << 20;  // one file at an address
  Duration time_max = std::chrono::hours(1);        // of a try, polls and files included
  friend bool operator==(const HttpTask&, const HttpTask&) = default;
};

}  // namespace turnpike::policy
