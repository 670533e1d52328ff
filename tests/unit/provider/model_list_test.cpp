#include "provider/model_list.h"

#include <gmock/gmock.h>

namespace turnpike::provider {
namespace {

using policy::DiscoveryKind;
using policy::ListKind;
using policy::ListWatch;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

ListWatch watch_of(ListKind list) {
  ListWatch watch;
  watch.list = list;
  watch.url = "https://lists.example.com/v1";
  watch.author = "acme";
  return watch;
}

ListEntry entry(std::string id, std::string name = {}, std::string_view day = {}) {
  return {.id = std::move(id), .name = std::move(name), .released = policy::parse_day(day)};
}

std::string urls_of(const ListWatch& watch, std::string_view key = "sk-secret") {
  std::string urls;
  for (const ListAsk& ask : list_asks(watch, key)) urls += ask.url + " ";
  return urls;
}

std::string header_of(const ListWatch& watch, std::string_view name, std::string_view key = "sk-secret") {
  const std::vector<ListAsk> asks = list_asks(watch, key);
  const std::string* value = net::find_header(asks.front().headers, name);
  return value == nullptr ? "" : *value;
}

TEST(ModelList, AsksAsEachListIsAsked) {
  EXPECT_EQ(urls_of(watch_of(ListKind::kOpenAi)), "https://lists.example.com/v1 ");
  EXPECT_EQ(urls_of(watch_of(ListKind::kAnthropic)), "https://lists.example.com/v1?limit=1000 ");
  EXPECT_EQ(urls_of(watch_of(ListKind::kHuggingFace)),
            "https://lists.example.com/v1?author=acme&sort=createdAt&direction=-1&limit=1000 ");
  EXPECT_EQ(urls_of(watch_of(ListKind::kElevenLabs)),
            "https://lists.example.com/v1/models https://lists.example.com/v1/voices ");
  EXPECT_EQ(list_asks(watch_of(ListKind::kElevenLabs), "")[1].kind, DiscoveryKind::kVoice);
}

TEST(ModelList, SendsTheKeyAsEachListWantsIt) {
  EXPECT_EQ(header_of(watch_of(ListKind::kOpenAi), "Authorization"), "Bearer sk-secret");
  EXPECT_EQ(header_of(watch_of(ListKind::kHuggingFace), "Authorization"), "Bearer sk-secret");
  EXPECT_EQ(header_of(watch_of(ListKind::kAnthropic), "x-api-key"), "sk-secret");
  EXPECT_EQ(header_of(watch_of(ListKind::kAnthropic), "anthropic-version"), "2023-06-01");
  EXPECT_EQ(header_of(watch_of(ListKind::kElevenLabs), "xi-api-key"), "sk-secret");
  EXPECT_EQ(header_of(watch_of(ListKind::kOpenAi), "Authorization", ""), "");
  ListWatch stranger = watch_of(ListKind::kHuggingFace);
  stranger.send_key = false;
  EXPECT_EQ(header_of(stranger, "Authorization"), "");
}

TEST(ModelList, ReadsOpenAi) {
  const auto answer =
      parse_list(watch_of(ListKind::kOpenAi), DiscoveryKind::kModel, R"({"object":"list","data":[
    {"id":"gpt-4o-2024-08-06","object":"model","created":1722814719,"owned_by":"system"},
    {"id":"local","object":"model","created":0,"owned_by":"library"}]})");
  ASSERT_TRUE(answer);
  EXPECT_THAT(answer->entries, ElementsAre(entry("gpt-4o-2024-08-06", "", "2024-08-04"), entry("local")));
}

TEST(ModelList, ReadsAnthropic) {
  const auto answer = parse_list(watch_of(ListKind::kAnthropic), DiscoveryKind::kModel, R"({"data":[
    {"type":"model","id":"claude-sonnet-4-20250514","display_name":"Claude Sonnet 4","created_at":"2025-05-22T00:00:00Z"}],
    "has_more":false,"first_id":"claude-sonnet-4-20250514","last_id":"claude-sonnet-4-20250514"})");
  ASSERT_TRUE(answer);
  EXPECT_THAT(answer->entries,
              ElementsAre(entry("claude-sonnet-4-20250514", "Claude Sonnet 4", "2025-05-22")));
}

