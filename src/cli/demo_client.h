// How the demonstration speaks with the server: as an application's backend, for four users on four plans.
#pragma once

#include <array>
#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cli/control.h"

namespace turnpike::cli {

constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kDemoUsers = {
    {{"ada", "tier1"}, {"ben", "tier2"}, {"cleo", "tier3"}, {"dan", "tier4"}}};  // user, plan

// Of an answer; empty, or nothing, where there is none.
std::string text_at(const boost::json::value& value, std::string_view pointer);
std::optional<std::int64_t> number_at(const boost::json::value& value, std::string_view pointer);

class DemoClient {
 public:
  // `key`: of role service. `out`: the folder for what was made.
  DemoClient(const std::string& url, const std::string& key, std::filesystem::path out)
      : http_(url, {{"Authorization", "Bearer " + key}}), out_(std::move(out)) {}

  // For a user (index of kDemoUsers). Error kNotFound: the path or the thing is not there; kUpstreamError:
  // any other status than `status`, with the server's message.
  Result<boost::json::value> ask(std::string_view method, const std::string& path, std::string body,
                                 std::size_t user, int status);
  // Puts every artifact of a result into out/<user>/<id>.<extension>; at least one. Their paths.
  Result<std::vector<std::filesystem::path>> fetch(std::size_t user, const std::string& id,
                                                   const boost::json::value& body);

  const std::filesystem::path& out() const { return out_; }

 private:
  Http http_;
  std::filesystem::path out_;
};

}  // namespace turnpike::cli
