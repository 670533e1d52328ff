// The providers of the policy in force. One whose section is the same in the next version goes on as it is,
// with its connections and its programs that stay. A try keeps the provider it began with.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/policy.h"
#include "provider/provider.h"

namespace turnpike::node {

class ProviderSet {
 public:
  using Maker = std::function<std::unique_ptr<provider::Provider>(const policy::Provider&,
                                                                  std::vector<std::string>& warnings)>;
  struct Serving {
    policy::ProviderKind kind{};
    std::shared_ptr<provider::Provider> provider;
  };
  struct Built {
    std::shared_ptr<const policy::Provider> config;
    std::shared_ptr<provider::Provider> provider;  // with the only key, or none
    // One for each key of its pool, by the key's name.
    std::map<std::string, std::shared_ptr<provider::Provider>, std::less<>> by_key;
    bool warned = false;  // something was amiss: it is looked at again with the next version
  };
  using Map = std::map<std::string, Built, std::less<>>;

  explicit ProviderSet(Maker maker);

  // Those of a policy: what is in force where it fits, the others built, and their warnings logged. May block
  // (it looks for programs). Thread-safe.
  Map build(const policy::Policy& policy) const;
  void replace(Map providers);  // thread-safe
  // `key`: of its pool of keys; empty: its only one. Thread-safe.
  std::optional<Serving> find(std::string_view name, std::string_view key) const;

 private:
  Built build_one(const std::string& name, const policy::Provider& config) const;

  const Maker maker_;
  mutable std::mutex mutex_;
  Map providers_;  // guarded by mutex_
};

}  // namespace turnpike::node
