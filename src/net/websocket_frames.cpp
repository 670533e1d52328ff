#include "net/websocket_frames.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "net/text.h"

namespace turnpike::net {
namespace {

constexpr std::uint8_t kFin = 0x80;
constexpr std::uint8_t kReserved = 0x70;
constexpr std::uint8_t kMasked = 0x80;
constexpr std::uint8_t kLength16 = 126;
constexpr std::uint8_t kLength64 = 127;
constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455, 1.3

bool is_control(Opcode opcode) {
  return static_cast<std::uint8_t>(opcode) >= 0x8;
}

bool is_known(std::uint8_t opcode) {
  return opcode <= 0x2 || (opcode >= 0x8 && opcode <= 0xa);
}

// Codes that may stand in a close frame (RFC 6455, 7.4; 1012 to 1014 by IANA's registry).
bool may_be_sent(std::uint16_t code) {
  const bool defined = code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
  return defined || (code >= 3000 && code <= 4999);
}

std::uint64_t big_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char byte : bytes) value = (value << 8) | static_cast<unsigned char>(byte);
  return value;
}

void append_big_endian(std::string& out, std::uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

// At most `bytes_max` of `text`, without cutting a character.
std::string_view cut_text(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  std::size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

}  // namespace

void append_frame(std::string& out, Opcode opcode, std::string_view payload) {
  out.push_back(static_cast<char>(kFin | static_cast<std::uint8_t>(opcode)));
  if (payload.size() < kLength16) {
    out.push_back(static_cast<char>(payload.size()));
  } else if (payload.size() <= 0xffff) {
    out.push_back(static_cast<char>(kLength16));
    append_big_endian(out, payload.size(), 2);
  } else {
    out.push_back(static_cast<char>(kLength64));
    append_big_endian(out, payload.size(), 8);
  }
  out.append(payload);
}

std::string close_payload(CloseCode code, std::string_view reason) {
  std::string payload;
  append_big_endian(payload, static_cast<std::uint16_t>(code), 2);
  payload.append(cut_text(reason, WebSocket::kReasonBytesMax));
  return payload;
}

std::string accept_key(std::string_view client_key) {
  const std::string joined = std::string(client_key).append(kGuid);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  CHECK(EVP_Digest(joined.data(), joined.size(), digest.data(), &size, EVP_sha1(), nullptr) == 1);
  std::string encoded(4 * ((size + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()), digest.data(),
                                     static_cast<int>(size));
  encoded.resize(static_cast<std::size_t>(length));
  return encoded;
}

std::string FrameReader::payload() {
  return std::exchange(state_ == State::kText ? text_ : control_, {});
}

void FrameReader::fail(CloseCode code, std::string reason) {
  state_ = State::kFailed;
  failure_ = {.code = code, .reason = std::move(reason)};
}

std::size_t FrameReader::feed(std::string_view bytes) {
  if (state_ == State::kClose || state_ == State::kFailed) return 0;
  state_ = State::kMore;
  std::size_t taken = 0;
  while (state_ == State::kMore) {
    if (!in_frame_) {
      const std::size_t head = read_head(bytes.substr(taken));
      if (head == 0) return taken;
      taken += head;
    }
    const auto here = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size() - taken));
    take_payload(bytes.substr(taken, here));
    taken += here;
    if (left_ > 0) return taken;
    end_frame();
  }
  return taken;
}

std::size_t FrameReader::read_head(std::string_view bytes) {
  if (bytes.size() < 2) return 0;
  const auto first = static_cast<std::uint8_t>(bytes[0]);
  const auto second = static_cast<std::uint8_t>(bytes[1]);
  if ((second & kMasked) == 0) {
    fail(CloseCode::kProtocolError, "a client's frames must be masked");
    return 0;
  }
  const std::uint8_t short_length = second & static_cast<std::uint8_t>(~kMasked);
  const std::size_t extra = short_length == kLength64 ? 8 : short_length == kLength16 ? 2 : 0;
  const std::size_t size = 2 + extra + mask_.size();
  if (bytes.size() < size) return 0;
  const std::uint64_t length = extra == 0 ? short_length : big_endian(bytes.substr(2, extra));
  if ((extra == 2 && length < kLength16) || (extra == 8 && length <= 0xffff)) {
    fail(CloseCode::kProtocolError, "a length is written longer than it need be");
    return 0;
  }
  if (!begin_frame(first, length)) return 0;
  for (std::size_t i = 0; i < mask_.size(); ++i) mask_[i] = static_cast<unsigned char>(bytes[2 + extra + i]);
  return size;
}

