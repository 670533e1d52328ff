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

// An input artifact that the input names, already on disk.
struct InputFile {
  std::string field;           // the input's top-level field that named it, e.g. "image"
  std::filesystem::path path;  // absolute; read-only
  std::string mime;
};

struct Request {
  JobId job;
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
};

struct ProducedFile {
  std::string name;            // "audio"
  std::filesystem::path path;  // in work_dir; the node takes it from there
  std::string mime;            // "audio/wav"
  std::string extension;       // "wav"
};

struct Success {
  std::string output = "{}";  // JSON text: the result's `output`, at most kOutputBytesMax
  std::vector<ProducedFile> files;
  std::vector<std::pair<std::string, std::int64_t>> usage;  // meter -> amount
};
struct Failure {
  policy::FailureClass failure = policy::FailureClass::kTransient;
  std::string message;                  // for the user: what happened; no secret, no path of the server
  std::optional<Duration> retry_after;  // the upstream's own word
  // What the upstream billed all the same, meter -> amount; nullopt: cannot be known (the request was sent,
  // no answer came).
  std::optional<std::vector<std::pair<std::string, std::int64_t>>> billed =
      std::vector<std::pair<std::string, std::int64_t>>{};
};
struct Cancelled {  // asked to stop, and everything it had begun is stopped
  std::optional<std::vector<std::pair<std::string, std::int64_t>>> billed =
      std::vector<std::pair<std::string, std::int64_t>>{};  // as Failure::billed
};
using Outcome = std::variant<Success, Failure, Cancelled>;

constexpr std::size_t kOutputBytesMax = 64 * 1024;

// percent 0..100 and a short message; may be called often, the caller thins it out.
using Progress = std::function<void(int percent, std::string_view message)>;

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

// `warnings`: what an operator should know (no bubblewrap, program missing), one sentence each.
std::unique_ptr<Provider> make_provider(const policy::Provider& config, std::vector<std::string>& warnings);

}  // namespace turnpike::provider
