// Real speech and pictures, made by the programs that presets/dev.yaml names.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>

#include "contract/provider/harness.h"
#include "policy/load.h"
#include "provider/confinement.h"
#include "provider/json_text.h"
#include "provider/provider_kinds.h"

namespace turnpike::provider {
namespace {

using test::as_failure;
using test::as_success;
using test::describe;

std::filesystem::path presets_folder() {
  return std::filesystem::path{__FILE__}.parent_path().parent_path().parent_path().parent_path() / "presets";
}

class LocalPrograms : public testing::TestWithParam<Confinement> {
 protected:
  void SetUp() override {
    if (GetParam() == Confinement::kBubblewrap && !bubblewrap_works())
      GTEST_SKIP() << bubblewrap_works().error().message;
  }

  std::unique_ptr<Provider> provider(const std::string& name) {
    const auto loaded = policy::load_file(presets_folder() / "dev.yaml");
    if (!loaded.policy) throw std::runtime_error("presets/dev.yaml does not load");
    std::vector<std::string> warnings;
    auto made = make_exec_provider(loaded.policy->providers.at(name), GetParam(), warnings);
    EXPECT_EQ(warnings, std::vector<std::string>{});
    return made;
  }

  Outcome run(const std::string& name, const std::string& task, const std::string& input,
              std::vector<InputFile> files = {}) {
    folder_ = std::make_unique<test::TempFolder>();
    Request request = test::make_request(task, input, folder_->path());
    request.timeout = std::chrono::seconds(60);
    request.files = std::move(files);
    return test::run_try(*provider(name), std::move(request));
  }

  static std::map<std::string, std::int64_t> usage(const Outcome& outcome) {
    const Success* success = as_success(outcome);
    if (success == nullptr) return {};
    return {success->usage.begin(), success->usage.end()};
  }

  std::unique_ptr<test::TempFolder> folder_;
};

TEST_P(LocalPrograms, SpeakText) {
  const Outcome outcome =
      run("espeak", "speech", R"({"text":"Grüße! --help is \"no\" option; $(reboot) `id`"})");
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  ASSERT_EQ(success->files.size(), 1U);
  EXPECT_EQ(success->files[0].name, "audio");
  EXPECT_EQ(success->files[0].mime, "audio/wav");
  EXPECT_EQ(success->files[0].extension, "wav");
  const std::string wav = test::read_file(success->files[0].path);
  EXPECT_TRUE(wav.starts_with("RIFF"));
  EXPECT_EQ(wav.substr(8, 4), "WAVE");
  EXPECT_GT(usage(outcome)["audio_ms"], 1000);
  EXPECT_EQ(usage(outcome)["characters"], 44);
  EXPECT_EQ(success->output, fmt::format(R"({{"duration_ms":{}}})", usage(outcome)["audio_ms"]));
}

TEST_P(LocalPrograms, RefuseToSpeakTooFastAndNameTheField) {
  const Outcome outcome = run("espeak", "speech", R"({"text":"x","speed":10000})");
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, policy::FailureClass::kInvalidInput);
  EXPECT_TRUE(as_failure(outcome)->message.contains("input.speed")) << describe(outcome);
}

TEST_P(LocalPrograms, DrawCardsAndEditThem) {
  const Outcome card =
      run("vips", "image", R"({"prompt":"<b>Once</b> & \"upon\" a time — grüße","width":320,"height":200})");
  const Success* drawn = as_success(card);
  ASSERT_NE(drawn, nullptr) << describe(card);
  EXPECT_TRUE(test::read_file(drawn->files.at(0).path).starts_with("\x89PNG"));
  EXPECT_EQ(drawn->output, R"({"width":320,"height":200})");
  EXPECT_EQ(usage(card)["pixels"], 64'000);
  EXPECT_EQ(usage(card)["images"], 1);

  const auto source = std::move(folder_);
  // As the artifact store keeps it.
  std::filesystem::permissions(source->path() / "image.png", std::filesystem::perms{0640});
  const Outcome edited = run(
      "vips", "image_edit",
      R"({"image":"art_1","operations":{"resize":{"width":160},"lighting":{"brightness":1.2},"compress":{"quality":70}}})",
      {{"image", source->path() / "image.png", "image/png"}});
  const Success* smaller = as_success(edited);
  ASSERT_NE(smaller, nullptr) << describe(edited);
  EXPECT_EQ(smaller->files.at(0).mime, "image/jpeg");
  EXPECT_EQ(smaller->output, R"({"width":160,"height":100})");
  EXPECT_TRUE(test::read_file(smaller->files.at(0).path).starts_with("\xFF\xD8\xFF"));
}

TEST_P(LocalPrograms, FailOnGarbageInsteadOfAPicture) {
  const test::TempFolder uploads;
  test::write_file(uploads.path() / "x.png", "this is no picture");
  const Outcome outcome =
      run("vips", "image_edit", R"({"image":"art_1"})", {{"image", uploads.path() / "x.png", "image/png"}});
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_FALSE(as_failure(outcome)->message.contains(uploads.path().string())) << describe(outcome);
}

INSTANTIATE_TEST_SUITE_P(Confinements, LocalPrograms,
                         testing::Values(Confinement::kBubblewrap, Confinement::kNone), [](const auto& each) {
                           return each.param == Confinement::kBubblewrap ? "Bubblewrap" : "Bare";
                         });

}  // namespace
}  // namespace turnpike::provider
