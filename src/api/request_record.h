// What is told of a request once it has ended: its line in the log, and its spans where it is traced.
// Handlers fill in what they learn; what they do not learn is left out. Never a prompt, an answer or a key.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/ids.h"
#include "base/money.h"
#include "base/time.h"
#include "base/trace_context.h"
#include "engine/rows.h"
#include "net/http.h"
#include "node/node.h"
#include "policy/policy.h"
#include "provider/provider.h"

namespace turnpike::node {
class CallTrail;
class TraceExport;
}  // namespace turnpike::node

namespace turnpike::api {

struct RequestRecord {
  // A call over OpenAI's wire, or an endpoint of the operator's that runs a task: its line is written at
  // level info, and it may be traced. Whatever else is asked is told at debug.
  bool call = false;
  provider::Wire wire = provider::Wire::kNone;

  std::string id;  // x-request-id
  std::string method;
  std::string route = "(none)";  // the path as the table of routes has it, ids left out
  Timestamp began{};
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;  // of the body, as far as it was written
  int status = 0;
  std::string_view
      error{};  // error_code_name, "client_left" of a stream that was left, or a job's own; empty: none
  bool stream = false;
  bool paced = false;  // how long it takes is up to its client: a body that is uploaded

  std::string caller;   // a key's id, "cli", "ticket", "anonymous"
  AccountId account{};  // for whom; none: not known
  std::string plan;
  std::string task;
  std::string workflow;
  std::string model_asked;  // as the client wrote it, at most kNameMax bytes of it

  // Of work that was begun:
  JobId job{};  // a call's id, or a job's; none: nothing was begun, or a run was
  RunId run{};  // none: it was no run
  std::string provider, model, model_version, upstream_model;
  node::CacheResult cache = node::CacheResult::kNone;
  engine::Usage usage;
  std::optional<Money> cost;  // nullopt: nothing was, or it is not known yet
  std::string failure;        // JobError::code of what failed upstream
  std::optional<Duration> queued, upstream, first_byte;

  // Of its trace:
  std::optional<TraceContext>
      trace;              // the client's, or a new one; `span_id` is this request's own if it is recorded
  SpanId parent{};        // none: it is the first
  bool recorded = false;  // its spans are exported
  std::shared_ptr<node::CallTrail> trail;

  static constexpr std::size_t kNameMax = 128;
};

// Reads the client's `traceparent` (one that is not valid, or is there twice, is none), and decides whether
// the spans of this request are recorded: as its client did, else by `otlp`. Null: nothing is traced, and
// upstreams are told what the client said.
void begin_trace(RequestRecord& record, const net::Headers& headers, const policy::Otlp* otlp);

// What a call's answer says. Of a stream that has begun only part is known.
void note_answer(RequestRecord& record, const node::CallAnswer& answer);
void note_job(RequestRecord& record, const node::JobView& job);

// Says at its end, once, what a record has gathered: the line, and the spans where there are any. Who is
// destroyed before, as is a stream that is cut off, says it then.
class LastWord {
 public:
  // `traces` may be null: nothing is traced. `alerts` never.
  LastWord(std::shared_ptr<const RequestRecord> record, std::shared_ptr<node::TraceExport> traces,
           std::shared_ptr<node::Alerts> alerts)
      : record_(std::move(record)), traces_(std::move(traces)), alerts_(std::move(alerts)) {}
  ~LastWord();
  LastWord(const LastWord&) = delete;
  LastWord& operator=(const LastWord&) = delete;

  void say(Timestamp now);

 private:
  const std::shared_ptr<const RequestRecord> record_;
  const std::shared_ptr<node::TraceExport> traces_;
  const std::shared_ptr<node::Alerts> alerts_;
  bool said_ = false;
};

}  // namespace turnpike::api
