// Which calls are under way, and who waits for the answer of each.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "engine/engine.h"
#include "node/call_place.h"
#include "node/deliveries.h"

namespace turnpike::node {

// Thread-safe. One place for each call of the engine, which answers every call it has admitted.
class Callers {
 public:
  using PlacePtr = std::shared_ptr<CallPlace>;

  // In the turn that admits the call, so that no answer can come before.
  void expect(JobId call, PlacePtr place);
  // The place of a call that has not been answered; null: there is none.
  PlacePtr find(JobId call) const;
  // The place that was answered; null: there was none.
  PlacePtr answer(engine::AnswerCall answer, Deliveries& deliveries);
  // The node has stopped: who still waits is sent away.
  void close();

 private:
  mutable std::mutex mutex_;
  std::unordered_map<JobId, PlacePtr> places_;  // guarded by mutex_
  bool closed_ = false;                         // guarded by mutex_
};

}  // namespace turnpike::node
