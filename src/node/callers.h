// Who waits for the answer of a call.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "engine/engine.h"
#include "node/deliveries.h"

namespace turnpike::node {

// Thread-safe. One place for each call of the engine, which answers every call it has admitted.
class Callers {
 public:
  struct Place {
    std::optional<engine::AnswerCall> answer;
    boost::asio::any_io_executor executor;  // of who waits
    Resume resume;                          // empty: nobody waits yet
  };
  using PlacePtr = std::shared_ptr<Place>;

  // In the turn that admits the call, so that no answer can come before.
  PlacePtr expect(JobId call);
  // Nothing where the node stops before the answer has come.
  boost::asio::awaitable<std::optional<engine::AnswerCall>> wait(PlacePtr place);
  void answer(engine::AnswerCall answer, Deliveries& deliveries);
  // The node has stopped: who still waits is sent away.
  void close();

 private:
  std::mutex mutex_;
  std::unordered_map<JobId, PlacePtr> places_;  // guarded by mutex_, as all places are
  bool closed_ = false;                         // guarded by mutex_
};

}  // namespace turnpike::node
