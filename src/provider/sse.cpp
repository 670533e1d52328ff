#include "provider/sse.h"

#include <algorithm>
#include <utility>

namespace turnpike::provider {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kLineEnds = "\r\n";

}  // namespace

std::vector<SseEvent> SseParser::feed(std::string_view bytes) {
  std::vector<SseEvent> events;
  while (!bytes.empty() && !failed_) {
    if (std::exchange(after_cr_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const std::size_t end = std::min(bytes.find_first_of(kLineEnds), bytes.size());
    if (line_.size() + name_.size() + data_.size() + end > event_bytes_max_) {
      failed_ = true;
      break;
    }
    line_ += bytes.substr(0, end);
    if (end == bytes.size()) break;
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    end_line(events);
  }
  return events;
}

void SseParser::end_line(std::vector<SseEvent>& events) {
  const std::string whole = std::exchange(line_, {});
  std::string_view line{whole};
  if (std::exchange(first_line_, false) && line.starts_with(kByteOrderMark))
    line.remove_prefix(kByteOrderMark.size());
  if (line.empty()) return dispatch(events);
  const std::size_t colon = std::min(line.find(':'), line.size());
  if (colon == 0) return;  // a comment: keeps the connection alive
  std::string_view value = line.substr(std::min(colon + 1, line.size()));
  if (value.starts_with(' ')) value.remove_prefix(1);
  take_field(line.substr(0, colon), value);
}

void SseParser::take_field(std::string_view name, std::string_view value) {
  if (name == "data") {
    has_data_ = true;
    data_ += value;
    data_ += '\n';
  } else if (name == "event") {
    name_ = value;
  } else if (name == "id" && !value.contains('\0')) {
    id_ = value;
  }
}

void SseParser::dispatch(std::vector<SseEvent>& events) {
  SseEvent event{.name = std::exchange(name_, {}), .data = std::exchange(data_, {}), .id = id_};
  if (!std::exchange(has_data_, false)) return;
  event.data.pop_back();
  if (event.name.empty()) event.name = "message";
  events.push_back(std::move(event));
}

}  // namespace turnpike::provider
