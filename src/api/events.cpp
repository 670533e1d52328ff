// Server-sent events: CloudEvents 1.0 as JSON, with `id:` to resume from and a comment now and then to keep
// the line open.
#include <chrono>
#include <memory>
#include <utility>

#include "api/event_json.h"
#include "api/handlers.h"
#include "api/render.h"

namespace turnpike::api {
namespace {

using engine::EventType;
using engine::JobState;

constexpr std::chrono::seconds kPingEvery{15};

struct Stream {
  node::Node* node;  // outlives every stream
  std::shared_ptr<node::Subscription> subscription;
  std::optional<AccountId> scope;
  std::optional<JobId> job;              // a stream of one job ends with it
  std::optional<node::JobView> opening;  // told first
};

EventType type_of_state(JobState state) {
  switch (state) {
    case JobState::kScheduled:
    case JobState::kQueued:
      return EventType::kJobQueued;
    case JobState::kProcessing:
      return EventType::kJobStarted;
    case JobState::kCompleted:
      return EventType::kJobCompleted;
    case JobState::kFailed:
      return EventType::kJobFailed;
    case JobState::kCancelled:
      return EventType::kJobCancelled;
    case JobState::kExpired:
      return EventType::kJobExpired;
  }
  return EventType::kJobQueued;
}

// One event of the stream: its name, and where it can be resumed its id.
void append_event(Buffer& out, std::string_view id, EventType type, std::string_view json) {
  if (!id.empty()) fmt::format_to(fmt::appender(out), "id: {}\n", id);
  fmt::format_to(fmt::appender(out), "event: {}\ndata: {}\n\n", engine::event_type_name(type), json);
}

// The state a stream opens with; it has no id of the outbox, so whoever resumes from before it gets it anew.
std::string opening_text(const node::JobView& job, Wall now) {
  Buffer out;
  const EventType type = type_of_state(job.row.state);
  append_event(out, {}, type, state_json(job, type, now));
  return to_text(out);
}

// True if the opening state told this already.
bool told(const node::JobView& opening, const engine::Event& event) {
  const bool early = event.type == EventType::kJobQueued || event.type == EventType::kJobStarted;
  if (!early || event.attempt > opening.row.attempt) return false;
  return event.attempt < opening.row.attempt || event.type == EventType::kJobQueued ||
         opening.row.state == JobState::kProcessing;
}

// The text of a page of events; sets `ended` once a stream of one job has come to the job's end.
boost::asio::awaitable<std::string> page_text(const Stream& stream,
                                              const std::vector<journal::StoredEvent>& events, bool& ended) {
  Buffer out;
  for (const auto& stored : events) {
    if (stream.opening && told(*stream.opening, stored.event)) continue;
    std::optional<node::JobView> job;
    if (stream.job && node::is_end(stored.event.type)) {
      ended = true;
      auto reading = stream.node->job(*stream.job, stream.scope, true);
      auto found = co_await std::move(reading);
      // Queued again on request since: this end was not the last word.
      if (found && !engine::ended(found->row.state)) ended = false;
      if (found) job = *std::move(found);
    }
    append_event(out, to_string(stored.id), stored.event.type, event_json(stored, job ? &*job : nullptr));
  }
  co_return to_text(out);
}

boost::asio::awaitable<void> run_stream(std::shared_ptr<Stream> stream,
                                        std::shared_ptr<net::BodyWriter> writer) {
  auto subscription = stream->subscription;
  writer->on_close([subscription] { subscription->close(); });
  bool ended = false;
  std::string text = "retry: 2000\n\n";
  if (stream->opening) {
    text += opening_text(*stream->opening, stream->node->now().wall);
    ended = engine::ended(stream->opening->row.state);
  }
  while (!writer->closed()) {
    if (!text.empty()) {
      auto writing = writer->write(std::move(text));
      const auto written = co_await std::move(writing);
      if (!written) break;
    }
    if (ended) break;
    auto waiting = subscription->next(kPingEvery);
    const auto item = co_await std::move(waiting);
    if (item.closed || item.lagged) break;  // a client that lagged comes back with its Last-Event-ID
    if (item.events.empty()) {
      text = ": ping\n\n";
      continue;
    }
    auto rendering = page_text(*stream, item.events, ended);
    text = co_await std::move(rendering);
  }
  writer->on_close({});
  subscription->close();
}

net::Response stream_response(std::shared_ptr<Stream> stream) {
  net::Response response;
  response.content_type = "text/event-stream";
  response.headers.emplace_back("Cache-Control", "no-store");
  response.headers.emplace_back("X-Accel-Buffering", "no");
  response.body = net::StreamBody([stream = std::move(stream)](std::shared_ptr<net::BodyWriter> writer) {
    return run_stream(stream, std::move(writer));
  });
  return response;
}

Result<std::optional<EventId>> last_event_id(const Context& context) {
  const std::string* header = context.request.header("Last-Event-ID");
  if (header == nullptr || header->empty()) return std::nullopt;
  const auto id = parse_id<EventTag>(*header);
  if (!id) {
    return fail(ErrorCode::kInvalidRequest, "`Last-Event-ID` must be the id of an event (evt_…)",
                "Last-Event-ID");
  }
  return id;
}

boost::asio::awaitable<Result<std::shared_ptr<Stream>>> open(Context& context, std::optional<JobId> job,
                                                             std::optional<EventId> after) {
  auto subscribing = context.node().subscribe(context.scope(), job, after);
  auto subscription = co_await std::move(subscribing);
  if (!subscription) co_return std::unexpected(std::move(subscription.error()));
  auto stream = std::make_shared<Stream>();
  stream->node = &context.node();
  stream->subscription = *std::move(subscription);
  stream->scope = context.scope();
  stream->job = job;
  co_return stream;
}

// True if nothing of the job is left to tell after `after`: it has ended, and its end was told.
boost::asio::awaitable<bool> all_told(Context& context, JobId job, EventId after) {
  Result<journal::Journal::EventPage> page;
  std::function<void(journal::Journal&)> question = [&page, job, after](auto& journal) {
    page = journal.events(after, std::nullopt, job, 1);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  co_return asked&& page && page->events.empty();
}

}  // namespace

Handled stream_events(Context& context) {
  const auto after = last_event_id(context);
  if (!after) co_return std::unexpected(after.error());
  auto opening = open(context, std::nullopt, *after);
  auto stream = co_await std::move(opening);
  if (!stream) co_return std::unexpected(std::move(stream.error()));
  co_return stream_response(*std::move(stream));
}

Handled stream_job_events(Context& context) {
  const auto id = parse_id<JobTag>(context.id);
  if (!id) co_return fail(ErrorCode::kNotFound, "there is no such job", "id");
  const auto after = last_event_id(context);
  if (!after) co_return std::unexpected(after.error());
  // Subscribed first and read then, so that nothing falls between.
  auto opening = open(context, id, *after);
  auto stream = co_await std::move(opening);
  if (!stream) co_return std::unexpected(std::move(stream.error()));
  auto reading = context.node().job(*id, context.scope(), true);
  auto job = co_await std::move(reading);
  if (!job) {
    (*stream)->subscription->close();
    co_return std::unexpected(std::move(job.error()));
  }
  if (*after && engine::ended(job->row.state)) {
    auto looking = all_told(context, *id, **after);
    if (co_await std::move(looking)) {
      (*stream)->subscription->close();
      co_return json_response(204, std::string());  // tells an EventSource not to come back
    }
  }
  if (!*after) (*stream)->opening = *std::move(job);
  co_return stream_response(*std::move(stream));
}

}  // namespace turnpike::api
