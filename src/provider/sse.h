// Server-sent events as an upstream writes them: bytes in, whole events out. Source: the WHATWG HTML
// standard, section 9.2.6 (interpreting an event stream). `retry` is passed over: who reconnects is not
// decided here.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace turnpike::provider {

struct SseEvent {
  std::string name;  // of `event:`; "message" where the stream names none
  std::string data;  // lines joined by \n; may be empty
  std::string id;    // the last that the stream gave, of an earlier event perhaps
  friend bool operator==(const SseEvent&, const SseEvent&) = default;
};

// For one stream. Not thread-safe.
class SseParser {
 public:
  // Of one event, and of one line (a comment's, too): more than any chunk of a model, and a bound on what a
  // broken upstream can make us keep.
  static constexpr std::size_t kEventBytesMax = 4U << 20U;

  explicit SseParser(std::size_t event_bytes_max = kEventBytesMax) : event_bytes_max_(event_bytes_max) {}

  // The events that these bytes complete, in order; wherever a stream is split, it gives the same ones. An
  // event that the stream does not end with an empty line is none.
  std::vector<SseEvent> feed(std::string_view bytes);

  // True once an event was larger than may be: from there on nothing more is read.
  bool failed() const { return failed_; }

 private:
  void end_line(std::vector<SseEvent>& events);
  void take_field(std::string_view name, std::string_view value);
  void dispatch(std::vector<SseEvent>& events);

  const std::size_t event_bytes_max_;
  std::string line_;
  std::string name_;
  std::string data_;  // each line with a \n behind it
  std::string id_;
  bool has_data_ = false;
  bool first_line_ = true;  // may begin with a byte order mark
  bool after_cr_ = false;   // a \n that comes now belongs to it
  bool failed_ = false;
};

}  // namespace turnpike::provider
