// The tasks of providers of kind http. Every template and every path is looked at here, so that one with a
// mistake is never sent.
#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "policy/load_parts.h"
#include "policy/nearest.h"
#include "policy/template.h"

namespace turnpike::policy {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr std::size_t kHeadersMax = 32;
constexpr std::size_t kArtifactsMax = 16;
constexpr std::size_t kOutputsMax = 64;
constexpr std::size_t kWordsMax = 16;
constexpr std::size_t kPathSegmentsMax = 8;
constexpr std::size_t kPathBytesMax = 256;
constexpr std::uint32_t kPollsMax = 1'000'000;

bool is_plain(std::string_view text, std::string_view punctuation) {
  return !text.empty() && std::ranges::all_of(text, [punctuation](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           punctuation.contains(c);
  });
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return text;
}

// A template without its references.
std::string literals(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t begin = std::min(text.find("${"), text.size());
    out += text.substr(0, begin);
    const std::size_t end = text.find('}', begin);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return out;
}

// A PATH in an answer.
bool read_path(const Value& value, std::string& out) {
  if (!value.text(out, kPathBytesMax)) return false;
  std::size_t segments = 0;
  std::string_view rest = out;
  while (true) {
    const std::size_t dot = std::min(rest.find('.'), rest.size());
    if (!is_plain(rest.substr(0, dot), "_-") || ++segments > kPathSegmentsMax) {
      value.mistake(
          "must be a path in the answer such as images.0.url: at most 8 names or numbers with dots between");
      return false;
    }
    if (dot == rest.size()) return true;
    rest.remove_prefix(dot + 1);
  }
}

// Reads one task; knows what its templates may refer to.
class TaskReader {
 public:
  TaskReader(const HttpAuth& auth, HttpTask& out) : auth_(auth), out_(out) {}

  void read(Map& map) {
    const Value request = map.require("request");
    request.section(
        [&](Map& section) { read_request(section, TemplatePlace::kRequest, "POST", out_.request); });
    map.at("poll").section([&](Map& section) { read_poll(section, out_.poll.emplace()); });
    const Value response = map.require("response");
    response.section([&](Map& section) { read_response(section); });
    map.at("usage").each([&](const std::string& meter, const Value& entry) { read_usage(meter, entry); });
    map.at("limits").section([&](Map& limits) {
      limits.at("time").duration(out_.time_max, milliseconds(100), hours(24));
      limits.at("answer").bytes(out_.answer_bytes_max, 1ULL << 10, 1ULL << 30);
      limits.at("artifact").bytes(out_.artifact_bytes_max, 1ULL << 10, 4ULL << 30);
    });
  }

 private:
  std::optional<Template> read_template(const Value& value, TemplatePlace place, std::string& out) {
    if (!value.raw_text(out)) return std::nullopt;
    return check_template(value, place, out);
  }

  std::optional<Template> check_template(const Value& value, TemplatePlace place, const std::string& text) {
    auto parsed = Template::parse(text, place);
    if (!parsed) {
      value.mistake(parsed.error().message);
      return std::nullopt;
    }
    for (const TemplateReference* reference : parsed->references())
      out_.names_model = out_.names_model || reference->root == TemplateRoot::kModel;
    return std::move(*parsed);
  }

  void read_request(Map& map, TemplatePlace place, const char* method, HttpRequest& out) {
    const bool follows = place == TemplatePlace::kFollowUp;
    out.method = method;
    map.at("method").word(
        out.method,
        {{"GET", "GET"}, {"POST", "POST"}, {"PUT", "PUT"}, {"PATCH", "PATCH"}, {"DELETE", "DELETE"}});
    const Value path = follows ? map.at("path") : map.require("path");
    if (follows) {
      const Value url = map.at("url_at");
      read_path(url, out.url_at);
      if (url.present() == path.present())
        map.mistake(
            "needs either `path` (below base_url) or `url_at` (where the first answer has the address)");
    }
    if (read_template(path, place, out.path) && !out.path.starts_with('/'))
      path.mistake("must begin with / (it is below base_url)");
    if (literals(out.path).find_first_of("# \t\r\n") != std::string::npos)
      path.mistake("must be a path and query of an address, without # and spaces");
    map.at("headers").each(
        [&](const std::string& name, const Value& value) { read_header(name, value, place, out); });
    const Value json = map.at("json");
    if (!json.present()) return;
    if (out.method == "GET") json.mistake("stands beside method GET, which has no body");
    if (!json.is_map() && !json.is_list()) {
      json.mistake("must be a section or a list: the body, whose texts are templates");
      return;
    }
    out.json = boost::json::serialize(read_json(json, place));
  }

