// Where the lines of the log wait to be written: whoever logs gathers, and one thread writes what has
// gathered, so that no request waits for a slow standard error. Bounded: what does not fit is dropped,
// counted, and said in the log as soon as there is room.
#pragma once

#include <spdlog/sinks/base_sink.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

namespace turnpike::node {

class GatheringSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  static constexpr std::size_t kWaitingBytesMax = 4ULL << 20;
  static constexpr std::chrono::milliseconds kGatherTime{20};  // how long a line may wait for others

  explicit GatheringSink(int descriptor);
  ~GatheringSink() override;  // writes what is left

 private:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override;  // returns once everything before it is written

  void run();
  std::string take();  // under base_sink's mutex_
  void write_out(const std::string& text) const;

  const int descriptor_;
  std::condition_variable more_;
  // Guarded by base_sink's mutex_:
  std::string waiting_;
  std::uint64_t dropped_ = 0;  // lines, since the last that was said
  bool stopping_ = false;
  std::mutex writing_;  // taken while mutex_ is held, never the other way round
  std::thread writer_;
};

}  // namespace turnpike::node
