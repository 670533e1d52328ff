// What a listener is told: the state of a job or a run as it is found, then events of the log as CloudEvents,
// each once and in the order of their ids. Server-sent events and WebSockets are two ways to send it.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "engine/rows.h"
#include "node/node.h"

namespace turnpike::api {

struct Told {
  std::string id;  // of the log, to resume after; empty: a state, which is told anew to who comes back
  engine::EventType type{};
  std::string json;
};

// For one coroutine; interrupt() and close() from any thread.
class EventFeed {
 public:
  using Subject = node::Subscription::Subject;
  using Everything = node::Subscription::Everything;
  struct News {
    std::vector<Told> told;  // may be empty: the time is up, or somebody interrupted
    bool lagged = false;     // fell behind: what comes after last_id() is to be had by who resumes there
    bool closed = false;     // the node stops, or close() was called
  };
  struct Followed {
    std::vector<Told> states;  // of the jobs and runs among the subjects, in their order; none where it
                               // resumes
    bool all_ended = true;     // none of them goes on
  };
  struct NotFollowed {
    std::size_t index = 0;  // of the subject at fault
    Error error;            // kNotFound, kUnavailable
  };

  // `scope`: the account whose things alone are told; nullopt: all. The node outlives it.
  EventFeed(node::Node& node, std::optional<AccountId> scope);

  // Follows these too (none of which it follows yet), all or none of them: from now on, or (only while
  // nothing is followed) with every event since `after`.
  boost::asio::awaitable<std::expected<Followed, NotFollowed>> follow(std::vector<Subject> subjects,
                                                                      std::optional<EventId> after);
  void leave(const std::vector<Subject>& subjects);
  boost::asio::awaitable<News> next(Duration timeout);

  // The end of a job or run that is followed was told: nothing more comes of it unless somebody retries it.
  bool has_ended(const Subject& subject) const;
  // Who resumes after it misses nothing of what is followed. Nothing was told yet: where it began.
  EventId last_id() const { return last_id_; }

  void interrupt() { subscription_->interrupt(); }
  void close() { subscription_->close(); }

 private:
  // What of a job was told when it was first followed, until something newer comes.
  struct Opening {
    engine::JobState state{};
    std::uint32_t attempt = 0;
    Wall finished_at{};
  };
  struct FollowedJob {
    std::optional<Opening> opening;
    bool ended = false;
  };
  using FollowedRun = FollowedJob;  // a run has no attempts
  // What of a subject is found when it is first followed.
  struct Found {
    Opening opening;
    Told state;
  };

  static bool told_by(const Opening& opening, const engine::Event& event);
  static bool run_told_by(const Opening& opening, const engine::Event& event);
  boost::asio::awaitable<Result<Found>> find(Subject subject);
  bool told_before(const engine::Event& event);
  boost::asio::awaitable<std::string> json_of(const journal::StoredEvent& stored);

  node::Node& node_;
  const std::optional<AccountId> scope_;
  const std::shared_ptr<node::Subscription> subscription_;
  boost::unordered_flat_map<JobId, FollowedJob, std::hash<JobId>> jobs_;
  boost::unordered_flat_map<RunId, FollowedRun, std::hash<RunId>> runs_;
  bool everything_ = false;
  EventId last_id_;
};

}  // namespace turnpike::api
