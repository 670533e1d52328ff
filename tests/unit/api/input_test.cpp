#include "api/input.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace turnpike::api {
namespace {

struct Case {
  std::string_view name, task, input, param;  // param empty: accepted
};

// The names of gtest's cases.
std::string name_of(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.name);
}

class Input : public testing::TestWithParam<Case> {};

TEST_P(Input, IsCheckedByItsTask) {
  const auto input = boost::json::parse(GetParam().input).get_object();
  Mistakes mistakes;
  (void)check_input(GetParam().task, input, "input.", mistakes);
  EXPECT_EQ(mistakes.any() ? mistakes.error().param : std::string(), GetParam().param)
      << (mistakes.any() ? mistakes.error().message : "");
}

INSTANTIATE_TEST_SUITE_P(
    Tasks, Input,
    testing::Values(
        Case{"Prompt", "text", R"({"prompt":"a","max_tokens":5,"temperature":1})", ""},
        Case{"Messages", "text", R"({"messages":[{"role":"user","content":"a"}]})", ""},
        Case{"TextParts", "text", R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]})",
             ""},
        Case{"PictureParts", "text", R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})",
             "input.messages.0.content"},
        Case{"NoPrompt", "text", R"({})", "input.prompt"},
        Case{"BothPromptAndMessages", "text", R"({"prompt":"a","messages":[{"role":"user","content":"a"}]})",
             "input.messages"},
        Case{"EmptyPrompt", "text", R"({"prompt":""})", "input.prompt"},
        Case{"BadRole", "text", R"({"messages":[{"role":"king","content":"a"}]})", "input.messages.0.role"},
        Case{"TooManyTokens", "text", R"({"prompt":"a","max_tokens":1000001})", "input.max_tokens"},
        Case{"Speech", "speech", R"({"text":"a","voice":"en-gb","speed":180,"format":"wav"})", ""},
        Case{"SpeechWithoutText", "speech", R"({"voice":"en"})", "input.text"},
        Case{"VoiceLikeAnOption", "speech", R"({"text":"a","voice":"-x"})", "input.voice"},
        Case{"VoiceLikeAPath", "speech", R"({"text":"a","voice":"a/b"})", "input.voice"},
        Case{"Image", "image", R"({"prompt":"a","width":1,"height":8192,"format":"webp"})", ""},
        Case{"ImageWithoutEdge", "image", R"({"prompt":"a","width":0})", "input.width"},
        Case{"ImageEdit", "image_edit",
             R"({"image":"art_0000000000001","operations":{"resize":{"width":5}}})", ""},
        Case{"EditOfNothing", "image_edit", R"({"operations":{}})", "input.image"},
        Case{"EditOfAJob", "image_edit", R"({"image":"job_0000000000001"})", "input.image"},
        Case{"EditByUrl", "image_edit", R"({"image":"art_0000000000001","image_url":"https://a/b"})",
             "input.image_url"},
        Case{"EditOfAPictureElsewhere", "image_edit",
             R"({"image_url":"https://example.com/a.png?size=2","operations":{"resize":{"width":5}}})", ""},
        Case{"EditByUrlWithoutTls", "image_edit", R"({"image":null,"image_url":"http://[::1]:8080/a"})", ""},
        Case{"EditByNoUrl", "image_edit", R"({"image_url":"cat.png"})", "input.image_url"},
        Case{"EditByAnotherScheme", "image_edit", R"({"image_url":"file:///etc/passwd"})", "input.image_url"},
        Case{"EditByAUnixSocket", "image_edit", R"({"image_url":"unix:/run/docker.sock:/v1"})",
             "input.image_url"},
        Case{"EditWithAPassword", "image_edit", R"({"image_url":"https://ann:pw@example.com/a.png"})",
             "input.image_url"},
        Case{"EditByNoHost", "image_edit", R"({"image_url":"https:///a.png"})", "input.image_url"},
        Case{"EditByNoPort", "image_edit", R"({"image_url":"https://example.com:99999/a.png"})",
             "input.image_url"},
        Case{"EditByAUrlWithSpaces", "image_edit", R"({"image_url":"https://example.com/a b.png"})",
             "input.image_url"},
        Case{"EditByANumber", "image_edit", R"({"image_url":5})", "input.image_url"},
        Case{"EditByAnEmptyUrl", "image_edit", R"({"image_url":""})", "input.image_url"},
        Case{"ResizeToNothing", "image_edit", R"({"image":"art_0000000000001","operations":{"resize":{}}})",
             "input.operations.resize.width"},
        Case{"UnknownOperation", "image_edit", R"({"image":"art_0000000000001","operations":{"spin":{}}})",
             "input.operations.spin"},
        Case{"Embedding", "embedding", R"({"texts":["a","b"]})", ""},
        Case{"EmbeddingOfNumbers", "embedding", R"({"texts":[1]})", "input.texts"},
        Case{"EmbeddingOfNothing", "embedding", R"({"texts":[]})", "input.texts"},
        Case{"AnotherTaskTakesAnything", "dance", R"({"anything":{"at":["all"]}})", ""}),
    name_of);

TEST(ImageEdit, TellsWhichArtifactIsEdited) {
  const auto input = boost::json::parse(R"({"image":"art_0000000000001"})").get_object();
  Mistakes mistakes;
  const auto facts = check_input("image_edit", input, "input.", mistakes);
  EXPECT_EQ(facts.image, ArtifactId{1});
  EXPECT_EQ(facts.image_url, "");
}

TEST(ImageEdit, TellsWhereThePictureIs) {
  const std::string start = "https://example.com/";
  const auto at = [&start](std::size_t bytes) {
    return boost::json::object{{"image_url", start + std::string(bytes - start.size(), 'a')}};
  };
  Mistakes none;
  const auto facts = check_input("image_edit", at(2048), "input.", none);
  EXPECT_FALSE(none.any());
  EXPECT_EQ(facts.image_url.size(), 2048U);
  Mistakes mistakes;
  (void)check_input("image_edit", at(2049), "input.", mistakes);
  EXPECT_EQ(mistakes.error().param, "input.image_url");
}

}  // namespace
}  // namespace turnpike::api
