#include "provider/exec_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace turnpike::provider {
namespace {

using testing::ElementsAre;

Result<std::vector<std::string>> expand(const std::vector<std::string>& arguments, const std::string& input,
                                        std::vector<InputFile> files = {},
                                        Confinement confinement = Confinement::kBubblewrap) {
  policy::ExecTask config;
  config.steps = {{.command = {"program"}, .when = ""}};
  auto& command = config.steps[0].command;
  command.insert(command.end(), arguments.begin(), arguments.end());
  config.outputs = {{.name = "picture", .file = "p.${input.format|one(png,jpeg):-png}", .mime = "image/png"}};
  auto task = parse_task(config);
  if (!task) return std::unexpected(task.error());
  Request request;
  request.input = input;
  request.files = std::move(files);
  request.work_dir = "/somewhere/try";
  auto expansion = Expansion::make(*task, request, confinement);
  if (!expansion) return std::unexpected(expansion.error());
  return expansion->arguments(task->steps[0]);
}

TEST(ExecTask, LooksUpNestedFieldsAndLists) {
  const auto arguments =
      expand({"${input.a.b}", "${input.list.1}", "${input.n}", "${input.f}", "${input.yes}", "${input.a}"},
             R"({"a":{"b":"x y"},"list":[1,"two"],"n":7,"f":1.25,"yes":true})");
  ASSERT_TRUE(arguments) << arguments.error().message;
  EXPECT_THAT(*arguments, ElementsAre("x y", "two", "7", "1.25", "true", R"({"b":"x y"})"));
}

TEST(ExecTask, NumbersMayBeNegativeOnlyWhereTheTemplateSaysNumber) {
  EXPECT_FALSE(expand({"${input.n}"}, R"({"n":"-7"})"));
  EXPECT_THAT(*expand({"${input.n|int(-10..10)}"}, R"({"n":-7})"), ElementsAre("-7"));
}

TEST(ExecTask, LeavesOutOptionalArgumentsAndTakesDefaults) {
  EXPECT_THAT(
      *expand({"${input.a?}", "--b=${input.b?}", "${input.c:-dflt}", "${input.d:-}"}, R"({"a":null,"c":""})"),
      ElementsAre("dflt", ""));
}

TEST(ExecTask, NamesTheFieldThatIsMissing) {
  const auto arguments = expand({"${input.voice}"}, "{}");
  ASSERT_FALSE(arguments);
  EXPECT_EQ(arguments.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(arguments.error().message, "input.voice is required");
}

TEST(ExecTask, RefusesAValueThatWouldBeAnOption) {
  const auto arguments = expand({"${input.text}"}, R"({"text":"--output=/etc/passwd"})");
  ASSERT_FALSE(arguments);
  EXPECT_EQ(arguments.error().message, "input.text may not begin with '-'");
  EXPECT_THAT(*expand({"--text=${input.text}"}, R"({"text":"--output"})"), ElementsAre("--text=--output"));
}

TEST(ExecTask, RefusesNulBytes) {
  const auto arguments = expand({"x${input.text}"}, R"({"text":"a\u0000b"})");
  ASSERT_FALSE(arguments);
  EXPECT_EQ(arguments.error().message, "input.text may not contain a NUL byte");
}

TEST(ExecTask, NamesFilesAsTheProgramSeesThem) {
  const std::vector<InputFile> files = {{"image", "/data/artifacts/abc.png", "image/png"}};
  EXPECT_THAT(*expand({"${file.image}", "${output.picture}"}, R"({"format":"jpeg"})", files),
              ElementsAre("/input/image.png", "/work/p.jpeg"));
  EXPECT_THAT(*expand({"${file.image}", "${output.picture}"}, "{}", files, Confinement::kNone),
              ElementsAre("/data/artifacts/abc.png", "/somewhere/try/p.png"));
  EXPECT_FALSE(expand({"${file.image}"}, "{}"));
}

TEST(ExecTask, JoinsThePathsOfAList) {
  const std::vector<InputFile> files = {{"clips", "/data/artifacts/abc.ts", "video/mp2t", 0},
                                        {"sound", "/data/artifacts/s.wav", "audio/wav"},
                                        {"clips", "/data/artifacts/def.ts", "video/mp2t", 1},
                                        {"clips", "/data/artifacts/abc.ts", "video/mp2t", 2}};
  EXPECT_THAT(
      *expand({"concat:${file.clips}", "${file.sound}"}, "{}", files),
      ElementsAre("concat:/input/clips.0.ts|/input/clips.1.ts|/input/clips.2.ts", "/input/sound.wav"));
  EXPECT_THAT(*expand({"${file.clips}"}, "{}", files, Confinement::kNone),
              ElementsAre("/data/artifacts/abc.ts|/data/artifacts/def.ts|/data/artifacts/abc.ts"));
}

TEST(ExecTask, SaysWhatAFieldThatIsNoArtifactShouldBe) {
  const auto arguments = expand({"${file.clips}"}, R"({"clips":["art_1",7]})");
  ASSERT_FALSE(arguments);
  EXPECT_EQ(arguments.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(arguments.error().param, "clips");
  EXPECT_EQ(arguments.error().message,
            "clips must be the id of an artifact of the account (art_…), or a list of at most 100");
}

TEST(ExecTask, AFieldsNameIsNeverAPath) {
  for (const std::string field : {"../work/x", "/etc/passwd", "a/b", ".", "a|b", ""}) {
    policy::ExecTask config;
    config.steps = {{.command = {"program"}, .when = ""}};
    Request request;
    request.input = "{}";
    request.files = {{field, "/data/artifacts/abc.png", "image/png"}};
    const auto expansion = Expansion::make(*parse_task(config), request, Confinement::kBubblewrap);
    ASSERT_TRUE(expansion);
    EXPECT_TRUE(expansion->inputs().empty()) << field;
  }
}

TEST(ExecTask, RefusesAnOutputFormatThatIsNotOffered) {
  const auto arguments = expand({"x"}, R"({"format":"../../etc/passwd"})");
  ASSERT_FALSE(arguments);
  EXPECT_EQ(arguments.error().message, "input.format must be one of png, jpeg");
}

TEST(ExecTask, RefusesInputThatIsNoObject) {
  for (const char* input : {"", "[]", "7", "{", "{\"a\":1}x"}) EXPECT_FALSE(expand({"x"}, input)) << input;
}

TEST(ExecTask, RefusesAProgramThatTheUserWouldChoose) {
  policy::ExecTask config;
  config.steps = {{.command = {"${input.program}"}, .when = ""}};
  EXPECT_FALSE(parse_task(config));
  config.steps.clear();
  EXPECT_FALSE(parse_task(config));
}

}  // namespace
}  // namespace turnpike::provider
