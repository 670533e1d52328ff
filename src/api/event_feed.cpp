#include "api/event_feed.h"

#include <utility>

#include "api/event_json.h"

namespace turnpike::api {
namespace {

using engine::EventType;
using engine::JobState;

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

Told state_of(const node::JobView& job, Wall now) {
  const EventType type = type_of_state(job.row.state);
  return {.id = {}, .type = type, .json = state_json(job, type, now)};
}

}  // namespace

EventFeed::EventFeed(node::Node& node, std::optional<AccountId> scope)
    : node_(node), scope_(scope), subscription_(node.listen(scope)) {}

boost::asio::awaitable<std::expected<EventFeed::Followed, EventFeed::NotFollowed>> EventFeed::follow(
    std::vector<Subject> subjects, std::optional<EventId> after) {
  const bool first = jobs_.empty() && !everything_;
  // Subscribed first and read then, so that nothing falls between.
  const EventId from = subscription_->add(subjects, after);
  Followed followed;
  boost::unordered_flat_map<JobId, FollowedJob, std::hash<JobId>> found;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    if (!subjects[i]) continue;
    auto reading = node_.job(*subjects[i], scope_, true);
    const auto job = co_await std::move(reading);
    if (!job) {
      subscription_->remove(subjects);
      co_return std::unexpected(NotFollowed{.index = i, .error = job.error()});
    }
    const bool ended = engine::ended(job->row.state);
    followed.all_ended = followed.all_ended && ended;
    FollowedJob& known = found[*subjects[i]];
    if (after) continue;
    known.ended = ended;
    known.opening =
        Opening{.state = job->row.state, .attempt = job->row.attempt, .finished_at = job->row.finished_at};
    followed.states.push_back(state_of(*job, node_.now().wall));
  }
  jobs_.insert(found.begin(), found.end());
  for (const Subject& subject : subjects) everything_ = everything_ || !subject;
  if (first) last_id_ = from;
  co_return followed;
}

void EventFeed::leave(const std::vector<Subject>& subjects) {
  subscription_->remove(subjects);
  for (const Subject& subject : subjects) {
    if (subject) {
      jobs_.erase(*subject);
    } else {
      everything_ = false;
    }
  }
}

bool EventFeed::has_ended(JobId job) const {
  const auto found = jobs_.find(job);
  return found != jobs_.end() && found->second.ended;
}

bool EventFeed::told_by(const Opening& opening, const engine::Event& event) {
  // A job that is queued again on request keeps its number of attempts: later is what tells it apart.
  if (engine::ended(opening.state)) return event.at <= opening.finished_at;
  const bool early = event.type == EventType::kJobQueued || event.type == EventType::kJobStarted;
  if (!early || event.attempt > opening.attempt) return false;
  return event.attempt < opening.attempt || event.type == EventType::kJobQueued ||
         opening.state == JobState::kProcessing;
}

// Of a followed job's end with the job as it stands.
boost::asio::awaitable<std::string> EventFeed::json_of(const journal::StoredEvent& stored, FollowedJob* job) {
  if (job == nullptr || !node::is_end(stored.event.type)) co_return event_json(stored, nullptr);
  auto reading = node_.job(stored.event.job, scope_, true);
  const auto found = co_await std::move(reading);
  // Queued again on request since: this end was not the last word.
  job->ended = !found || engine::ended(found->row.state);
  co_return event_json(stored, found ? &*found : nullptr);
}

boost::asio::awaitable<EventFeed::News> EventFeed::next(Duration timeout) {
  auto waiting = subscription_->next(timeout);
  const auto item = co_await std::move(waiting);
  News news{.told = {}, .lagged = item.lagged, .closed = item.closed};
  news.told.reserve(item.events.size());
  for (const journal::StoredEvent& stored : item.events) {
    last_id_ = stored.id;
    const auto followed = stored.event.job ? jobs_.find(stored.event.job) : jobs_.end();
    FollowedJob* job = followed != jobs_.end() ? &followed->second : nullptr;
    if (job != nullptr && job->opening) {
      if (told_by(*job->opening, stored.event)) continue;
      job->opening.reset();
    }
    auto rendering = json_of(stored, job);
    std::string json = co_await std::move(rendering);
    news.told.push_back({.id = to_string(stored.id), .type = stored.event.type, .json = std::move(json)});
  }
  co_return news;
}

}  // namespace turnpike::api
