// Pictures that an input names by their address: got before the provider is asked, and gone with the try.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "support.h"
#include "support/scripted_client.h"

namespace turnpike::node::testing {
namespace {

using namespace std::string_literals;
using engine::JobState;
using support::ScriptedAnswer;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kUrl = "https://pictures.example.com/a.png";
constexpr const char* kInput = R"({"image_url":"https://pictures.example.com/a.png"})";

policy::PolicyPtr editing() {
  const policy::Loaded loaded = policy::load_text(R"(
accounts: {default_plan: basic}
pictures: {edge: 1000}
providers:
  vips: {kind: exec, tasks: {image_edit: {command: [vips], stdout_json: true}}}
  away: {kind: openai, base_url: "http://127.0.0.1:1/v1"}
models:
  editor: {task: image_edit, providers: [vips]}
  afar: {task: image_edit, providers: [away]}
plans:
  basic:
    limits: {concurrent_jobs: 2, upload_bytes: 1000}
    retry: {attempts: 2, base: 1ms, factor: 1.0, cap: 1ms, jitter: 0%}
)",
                                                  "editing.yaml");
  for (const policy::Mistake& mistake : loaded.mistakes) ADD_FAILURE() << policy::to_string(mistake);
  return loaded.policy;
}

ScriptedAnswer picture(std::size_t bytes = 100, char width = '\x02') {
  std::string png = "\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0"s + width + "\0\0\0\0\x0A"s;
  png.resize(bytes, 'x');
  return {.pieces = {png}};
}

struct NodePictures : ::testing::Test {
  NodePictures() {
    world.policy = editing();
    Options options = world.options();
    options.picture_client = client;
    world.start(std::move(options));
    account = world.account("ada");
  }
  JobView edited(const std::string& model = "editor") {
    SubmitRequest request = world.request(account, kInput, "image_edit");
    request.model = model;
    const auto submitted = world.run(world->submit(std::move(request)));
    EXPECT_TRUE(submitted) << submitted.error().message;
    return world.ended(submitted->job.row.id);
  }
  // What was fetched is removed once the try is settled.
  bool wait_tidy() {
    for (int i = 0; i < 1000; ++i) {
      if (std::filesystem::is_empty(world.folder.path() / "spool")) return true;
      (void)world.run(world->read([](journal::Journal&) {}));  // let others run
    }
    return false;
  }
  std::shared_ptr<support::ScriptedClient> client = std::make_shared<support::ScriptedClient>();
  World world;
  AccountId account;
};

TEST_F(NodePictures, ReachTheProviderAsAnUploadWould) {
  client->put(kUrl, {picture()});
  EXPECT_EQ(edited().row.state, JobState::kCompleted);
  const auto begun = world.stage->begun();
  ASSERT_THAT(begun, SizeIs(1));
  ASSERT_THAT(begun[0].files, SizeIs(1));
  EXPECT_EQ(begun[0].files[0].field, "image");
  EXPECT_EQ(begun[0].files[0].mime, "image/png");
  EXPECT_EQ(begun[0].files[0].path.extension(), ".png");
  EXPECT_EQ(begun[0].input, kInput);
  EXPECT_TRUE(wait_tidy());
}

TEST_F(NodePictures, ThatCanNeverBeHadFailTheJobAtOnce) {
  client->put(kUrl, {{.status = 404}});
  const JobView ended = edited();
  EXPECT_EQ(ended.row.state, JobState::kFailed);
  EXPECT_EQ(ended.row.attempt, 1U);
  EXPECT_EQ(ended.row.error->code, "invalid_input");
  EXPECT_EQ(ended.row.error->message, "image_url: https://pictures.example.com answered 404");
  EXPECT_TRUE(ended.row.cost == Money{});
  EXPECT_THAT(world.stage->begun(), IsEmpty()) << "its provider was not asked";
}

TEST_F(NodePictures, MayComeWithAnotherAttempt) {
  client->put(kUrl, {{.status = 503}, picture()});
  const JobView ended = edited();
  EXPECT_EQ(ended.row.state, JobState::kCompleted);
  EXPECT_EQ(ended.row.attempt, 2U);
  client->put(kUrl, {{.status = 503}});
  const JobView failed = edited();
  EXPECT_EQ(failed.row.state, JobState::kFailed);
  EXPECT_EQ(failed.row.attempt, 2U);
  EXPECT_EQ(failed.row.error->code, "transient");
}

TEST_F(NodePictures, AreNoLargerThanThePlanLetsOneUpload) {
  client->put(kUrl, {picture(1001)});
  EXPECT_THAT(edited().row.error->message, HasSubstr("at most 1000 may be fetched"));
  client->put(kUrl, {picture(1000)});
  EXPECT_EQ(edited().row.state, JobState::kCompleted);
  EXPECT_TRUE(wait_tidy());
}

TEST_F(NodePictures, WithMorePixelsThanMayBeReachNoProgram) {
  client->put(kUrl, {picture(100, '\x04')});
  const JobView ended = edited();
  EXPECT_EQ(ended.row.error->code, "invalid_input");
  EXPECT_EQ(ended.row.error->message,
            "image_url: a picture of 1024x10 pixels; at most 1000 are taken on each side");
  EXPECT_THAT(world.stage->begun(), IsEmpty());
  EXPECT_TRUE(wait_tidy());
}

TEST_F(NodePictures, ThatWereUploadedAreLookedAtAsWell) {
  const auto upload = [this](char width) {
    const std::filesystem::path file = world.folder.path() / "spool" / "upload";
    std::ofstream(file, std::ios::binary) << picture(100, width).pieces.front();
    const auto stored = world.run(world->store_artifact(file, "image/png", "png", account));
    EXPECT_TRUE(stored);
    const std::string input = R"({"image":")" + to_string(stored->id) + R"("})";
    return world.ended(world.submit(account, input, "image_edit").row.id);
  };
  EXPECT_EQ(upload('\x02').row.state, JobState::kCompleted);
  EXPECT_EQ(upload('\x04').row.error->message,
            "image: a picture of 1024x10 pixels; at most 1000 are taken on each side");
}

TEST_F(NodePictures, AreNotFetchedForWhoTakesNoFiles) {
  EXPECT_EQ(edited("afar").row.state, JobState::kCompleted);
  EXPECT_THAT(client->asked(), IsEmpty()) << "it is told the address";
}

TEST_F(NodePictures, AreLeftWhenTheJobIsCancelled) {
  ScriptedAnswer slow = picture();
  slow.hangs = true;
  client->put(kUrl, {slow});
  const JobView submitted = world.submit(account, kInput, "image_edit");
  for (int i = 0; i < 1000 && client->pieces_read() == 0; ++i)
    (void)world.run(world->read([](journal::Journal&) {}));
  ASSERT_EQ(client->pieces_read(), 1U);
  ASSERT_TRUE(world.run(world->cancel(submitted.row.id, account, "user")));
  EXPECT_EQ(world.ended(submitted.row.id).row.state, JobState::kCancelled);
  ASSERT_TRUE(world.wait_all_ended());
  EXPECT_TRUE(wait_tidy());
  EXPECT_THAT(world.stage->begun(), IsEmpty());
}

}  // namespace
}  // namespace turnpike::node::testing
