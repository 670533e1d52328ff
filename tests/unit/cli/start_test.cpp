#include "cli/start.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

namespace turnpike::cli {
namespace {

policy::Policy policy_with_text() {
  policy::Policy policy;
  policy::Model model;
  model.id = "writer";
  model.task = "text";
  policy::ModelVersion version;
  version.version = "1";
  version.routes = {{"ollama", "auto"}, {"sandbox", "auto"}};
  model.versions = {version};
  policy.models.emplace("writer", model);
  policy.model_order = {"writer"};
  return policy;
}

TEST(Start, KnowsAddressesThatOnlyThisMachineReaches) {
  for (const auto* listen : {"127.0.0.1:8080", "127.8.9.1:0", "[::1]:80", "localhost:8080"}) {
    EXPECT_TRUE(is_loopback(listen)) << listen;
  }
  for (const auto* listen :
       {"0.0.0.0:8080", "[::]:80", "10.0.0.1:80", "example.com:80", "127.0.0.1.example.com:80"}) {
    EXPECT_FALSE(is_loopback(listen)) << listen;
  }
}

TEST(Start, SaysWhichProviderServesATask) {
  const auto policy = policy_with_text();
  EXPECT_EQ(serving_lines(policy, {}), std::vector<std::string>{"text: ollama (model writer)"});
  EXPECT_EQ(serving_lines(policy, {"ollama"}), std::vector<std::string>{"text: sandbox (model writer)"});
  EXPECT_EQ(serving_lines(policy, {"ollama", "sandbox"}),
            std::vector<std::string>{"text: nobody (no provider of writer is there)"});
}

TEST(Start, LeavesOutProvidersWithoutTheirKeyOrTheirServer) {
  policy::Policy policy;
  policy::Provider keyed;
  keyed.name = "keyed";
  keyed.kind = policy::ProviderKind::kOpenAi;
  keyed.use = policy::Provider::Use::kIfKey;
  keyed.base_url = "http://127.0.0.1:1/v1";
  policy.providers.emplace("keyed", keyed);
  keyed.name = "with_key";
  keyed.api_key = policy::Secret("sk-something-secret");
  policy.providers.emplace("with_key", keyed);
  policy::Provider local = keyed;
  local.name = "local";
  local.use = policy::Provider::Use::kIfReachable;  // nothing listens on port 1
  policy.providers.emplace("local", local);
  policy.providers.emplace("always", policy::Provider{});
  net::IoThreads threads(1);
  std::vector<std::string> reasons;
  EXPECT_EQ(missing_providers(policy, threads, reasons), (std::set<std::string>{"keyed", "local"}));
  ASSERT_EQ(reasons.size(), 2U);
  for (const auto& reason : reasons) EXPECT_EQ(reason.find("secret"), std::string::npos);
}

TEST(Start, RaisesTheLimitOfOpenFilesToWhatIsAllowed) {
  raise_file_limit();
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(limit.rlim_cur, limit.rlim_max);
}

}  // namespace
}  // namespace turnpike::cli
