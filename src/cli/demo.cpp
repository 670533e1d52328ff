// The demonstration: four users on four plans send a running server more work than it has room for, over HTTP
// alone, and fetch what it made.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>
#include <utility>
#include <vector>

#include "base/time.h"
#include "cli/commands.h"
#include "cli/control.h"
#include "cli/demo_client.h"
#include "cli/demo_stories.h"
#include "cli/demo_table.h"
#include "cli/demo_tale.h"

namespace turnpike::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::minutes kTimeMax{3};
constexpr std::chrono::milliseconds kLookEvery{200};
constexpr std::chrono::hours kKeyLife{1};
constexpr std::size_t kJobsEach = 12;  // half speech, half pictures
static_assert(kDemoUsers.size() * kJobsEach / 2 == kTaleParts);

struct DemoJob {
  std::string id, task, status;
  std::size_t user = 0;  // index
  bool ended = false;
  std::int64_t created_at = 0, started_at = 0;  // Unix seconds, as the server says
  std::optional<std::int64_t> position;
  std::optional<std::pair<std::int64_t, std::int64_t>> eta_seconds;
  std::string error;
};

// Speech and pictures in turn; each user has a part of the tale.
json::object order_of(std::size_t user, std::size_t index) {
  const std::size_t part = user * (kJobsEach / 2) + index / 2;
  json::object order;
  if (index % 2 == 0) {
    order["task"] = "speech";
    order["input"] = json::object{{"text", tale_sentence(part)}};
  } else {
    order["task"] = "image";
    order["input"] = json::object{{"prompt", tale_title(part)}, {"width", 1280}, {"height", 720}};
  }
  order["userTier"] = kDemoUsers[user].second;
  return order;
}

class Demo {
 public:
  explicit Demo(DemoClient& client)
      : client_(client), table_(isatty(STDOUT_FILENO) == 1), began_(SystemClock().now().mono) {}

  // Each says what went wrong as an Error; what merely failed (a job) is in the summary.
  Result<void> submit_all();
  Result<void> follow();
  // Prints how it went; true if everything was made.
  bool summarize() const;

 private:
  Result<void> look_at(DemoJob& job);
  std::vector<DemoRow> rows() const;
  Duration elapsed() const { return SystemClock().now().mono - began_; }
  bool all_ended() const {
    return std::ranges::all_of(jobs_, [](const DemoJob& job) { return job.ended; });
  }

  DemoClient& client_;
  DemoTable table_;
  Monotonic began_;
  std::vector<DemoJob> jobs_;
  std::vector<std::size_t> completed_;  // indices of users, in the order their jobs were seen completed
  std::array<std::string, kDemoUsers.size()> last_;
  std::size_t files_ = 0;
};

// The lowest plan asks first and the highest last, so that whoever overtakes does so by plan.
Result<void> Demo::submit_all() {
  for (std::size_t user = 0; user < kDemoUsers.size(); ++user) {
    for (std::size_t index = 0; index < kJobsEach; ++index) {
      const auto answer = client_.ask("POST", "/api/jobs", json::serialize(order_of(user, index)), user, 202);
      if (!answer) return std::unexpected(answer.error());
      DemoJob job;
      job.id = text_at(*answer, "/id");
      job.task = text_at(*answer, "/task");
      job.status = text_at(*answer, "/status");
      job.user = user;
      jobs_.push_back(std::move(job));
    }
  }
  return {};
}

Result<void> Demo::follow() {
  for (;;) {
    for (auto& job : jobs_) {
      if (job.ended) continue;
      auto looked = look_at(job);
      if (!looked) return looked;
    }
    table_.show(rows(), elapsed());
    if (all_ended()) return {};
    if (elapsed() > kTimeMax) {
      return fail(
          ErrorCode::kUpstreamTimeout,
          fmt::format("not everything ended within {} minutes; the rest is still queued", kTimeMax.count()));
    }
    std::this_thread::sleep_for(kLookEvery);
  }
}

Result<void> Demo::look_at(DemoJob& job) {
  const auto body = client_.ask("GET", "/api/jobs/" + job.id, {}, job.user, 200);
  if (!body) return std::unexpected(body.error());
  job.status = text_at(*body, "/status");
  job.created_at = number_at(*body, "/created_at").value_or(0);
  job.started_at = number_at(*body, "/started_at").value_or(job.created_at);
  job.position = number_at(*body, "/queue/position");
  const auto low = number_at(*body, "/queue/eta_seconds/0");
  const auto high = number_at(*body, "/queue/eta_seconds/1");
  job.eta_seconds.reset();
  if (low && high) job.eta_seconds.emplace(*low, *high);
  job.ended = job.status != "queued" && job.status != "processing" && job.status != "scheduled";
  if (!job.ended) return {};
  if (job.status != "completed") {
    job.error = text_at(*body, "/error/message");
    last_[job.user] = fmt::format("{} {}", job.task, job.status);
    return {};
  }
  completed_.push_back(job.user);
  last_[job.user] =
      fmt::format("{} after {:.1f} s", job.task, std::chrono::duration<double>(elapsed()).count());
  const auto fetched = client_.fetch(job.user, job.id, *body);
  if (!fetched) return std::unexpected(fetched.error());
  files_ += fetched->size();
  return {};
}

