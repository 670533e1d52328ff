#include "provider/sse.h"

#include <gtest/gtest.h>

#include <ostream>
#include <random>

namespace turnpike::provider {

void PrintTo(const SseEvent& event, std::ostream* out) {
  *out << event.name << " [" << event.data << "] " << event.id;
}

namespace {

using Events = std::vector<SseEvent>;

Events read(std::string_view stream) {
  SseParser parser;
  return parser.feed(stream);
}

TEST(Sse, ReadsEventsWithNameDataAndId) {
  EXPECT_EQ(read("event: ping\ndata: {}\nid: 7\n\ndata: x\n\n"),
            (Events{{"ping", "{}", "7"}, {"message", "x", "7"}}));
}

TEST(Sse, JoinsLinesOfDataAndTakesOneSpaceAway) {
  EXPECT_EQ(read("data:a\ndata:  b\ndata\ndata: \n\n"), (Events{{"message", "a\n b\n\n", ""}}));
}

TEST(Sse, EveryLineEndEndsALine) {
  EXPECT_EQ(read("data: a\rdata: b\r\ndata: c\n\r\n"), (Events{{"message", "a\nb\nc", ""}}));
  EXPECT_EQ(read("data: a\r\rdata: b\r\n\r\n"), (Events{{"message", "a", ""}, {"message", "b", ""}}));
}

TEST(Sse, PassesOverCommentsUnknownFieldsAndEventsWithoutData) {
  EXPECT_EQ(read(": keep-alive\n\nretry: 10\nwhat: ever\nevent: nothing\n\ndata: x\n\n"),
            (Events{{"message", "x", ""}}));
}

TEST(Sse, EmptyDataIsAnEvent) {
  EXPECT_EQ(read("event: end\ndata:\n\n"), (Events{{"end", "", ""}}));
}

TEST(Sse, AnUnfinishedEventIsNone) {
  EXPECT_EQ(read("data: a\n\ndata: b\n"), (Events{{"message", "a", ""}}));
}

TEST(Sse, ByteOrderMarkIsTakenAwayOnceAndAnIdWithNulIsNone) {
  EXPECT_EQ(read("\xEF\xBB\xBF"
                 "data: a\n\n"),
            (Events{{"message", "a", ""}}));
  EXPECT_EQ(read("data: a\n\n\xEF\xBB\xBF"
                 "data: b\n\n"),
            (Events{{"message", "a", ""}}));
  EXPECT_EQ(read(std::string_view("id: a\0b\ndata: x\n\n", 18)), (Events{{"message", "x", ""}}));
}

TEST(Sse, LargerEventsThanMayBeEndTheStream) {
  for (const char* stream :
       {"data: 0123456789012345\n", "data: 01234567\ndata: 012345\n", ": 0123456789012345"}) {
    SseParser parser{16};
    EXPECT_EQ(parser.feed("data: a\n\n"), (Events{{"message", "a", ""}}));
    EXPECT_EQ(parser.feed(stream), Events{}) << stream;
    EXPECT_TRUE(parser.failed()) << stream;
    EXPECT_EQ(parser.feed("\n\ndata: b\n\n"), Events{});
  }
  SseParser parser{16};
  for (int i = 0; i < 100; ++i) EXPECT_EQ(parser.feed("data: 0123456\n\n").size(), 1U);
  EXPECT_FALSE(parser.failed());
}

// Wherever the network cuts a stream, its events are the same.
TEST(Sse, AnySplitGivesTheSameEvents) {
  constexpr std::array<std::string_view, 12> kPieces = {"data: a", "data", "event: b", "id: c",
                                                        ": d",     "\n",   "\r",       "\r\n",
                                                        "\n\n",    ":",    "data:x",   "\xEF\xBB\xBF"};
  std::mt19937 random{20260601};
  for (int round = 0; round < 2'000; ++round) {
    std::string stream;
    for (int i = 0; i < 30; ++i) stream += kPieces[random() % kPieces.size()];
    const std::size_t most = round % 3 == 0 ? SseParser::kEventBytesMax : 24;
    SseParser whole{most};
    const Events expected = whole.feed(stream);
    SseParser split{most};
    Events events;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t size = 1 + random() % (round % 2 == 0 ? 1 : 7);
      for (SseEvent& event : split.feed(std::string_view{stream}.substr(at, size)))
        events.push_back(std::move(event));
      at += size;
    }
    ASSERT_EQ(events, expected) << stream;
    ASSERT_EQ(split.failed(), whole.failed()) << stream;
  }
}

}  // namespace
}  // namespace turnpike::provider
