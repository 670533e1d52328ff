// Bytes read and not yet used, in one bounded block that is given back when it is empty and large. Inside net
// only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace turnpike::net {

class ReadBuffer {
 public:
  static constexpr std::size_t kBytesIdle = 2048;  // what an idle connection keeps

  explicit ReadBuffer(std::size_t bytes_max) : bytes_max_(std::max(bytes_max, kBytesIdle)) {}

  std::string_view bytes() const { return {block_.get() + begin_, end_ - begin_}; }
  bool empty() const { return begin_ == end_; }
  bool full() const { return end_ - begin_ == bytes_max_; }
  void consume(std::size_t count) {
    begin_ += count;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  void added(std::size_t count) { end_ += count; }
  // Where to read to; empty only if full(). Doubles the block when what is in it fills it.
  std::span<char> room() {
    if (full()) return {};
    if (capacity_ == 0) resize(kBytesIdle);
    if (end_ == capacity_ && begin_ > 0) resize(capacity_);
    if (end_ == capacity_) resize(std::min(capacity_ * 2, bytes_max_));
    return {block_.get() + end_, capacity_ - end_};
  }
  // Between requests: gives back what an idle connection does not need.
  void relax() {
    if (empty() && capacity_ > kBytesIdle) release();
  }
  void release() {
    if (!empty()) return;
    block_.reset();
    capacity_ = 0;
  }

 private:
  // Moves what is there to the front of a block of `capacity`.
  void resize(std::size_t capacity) {
    const std::string_view old = bytes();
    if (capacity == capacity_) {
      std::memmove(block_.get(), old.data(), old.size());
    } else {
      auto block = std::make_unique_for_overwrite<char[]>(capacity);
      if (!old.empty()) std::memcpy(block.get(), old.data(), old.size());
      block_ = std::move(block);
      capacity_ = capacity;
    }
    end_ = old.size();
    begin_ = 0;
  }

  std::size_t bytes_max_;
  std::unique_ptr<char[]> block_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace turnpike::net