  void read_header(const std::string& name, const Value& value, TemplatePlace place, HttpRequest& out) {
    std::string text;
    const bool good = read_template(value, place, text).has_value();
    const std::string low = lower(name);
    if (low == lower(auth_.header)) {
      value.mistake("is the header of the key: write `api_key` and `auth`");
    } else if (low == "host" || low == "content-length" || low == "content-type" || low == "connection" ||
               low == "transfer-encoding") {
      value.mistake("is written by the client itself (a body is always application/json)");
    } else if (!is_plain(name, "-_")) {
      value.mistake("the name of a header has letters, digits, - and _ only");
    } else if (out.headers.size() == kHeadersMax) {
      value.mistake(fmt::format("at most {} headers", kHeadersMax));
    } else if (good) {
      out.headers.emplace_back(name, std::move(text));
    }
  }

  // YAML as JSON; what is not in quotes is what JSON reads in it, else a text.
  boost::json::value read_json(const Value& value, TemplatePlace place) {
    if (value.is_map()) {
      boost::json::object fields;
      value.each(
          [&](const std::string& name, const Value& entry) { fields[name] = read_json(entry, place); });
      return fields;
    }
    if (value.is_list()) {
      boost::json::array items;
      value.list([&](const Value& item) { items.push_back(read_json(item, place)); });
      return items;
    }
    if (value.is_null()) return nullptr;
    if (const auto plain = value.plain()) {
      boost::json::error_code error;
      boost::json::value parsed = boost::json::parse(*plain, error);
      if (!error && (parsed.is_number() || parsed.is_bool())) return parsed;
    }
    std::string text;
    read_template(value, place, text);
    return boost::json::value(text);
  }

  void read_condition(const Value& value, HttpCondition& out) {
    value.section([&](Map& map) {
      read_path(map.require("at"), out.at);
      const Value words = map.require("is");
      const auto take = [&](const Value& item) {
        std::string word;
        if (!item.text(word, kPathBytesMax)) return;
        if (out.is.size() == kWordsMax) item.mistake(fmt::format("at most {} words", kWordsMax));
        out.is.push_back(std::move(word));
      };
      if (!words.is_list()) {
        if (words.present()) take(words);
      } else {
        words.list(take);
        if (words.is_empty()) words.mistake("needs at least one word");
      }
    });
  }

  void read_poll(Map& map, HttpPoll& out) {
    map.require("request").section(
        [&](Map& section) { read_request(section, TemplatePlace::kFollowUp, "GET", out.request); });
    map.at("every").duration(out.every, milliseconds(10), hours(1));
    map.at("polls_max").whole(out.polls_max, 1, kPollsMax);
    read_condition(map.require("until"), out.until);
    const Value failed = map.at("failed");
    if (failed.present()) read_condition(failed, out.failed.emplace());
    read_path(map.at("message_at"), out.message_at);
    map.at("result").section(
        [&](Map& section) { read_request(section, TemplatePlace::kFollowUp, "GET", out.result.emplace()); });
    map.at("cancel").section(
        [&](Map& section) { read_request(section, TemplatePlace::kFollowUp, "POST", out.cancel.emplace()); });
  }

  void read_response(Map& map) {
    const Value file = map.at("file");
    const Value output = map.at("output");
    const Value artifacts = map.at("artifacts");
    if (!file.present() && !output.present() && !artifacts.present())
      map.mistake(
          "needs `file` (the body is it), or `output` or `artifacts` (where they stand in the answer)");
    if (file.present() && (output.present() || artifacts.present()))
      file.mistake("stands beside `output` or `artifacts`: a body is a file or it is JSON");
    file.section([&](Map& section) {
      HttpArtifact& out = out_.file.emplace();
      section.require("name").name(out.name);
      check_artifact_name(section, out.name);
      read_mime(section.at("mime"), out.mime);
    });
    output.each([&](const std::string& field, const Value& entry) {
      std::string path;
      read_path(entry, path);
      if (out_.output.size() == kOutputsMax) entry.mistake(fmt::format("at most {} fields", kOutputsMax));
      out_.output.emplace_back(field, std::move(path));
    });
    artifacts.each([&](const std::string& name, const Value& entry) {
      entry.section([&](Map& section) { read_artifact(name, section); });
    });
  }

  static void check_artifact_name(Map& map, const std::string& name) {
    if (!name.empty() && !is_plain(name, "_"))
      map.mistake("the name of an artifact has letters, digits and _ only");
  }

