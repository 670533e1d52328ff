// Reads the lists of models and voices that providers have (policy::ListWatch), when they are due, and tells
// of what is new. What an upstream says changes nothing that is served: a version that is found waits for the
// operator.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "net/client.h"
#include "node/readers.h"
#include "node/watch_state.h"
#include "policy/discovered.h"
#include "policy/overlay.h"
#include "policy/policy.h"
#include "provider/model_list.h"

namespace turnpike::node {

// What one look has read, of all of the provider's lists.
struct Looked {
  std::string provider;
  policy::ListKind list{};
  std::vector<std::pair<policy::DiscoveryKind, provider::ListEntry>> entries;
  std::size_t left_out = 0;
};

struct ModelWatchParts {
  Readers& readers;
  const Clock& clock;
  std::shared_ptr<net::Client> client;
  std::function<policy::PolicyPtr()> policy;
  std::function<policy::OverlayPtr()> overlay;
  const std::set<std::string>& unavailable;  // providers that were found missing at the start
  // Stores what is new in a look; how many entries that were. Durable on return.
  std::function<boost::asio::awaitable<Result<std::size_t>>(Looked looked)> store;
};

// Thread-safe.
class ModelWatch {
 public:
  static constexpr Duration kAskTimeout = std::chrono::seconds(30);    // of one list
  static constexpr Duration kLookAgainMax = std::chrono::seconds(10);  // a new policy may want one sooner

  explicit ModelWatch(ModelWatchParts parts) : parts_(std::move(parts)) {}

  // The providers to look at now; until() says when there may be more. Each is taken as begun.
  std::vector<std::string> due(Monotonic now);
  Duration until(Monotonic now) const;

  // Reads the provider's lists once. Errors, which are counted and told once when they begin: kUpstreamError,
  // kUpstreamTimeout; kConflict: it or all of its keys are paused, or it was missing at the start; kNotFound:
  // its lists are not watched.
  boost::asio::awaitable<Result<void>> look(std::string provider);

  std::vector<WatchState> states() const;  // of all that the policy watches, by name
  std::string metrics_text() const;        // Prometheus text format

 private:
  boost::asio::awaitable<Result<Looked>> read(std::string provider, policy::ListWatch watch, std::string key);
  boost::asio::awaitable<Result<provider::ListAnswer>> ask(policy::ListWatch watch, provider::ListAsk ask);
  // The key to go with a look; empty: none is wanted.
  Result<std::string> key_for(const policy::Provider& provider, const policy::Overlay& overlay) const;
  void note(const std::string& provider, const Result<Looked>& looked, std::size_t found);

  struct Kept {
    WatchState state;
    bool begun = false;
    Monotonic at{};  // when the last look began
  };
  const ModelWatchParts parts_;
  mutable std::mutex mutex_;
  std::map<std::string, Kept, std::less<>> kept_;  // guarded by mutex_
};

}  // namespace turnpike::node
