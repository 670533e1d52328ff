#include "provider/exec_server_wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <optional>

#include "policy/meters.h"
#include "provider/exec_end.h"
#include "provider/json_text.h"
#include "provider/upstream_failure.h"

namespace turnpike::provider {
namespace {

using boost::json::object;
using boost::json::value;

constexpr std::size_t kNameShownMax = 64;

// By name: {"path","mime"}; of a list of artifacts a list of these.
object files_of(const std::vector<ServedFile>& files) {
  object all;
  for (const ServedFile& file : files) {
    object one{{"path", file.path}, {"mime", file.mime}};
    if (!file.of_list) {
      all[file.name] = std::move(one);
      continue;
    }
    value& list = all[file.name];
    if (!list.is_array()) list.emplace_array();
    list.get_array().push_back(std::move(one));
  }
  return all;
}

std::unexpected<Error> bad(std::string what) {
  return fail(ErrorCode::kUpstreamError, "the program's answer " + std::move(what));
}

std::string shown(std::string_view name) {
  return clean_text(name, kNameShownMax, false);
}

Result<void> read_usage(const object& usage, ServerAnswer& answer) {
  for (const auto& entry : usage) {
    const std::string name{entry.key()};
    if (!policy::meter_reported(name))
      return bad(fmt::format("reports usage of `{}`, which is no meter", shown(name)));
    const bool negative = entry.value().is_int64() && entry.value().get_int64() < 0;
    const bool whole = entry.value().is_int64() || entry.value().is_uint64();
    const std::int64_t amount = count_of(usage, name);
    if (!whole || negative || amount > policy::kAmountMax)
      return bad(fmt::format("reports usage of `{}` that is no whole number from 0", shown(name)));
    answer.usage.emplace_back(name, amount);
  }
  return {};
}

std::optional<policy::FailureClass> class_named(std::string_view name) {
  for (std::size_t i = 0; i < policy::kFailureClassCount; ++i) {
    const auto kind = static_cast<policy::FailureClass>(i);
    if (policy::failure_class_name(kind) == name) return kind;
  }
  return std::nullopt;
}

}  // namespace

std::string server_request(const Request& request, const ServedCall& call) {
  object body;
  body["try"] = to_string(request.try_id);
  body["task"] = request.task;
  body["model"] = request.model;
  auto input = parse_json(request.input);
  body["input"] = input ? std::move(*input) : value(object());
  body["files"] = files_of(call.files);
  body["outputs"] = files_of(call.outputs);
  body["work_dir"] = call.work_dir;
  body["max_output_tokens"] =
      request.max_output_tokens > 0 ? value(request.max_output_tokens) : value(nullptr);
  body["timeout_ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(call.timeout).count();
  return boost::json::serialize(body);
}

Result<ServerAnswer> read_answer(std::string_view body) {
  auto parsed = parse_json(body);
  object* all = parsed ? parsed->if_object() : nullptr;
  if (all == nullptr) return bad("is no JSON object");
  ServerAnswer answer;
  for (auto& entry : *all) {
    object* section = entry.value().if_object();
    if (entry.key() == "output" || entry.key() == "usage") {
      if (section == nullptr) return bad(fmt::format("has a `{}` that is no object", shown(entry.key())));
    } else {
      return bad(fmt::format("has an unknown key `{}`: there are output and usage", shown(entry.key())));
    }
    if (entry.key() == "output") {
      answer.output = std::move(*section);
    } else if (auto read = read_usage(*section, answer); !read) {
      return std::unexpected(read.error());
    }
  }
  return answer;
}

Failure read_refusal(const std::string& program, const net::ClientResponse& response) {
  Failure refusal = classify_refusal(response, {});
  refusal.key_refused = false;  // there is none
  std::string words;
  const auto parsed = parse_json(response.body);
  const object* all = parsed ? parsed->if_object() : nullptr;
  if (const object* error = all == nullptr ? nullptr : object_in(*all, "error")) {
    if (const auto kind = class_named(text_in(*error, "class").value_or(""))) refusal.failure = *kind;
    words = last_words(std::string{text_in(*error, "message").value_or("")});
  }
  refusal.message = words.empty() ? fmt::format("{} answered {}", program, response.status)
                                  : fmt::format("{} failed{}", program, words);
  return refusal;
}

}  // namespace turnpike::provider
