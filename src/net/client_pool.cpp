#include "net/client_pool.h"

#include <algorithm>
#include <utility>

namespace turnpike::net {

boost::asio::execution_context::id ClientPool::id;

std::unique_ptr<Channel> ClientPool::take(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  drop_old();
  const auto found = idle_.find(key);
  if (found == idle_.end()) return nullptr;
  std::unique_ptr<Channel> channel;
  while (!channel && !found->second.empty()) {
    channel = std::move(found->second.back().channel);
    found->second.pop_back();
    --count_;
    if (!channel->is_quiet()) channel.reset();
  }
  if (found->second.empty()) idle_.erase(found);
  return channel;
}

void ClientPool::give_back(const std::string& key, std::unique_ptr<Channel> channel) {
  const std::scoped_lock lock(mutex_);
  drop_old();
  if (count_ >= kIdleMax) return;
  auto& host = idle_[key];
  if (host.size() >= kIdlePerHostMax) return;
  host.push_back({std::move(channel), std::chrono::steady_clock::now()});
  ++count_;
}

void ClientPool::drop_old() {
  const auto oldest = std::chrono::steady_clock::now() - kIdleTime;
  for (auto host = idle_.begin(); host != idle_.end();) {
    auto& kept = host->second;
    const auto young =
        std::find_if(kept.begin(), kept.end(), [&](const Idle& idle) { return idle.since > oldest; });
    count_ -= static_cast<std::size_t>(young - kept.begin());
    kept.erase(kept.begin(), young);
    host = kept.empty() ? idle_.erase(host) : std::next(host);
  }
}

void ClientPool::shutdown() {
  const std::scoped_lock lock(mutex_);
  idle_.clear();
  count_ = 0;
}

}  // namespace turnpike::net
