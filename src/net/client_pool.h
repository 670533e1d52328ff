// Kept connections of the clients of one io_context. Inside net only.
#pragma once

#include <boost/asio/execution_context.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "net/channel.h"

namespace turnpike::net {

constexpr std::size_t kIdlePerHostMax = 64;
constexpr std::size_t kIdleMax = 512;
constexpr std::chrono::seconds kIdleTime{30};

// A service of the io_context: it goes with it, whatever outlives it. What has been idle too long is closed
// when the pool is next used; its numbers are bounded in between.
class ClientPool final : public boost::asio::execution_context::service {
 public:
  using key_type = ClientPool;
  static boost::asio::execution_context::id id;

  explicit ClientPool(boost::asio::execution_context& context) : service(context) {}

  // The one used last that is still open and silent; nullptr if there is none.
  std::unique_ptr<Channel> take(const std::string& key);
  void give_back(const std::string& key, std::unique_ptr<Channel> channel);

 private:
  struct Idle {
    std::unique_ptr<Channel> channel;
    std::chrono::steady_clock::time_point since;
  };
  void shutdown() override;
  void drop_old();

  std::mutex mutex_;  // strands of one context may run on several threads
  // Guarded by mutex_:
  std::map<std::string, std::vector<Idle>> idle_;  // each: oldest first, never empty
  std::size_t count_ = 0;
};

}  // namespace turnpike::net
