#include "node/provider_set.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support.h"

namespace turnpike::node::testing {
namespace {

policy::Policy with(std::vector<policy::Provider> providers) {
  policy::Policy policy;
  for (policy::Provider& each : providers) {
    const std::string name = each.name;
    policy.providers.emplace(name, std::move(each));
  }
  return policy;
}

policy::Provider named(std::string name, std::uint64_t seed = 1) {
  policy::Provider provider;
  provider.name = std::move(name);
  provider.seed = seed;
  return provider;
}

// A set, what it built, and whether what it builds has something to warn of.
class ProviderSets : public ::testing::Test {
 protected:
  void put_in_force(const policy::Policy& policy) { set_.replace(set_.build(policy)); }
  provider::Provider* serving(std::string_view name, std::string_view key = "") const {
    const auto found = set_.find(name, key);
    return found ? found->provider.get() : nullptr;
  }

  std::vector<std::string> built_;
  bool warns_ = false;
  ProviderSet set_{[this](const policy::Provider& config, std::vector<std::string>& warnings) {
    built_.push_back(config.name + (config.api_key.empty() ? "" : "/" + config.api_key.reveal()));
    if (warns_) warnings.emplace_back("its program is not there");
    return make_stage_provider(std::make_shared<Stage>());
  }};
};

TEST_F(ProviderSets, OneThatIsTheSameInTheNextVersionGoesOn) {
  put_in_force(with({named("a"), named("b")}));
  provider::Provider* const a = serving("a");
  provider::Provider* const b = serving("b");
  put_in_force(with({named("a"), named("b", 2), named("c")}));
  EXPECT_EQ(serving("a"), a);
  EXPECT_NE(serving("b"), b);
  EXPECT_EQ(built_, (std::vector<std::string>{"a", "b", "b", "c"}));
  put_in_force(with({named("b", 2)}));
  EXPECT_EQ(serving("a"), nullptr);
}

TEST_F(ProviderSets, AKeyThatChangesMakesItsProviderAnew) {
  policy::Provider pool = named("pool");
  pool.keys = {{.name = "one", .key = policy::Secret("k1")}, {.name = "two", .key = policy::Secret("k2")}};
  put_in_force(with({pool}));
  provider::Provider* const one = serving("pool", "one");
  EXPECT_NE(one, serving("pool", "two"));
  put_in_force(with({pool}));
  EXPECT_EQ(serving("pool", "one"), one);
  pool.keys[1].key = policy::Secret("k3");
  put_in_force(with({pool}));
  EXPECT_EQ(built_, (std::vector<std::string>{"pool", "pool/k1", "pool/k2", "pool", "pool/k1", "pool/k3"}));
}

TEST_F(ProviderSets, OneThatHadSomethingAmissIsLookedAtAgain) {
  warns_ = true;
  put_in_force(with({named("a")}));
  warns_ = false;
  put_in_force(with({named("a")}));
  put_in_force(with({named("a")}));
  EXPECT_EQ(built_, (std::vector<std::string>{"a", "a"}));
}

}  // namespace
}  // namespace turnpike::node::testing
