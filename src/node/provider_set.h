// The providers of the policy in force, each built once a version. A try keeps the provider it began with.
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
    std::shared_ptr<provider::Provider> provider;  // with the only key, or none
    // One for each key of its pool, by the key's name.
    std::map<std::string, std::shared_ptr<provider::Provider>, std::less<>> by_key = {};
  };
  using Map = std::map<std::string, Serving, std::less<>>;

  explicit ProviderSet(Maker maker);

  // Builds all of a policy's, and logs their warnings. May block (it looks for programs).
  Map build(const policy::Policy& policy) const;
  void replace(Map providers);  // thread-safe
  // `key`: of its pool of keys; empty: its only one. Thread-safe.
  std::optional<Serving> find(std::string_view name, std::string_view key) const;

 private:
  const Maker maker_;
  mutable std::mutex mutex_;
  Map providers_;  // guarded by mutex_
};

}  // namespace turnpike::node
