#include "provider/openai_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/json_walk.h"
#include "provider/json_text.h"

namespace turnpike::provider {
namespace {

using policy::FailureClass;

constexpr std::size_t kUpstreamWordsMax = 300;

// Events that end an answer and bear its usage, by their `type`.
constexpr std::array<std::string_view, 6> kLastEvents = {"response.completed",   "response.incomplete",
                                                         "transcript.text.done", "image_generation.completed",
                                                         "image_edit.completed", "speech.audio.done"};

std::int64_t amount_of(const JsonMember& member) {
  if (const auto whole = member.whole()) return std::max<std::int64_t>(0, *whole);
  // A float that stands for a whole number, or for a little more than it.
  double number = 0;
  const auto [stop, error] =
      std::from_chars(member.value.data(), member.value.data() + member.value.size(), number);
  if (error != std::errc{} || stop != member.value.data() + member.value.size() || !(number > 0) ||
      number > 1e15)
    return 0;
  const auto floor = static_cast<std::int64_t>(number);
  return floor + (static_cast<double>(floor) < number ? 1 : 0);
}

std::int64_t milliseconds_of(const JsonMember& member) {
  double seconds = 0;
  const auto [stop, error] =
      std::from_chars(member.value.data(), member.value.data() + member.value.size(), seconds);
  if (error != std::errc{} || stop != member.value.data() + member.value.size() || !(seconds > 0) ||
      seconds > 1e9)
    return 0;
  return static_cast<std::int64_t>(seconds * 1000.0 + 0.999);
}

// The lines of an event that begin with "data:", without it; joined as the format has it.
std::string_view payload_of(std::string_view event, std::string& joined) {
  std::string_view first;
  std::size_t lines = 0;
  while (!event.empty()) {
    const std::size_t end = event.find('\n');
    std::string_view line = event.substr(0, end);
    event = end == std::string_view::npos ? std::string_view() : event.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with("data:")) continue;
    line.remove_prefix(5);
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (++lines == 1) {
      first = line;
      continue;
    }
    if (lines == 2) joined = first;
    joined.append("\n").append(line);
  }
  return lines > 1 ? std::string_view(joined) : first;
}

// Comments and the fields of server-sent events; anything else is not an event stream.
bool is_event(std::string_view event) {
  while (!event.empty()) {
    const std::size_t end = event.find('\n');
    std::string_view line = event.substr(0, end);
    event = end == std::string_view::npos ? std::string_view() : event.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::string_view name = line.substr(0, line.find(':'));
    if (!name.empty() && name != "data" && name != "event" && name != "id" && name != "retry") return false;
  }
  return true;
}

std::string words_of(std::string_view error) {
  std::string_view words = error;
  const auto members = json_members(error);
  const JsonMember* message = members ? find_member(*members, "message") : nullptr;
  if (message != nullptr && message->is_text()) words = message->value.substr(1, message->value.size() - 2);
  return clean_text(words, kUpstreamWordsMax, false);
}

}  // namespace

WireUsage read_usage(std::string_view usage) {
  WireUsage amounts;
  const auto members = json_members(usage);
  if (!members) return amounts;
  for (const JsonMember& member : *members) {
    if (member.name == "prompt_tokens" || member.name == "input_tokens") {
      amounts.emplace_back("tokens_in", amount_of(member));
    } else if (member.name == "completion_tokens" || member.name == "output_tokens") {
      amounts.emplace_back("tokens_out", amount_of(member));
    } else if (member.name == "seconds") {
      amounts.emplace_back("audio_ms", milliseconds_of(member));
    } else if (member.name == "prompt_tokens_details" || member.name == "input_tokens_details") {
      const auto details = json_members(member.value);
      const JsonMember* cached = details ? find_member(*details, "cached_tokens") : nullptr;
      if (cached != nullptr) amounts.emplace_back("tokens_cached", amount_of(*cached));
    }
  }
  return amounts;
}

// What one event says that matters here, in one pass.
struct StreamFilter::Look : JsonVisitor {
  std::string_view usage, error, type, choices, response;
  std::size_t usage_at = 0;
  std::int64_t output_bytes = 0;
  bool finish = false;

  void member(const JsonMember& member) {
    if (member.name == "usage") {
      usage = member.value;
      usage_at = member.value_begin;
    } else if (member.name == "error") {
      error = member.value;
    } else if (member.name == "choices") {
      choices = member.value;
    } else if (member.name == "response") {
      response = member.value;
    } else if (member.name == "type") {
      type = member.plain_text().value_or(std::string_view());
    }
  }
  void text(int /*depth*/, std::string_view key, std::string_view /*raw*/, std::size_t bytes) {
    if (key == "content" || key == "text" || key == "arguments" || key == "delta" ||
        key == "reasoning_content" || key == "reasoning") {
      output_bytes += static_cast<std::int64_t>(bytes);
    } else if (key == "finish_reason") {
      finish = true;
    }
  }
  bool has_error() const { return !error.empty() && error != "null"; }
};

StreamFilter::StreamFilter(Wire kind)
    : kind_(kind),
      event_bytes_max_(kind == Wire::kImages || kind == Wire::kImageEdits || kind == Wire::kSpeech
                           ? kPictureEventBytesMax
                           : kEventBytesMax) {}

