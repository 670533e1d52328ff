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
    std::shared_ptr<provider::Provider> provider;
  };
  using Map = std::map<std::string, Serving, std::less<>>;

  explicit ProviderSet(Maker maker);

  // Builds all of a policy's, and logs their warnings. May block (it looks for programs).
  Map build(const policy::Policy& policy) const;
  void replace(Map providers);                               // thread-safe
  std::optional<Serving> find(std::string_view name) const;  // thread-safe

 private:
  const Maker maker_;
  mutable std::mutex mutex_;
  Map providers_;  // guarded by mutex_
};

}  // namespace turnpike::node
