// Server-sent events of OpenAI's wire on their way to a client: passed on byte by byte as they came, but for
// what its client gets only once the charge is durable (usage, the last event, [DONE]). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/policy.h"
#include "provider/provider.h"

namespace turnpike::provider {

using WireUsage = std::vector<std::pair<std::string, std::int64_t>>;

// The meters of a `usage` object as OpenAI's operations write it; what it does not name is not there, and a
// zero that it names is.
WireUsage read_usage(std::string_view usage);

class StreamFilter {
 public:
  static constexpr std::size_t kEventBytesMax = 1ULL << 20U;  // of text
  static constexpr std::size_t kPictureEventBytesMax = 32ULL
                                                       << 20U;  // of operations whose events bear pictures
  static constexpr std::int64_t kBytesPerToken = 4;  // of output, where the upstream has not counted yet

  enum class State : std::uint8_t {
    kOpen,
    kEnded,   // as the wire ends: nothing more is to come
    kFailed,  // see fault()
  };
  struct Fault {
    policy::FailureClass failure{};
    std::string message;
  };

  explicit StreamFilter(Wire kind);

  // Takes what came and gives what the client gets of it: whole events, none of which waits for the next.
  std::string feed(std::string bytes);
  // The upstream has ended. kEnded if it had come to its end by then, else kFailed.
  State finish();

  State state() const { return state_; }
  const Fault& fault() const { return fault_; }
  bool begun() const { return begun_; }  // an event with an answer has come
  const std::optional<WireUsage>& usage() const { return usage_; }
  // Success::stream_end.
  std::string take_end() { return std::move(end_); }
  // An estimate until usage has come.
  std::int64_t output_tokens() const { return output_bytes_ / kBytesPerToken + 1; }

 private:
  struct Look;
  // What becomes of an event.
  enum class Fate : std::uint8_t { kPass, kDrop, kReplace };

  std::size_t event_end(std::size_t from);
  Fate event(std::string_view event, std::string& instead);
  Fate chunk(std::string_view event, std::string_view payload, std::string& instead);
  Fate fail(policy::FailureClass failure, std::string message);
  bool pairs_usage() const { return kind_ == Wire::kChat || kind_ == Wire::kCompletions; }

  const Wire kind_;
  const std::size_t event_bytes_max_;
  State state_ = State::kOpen;
  Fault fault_;
  std::string pending_;      // of an event that has not ended
  std::size_t scanned_ = 0;  // so far no event ends in it
  bool begun_ = false;
  bool finished_ = false;  // the answer has said that it is whole
  std::optional<WireUsage> usage_;
  std::string end_;
  std::int64_t output_bytes_ = 0;
};

}  // namespace turnpike::provider
