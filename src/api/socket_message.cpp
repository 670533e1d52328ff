#include "api/socket_message.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/string.hpp>
#include <utility>

#include "api/fields.h"
#include "api/json.h"

namespace turnpike::api {
namespace {

constexpr std::string_view kAccount = "account";
constexpr std::size_t kShownMax = 64;
constexpr std::size_t kEventIdMax = 64;

std::optional<EventFeed::Subject> subject_of(const boost::json::value& value) {
  const auto* text = value.if_string();
  if (text == nullptr) return std::nullopt;
  const std::string_view name(text->data(), text->size());
  if (name == kAccount) return EventFeed::Subject{};
  if (const auto job = parse_id<JobTag>(name)) return EventFeed::Subject(*job);
  if (const auto run = parse_id<RunTag>(name)) return EventFeed::Subject(*run);
  return std::nullopt;
}

std::string shown(const boost::json::value& value) {
  const auto* text = value.if_string();
  if (text == nullptr) return "it";
  return quote(std::string_view(text->data(), std::min(text->size(), kShownMax)));
}

void read_subjects(std::string_view field, const boost::json::array& list, SocketMessage& out,
                   Mistakes& mistakes) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto subject = subject_of(list[i]);
    if (!subject) {
      const std::string param = fmt::format("{}[{}]", field, i);
      mistakes.add(param, fmt::format("`{}`: {} is nothing to be told of; write \"account\" or the id of a "
                                      "job (job_…) or a run (run_…)",
                                      param, shown(list[i])));
    } else if (std::ranges::find(out.subjects, *subject) == out.subjects.end()) {
      out.subjects.push_back(*subject);
      out.places.push_back(i);
    }
  }
}

std::optional<EventId> read_after(Fields& fields) {
  const auto text = fields.text("after", 1, kEventIdMax);
  if (!text) return std::nullopt;
  const auto id = parse_id<EventTag>(*text);
  if (!id) fields.mistake("after", "`after` must be the id of an event (evt_…)");
  return id;
}

}  // namespace

Result<SocketMessage> read_socket_message(std::string_view text, std::size_t subjects_max) {
  const auto parsed = parse_json(text, {});
  if (!parsed) {
    Error error = parsed.error();
    error.param = "message";
    return std::unexpected(std::move(error));
  }
  const auto* object = parsed->if_object();
  if (object == nullptr)
    return fail(ErrorCode::kInvalidRequest, "a message must be a JSON object", "message");
  SocketMessage message;
  const bool wants = object->contains("subscribe");
  if (wants == object->contains("unsubscribe")) {
    return fail(
        ErrorCode::kInvalidRequest,
        "say what you want to be told of: {\"subscribe\":[…]} or {\"unsubscribe\":[…]}, one at a time",
        "subscribe");
  }
  message.what = wants ? SocketMessage::What::kSubscribe : SocketMessage::What::kUnsubscribe;
  const std::string_view field = wants ? "subscribe" : "unsubscribe";
  if (const auto* named = object->at(field).if_array(); named != nullptr && named->size() > subjects_max) {
    return fail(
        ErrorCode::kLimitExceeded,
        fmt::format("`{}` names {} subjects; a socket may have {}", field, named->size(), subjects_max),
        std::string(field));
  }
  Mistakes mistakes;
  Fields fields(*object, "", mistakes);
  fields.require(field);
  if (const auto* list = fields.array(field, 1, subjects_max)) read_subjects(field, *list, message, mistakes);
  if (wants) message.after = read_after(fields);
  fields.finish();
  if (mistakes.any()) return std::unexpected(mistakes.error());
  return message;
}

std::string subject_name(const EventFeed::Subject& subject) {
  if (const auto* job = std::get_if<JobId>(&subject)) return to_string(*job);
  if (const auto* run = std::get_if<RunId>(&subject)) return to_string(*run);
  return std::string(kAccount);
}

}  // namespace turnpike::api
