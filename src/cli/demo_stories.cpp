#include "cli/demo_stories.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "base/time.h"
#include "cli/demo_table.h"
#include "cli/demo_tale.h"

namespace turnpike::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::minutes kTimeMax{5};
constexpr std::chrono::milliseconds kLookEvery{500};
constexpr std::size_t kPartsEach = kTaleParts / kDemoUsers.size();
constexpr std::int64_t kScenes = 3;  // of each

struct Story {
  std::string id, status;
  DemoRow row;
  std::string error;
  std::vector<std::filesystem::path> files;
};

bool has_ended(std::string_view status) {
  return status != "queued" && status != "processing" && status != "scheduled";
}

// The user's part of the tale, a paragraph for each sentence.
json::object order_of(std::size_t user) {
  std::string script;
  for (std::size_t i = 0; i < kPartsEach; ++i) {
    script += tale_sentence(user * kPartsEach + i);
    script += "\n\n";
  }
  json::object order;
  order["script"] = script;
  order["videoConfig"] = json::object{{"scenes", kScenes}};
  order["userTier"] = kDemoUsers.at(user).second;
  return order;
}

// "pictures 2/4, narrations 4/4": the steps that are at work; and what of the run's jobs runs or waits.
void read_steps(const json::value& body, Story& story) {
  json::error_code ec;
  const json::value* steps = body.find_pointer("/steps", ec);
  story.row.running = story.row.waiting = 0;
  std::string at_work;
  if (steps == nullptr || !steps->is_array()) return;
  for (const json::value& step : steps->get_array()) {
    if (text_at(step, "/status") != "running") continue;
    const json::value* jobs = step.find_pointer("/jobs", ec);
    if (jobs == nullptr || !jobs->is_array()) continue;
    std::size_t completed = 0;
    for (const json::value& job : jobs->get_array()) {
      const std::string status = text_at(job, "/status");
      if (status == "completed") ++completed;
      if (status == "processing") ++story.row.running;
      if (status == "queued" || status == "scheduled") ++story.row.waiting;
    }
    at_work += fmt::format("{}{} {}/{}", at_work.empty() ? "" : ", ", text_at(step, "/name"), completed,
                           jobs->get_array().size());
  }
  if (!at_work.empty()) story.row.last = at_work;
}

Result<void> look_at(DemoClient& client, std::size_t user, Story& story) {
  const auto body = client.ask("GET", "/api/runs/" + story.id, {}, user, 200);
  if (!body) return std::unexpected(body.error());
  story.status = text_at(*body, "/status");
  story.row.done =
      static_cast<std::size_t>(std::max<std::int64_t>(number_at(*body, "/progress/percent").value_or(0), 0));
  story.row.position = number_at(*body, "/queue/position");
  const auto low = number_at(*body, "/queue/eta_seconds/0");
  const auto high = number_at(*body, "/queue/eta_seconds/1");
  story.row.eta_seconds.reset();
  if (low && high) story.row.eta_seconds.emplace(*low, *high);
  read_steps(*body, story);
  if (!has_ended(story.status)) return {};
  story.row.position.reset();
  story.row.last = story.status;
  story.error = text_at(*body, "/error/message");
  if (story.status != "completed") return {};
  auto files = client.fetch(user, story.id, *body);
  if (!files) return std::unexpected(files.error());
  story.files = std::move(*files);
  return {};
}

Result<void> follow(DemoClient& client, std::vector<Story>& stories) {
  const Monotonic began = SystemClock().now().mono;
  DemoTable table(isatty(STDOUT_FILENO) == 1);
  for (;;) {
    std::vector<DemoRow> rows;
    bool all_ended = true;
    for (std::size_t user = 0; user < stories.size(); ++user) {
      if (!has_ended(stories[user].status)) {
        auto looked = look_at(client, user, stories[user]);
        if (!looked) return looked;
      }
      all_ended = all_ended && has_ended(stories[user].status);
      rows.push_back(stories[user].row);
    }
    const Duration elapsed = SystemClock().now().mono - began;
    table.show(rows, elapsed);
    if (all_ended) return {};
    if (elapsed > kTimeMax) {
      return fail(ErrorCode::kUpstreamTimeout,
                  fmt::format("not every story ended within {} minutes; the rest goes on", kTimeMax.count()));
    }
    std::this_thread::sleep_for(kLookEvery);
  }
}

}  // namespace

Result<void> tell_stories(DemoClient& client) {
  std::vector<Story> stories;
  for (std::size_t user = 0; user < kDemoUsers.size(); ++user) {
    const auto answer = client.ask("POST", "/create-story", json::serialize(order_of(user)), user, 202);
    if (!answer && answer.error().code == ErrorCode::kNotFound && stories.empty()) {
      fmt::print("\nThis server's configuration has no /create-story, so no stories are told.\n");
      return {};
    }
    if (!answer) return std::unexpected(answer.error());
    Story story;
    story.id = text_at(*answer, "/id");
    story.status = text_at(*answer, "/status");
    story.row = {.user = std::string(kDemoUsers.at(user).first),
                 .plan = std::string(kDemoUsers.at(user).second),
                 .all = 100,
                 .position = {},
                 .eta_seconds = {},
                 .last = story.status};
    stories.push_back(std::move(story));
  }
  fmt::print(
      "\nNow each has a part of the tale made into a video: its scenes, a picture and a narration of each at "
      "once,\na clip of each scene, and all of them in one file. Done is in percent.\n");
  if (auto followed = follow(client, stories); !followed) return followed;
  bool complete = true;
  fmt::print("\n");
  for (const Story& story : stories) {
    for (const auto& file : story.files)
      fmt::print("{}'s video ({}): {}\n", story.row.user, story.row.plan, file.string());
    if (story.status == "completed") continue;
    complete = false;
    fmt::print("{} of {}: {}{}{}\n", story.id, story.row.user, story.status, story.error.empty() ? "" : ": ",
               story.error);
  }
  if (!complete) return fail(ErrorCode::kUpstreamError, "not every story was told; see above");
  return {};
}

}  // namespace turnpike::cli
