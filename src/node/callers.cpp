#include "node/callers.h"

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <utility>

namespace turnpike::node {
namespace asio = boost::asio;

Callers::PlacePtr Callers::expect(JobId call) {
  auto place = std::make_shared<Place>();
  const std::scoped_lock lock(mutex_);
  places_.emplace(call, place);
  return place;
}

asio::awaitable<std::optional<engine::AnswerCall>> Callers::wait(PlacePtr place) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto start = [this, &place, &executor](Resume resume) {
    const std::scoped_lock lock(mutex_);
    if (place->answer || closed_) {
      asio::post(executor, [resume = std::move(resume)]() mutable { resume(true); });
      return;
    }
    place->executor = executor;
    place->resume = std::move(resume);
  };
  co_await suspend(start);
  const std::scoped_lock lock(mutex_);
  co_return std::move(place->answer);
}

void Callers::answer(engine::AnswerCall answer, Deliveries& deliveries) {
  const std::scoped_lock lock(mutex_);
  const auto found = places_.find(answer.row.id);
  if (found == places_.end()) return;
  const PlacePtr place = std::move(found->second);
  places_.erase(found);
  place->answer = std::move(answer);
  if (place->resume) deliveries.add(place->executor, std::move(place->resume));
}

void Callers::close() {
  Deliveries deliveries;
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    for (const auto& [call, place] : places_) {
      if (place->resume) deliveries.add(place->executor, std::move(place->resume));
    }
    places_.clear();
  }
  deliveries.flush(false);
}

}  // namespace turnpike::node
