#include "node/callers.h"

#include <utility>

namespace turnpike::node {

void Callers::expect(JobId call, PlacePtr place) {
  Deliveries deliveries;
  {
    const std::scoped_lock lock(mutex_);
    if (closed_) {
      place->close(deliveries);
    } else {
      places_.emplace(call, std::move(place));
    }
  }
  deliveries.flush(false);
}

Callers::PlacePtr Callers::find(JobId call) const {
  const std::scoped_lock lock(mutex_);
  const auto found = places_.find(call);
  return found == places_.end() ? nullptr : found->second;
}

Callers::PlacePtr Callers::answer(engine::AnswerCall answer, Deliveries& deliveries) {
  PlacePtr place;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = places_.find(answer.row.id);
    if (found == places_.end()) return place;
    place = std::move(found->second);
    places_.erase(found);
  }
  place->end(std::move(answer), deliveries);
  return place;
}

void Callers::close() {
  Deliveries deliveries;
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    for (const auto& [call, place] : places_) place->close(deliveries);
    places_.clear();
  }
  deliveries.flush(false);
}

}  // namespace turnpike::node
