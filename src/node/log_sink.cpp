#include "node/log_sink.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "base/time.h"
#include "node/log.h"

namespace turnpike::node {

// The process's signals are for the thread that waits for them.
GatheringSink::GatheringSink(int descriptor) : descriptor_(descriptor) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  writer_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

GatheringSink::~GatheringSink() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  more_.notify_one();
  writer_.join();
}

void GatheringSink::sink_it_(const spdlog::details::log_msg& message) {
  const bool first = waiting_.empty();
  if (waiting_.size() + message.payload.size() + 1 > kWaitingBytesMax) {
    ++dropped_;
    return;
  }
  waiting_.append(message.payload.data(), message.payload.size());
  waiting_ += '\n';
  if (first) more_.notify_one();
}

void GatheringSink::flush_() {
  const std::scoped_lock writing(writing_);
  write_out(take());
}

std::string GatheringSink::take() {
  std::string text = std::exchange(waiting_, std::string());
  if (dropped_ > 0) {
    text += log_line(unix_micros(SystemClock{}.now().wall), LogLevel::kWarn, "log.dropped",
                     {{"lines", std::exchange(dropped_, 0)}});
    text += '\n';
  }
  return text;
}

void GatheringSink::run() {
  std::unique_lock lock(mutex_);
  for (bool last = false; !last;) {
    more_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    more_.wait_for(lock, kGatherTime, [this] { return stopping_; });
    last = stopping_;
    std::string text = take();
    std::unique_lock writing(writing_);
    lock.unlock();
    write_out(text);
    writing.unlock();
    lock.lock();
  }
}

// What standard error does not take is lost: there is nowhere else to say so.
void GatheringSink::write_out(const std::string& text) const {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t count = ::write(descriptor_, text.data() + at, text.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    at += static_cast<std::size_t>(count);
  }
}

}  // namespace turnpike::node