  void read_artifact(const std::string& name, Map& map) {
    HttpArtifact out;
    out.name = name;
    check_artifact_name(map, name);
    const Value url = map.at("url_at");
    const Value base64 = map.at("base64_at");
    read_path(url, out.url_at);
    read_path(base64, out.base64_at);
    if (url.present() == base64.present())
      map.mistake("needs either `url_at` (where its address stands) or `base64_at` (where its bytes do)");
    read_mime(map.at("mime"), out.mime);
    if (out_.artifacts.size() == kArtifactsMax)
      map.mistake(fmt::format("at most {} artifacts", kArtifactsMax));
    out_.artifacts.push_back(std::move(out));
  }

  static void read_mime(const Value& value, std::string& out) {
    if (!value.text(out, 100)) return;
    const std::size_t slash = std::min(out.find('/'), out.size());
    if (slash == out.size() || !is_plain(out.substr(0, slash), "+.-") ||
        !is_plain(out.substr(slash + 1), "+.-"))
      value.mistake("must be a media type such as audio/mpeg");
  }

  void read_usage(const std::string& meter, const Value& entry) {
    HttpUsage usage;
    usage.meter = meter;
    if (!meter_reported(meter)) {
      std::vector<std::string> known;
      for (const MeterName& each : meter_names()) {
        if (each.usage != nullptr) known.emplace_back(each.usage);
      }
      entry.mistake(fmt::format("unknown meter `{}`: {}", meter, suggestion(meter, known)));
    }
    entry.section([&](Map& map) {
      const Value at = map.at("at");
      const Value header = map.at("header");
      const Value characters = map.at("characters_of");
      const Value value = map.at("value");
      read_path(at, usage.at);
      if (header.text(usage.header, 64) && !is_plain(usage.header, "-_"))
        header.mistake("must be the name of a header");
      characters.name(usage.characters_of);
      std::uint64_t whole = 0;
      if (value.whole(whole, 1, 1'000'000'000)) usage.value = static_cast<std::int64_t>(whole);
      if (at.present() + header.present() + characters.present() + value.present() != 1)
        map.mistake("needs one of `at`, `header`, `characters_of` and `value`");
      const Value times = map.at("times");
      if (times.whole(whole, 1, 1'000'000'000)) usage.times = static_cast<std::int64_t>(whole);
      if (times.present() && !at.present() && !header.present())
        times.mistake("belongs to `at` or `header`: what is said there is multiplied by it");
    });
    out_.usage.push_back(std::move(usage));
  }

  const HttpAuth& auth_;
  HttpTask& out_;
};

void read_auth(const Value& value, HttpAuth& out) {
  value.section([&](Map& map) {
    const Value header = map.require("header");
    if (header.text(out.header, 64) && !is_plain(out.header, "-_"))
      header.mistake("must be the name of a header, such as Authorization or x-api-key");
    out.prefix = lower(out.header) == "authorization" ? out.prefix : "";
    const Value prefix = map.at("prefix");
    if (prefix.raw_text(out.prefix) &&
        !std::ranges::all_of(out.prefix, [](char c) { return c >= ' ' && c <= '~'; }))
      prefix.mistake("must be plain text such as `Key `");
  });
}

void read_statuses(const Value& value, Provider& out) {
  value.each([&](const std::string& status, const Value& entry) {
    const bool good = status.size() == 3 && is_plain(status, "") && status >= "300" && status <= "599";
    if (!good) entry.mistake("must stand under a status from 300 to 599");
    FailureClass kind{};
    const bool read = entry.word(kind, {{"transient", FailureClass::kTransient},
                                        {"rate_limited", FailureClass::kRateLimited},
                                        {"timeout", FailureClass::kTimeout},
                                        {"invalid_input", FailureClass::kInvalidInput},
                                        {"misconfigured", FailureClass::kMisconfigured},
                                        {"bad_output", FailureClass::kBadOutput}});
    if (good && read) out.statuses[std::stoi(status)] = kind;
  });
}

}  // namespace

void read_http(Map& map, Provider& out) {
  read_auth(map.at("auth"), out.auth);
  read_statuses(map.at("statuses"), out);
  map.at("allow_private").flag(out.allow_private);
  const Value tasks = map.require("tasks");
  const bool read = tasks.each([&](const std::string& name, const Value& entry) {
    HttpTask task;
    entry.section([&](Map& section) { TaskReader{out.auth, task}.read(section); });
    out.http_tasks.insert_or_assign(name, std::move(task));
  });
  if (read && out.http_tasks.empty()) tasks.mistake("needs at least one task");
}

}  // namespace turnpike::policy