StreamFilter::Fate StreamFilter::fail(FailureClass failure, std::string message) {
  state_ = State::kFailed;
  fault_ = {.failure = failure, .message = std::move(message)};
  return Fate::kDrop;
}

// Behind the empty line that ends the event which begins at or before `from`; npos: it has not ended.
std::size_t StreamFilter::event_end(std::size_t from) {
  for (std::size_t at = pending_.find('\n', from); at != std::string::npos;
       at = pending_.find('\n', at + 1)) {
    if (at + 1 < pending_.size() && pending_[at + 1] == '\n') return at + 2;
    if (at + 2 < pending_.size() && pending_[at + 1] == '\r' && pending_[at + 2] == '\n') return at + 3;
  }
  return std::string::npos;
}

std::string StreamFilter::feed(std::string bytes) {
  if (state_ != State::kOpen) return {};
  if (pending_.empty()) {
    pending_ = std::move(bytes);
  } else {
    pending_ += bytes;
  }
  std::string out;
  bool untouched = true;  // all so far passes as it came, and is not in `out` yet
  std::size_t begin = 0;
  for (;;) {
    const std::size_t end = event_end(std::max(begin, scanned_));
    if (end == std::string::npos) break;
    scanned_ = 0;
    std::string instead;
    const Fate fate = event(std::string_view(pending_).substr(begin, end - begin), instead);
    if (fate != Fate::kPass && untouched) {
      out.assign(pending_, 0, begin);
      untouched = false;
    } else if (fate == Fate::kPass && !untouched) {
      out.append(pending_, begin, end - begin);
    }
    out += instead;
    begin = end;
    if (state_ != State::kOpen) break;
  }
  if (untouched && begin == pending_.size()) {
    scanned_ = 0;
    return std::exchange(pending_, std::string());
  }
  if (untouched) out.assign(pending_, 0, begin);
  pending_.erase(0, begin);
  // The empty line may still come in two halves.
  scanned_ = pending_.size() > 2 ? pending_.size() - 2 : 0;
  if (state_ == State::kOpen && pending_.size() > event_bytes_max_) {
    fail(FailureClass::kBadOutput, "the upstream sent an event that does not end");
  }
  return out;
}

StreamFilter::Fate StreamFilter::event(std::string_view event, std::string& instead) {
  std::string joined;
  const std::string_view payload = payload_of(event, joined);
  if (payload.empty()) {  // a comment keeps the connection alive
    return is_event(event) ? Fate::kPass
                           : fail(FailureClass::kBadOutput, "the upstream sent what is no event stream");
  }
  if (payload == "[DONE]") {
    finished_ = true;
    state_ = State::kEnded;
    return Fate::kDrop;
  }
  return chunk(event, payload, instead);
}

StreamFilter::Fate StreamFilter::chunk(std::string_view event, std::string_view payload,
                                       std::string& instead) {
  Look look;
  if (!payload.starts_with('{') || walk_json(payload, look)) {
    return fail(FailureClass::kBadOutput, "the upstream sent an event that is no JSON object");
  }
  if (look.has_error() || look.type == "error" || look.type == "response.failed") {
    const std::string_view error = look.has_error() ? look.error : payload;
    return fail(FailureClass::kTransient, "the upstream failed: " + words_of(error));
  }
  begun_ = true;
  output_bytes_ += look.output_bytes;
  finished_ = finished_ || look.finish;
  if (pairs_usage()) {
    if (!look.usage.starts_with('{')) return Fate::kPass;
    usage_ = read_usage(look.usage);
    if (look.choices.find('{') == std::string_view::npos) {
      end_ = payload;
      finished_ = true;
      return Fate::kDrop;
    }
    // Some servers tell usage with what they answer: the client gets it once, at the end.
    if (event.find(payload) == std::string_view::npos) return Fate::kPass;
    instead.append(event.substr(0, event.find(payload)))
        .append(payload.substr(0, look.usage_at))
        .append("null")
        .append(payload.substr(look.usage_at + look.usage.size()))
        .append(event.substr(event.find(payload) + payload.size()));
    return Fate::kReplace;
  }
  if (std::ranges::find(kLastEvents, look.type) == kLastEvents.end()) return Fate::kPass;
  finished_ = true;
  std::string_view usage = look.usage;
  if (!look.response.empty()) {
    const auto response = json_members(look.response);
    const JsonMember* inner = response ? find_member(*response, "usage") : nullptr;
    if (inner != nullptr) usage = inner->value;
  }
  if (usage.starts_with('{')) {
    // Of several pictures each has its own.
    WireUsage told = read_usage(usage);
    if (!usage_) usage_.emplace();
    for (auto& [meter, amount] : told) {
      const auto known = std::ranges::find(*usage_, meter, &WireUsage::value_type::first);
      if (known == usage_->end()) {
        usage_->emplace_back(std::move(meter), amount);
      } else {
        known->second += amount;
      }
    }
  }
  // The very last waits for the charge; one before it does not.
  instead = std::exchange(end_, std::string(event));
  return Fate::kReplace;
}

StreamFilter::State StreamFilter::finish() {
  if (state_ != State::kOpen) return state_;
  if (finished_) return state_ = State::kEnded;
  fail(FailureClass::kTransient, begun_ ? "the upstream broke off before its answer was whole"
                                        : "the upstream ended without an answer");
  return state_;
}

}  // namespace turnpike::provider
