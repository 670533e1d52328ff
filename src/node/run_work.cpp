#include "node/run_work.h"

namespace turnpike::node {

bool RunWork::put(Item item) {
  if (waiting_.insert(item).second) line_.push_back(item);
  if (workers_ >= kWorkersMax) return false;
  ++workers_;
  return true;
}

bool RunWork::add(Item item) {
  const std::scoped_lock lock(mutex_);
  return put(item);
}

void RunWork::add_later(Item item, Monotonic at) {
  const std::scoped_lock lock(mutex_);
  later_.emplace(at, item);
}

std::size_t RunWork::due(Monotonic now) {
  const std::scoped_lock lock(mutex_);
  std::size_t workers = 0;
  while (!later_.empty() && later_.begin()->first <= now) {
    if (put(later_.begin()->second)) ++workers;
    later_.erase(later_.begin());
  }
  return workers;
}

std::optional<RunWork::Item> RunWork::take() {
  const std::scoped_lock lock(mutex_);
  if (line_.empty()) {
    --workers_;
    return std::nullopt;
  }
  const Item item = line_.front();
  line_.pop_front();
  waiting_.erase(item);
  return item;
}

}  // namespace turnpike::node