bool FrameReader::begin_frame(std::uint8_t first, std::uint64_t length) {
  const auto refuse = [this](CloseCode code, std::string reason) {
    fail(code, std::move(reason));
    return false;
  };
  if ((first & kReserved) != 0) return refuse(CloseCode::kProtocolError, "a reserved bit is set");
  const std::uint8_t number = first & 0x0f;
  if (!is_known(number)) return refuse(CloseCode::kProtocolError, "an unknown opcode");
  const auto opcode = static_cast<Opcode>(number);
  const bool last = (first & kFin) != 0;
  if (is_control(opcode)) {
    if (!last) return refuse(CloseCode::kProtocolError, "a control frame in fragments");
    if (length > kControlBytesMax) return refuse(CloseCode::kProtocolError, "a control frame is too long");
    control_.clear();
  } else {
    if (opcode == Opcode::kBinary) return refuse(CloseCode::kUnsupported, "send texts, not binary messages");
    if (opcode == Opcode::kContinuation && fragments_ == 0)
      return refuse(CloseCode::kProtocolError, "a fragment of nothing");
    if (opcode == Opcode::kText && fragments_ > 0)
      return refuse(CloseCode::kProtocolError, "a text within the fragments of another");
    if (length > message_bytes_max_ - text_.size()) {
      return refuse(CloseCode::kTooBig,
                    "a message has at most " + std::to_string(message_bytes_max_) + " bytes");
    }
    if (++fragments_ > kFragmentsMax) return refuse(CloseCode::kPolicy, "a text in too many fragments");
  }
  opcode_ = opcode;
  last_fragment_ = last;
  masked_ = 0;
  left_ = length;
  in_frame_ = true;
  return true;
}

void FrameReader::take_payload(std::string_view bytes) {
  std::string& out = is_control(opcode_) ? control_ : text_;
  const std::size_t begin = out.size();
  out.append(bytes);
  for (std::size_t i = begin; i < out.size(); ++i, ++masked_) {
    out[i] = static_cast<char>(static_cast<unsigned char>(out[i]) ^ mask_[masked_ % mask_.size()]);
  }
  left_ -= bytes.size();
}

void FrameReader::end_frame() {
  in_frame_ = false;
  switch (opcode_) {
    case Opcode::kPing:
      state_ = State::kPing;
      return;
    case Opcode::kPong:
      state_ = State::kPong;
      return;
    case Opcode::kClose:
      return end_close();
    case Opcode::kContinuation:
    case Opcode::kText:
    case Opcode::kBinary:
      break;
  }
  if (!last_fragment_) return;
  fragments_ = 0;
  if (!is_utf8(text_)) return fail(CloseCode::kBadText, "a text is not valid UTF-8");
  state_ = State::kText;
}

void FrameReader::end_close() {
  if (control_.size() == 1) return fail(CloseCode::kProtocolError, "a close frame with half a code");
  if (control_.size() >= 2) {
    const auto code = static_cast<std::uint16_t>(big_endian(std::string_view(control_).substr(0, 2)));
    if (!may_be_sent(code)) return fail(CloseCode::kProtocolError, "a close code that may not be sent");
    if (!is_utf8(std::string_view(control_).substr(2)))
      return fail(CloseCode::kBadText, "a close reason is not valid UTF-8");
    peer_code_ = code;
  }
  state_ = State::kClose;
}

}  // namespace turnpike::net
