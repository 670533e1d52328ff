// WebSocket frames (RFC 6455, 5) out of bytes and into bytes. No I/O. Inside net only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/websocket.h"

namespace turnpike::net {

enum class Opcode : std::uint8_t {
  kContinuation = 0x0,
  kText = 0x1,
  kBinary = 0x2,
  kClose = 0x8,
  kPing = 0x9,
  kPong = 0xa,
};

// Adds one whole frame as a server sends it: unmasked.
void append_frame(std::string& out, Opcode opcode, std::string_view payload);
// The payload of a close frame; `reason` is cut to what fits.
std::string close_payload(CloseCode code, std::string_view reason);

// What a client's key must be answered with (RFC 6455, 4.2.2).
std::string accept_key(std::string_view client_key);

// A client's frames, one after the other. Texts are put together from their fragments; control frames may
// come between these.
class FrameReader {
 public:
  enum class State : std::uint8_t {
    kMore,    // nothing is whole yet
    kText,    // payload() is a whole text, and valid UTF-8
    kPing,    // payload() is what to send back
    kPong,    //
    kClose,   // the peer closes; peer_code() says why
    kFailed,  // the peer broke the rules: close with failure()
  };
  struct Failure {
    CloseCode code{};
    std::string reason;
  };

  static constexpr std::size_t kControlBytesMax = 125;
  static constexpr std::size_t kHeadBytesMax = 14;
  // A text in so many fragments and still no end is no text.
  static constexpr std::size_t kFragmentsMax = 1'000;

  explicit FrameReader(std::size_t message_bytes_max) : message_bytes_max_(message_bytes_max) {}

  // Takes what it can of `bytes` and returns how much that was. What is left, with kMore less than
  // kHeadBytesMax, must be there again in front of what follows. After kClose and kFailed it takes nothing.
  std::size_t feed(std::string_view bytes);
  State state() const { return state_; }
  // Of kText, kPing and kPong; moves it out.
  std::string payload();
  std::optional<std::uint16_t> peer_code() const { return peer_code_; }  // of kClose; nothing: none was given
  const Failure& failure() const { return failure_; }

 private:
  std::size_t read_head(std::string_view bytes);  // 0: more is needed, or it failed
  bool begin_frame(std::uint8_t first, std::uint64_t length);
  void take_payload(std::string_view bytes);
  void end_frame();
  void end_close();
  void fail(CloseCode code, std::string reason);

  const std::size_t message_bytes_max_;
  State state_ = State::kMore;
  Failure failure_;
  std::optional<std::uint16_t> peer_code_;

  // Of the frame under way:
  bool in_frame_ = false;
  bool last_fragment_ = false;
  Opcode opcode_ = Opcode::kText;
  std::array<unsigned char, 4> mask_{};
  std::size_t masked_ = 0;  // bytes of the payload taken so far
  std::uint64_t left_ = 0;  // and still to come

  std::string text_;  // of the message under way
  std::size_t fragments_ = 0;
  std::string control_;  // payload of a control frame
};

}  // namespace turnpike::net
