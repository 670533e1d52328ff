// The WebSocket protocol, frame by frame.
#include "net/websocket_frames.h"

#include <gtest/gtest.h>

#include "unit/net/websocket_support.h"

namespace turnpike::net::test {
namespace {

using State = FrameReader::State;

constexpr std::size_t kMessageMax = 1000;

// What a reader makes of bytes, as one line for each thing that was whole: "text:…", "ping:…", "pong",
// "close:CODE", "failed:CODE".
std::vector<std::string> read_all(FrameReader& reader, std::string_view bytes,
                                  std::size_t at_once = 1 << 20) {
  std::vector<std::string> found;
  std::string waiting;
  while (!bytes.empty()) {
    const std::size_t here = std::min(at_once, bytes.size());
    waiting.append(bytes.substr(0, here));
    bytes.remove_prefix(here);
    for (bool more = true; more;) {
      waiting.erase(0, reader.feed(waiting));
      switch (reader.state()) {
        case State::kMore:
          more = false;
          break;
        case State::kText:
          found.push_back("text:" + reader.payload());
          break;
        case State::kPing:
          found.push_back("ping:" + reader.payload());
          break;
        case State::kPong:
          found.emplace_back("pong");
          break;
        case State::kClose:
          found.push_back("close:" + std::to_string(reader.peer_code().value_or(0)));
          return found;
        case State::kFailed:
          found.push_back("failed:" + std::to_string(static_cast<int>(reader.failure().code)));
          return found;
      }
    }
    EXPECT_LT(waiting.size(), FrameReader::kHeadBytesMax);
  }
  return found;
}

std::vector<std::string> read(std::string_view bytes) {
  FrameReader reader(kMessageMax);
  return read_all(reader, bytes);
}

using Lines = std::vector<std::string>;

TEST(FrameReader, ReadsTextsOneAfterTheOther) {
  EXPECT_EQ(read(masked(0x81, "one") + masked(0x81, "") + masked(0x81, "grüße")),
            (Lines{"text:one", "text:", "text:grüße"}));
}

TEST(FrameReader, ReadsTheSameHoweverTheBytesAreCut) {
  const std::string bytes = masked(0x01, "fir") + masked(0x89, "are you there") + masked(0x00, "s") +
                            masked(0x80, "t") + masked(0x81, std::string(300, 'x')) + masked(0x8a, "") +
                            masked(0x88, std::string("\x03\xe9", 2));
  const Lines expected{"ping:are you there", "text:first", "text:" + std::string(300, 'x'), "pong",
                       "close:1001"};
  for (const std::size_t at_once : {1, 2, 3, 7, 64, 100'000}) {
    FrameReader reader(kMessageMax);
    EXPECT_EQ(read_all(reader, bytes, at_once), expected) << at_once << " at once";
  }
}

TEST(FrameReader, ControlFramesComeBetweenFragments) {
  EXPECT_EQ(read(masked(0x01, "a") + masked(0x89, "1") + masked(0x8a, "2") + masked(0x80, "b")),
            (Lines{"ping:1", "pong", "text:ab"}));
}

TEST(FrameReader, APongThatNobodyTookIsForgotten) {
  EXPECT_EQ(read(masked(0x8a, "old") + masked(0x89, "new")), (Lines{"pong", "ping:new"}));
}

TEST(FrameReader, RefusesWhatIsNotMasked) {
  EXPECT_EQ(read(std::string("\x81\x02hi", 4)), (Lines{"failed:1002"}));
}

TEST(FrameReader, RefusesReservedBitsAndUnknownOpcodes) {
  for (const int first : {0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f})
    EXPECT_EQ(read(masked(first, "x")), (Lines{"failed:1002"})) << first;
}

TEST(FrameReader, RefusesBinaryMessages) {
  EXPECT_EQ(read(masked(0x82, "x")), (Lines{"failed:1003"}));
}

TEST(FrameReader, RefusesFragmentsOutOfPlace) {
  EXPECT_EQ(read(masked(0x80, "x")), (Lines{"failed:1002"})) << "of nothing";
  EXPECT_EQ(read(masked(0x01, "x") + masked(0x81, "y")), (Lines{"failed:1002"})) << "a text within another";
  EXPECT_EQ(read(masked(0x81, "x") + masked(0x00, "y")), (Lines{"text:x", "failed:1002"})) << "after the end";
}

TEST(FrameReader, RefusesControlFramesThatAreLongOrInFragments) {
  EXPECT_EQ(read(masked(0x89, std::string(125, 'x'))), (Lines{"ping:" + std::string(125, 'x')}));
  EXPECT_EQ(read(masked(0x89, std::string(126, 'x'))), (Lines{"failed:1002"}));
  EXPECT_EQ(read(masked(0x09, "x")), (Lines{"failed:1002"}));
}

TEST(FrameReader, RefusesLengthsThatAreLongerThanTheyNeedBe) {
  EXPECT_EQ(read(std::string("\x81\xfe\x00\x05\0\0\0\0hello", 13)), (Lines{"failed:1002"}));
  EXPECT_EQ(read(std::string("\x81\xff\0\0\0\0\0\0\x01\x00\0\0\0\0", 14)), (Lines{"failed:1002"}));
}

TEST(FrameReader, RefusesWhatIsTooBigBeforeItHasCome) {
  EXPECT_EQ(read(masked(0x81, std::string(kMessageMax, 'x'))).front().size(), 5 + kMessageMax);
  EXPECT_EQ(read(std::string("\x81\xfe\x03\xe9\0\0\0\0", 8)), (Lines{"failed:1009"}));
  EXPECT_EQ(read(std::string("\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14)), (Lines{"failed:1009"}));
  const std::string half(kMessageMax / 2 + 1, 'x');
  EXPECT_EQ(read(masked(0x01, half) + masked(0x80, half)), (Lines{"failed:1009"})) << "all fragments count";
}

TEST(FrameReader, RefusesATextInFragmentsWithoutEnd) {
  std::string bytes = masked(0x01, "");
  for (std::size_t i = 0; i < FrameReader::kFragmentsMax; ++i) bytes += masked(0x00, "");
  EXPECT_EQ(read(bytes), (Lines{"failed:1008"}));
}

TEST(FrameReader, RefusesTextThatIsNotUtf8) {
  EXPECT_EQ(read(masked(0x81, "\xc3\x28")), (Lines{"failed:1007"}));
  EXPECT_EQ(read(masked(0x81, "\xed\xa0\x80")), (Lines{"failed:1007"})) << "a surrogate";
  EXPECT_EQ(read(masked(0x01, "\xc3") + masked(0x80, "\xbc")), (Lines{"text:\xc3\xbc"}))
      << "cut within a character";
}

TEST(FrameReader, ReadsHowThePeerCloses) {
  EXPECT_EQ(read(masked(0x88, "")), (Lines{"close:0"}));
  EXPECT_EQ(read(masked(0x88, std::string("\x03\xe8", 2) + "bye")), (Lines{"close:1000"}));
  EXPECT_EQ(read(masked(0x88, std::string("\x0f\xa0", 2))), (Lines{"close:4000"}));
  EXPECT_EQ(read(masked(0x88, "\x03")), (Lines{"failed:1002"})) << "half a code";
  for (const int code : {0, 999, 1004, 1005, 1006, 1015, 2000, 2999, 5000}) {
    const std::string payload{static_cast<char>(code >> 8), static_cast<char>(code)};
    EXPECT_EQ(read(masked(0x88, payload)), (Lines{"failed:1002"})) << code;
  }
  EXPECT_EQ(read(masked(0x88, std::string("\x03\xe8", 2) + "\xff")), (Lines{"failed:1007"}));
}

TEST(FrameReader, TakesNothingAfterTheEnd) {
  FrameReader reader(kMessageMax);
  EXPECT_EQ(read_all(reader, masked(0x88, "")), (Lines{"close:0"}));
  EXPECT_EQ(reader.feed(masked(0x81, "more")), 0U);
}

TEST(AppendFrame, WritesTheShortestLength) {
  const auto head = [](std::size_t size) {
    std::string out;
    append_frame(out, Opcode::kText, std::string(size, 'x'));
    EXPECT_EQ(out.size() - size, size < 126 ? 2U : size <= 0xffff ? 4U : 10U);
    return out.substr(0, out.size() - size);
  };
  EXPECT_EQ(head(0), std::string("\x81\0", 2));
  EXPECT_EQ(head(125), "\x81\x7d");
  EXPECT_EQ(head(126), std::string("\x81\x7e\0\x7e", 4));
  EXPECT_EQ(head(65'535), "\x81\x7e\xff\xff");
  EXPECT_EQ(head(65'536), std::string("\x81\x7f\0\0\0\0\0\x01\0\0", 10));
}

TEST(ClosePayload, CutsALongReasonBetweenCharacters) {
  EXPECT_EQ(close_payload(CloseCode::kGoingAway, "bye"),
            "\x03\xe9"
            "bye");
  std::string reason(122, 'x');
  reason += "ü";
  EXPECT_EQ(close_payload(CloseCode::kNormal, reason).size(), 2U + 122U);
  EXPECT_EQ(close_payload(CloseCode::kNormal, std::string(200, 'x')).size(), FrameReader::kControlBytesMax);
}

TEST(AcceptKey, IsThatOfTheStandard) {
  EXPECT_EQ(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");  // RFC 6455, 1.3
}

}  // namespace
}  // namespace turnpike::net::test