TEST(ModelList, ReadsHuggingFace) {
  const auto answer = parse_list(watch_of(ListKind::kHuggingFace), DiscoveryKind::kModel, R"([
    {"_id":"1","id":"acme/parrot-2.0","modelId":"acme/parrot-2.0","sha":"0f1e","createdAt":"2025-06-01T10:00:00.000Z",
     "lastModified":"2025-07-01T10:00:00.000Z","tags":[]},
    {"modelId":"acme/old","lastModified":"2021-01-13T15:08:24.000Z"}])");
  ASSERT_TRUE(answer);
  EXPECT_THAT(answer->entries,
              ElementsAre(entry("acme/parrot-2.0", "", "2025-06-01"), entry("acme/old", "", "2021-01-13")));
}

TEST(ModelList, ReadsElevenLabs) {
  const ListWatch watch = watch_of(ListKind::kElevenLabs);
  const auto models =
      parse_list(watch, DiscoveryKind::kModel,
                 R"([{"model_id":"eleven_v3","name":"Eleven v3","can_do_text_to_speech":true}])");
  ASSERT_TRUE(models);
  EXPECT_THAT(models->entries, ElementsAre(entry("eleven_v3", "Eleven v3")));
  const auto voices =
      parse_list(watch, DiscoveryKind::kVoice,
                 R"({"voices":[{"voice_id":"21m00Tcm4TlvDq8ikWAM","name":"Rachel","category":"premade"}]})");
  ASSERT_TRUE(voices);
  EXPECT_THAT(voices->entries, ElementsAre(entry("21m00Tcm4TlvDq8ikWAM", "Rachel")));
}

TEST(ModelList, LeavesOutWhatIsNotWantedAndCountsWhatCannotBeTaken) {
  ListWatch watch = watch_of(ListKind::kOpenAi);
  watch.prefix = "a";
  watch.entries_max = 2;
  const auto answer = parse_list(
      watch, DiscoveryKind::kModel,
      R"({"data":[{"id":"a1"},{"id":"b1"},{"id":"a1"},{"id":7},"a2",{"id":"a\n3"},{"id":"a4"},{"id":"a5"}]})");
  ASSERT_TRUE(answer);
  EXPECT_THAT(answer->entries, ElementsAre(entry("a1"), entry("a4")));
  EXPECT_EQ(answer->left_out, 4U) << "three without an id, and one too many";
  const auto long_id = parse_list(watch, DiscoveryKind::kModel,
                                  R"({"data":[{"id":")" + std::string(kEntryBytesMax + 1, 'a') + R"("}]})");
  ASSERT_TRUE(long_id);
  EXPECT_THAT(long_id->entries, IsEmpty());
  EXPECT_EQ(long_id->left_out, 1U);
}

TEST(ModelList, SaysWhyAnAnswerIsNoList) {
  const ListWatch watch = watch_of(ListKind::kOpenAi);
  for (const auto& [body, why] : {std::pair{"<html>", "the list is not JSON"},
                                  {R"({"data":{}})", "the answer has no list `data`"},
                                  {"[]", "the answer has no list `data`"}}) {
    const auto answer = parse_list(watch, DiscoveryKind::kModel, body);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kUpstreamError);
    EXPECT_EQ(answer.error().message, why);
  }
  EXPECT_EQ(parse_list(watch_of(ListKind::kHuggingFace), DiscoveryKind::kModel, R"({"error":"no"})")
                .error()
                .message,
            "the answer is no list");
  EXPECT_THAT(parse_list(watch, DiscoveryKind::kModel, R"({"data":[]})")->entries, SizeIs(0));
}

}  // namespace
}  // namespace turnpike::provider
