#include "net/text.h"

#include <gtest/gtest.h>

#include "net/client_address.h"
#include "net/http.h"
#include "net/read_buffer.h"

namespace turnpike::net {
namespace {

TEST(Target, DecodesPathAndQueryInOrder) {
  const auto target = parse_target("/a%20b/%C3%A9?x=1&y=a+b%26&x=2&flag&&=v");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->path, "/a b/é");
  const std::vector<std::pair<std::string, std::string>> query{
      {"x", "1"}, {"y", "a b&"}, {"x", "2"}, {"flag", ""}, {"", "v"}};
  EXPECT_EQ(target->query, query);
}

TEST(Target, KeepsPlusInThePath) {
  EXPECT_EQ(parse_target("/a+b")->path, "/a+b");
}

TEST(Target, TakesTheAbsoluteForm) {
  EXPECT_EQ(parse_target("http://example.com/x?y=1")->path, "/x");
  EXPECT_EQ(parse_target("http://example.com")->path, "/");
}

TEST(Target, RefusesWhatIsNotAPath) {
  for (const auto* bad : {"*", "example.com:443", "", "ftp://x/y"}) EXPECT_FALSE(parse_target(bad)) << bad;
}

TEST(Target, RefusesBadEscapes) {
  for (const auto* bad : {"/%", "/%4", "/%zz", "/a?x=%1", "/a?%g0=1"}) EXPECT_FALSE(parse_target(bad)) << bad;
}

TEST(Target, RefusesNulAnywhere) {
  EXPECT_FALSE(parse_target("/a%00b"));
  EXPECT_FALSE(parse_target("/a?x=%00"));
}

TEST(Target, RefusesClimbingHoweverItIsWritten) {
  for (const auto* bad : {"/..", "/a/../b", "/a/%2e%2E/b", "/a%2f..%2fb", "/a/.."})
    EXPECT_FALSE(parse_target(bad)) << bad;
  for (const auto* good : {"/...", "/a..b", "/..a", "/a/b..", "/"}) EXPECT_TRUE(parse_target(good)) << good;
}

TEST(Target, RefusesInvalidUtf8) {
  for (const auto* bad : {"/%ff", "/%c0%af", "/%ed%a0%80", "/%f5%80%80%80", "/%e2%82", "/a?x=%80"}) {
    EXPECT_FALSE(parse_target(bad)) << bad;
  }
}

TEST(Utf8, TakesEveryLengthAndRefusesLongForms) {
  EXPECT_TRUE(is_utf8("aé€𝄞\xF4\x8F\xBF\xBF"));
  for (const auto* bad :
       {"\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xE2\x82"}) {
    EXPECT_FALSE(is_utf8(bad));
  }
}

TEST(Fields, ATokenHasNoSeparators) {
  EXPECT_TRUE(is_token("x-request-id"));
  for (const auto* bad : {"", "a b", "a:", "a\r", "é"}) EXPECT_FALSE(is_token(bad)) << bad;
}

TEST(Fields, AValueCannotEndItsLine) {
  EXPECT_TRUE(is_field_value("a, b; c=\"d\""));
  EXPECT_FALSE(is_field_value("a\r\nset-cookie: x"));
  EXPECT_FALSE(is_field_value(std::string_view("a\0b", 3)));
}

TEST(Headers, AreFoundWhateverTheirCase) {
  const Headers headers{{"Content-Type", "a"}, {"content-type", "b"}};
  ASSERT_NE(find_header(headers, "CONTENT-TYPE"), nullptr);
  EXPECT_EQ(*find_header(headers, "CONTENT-TYPE"), "a");
  EXPECT_EQ(find_header(headers, "Accept"), nullptr);
}

TEST(HttpDate, IsWrittenAsHttpWantsIt) {
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
}

TEST(ReadBuffer, GrowsToItsBoundAndGivesBackWhatIsLarge) {
  ReadBuffer buffer(16 * 1024);
  std::size_t total = 0;
  while (!buffer.full()) {
    const auto room = buffer.room();
    ASSERT_FALSE(room.empty());
    std::fill(room.begin(), room.end(), static_cast<char>('a' + total / 4096));
    buffer.added(room.size());
    total += room.size();
  }
  EXPECT_EQ(total, 16 * 1024);
  EXPECT_TRUE(buffer.room().empty());
  EXPECT_EQ(buffer.bytes()[0], 'a');
  EXPECT_EQ(buffer.bytes()[total - 1], 'c');  // written when 8 KiB were there
  buffer.consume(total);
  buffer.relax();
  EXPECT_EQ(buffer.room().size(), ReadBuffer::kBytesIdle);
}

TEST(ReadBuffer, MovesWhatIsLeftToTheFrontBeforeItGrows) {
  ReadBuffer buffer(16 * 1024);
  buffer.added(buffer.room().size());
  buffer.consume(2000);
  EXPECT_EQ(buffer.room().size(), 2000);
  EXPECT_EQ(buffer.bytes().size(), ReadBuffer::kBytesIdle - 2000);
}

TEST(ClientAddress, NamesHostPortAndTarget) {
  const auto plain = parse_client_url("http://localhost:11434/v1/models?x=1#y");
  ASSERT_TRUE(plain);
  EXPECT_FALSE(plain->tls);
  EXPECT_EQ(plain->host, "localhost");
  EXPECT_EQ(plain->port, 11434);
  EXPECT_EQ(plain->host_header, "localhost:11434");
  EXPECT_EQ(plain->target, "/v1/models?x=1");

  const auto secure = parse_client_url("https://api.example.com");
  ASSERT_TRUE(secure);
  EXPECT_TRUE(secure->tls);
  EXPECT_EQ(secure->port, 443);
  EXPECT_EQ(secure->host_header, "api.example.com");
  EXPECT_EQ(secure->target, "/");

  const auto v6 = parse_client_url("http://[::1]:8080/");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->host_header, "[::1]:8080");
}

TEST(ClientAddress, NamesAUnixSocketAndItsTarget) {
  const auto address = parse_client_url("unix:/run/x.sock:/v1/y?z=1");
  ASSERT_TRUE(address);
  EXPECT_EQ(address->unix_path, "/run/x.sock");
  EXPECT_EQ(address->target, "/v1/y?z=1");
  EXPECT_EQ(address->name(), "unix:/run/x.sock");
}

TEST(ClientAddress, RefusesWhatItCannotReach) {
  for (const auto* bad : {"", "localhost", "ftp://x/", "http://", "http://x:99999/", "http://u:p@x/",
                          "unix:/run/x.sock", "unix:x:/y", "http://x/a b", "http://x/\r\ny"}) {
    EXPECT_FALSE(parse_client_url(bad)) << bad;
  }
}

}  // namespace
}  // namespace turnpike::net
