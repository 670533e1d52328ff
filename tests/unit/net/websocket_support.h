// WebSocket frames as a client writes and reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace turnpike::net::test {

// A masked frame; `first` is its first byte: FIN and opcode, or anything.
inline std::string masked(int first, std::string_view payload) {
  std::string frame(1, static_cast<char>(first));
  const std::size_t size = payload.size();
  if (size < 126) {
    frame.push_back(static_cast<char>(0x80 | size));
  } else {
    const int bytes = size <= 0xffff ? 2 : 8;
    frame.push_back(static_cast<char>(bytes == 2 ? 0xfe : 0xff));
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
      frame.push_back(static_cast<char>(size >> shift));
  }
  const std::string mask{'\x12', '\x34', '\x56', '\x78'};
  frame += mask;
  for (std::size_t i = 0; i < size; ++i) frame.push_back(static_cast<char>(payload[i] ^ mask[i % 4]));
  return frame;
}

}  // namespace turnpike::net::test
