// What a file is by its first bytes, and how large a picture says it is: also of files that are made to lie.
#include "provider/picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "support/temp_folder.h"

namespace turnpike::provider {
namespace {

using namespace std::string_literals;
using testing::AllOf;
using testing::HasSubstr;

std::string big32(std::uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift & 0xFFU);
  return text;
}

std::string png(std::uint32_t width, std::uint32_t height) {
  return "\x89PNG\r\n\x1A\n\0\0\0\rIHDR"s + big32(width) + big32(height) + "\x08\x02\0\0\0"s;
}

std::string jpeg(std::uint32_t width, std::uint32_t height) {
  return "\xFF\xD8\xFF\xE0\0\x04"
         "ab\xFF\xC0\0\x11\x08"s +
         big32(height).substr(2) + big32(width).substr(2) + "\x03"s;
}

struct PictureFile : testing::Test {
  // Empty: it may be handed to a program.
  std::string check(const std::string& bytes,
                    PictureBounds bounds = {.edge_max = 1000, .pixels_max = 500'000}) {
    const auto path = folder.path() / "file";
    std::ofstream(path, std::ios::binary) << bytes;
    const auto fit = check_picture(path, bounds, "image");
    if (fit) return {};
    return std::string(policy::failure_class_name(fit.error().failure)) + ": " + fit.error().message;
  }
  support::TempFolder folder;
};

TEST_F(PictureFile, MayHaveAsManyPixelsAsItMay) {
  EXPECT_EQ(check(png(1000, 500)), "");
  EXPECT_EQ(check(jpeg(1000, 500)), "");
  EXPECT_EQ(check(png(1001, 1)),
            "invalid_input: image: a picture of 1001x1 pixels; at most 1000 are taken on "
            "each side");
  EXPECT_EQ(check(jpeg(1, 1001)),
            "invalid_input: image: a picture of 1x1001 pixels; at most 1000 are taken "
            "on each side");
  EXPECT_EQ(check(png(1000, 501)),
            "invalid_input: image: a picture of 1000x501 pixels; at most 500000 are "
            "taken in all");
}

TEST_F(PictureFile, IsNoBomb) {
  EXPECT_THAT(check(png(100'000, 100'000), {.edge_max = 16'384, .pixels_max = 100'000'000}),
              HasSubstr("100000x100000 pixels"));
  EXPECT_THAT(check(png(16'384, 16'384), {.edge_max = 16'384, .pixels_max = 100'000'000}),
              HasSubstr("at most 100000000 are taken in all"));
}

TEST_F(PictureFile, ThatDoesNotSayHowLargeItIsIsBroken) {
  const std::string riff = "RIFF\x20\0\0\0WEBP"s;
  for (const std::string& bytes :
       {png(10, 10).substr(0, 8), png(10, 10).substr(0, 20), png(0, 10), png(0xFFFFFFFF, 10),
        "\x89PNG\r\n\x1A\n"s + std::string(1000, '\0'), jpeg(10, 10).substr(0, 12), "\xFF\xD8\xFF"s,
        "\xFF\xD8"s + std::string(10'000, '\xFF'), riff, riff + "VP8X\x0A\0"s,
        riff + "VP9 " + std::string(40, 'a'), "GIF89a"s, "GIF89a\x0A\0\x0A\0\x87\0\0"s,
        "GIF89a\x0A\0\x0A\0\0\0\0\x3B"s}) {
    EXPECT_THAT(check(bytes), AllOf(HasSubstr("invalid_input"), HasSubstr("is broken")))
        << testing::PrintToString(bytes.substr(0, 20));
  }
}

TEST_F(PictureFile, OfAJpegWithoutEndIsReadWithinBounds) {
  std::string endless = "\xFF\xD8"s;
  for (int i = 0; i < 100'000; ++i) endless += "\xFF\xE0\0\x02"s;
  EXPECT_THAT(check(endless), HasSubstr("is broken"));
}

TEST_F(PictureFile, OfAGifCountsItsScreenAndItsFirstFrame) {
  const std::string screen = "GIF89a\x0A\0\x0A\0\x80\0\0"s + std::string(6, '\0');  // 10x10, two colours
  const std::string comment =
      "\x21\xFE\x03"
      "abc"
      "\x02"
      "de"
      "\0"s;
  EXPECT_EQ(check(screen + comment + "\x2C\0\0\0\0\x0A\0\x0A\0\0"s), "");
  EXPECT_THAT(check(screen + "\x2C\x01\0\0\0\xE8\x03\x0A\0\0"s), HasSubstr("1001x10 pixels"));
  EXPECT_THAT(check("GIF87a\xE9\x03\x0A\0\0\0\0"s + "\x2C\0\0\0\0\x0A\0\x0A\0\0"s),
              HasSubstr("1001x10 pixels"));
  std::string endless = screen + "\x21\xFE"s;
  for (int i = 0; i < 100'000; ++i)
    endless +=
        "\x01"
        "a"s;
  EXPECT_THAT(check(endless), HasSubstr("is broken"));
}

TEST_F(PictureFile, OfAnotherKindIsLeftToItsProgram) {
  for (const std::string& bytes : {"PK\x03\x04 and more of it"s, "II*\0tiff"s, ""s, "text"s})
    EXPECT_EQ(check(bytes), "");
}

TEST_F(PictureFile, ThatIsNotThereMayBeThereLater) {
  const auto fit = check_picture(folder.path() / "none", {.edge_max = 1, .pixels_max = 1}, "image");
  ASSERT_FALSE(fit);
  EXPECT_EQ(fit.error().failure, policy::FailureClass::kTransient);
}

TEST(PictureKind, IsWhatTheFirstBytesSay) {
  EXPECT_EQ(picture_kind(png(1, 1).substr(0, kPictureHeadBytes))->mime, "image/png");
  EXPECT_EQ(picture_kind(jpeg(1, 1))->extension, "jpeg");
  EXPECT_EQ(picture_kind("RIFF\x20\0\0\0WEBPVP8X"s)->mime, "image/webp");
  EXPECT_EQ(picture_kind("GIF87a")->mime, "image/gif");
  for (const std::string& bytes :
       {""s, "\x89PNG"s, "RIFF\x20\0\0\0WAVE"s, "GIF88a"s, "PK\x03\x04"s, "<svg/>"s, "\xFF\xD8"s})
    EXPECT_FALSE(picture_kind(bytes)) << testing::PrintToString(bytes);
}

TEST(PictureKind, OfWhatIsNoneHasAName) {
  EXPECT_EQ(name_of_bytes("PK\x03\x04\x14"), "a ZIP archive");
  EXPECT_EQ(name_of_bytes("\x1f\x8b\x08"), "gzip data");
  EXPECT_EQ(name_of_bytes("%PDF-1.7"), "a PDF document");
  EXPECT_EQ(name_of_bytes("\xef\xbb\xbf  <!DOCTYPE html>"), "a web page");
  EXPECT_EQ(name_of_bytes("<SVG xmlns="), "an XML or SVG document");
  EXPECT_EQ(name_of_bytes("{\"error\":1}"), "JSON");
  EXPECT_EQ(name_of_bytes("\0\0\0\x1c"
                          "ftypavif"s),
            "an AVIF picture");
  EXPECT_EQ(name_of_bytes("\0\0\0\x1c"
                          "ftypisom"s),
            "a video");
  EXPECT_EQ(name_of_bytes("RIFF\x20\0\0\0WAVE"s), "a sound");
  EXPECT_EQ(name_of_bytes("hello"), "of no kind that is known here");
  EXPECT_EQ(name_of_bytes(""), "of no kind that is known here");
}

TEST(PictureUrl, IsOfAnEditAlone) {
  EXPECT_EQ(picture_url("image_edit", R"({"image_url":"https://a/b"})"), "https://a/b");
  EXPECT_EQ(picture_url("image_edit", R"({"image\u005furl":"https://a/b"})"), "https://a/b");
  EXPECT_EQ(picture_url("image_edit", R"({"image":"art_1","image_url":null})"), std::nullopt);
  EXPECT_EQ(picture_url("image_edit", R"({"image_url":5})"), std::nullopt);
  EXPECT_EQ(picture_url("video", R"({"image_url":"https://a/b"})"), std::nullopt);
}

}  // namespace
}  // namespace turnpike::provider
