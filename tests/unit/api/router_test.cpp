#include "api/router.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>

#include "api/docs_page.h"

namespace turnpike::api {
namespace {

std::set<std::string> routed() {
  std::set<std::string> found;
  for (const auto& route : routes())
    found.insert(std::string(route.method) + " " + std::string(route.pattern));
  return found;
}

std::set<std::string> documented() {
  std::set<std::string> found;
  for (const auto& path : YAML::Load(std::string(openapi_text()))["paths"]) {
    for (const auto& operation : path.second) {
      std::string method = operation.first.Scalar();
      if (!operation.second.IsMap() || !operation.second["responses"]) continue;
      std::ranges::transform(method, method.begin(), [](char c) { return static_cast<char>(c & ~0x20); });
      found.insert(method + " " + path.first.Scalar());
    }
  }
  return found;
}

std::vector<std::string> missing(const std::set<std::string>& from, const std::set<std::string>& in) {
  std::vector<std::string> found;
  std::ranges::set_difference(from, in, std::back_inserter(found));
  return found;
}

TEST(Router, ServesWhatTheContractDocumentsAndNothingElse) {
  EXPECT_EQ(missing(documented(), routed()), std::vector<std::string>{}) << "documented, but not routed";
  EXPECT_EQ(missing(routed(), documented()), std::vector<std::string>{}) << "routed, but not documented";
  EXPECT_EQ(routed().size(), routes().size()) << "a route is there twice";
}

TEST(Router, TheContractSaysWhatEachOperationNeeds) {
  const YAML::Node contract = YAML::Load(std::string(openapi_text()));
  for (const auto& route : routes()) {
    std::string method(route.method);
    std::ranges::transform(method, method.begin(), [](char c) { return static_cast<char>(c | 0x20); });
    const YAML::Node operation = contract["paths"][std::string(route.pattern)][method];
    const bool has_body = operation["requestBody"].IsDefined();
    const bool takes_body = route.body != BodyKind::kNone;
    EXPECT_TRUE(takes_body || !has_body) << route.pattern;
    if (route.body == BodyKind::kJson || route.body == BodyKind::kUpload)
      EXPECT_TRUE(has_body) << route.pattern;
    const bool open = operation["security"].IsDefined() && operation["security"].size() == 0;
    EXPECT_EQ(open, route.access == Access::kPublic) << route.pattern;
    const bool may_be_keyless = operation["security"].IsDefined() && operation["security"].size() == 2;
    EXPECT_EQ(may_be_keyless, route.keyless) << route.pattern;
  }
}

TEST(Router, FindsPathsWithIds) {
  const Match match = match_route("GET", "/api/jobs/job_1/why");
  ASSERT_NE(match.route, nullptr);
  EXPECT_EQ(match.route->pattern, "/api/jobs/{id}/why");
  EXPECT_EQ(match.id, "job_1");
  EXPECT_EQ(match_route("GET", "/v1/models/org/name").id, "org/name");
}

TEST(Router, KnowsNoOtherPath) {
  for (const auto* path : {"/", "/api", "/api/jobs/", "/api/jobs//why", "/api/jobs/a/b", "/api/jobs/a/b/why",
                           "/artifacts/", "/artifacts/a/b", "/v1/models/", "/API/jobs"}) {
    const Match match = match_route("GET", path);
    EXPECT_EQ(match.route, nullptr) << path;
    EXPECT_EQ(match.allow, "") << path;
  }
}

TEST(Router, TellsTheMethodsOfAPath) {
  EXPECT_EQ(match_route("PATCH", "/api/jobs").allow, "POST, GET, HEAD");
  EXPECT_EQ(match_route("POST", "/api/jobs/job_1").allow, "GET, HEAD, DELETE");
  EXPECT_EQ(match_route("GET", "/api/jobs/job_1/retry").allow, "POST");
}

TEST(Router, ServesHeadByGet) {
  const Match match = match_route("HEAD", "/healthz");
  ASSERT_NE(match.route, nullptr);
  EXPECT_EQ(match.route->method, "GET");
}

TEST(DocsPage, ShowsEveryPathAndEscapesWhatItShows) {
  const std::string page = docs_page(openapi_text());
  for (const auto& route : routes()) {
    EXPECT_NE(page.find("<code>" + std::string(route.pattern) + "</code>"), std::string::npos)
        << route.pattern;
  }
  EXPECT_NE(page.find("id=\"error-queue_full\""), std::string::npos);
  const std::string hostile = docs_page(
      "{info: {title: '<script>', description: d}, paths: {/a: {get: {summary: '<b>', responses: {}}}}}");
  EXPECT_EQ(hostile.find("<script>"), std::string::npos);
  EXPECT_EQ(hostile.find("<b></p>"), std::string::npos);
}

}  // namespace
}  // namespace turnpike::api
