// Server-sent events: CloudEvents 1.0 as JSON, with `id:` to resume from and a comment now and then to keep
// the line open.
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "api/anonymous.h"
#include "api/event_feed.h"
#include "api/handlers.h"
#include "api/render.h"
#include "api/runs.h"

namespace turnpike::api {
namespace {

constexpr std::chrono::seconds kPingEvery{15};

struct Stream {
  Stream(node::Node& node, std::optional<AccountId> scope) : feed(std::make_shared<EventFeed>(node, scope)) {}

  const std::shared_ptr<EventFeed> feed;
  EventFeed::Subject subject;  // a stream of one job or run ends with it
  std::vector<Told> told_first;
  std::shared_ptr<const void> place;  // among the streams of whoever has no key
};

// One event of the stream: its name, and where it can be resumed its id.
void append_event(Buffer& out, const Told& told) {
  if (!told.id.empty()) fmt::format_to(fmt::appender(out), "id: {}\n", told.id);
  fmt::format_to(fmt::appender(out), "event: {}\ndata: {}\n\n", engine::event_type_name(told.type),
                 told.json);
}

std::string text_of(const std::vector<Told>& all) {
  Buffer out;
  for (const Told& told : all) append_event(out, told);
  return to_text(out);
}

boost::asio::awaitable<void> run_stream(std::shared_ptr<Stream> stream,
                                        std::shared_ptr<net::BodyWriter> writer) {
  const auto feed = stream->feed;
  writer->on_close([feed] { feed->close(); });
  std::string text = "retry: 2000\n\n" + text_of(std::exchange(stream->told_first, {}));
  while (!writer->closed()) {
    if (!text.empty()) {
      auto writing = writer->write(std::move(text));
      const auto written = co_await std::move(writing);
      if (!written) break;
    }
    if (feed->has_ended(stream->subject)) break;
    auto waiting = feed->next(kPingEvery);
    const auto news = co_await std::move(waiting);
    if (news.closed || news.lagged) break;  // a client that lagged comes back with its Last-Event-ID
    text = news.told.empty() ? ": ping\n\n" : text_of(news.told);
  }
  writer->on_close({});
  feed->close();
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

// True if nothing of the job or run is left to tell after `after`: it has ended, and its end was told.
boost::asio::awaitable<bool> all_told(Context& context, EventFeed::Subject subject, EventId after) {
  Result<journal::Journal::EventPage> page;
  const auto* job = std::get_if<JobId>(&subject);
  const auto* run = std::get_if<RunId>(&subject);
  std::function<void(journal::Journal&)> question = [&page, job, run, after](auto& journal) {
    page = journal.events(after, std::nullopt, job != nullptr ? std::optional(*job) : std::nullopt,
                          run != nullptr ? std::optional(*run) : std::nullopt, 1);
  };
  auto asking = ask_journal(context, std::move(question));
  const auto asked = co_await std::move(asking);
  co_return asked&& page && page->events.empty();
}

// The stream of one job or run.
Handled stream_of(Context& context, EventFeed::Subject subject) {
  const auto after = last_event_id(context);
  if (!after) co_return std::unexpected(after.error());
  auto place = place_for_stream(context);
  if (!place) co_return std::unexpected(std::move(place.error()));
  const auto stream = std::make_shared<Stream>(context.node(), context.scope());
  stream->place = *std::move(place);
  stream->subject = subject;
  std::vector<EventFeed::Subject> subjects{subject};
  auto following = stream->feed->follow(std::move(subjects), *after);
  auto followed = co_await std::move(following);
  if (!followed) co_return std::unexpected(std::move(followed.error().error));
  if (*after && followed->all_ended) {
    auto looking = all_told(context, subject, **after);
    if (co_await std::move(looking)) {
      co_return json_response(204, std::string());  // tells an EventSource not to come back
    }
  }
  stream->told_first = std::move(followed->states);
  co_return stream_response(stream);
}

}  // namespace

Handled stream_events(Context& context) {
  const auto after = last_event_id(context);
  if (!after) co_return std::unexpected(after.error());
  const auto stream = std::make_shared<Stream>(context.node(), context.scope());
  std::vector<EventFeed::Subject> everything(1);
  auto following = stream->feed->follow(std::move(everything), *after);
  auto followed = co_await std::move(following);
  if (!followed) co_return std::unexpected(std::move(followed.error().error));
  co_return stream_response(stream);
}

Handled stream_job_events(Context& context) {
  if (names_a_run(context.id)) {
    auto streaming = stream_run_events(context);
    co_return co_await std::move(streaming);
  }
  const auto id = parse_id<JobTag>(context.id);
  if (!id) co_return fail(ErrorCode::kNotFound, "there is no such job", "id");
  auto streaming = stream_of(context, *id);
  co_return co_await std::move(streaming);
}

Handled stream_run_events(Context& context) {
  const auto id = run_id(context);
  if (!id) co_return std::unexpected(id.error());
  auto streaming = stream_of(context, *id);
  co_return co_await std::move(streaming);
}

}  // namespace turnpike::api
