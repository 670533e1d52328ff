// One kind of upstream: turns a try into bytes on a wire or a process, and its answer into output, files and
// usage, or a classified error. Stateless towards plans and queues: whatever may run has been decided
// already.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "policy/policy.h"

namespace turnpike::provider {

// A file that the input names, already on disk: an artifact, or a picture that was fetched. A field may name
// one, or be a list of artifacts: then there is one of these for each, in the list's order.
struct InputFile {
  std::string field;           // the top-level field that the provider finds it by, e.g. "image"
  std::filesystem::path path;  // absolute; read-only
  std::string mime;
  std::optional<std::uint32_t> place{};  // in its field's list, from 0; nothing: the field is this one
};
constexpr std::size_t kInputFilesMax = 100;  // that one input may name, lists and all

// Which of OpenAI's operations a call is. kNone: a job, whose input is its task's and whose output is ours.
enum class Wire : std::uint8_t {
  kNone,
  kChat,
  kCompletions,
  kResponses,
  kEmbeddings,
  kImages,
  kImageEdits,
  kSpeech,
  kTranscriptions,
};

// What a client of OpenAI's wire sent.
struct WireCall {
  Wire kind = Wire::kNone;
  bool stream = false;
  bool wants_usage = false;  // stream_options.include_usage
  std::int64_t choices = 1;  // answers asked for at once (`n`, `best_of`): what was held is for all of them
  std::int64_t pixels = 0;   // of one picture, as asked; 0: the body does not say
  std::string model;         // as the client named it
  std::string content_type;  // of `body`: "application/json", or "multipart/form-data" with its boundary
  std::string body;          // bytes as they came, bounded by the route; JSON is an object, checked
};

// Where the answer of a call goes as it comes. Called by the try's coroutine only.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  // Once, before the first write: from here on no other upstream can answer. `content_type`: of what follows.
  virtual void head(int status, std::string content_type) = 0;
  // Awaits room, which is bounded. False: nobody reads any more; read the upstream on to its usage, bounded.
  virtual boost::asio::awaitable<bool> write(std::string bytes) = 0;
  // Tokens of output so far, before those that are new are written, and also when nobody reads any more.
  // False: nothing more is to be had: cut the stream, which is a Success with the usage that is known, if
  // any.
  virtual boost::asio::awaitable<bool> spend(std::int64_t output_tokens) = 0;
};

struct Request {
  JobId job;
  AccountId account{};  // whose it is; a name and nothing more
  TryId try_id;
  std::string task;
  std::string model;  // as the provider names it (ModelRoute::upstream_model)
  std::string input;  // JSON object text
  // Output limit to send where the input names none (policy::output_limit); 0: none. What is held is made of
  // it.
  std::int64_t max_output_tokens = 0;
  std::vector<InputFile> files;
  std::filesystem::path
      work_dir;        // absolute; empty, made for this try by the node, and removed by the node afterwards
  Duration timeout{};  // the attempt's; the provider ends within it, with kTimeout
  std::shared_ptr<const WireCall>
      wire{};                         // of a call over OpenAI's wire, whose `input` is empty; null: a task
  std::shared_ptr<ReplySink> sink{};  // not null for a wire call that streams, and for none else
  std::string traceparent{};          // W3C Trace Context, for upstreams over HTTP; empty: none
  ClaimId claim{};                    // kind pull: whose it is (provider/work_desk.h); none for others
};

struct ProducedFile {
  std::string name;            // "audio"
  std::filesystem::path path;  // in work_dir; the node takes it from there
  std::string mime;            // "audio/wav"
  std::string extension;       // "wav"
};

struct Success {
  // JSON text: the result's `output`, at most kOutputBytesMax. Of a wire call that does not stream: the
  // reply's body in OpenAI's shape, at most kReplyBytesMax; of one that does: nothing.
  std::string output = "{}";
  std::string content_type = "application/json";  // of a wire call's output
  // Of a stream: what its client gets once the charge is durable. Chat and completions: the usage chunk's
  // JSON as the upstream sent it, or empty; the others: the last event as it came, as SSE.
  std::string stream_end{};
  std::vector<ProducedFile> files;
  std::vector<std::pair<std::string, std::int64_t>> usage;  // meter -> amount
};
struct Failure {
  policy::FailureClass failure = policy::FailureClass::kTransient;
  std::string message;                  // for the user: what happened; no secret, no path of the server
  std::optional<Duration> retry_after;  // the upstream's own word
  bool key_refused = false;  // it is the key that the upstream does not take, or that is not paid for
  // Of a wire call whose input is at fault: the upstream's own words in OpenAI's shape, and their status.
  // They hold no secret. Empty: there are none.
  std::string param{};  // the field at fault, where one is known
  int reply_status = 0;
  std::string reply{};
  // Who worked at it is not heard of any more: as good as a crash of the server, and counts as no attempt.
  bool lost = false;
  // What the upstream billed all the same, meter -> amount; nullopt: cannot be known (the request was sent,
  // no answer came).
  std::optional<std::vector<std::pair<std::string, std::int64_t>>> billed =
      std::vector<std::pair<std::string, std::int64_t>>{};
};
struct Cancelled {  // asked to stop, and everything it had begun is stopped
  std::optional<std::vector<std::pair<std::string, std::int64_t>>> billed =
      std::vector<std::pair<std::string, std::int64_t>>{};  // as Failure::billed
  std::string why{};  // nobody asked it to stop, it goes back to the queue: why; else empty
};
using Outcome = std::variant<Success, Failure, Cancelled>;

constexpr std::size_t kOutputBytesMax = 64 * 1024;
constexpr std::size_t kReplyBytesMax = 64ULL << 20U;  // of a wire call; pictures in base64 among them

// percent 0..100 and a short message; may be called often, the caller thins it out.
using Progress = std::function<void(int percent, std::string_view message)>;

// A wire call: one that does not stream ends with its reply in Success::output. One that streams writes SSE
// events in OpenAI's shape to the sink, WITHOUT the usage chunk and WITHOUT `data: [DONE]`: both are written
// once the charge is durable. A failure before head() may be tried elsewhere; after it the stream ends with
// an error.
class Provider {
 public:
  virtual ~Provider() = default;

  // Runs one try to its end, on the caller's executor (one thread). Ends early, with Cancelled, on terminal
  // cancellation of the coroutine; by then every process is dead and every connection closed. Never throws
  // for what comes from outside.
  virtual boost::asio::awaitable<Outcome> run(Request request, Progress progress) = 0;

  // Looks whether the upstream is there, within `timeout` (Provider::use in the configuration). Success:
  // nothing to say; failure: why not, for the log.
  virtual boost::asio::awaitable<Result<void>> probe(Duration timeout) = 0;
};

class WorkDesk;

// `warnings`: what an operator should know (no bubblewrap, program missing), one sentence each. `desk`: where
// workers meet the tries of kind pull; null: there are no workers, as where a provider is only looked at.
std::unique_ptr<Provider> make_provider(const policy::Provider& config, std::vector<std::string>& warnings,
                                        std::shared_ptr<WorkDesk> desk = nullptr);

}  // namespace turnpike::provider