std::vector<DemoRow> Demo::rows() const {
  std::vector<DemoRow> rows;
  for (std::size_t user = 0; user < kDemoUsers.size(); ++user) {
    DemoRow row;
    row.user = kDemoUsers[user].first;
    row.plan = kDemoUsers[user].second;
    row.last = last_[user];
    for (const auto& job : jobs_) {
      if (job.user != user) continue;
      ++row.all;
      if (job.ended) {
        ++row.done;
      } else if (job.status == "processing") {
        ++row.running;
      } else {
        ++row.waiting;
        if (job.position && (!row.position || *job.position < *row.position)) {
          row.position = job.position;
          row.eta_seconds = job.eta_seconds;
        }
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

bool Demo::summarize() const {
  fmt::print("\nThe order of completion, each job by its plan's number:\n  ");
  for (const std::size_t user : completed_) fmt::print("{}", kDemoUsers[user].second.back());
  fmt::print("\n\nplan   user  completed  average wait\n");
  std::size_t completed = 0;
  for (std::size_t user = kDemoUsers.size(); user-- > 0;) {
    std::int64_t waited = 0;
    std::int64_t count = 0;
    for (const auto& job : jobs_) {
      if (job.user != user || job.status != "completed") continue;
      waited += job.started_at - job.created_at;
      ++count;
    }
    completed += static_cast<std::size_t>(count);
    const double average = count > 0 ? static_cast<double>(waited) / static_cast<double>(count) : 0;
    fmt::print("{:<6} {:<5} {:>6}/{:<2}  {:>10.1f} s\n", kDemoUsers[user].second, kDemoUsers[user].first,
               count, kJobsEach, average);
  }
  for (const auto& job : jobs_) {
    if (job.status == "completed") continue;
    fmt::print("{} of {} ({}): {}{}{}\n", job.id, kDemoUsers[job.user].first, job.task, job.status,
               job.error.empty() ? "" : ": ", job.error);
  }
  fmt::print("\n{} files are in {}/<user>/ (WAV and PNG).\n", files_, client_.out().string());
  return completed == kDemoUsers.size() * kJobsEach;
}

void print_next_steps(const std::string& url, const std::filesystem::path& data) {
  fmt::print(
      "\nNow you, from a second terminal:\n"
      "  KEY=$(build/turnpike keys create --role service --name mine --data {1})\n"
      "  curl -s {0}/api/jobs -H \"Authorization: Bearer $KEY\" -H \"Turnpike-Account: ada\" \\\n"
      "    -H \"Content-Type: application/json\" -d "
      "'{{\"task\":\"speech\",\"input\":{{\"text\":\"Hello.\"}}}}'\n"
      "  curl -s {0}/api/jobs -H \"Authorization: Bearer $KEY\" -H \"Turnpike-Account: ada\"\n"
      "The reference is at {0}/docs.\n",
      url, data.string());
}

Result<std::string> url_of_server(const DemoOptions& options) {
  std::string url = options.url;
  if (url.empty()) {
    std::ifstream file(address_file(options.data));
    std::getline(file, url);
  }
  if (url.empty()) {
    return fail(ErrorCode::kUnavailable,
                fmt::format("no server runs on {}: start one with `turnpike serve`, or name it with --url",
                            options.data.string()));
  }
  while (url.ends_with('/')) url.pop_back();
  return url;
}

// A key of the demonstration's own, for an hour.
Result<std::string> make_key(const std::filesystem::path& data) {
  if (!server_runs(data)) {
    return fail(ErrorCode::kUnavailable,
                fmt::format("no server answers on {}: start one with `turnpike serve`, or "
                            "give the key of a service with --key",
                            data.string()));
  }
  Http control = control_of(data);
  const json::object body{{"role", "service"},
                          {"name", "demo"},
                          {"expires_at", unix_seconds(SystemClock().now().wall + kKeyLife)}};
  const auto response = control.send("POST", "/api/admin/keys", json::serialize(body));
  if (!response) return std::unexpected(response.error());
  if (response->status != 201) return fail(ErrorCode::kUpstreamError, error_message(*response));
  json::error_code ec;
  return text_at(json::parse(response->body, ec), "/key");
}

int give_up(std::string_view why) {
  fmt::print(stderr, "demo: {}\n", why);
  return kFailed;
}

}  // namespace

int demo(const DemoOptions& options) {
  const auto url = url_of_server(options);
  if (!url) return give_up(url.error().message);
  const auto key = options.key.empty() ? make_key(options.data) : Result<std::string>(options.key);
  if (!key) return give_up(key.error().message);
  fmt::print("Four users on four plans send {} jobs each (speech, pictures) to {}.\n", kJobsEach, *url);
  DemoClient client(*url, *key, options.out);
  Demo demonstration(client);
  const auto submitted = demonstration.submit_all();
  if (!submitted) return give_up(submitted.error().message);
  const auto followed = demonstration.follow();
  const bool complete = demonstration.summarize();
  if (!followed) return give_up(followed.error().message);
  if (!complete) return give_up("not everything was made; see above");
  const auto told = tell_stories(client);
  if (!told) return give_up(told.error().message);
  print_next_steps(*url, options.data);
  return kOk;
}

}  // namespace turnpike::cli
