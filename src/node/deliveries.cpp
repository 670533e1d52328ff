#include "node/deliveries.h"

#include <algorithm>
#include <boost/asio/post.hpp>

namespace turnpike::node {

void Deliveries::add(const boost::asio::any_io_executor& executor, Resume action) {
  auto group = std::ranges::find(groups_, executor, &Group::executor);
  if (group == groups_.end())
    group = groups_.insert(groups_.end(), Group{.executor = executor, .actions = {}});
  group->actions.push_back(std::move(action));
}

void Deliveries::flush(bool done) {
  for (Group& group : groups_) {
    boost::asio::post(group.executor, [actions = std::move(group.actions), done]() mutable {
      for (Resume& action : actions) action(done);
    });
  }
  groups_.clear();
}

}  // namespace turnpike::node
