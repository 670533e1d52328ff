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

EventType type_of_run_state(JobState state) {
  switch (state) {
    case JobState::kCompleted:
      return EventType::kRunCompleted;
    case JobState::kFailed:
    case JobState::kExpired:
      return EventType::kRunFailed;
    case JobState::kCancelled:
      return EventType::kRunCancelled;
    case JobState::kScheduled:
    case JobState::kQueued:
    case JobState::kProcessing:
      return EventType::kRunStarted;
  }
  return EventType::kRunStarted;
}

template <typename Map, typename Id>
auto* found_in(Map& map, Id id) {
  const auto found = id ? map.find(id) : map.end();
  return found != map.end() ? &found->second : nullptr;
}

}  // namespace

EventFeed::EventFeed(node::Node& node, std::optional<AccountId> scope)
    : node_(node), scope_(scope), subscription_(node.listen(scope)) {}

boost::asio::awaitable<Result<EventFeed::Found>> EventFeed::find(Subject subject) {
  const Wall now = node_.now().wall;
  if (const auto* id = std::get_if<RunId>(&subject)) {
    auto reading = node_.run(*id, scope_);
    const auto run = co_await std::move(reading);
    if (!run) co_return std::unexpected(run.error());
    const EventType type = type_of_run_state(run->row.state);
    Found found{.opening = {.state = run->row.state, .finished_at = run->row.finished_at},
                .state = {.id = {}, .type = type, .json = state_json(*run, type, now)}};
    co_return found;
  }
  auto reading = node_.job(std::get<JobId>(subject), scope_, true);
  const auto job = co_await std::move(reading);
  if (!job) co_return std::unexpected(job.error());
  const EventType type = type_of_state(job->row.state);
  Found found{
      .opening = {.state = job->row.state, .attempt = job->row.attempt, .finished_at = job->row.finished_at},
      .state = {.id = {}, .type = type, .json = state_json(*job, type, now)}};
  co_return found;
}

boost::asio::awaitable<std::expected<EventFeed::Followed, EventFeed::NotFollowed>> EventFeed::follow(
    std::vector<Subject> subjects, std::optional<EventId> after) {
  const bool first = jobs_.empty() && runs_.empty() && !everything_;
  // Subscribed first and read then, so that nothing falls between.
  const EventId from = subscription_->add(subjects, after);
  Followed followed;
  std::vector<std::pair<Subject, FollowedJob>> known;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    if (std::holds_alternative<Everything>(subjects[i])) continue;
    auto finding = find(subjects[i]);
    auto found = co_await std::move(finding);
    if (!found) {
      subscription_->remove(subjects);
      co_return std::unexpected(NotFollowed{.index = i, .error = std::move(found.error())});
    }
    const bool ended = engine::ended(found->opening.state);
    followed.all_ended = followed.all_ended && ended;
    known.emplace_back(subjects[i], FollowedJob{});
    if (after) continue;
    known.back().second = {.opening = found->opening, .ended = ended};
    followed.states.push_back(std::move(found->state));
  }
  for (auto& [subject, as_found] : known) {
    if (const auto* job = std::get_if<JobId>(&subject)) jobs_.emplace(*job, as_found);
    if (const auto* run = std::get_if<RunId>(&subject)) runs_.emplace(*run, as_found);
  }
  for (const Subject& subject : subjects)
    everything_ = everything_ || std::holds_alternative<Everything>(subject);
  if (first) last_id_ = from;
  co_return followed;
}

void EventFeed::leave(const std::vector<Subject>& subjects) {
  subscription_->remove(subjects);
  for (const Subject& subject : subjects) {
    if (const auto* job = std::get_if<JobId>(&subject)) {
      jobs_.erase(*job);
    } else if (const auto* run = std::get_if<RunId>(&subject)) {
      runs_.erase(*run);
    } else {
      everything_ = false;
    }
  }
}

bool EventFeed::has_ended(const Subject& subject) const {
  const FollowedJob* found = nullptr;
  if (const auto* job = std::get_if<JobId>(&subject)) found = found_in(jobs_, *job);
  if (const auto* run = std::get_if<RunId>(&subject)) found = found_in(runs_, *run);
  return found != nullptr && found->ended;
}

bool EventFeed::told_by(const Opening& opening, const engine::Event& event) {
  // A job that is queued again on request keeps its number of attempts: later is what tells it apart.
  if (engine::ended(opening.state)) return event.at <= opening.finished_at;
  const bool early = event.type == EventType::kJobQueued || event.type == EventType::kJobStarted;
  if (!early || event.attempt > opening.attempt) return false;
  return event.attempt < opening.attempt || event.type == EventType::kJobQueued ||
         opening.state == JobState::kProcessing;
}

bool EventFeed::run_told_by(const Opening& opening, const engine::Event& event) {
  if (engine::ended(opening.state)) return event.at <= opening.finished_at;
  return event.type == EventType::kRunStarted && opening.state == JobState::kProcessing;
}

// Of a job or run that is followed, and whose state as it was found tells of this already.
bool EventFeed::told_before(const engine::Event& event) {
  FollowedJob* const job = found_in(jobs_, event.job);
  FollowedRun* const run = event.job ? nullptr : found_in(runs_, event.run);
  FollowedJob* const followed = job != nullptr ? job : run;
  if (followed == nullptr || !followed->opening) return false;
  if (job != nullptr ? told_by(*job->opening, event) : run_told_by(*run->opening, event)) return true;
  if (job != nullptr || event.type == EventType::kRunStarted || node::is_run_end(event.type))
    followed->opening.reset();
  return false;
}

// Of the end of a job or run that is followed, with that as it stands.
boost::asio::awaitable<std::string> EventFeed::json_of(const journal::StoredEvent& stored) {
  const engine::Event& event = stored.event;
  if (node::is_run_end(event.type) && runs_.contains(event.run)) {
    auto reading = node_.run(event.run, scope_);
    const auto run = co_await std::move(reading);
    if (FollowedRun* followed = found_in(runs_, event.run))
      followed->ended = !run || engine::ended(run->row.state);
    co_return event_json(stored, nullptr, run ? &*run : nullptr);
  }
  if (!event.job || !node::is_end(event.type) || !jobs_.contains(event.job))
    co_return event_json(stored, nullptr);
  auto reading = node_.job(event.job, scope_, true);
  const auto job = co_await std::move(reading);
  // Queued again on request since: this end was not the last word.
  if (FollowedJob* followed = found_in(jobs_, event.job))
    followed->ended = !job || engine::ended(job->row.state);
  co_return event_json(stored, job ? &*job : nullptr);
}

boost::asio::awaitable<EventFeed::News> EventFeed::next(Duration timeout) {
  auto waiting = subscription_->next(timeout);
  const auto item = co_await std::move(waiting);
  News news{.told = {}, .lagged = item.lagged, .closed = item.closed};
  news.told.reserve(item.events.size());
  for (const journal::StoredEvent& stored : item.events) {
    last_id_ = stored.id;
    if (told_before(stored.event)) continue;
    auto rendering = json_of(stored);
    std::string json = co_await std::move(rendering);
    news.told.push_back({.id = to_string(stored.id), .type = stored.event.type, .json = std::move(json)});
  }
  co_return news;
}

}  // namespace turnpike::api
