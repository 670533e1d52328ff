#include "provider/json_text.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/temp_folder.h"

namespace turnpike::provider {
namespace {

using turnpike::support::TempFolder;

TEST(JsonText, RefusesWhatIsTooDeep) {
  EXPECT_TRUE(parse_json(std::string(60, '[') + std::string(60, ']')));
  EXPECT_FALSE(parse_json(std::string(10'000, '[') + std::string(10'000, ']')));
}

TEST(JsonText, CleansWhatForeignersSay) {
  EXPECT_EQ(clean_text("one\ntwo\t\tthree  four\r\n\n", 100, false), "one two three four");
  EXPECT_EQ(clean_text("bad \xFF\xC0\xAF byte", 100, false), "bad ??? byte");
  EXPECT_EQ(clean_text("\x1B[31mred", 100, false), "[31mred");
}

TEST(JsonText, CutsBetweenCharacters) {
  EXPECT_EQ(clean_text("grüße", 3, false), "gr");
  EXPECT_EQ(clean_text("grüße", 4, false), "grü");
  EXPECT_EQ(clean_text("grüße", 2, true), "e");
  EXPECT_EQ(clean_text("grüße", 3, true), "ße");
}

TEST(JsonText, CountsCharactersAndNotBytes) {
  EXPECT_EQ(count_characters("grüße 😀"), 7);
}

TEST(JsonText, PutsLargeResultsIntoAFile) {
  const TempFolder folder;
  Success success;
  const std::string large = "{\"x\":\"" + std::string(kOutputBytesMax, 'y') + "\"}";
  ASSERT_TRUE(put_output(success, large, folder.path()));
  EXPECT_EQ(success.output, "{\"artifact\":\"output\",\"bytes\":65544}");
  ASSERT_EQ(success.files.size(), 1U);
  EXPECT_EQ(success.files[0].mime, "application/json");
  std::ostringstream written;
  written << std::ifstream{success.files[0].path}.rdbuf();
  EXPECT_EQ(written.str(), large);
}

TEST(JsonText, WritesOverNoFileThatIsThere) {
  const TempFolder folder;
  std::filesystem::create_symlink("/tmp/elsewhere", folder.path() / "output.json");
  Success success;
  EXPECT_FALSE(put_output(success, std::string(kOutputBytesMax + 1, ' '), folder.path()));
}

}  // namespace
}  // namespace turnpike::provider
