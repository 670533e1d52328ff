#include "provider/measure.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "provider/spawn.h"

namespace turnpike::provider {
namespace {

using namespace std::string_literals;

std::optional<Measured> measure_bytes(const std::string& bytes) {
  const Descriptor file{::memfd_create("measured", MFD_CLOEXEC)};
  EXPECT_EQ(::write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return measure(file.get(), bytes.size());
}

std::string little(std::uint32_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFFU);
  return text;
}

// 16-bit mono at 22,050 Hz: 44,100 bytes a second.
std::string wav(std::uint32_t claimed, std::size_t samples_bytes, const std::string& before_data = "") {
  return "RIFF" + little(claimed + 36, 4) + "WAVEfmt " + little(16, 4) + little(1, 2) + little(1, 2) +
         little(22050, 4) + little(44100, 4) + little(2, 2) + little(16, 2) + before_data + "data" +
         little(claimed, 4) + std::string(samples_bytes, '\0');
}

std::int64_t duration_ms(const std::string& bytes) {
  const auto measured = measure_bytes(bytes);
  const auto* audio = measured ? std::get_if<Audio>(&measured->facts) : nullptr;
  return audio == nullptr ? -1 : audio->duration_ms;
}

std::pair<std::int64_t, std::int64_t> edges(const std::string& bytes) {
  const auto measured = measure_bytes(bytes);
  const auto* size = measured ? std::get_if<Picture>(&measured->facts) : nullptr;
  return size == nullptr ? std::pair<std::int64_t, std::int64_t>{-1, -1}
                         : std::pair{size->width, size->height};
}

TEST(Measure, TakesTheLengthOfAWavFromItsHeader) {
  EXPECT_EQ(duration_ms(wav(44100, 44100)), 1000);
  EXPECT_EQ(duration_ms(wav(22050, 22050 + 100)), 500);  // what follows the samples does not sound
}

TEST(Measure, BelievesTheFilesSizeWhereAStreamingHeaderIsWrong) {
  EXPECT_EQ(duration_ms(wav(0x7FFFF000, 88200)), 2000);
  EXPECT_EQ(duration_ms(wav(0xFFFFFFFF, 44100)), 1000);
  EXPECT_EQ(duration_ms(wav(0, 44100)), 1000);
}

TEST(Measure, PassesOverOtherChunksAndTheirPadding) {
  EXPECT_EQ(duration_ms(wav(44100, 44100, "LIST" + little(3, 4) + "abc\0"s)), 1000);
}

TEST(Measure, RefusesBrokenWavs) {
  EXPECT_FALSE(measure_bytes("RIFF" + little(4, 4) + "WAVE"));
  EXPECT_FALSE(measure_bytes("RIFF" + little(4, 4) + "WAVEdata" + little(4, 4) + "abcd"));
  std::string silent = wav(44100, 44100);
  silent.replace(28, 4, std::string(4, '\0'));  // no bytes a second
  EXPECT_FALSE(measure_bytes(silent));
  EXPECT_FALSE(measure_bytes(wav(44100, 44100).substr(0, 30)));
}

TEST(Measure, ReadsTheSizeOfAPng) {
  const std::string png = "\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xE0\x08\x02\0\0\0"s;
  EXPECT_EQ(edges(png), (std::pair<std::int64_t, std::int64_t>{640, 480}));
  EXPECT_EQ(measure_bytes(png)->mime, "image/png");
  EXPECT_FALSE(measure_bytes(png.substr(0, 20)));
  EXPECT_FALSE(measure_bytes("\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\0\0\0\0\x01\xE0\x08\x02\0\0\0"s));
}

TEST(Measure, FindsTheFrameOfAJpegBehindOtherSegments) {
  const std::string head = "\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"s;
  const std::string table = "\xFF\xC4\0\x05\x01\x02\x03"s;  // a Huffman table is no frame
  const std::string frame = "\xFF\xFF\xC2\0\x11\x08\x01\xE0\x02\x80\x03"s;
  EXPECT_EQ(edges(head + table + frame + "rest of it"), (std::pair<std::int64_t, std::int64_t>{640, 480}));
  EXPECT_FALSE(measure_bytes(head + table + "no segment here"));
  EXPECT_FALSE(measure_bytes(head));
}

TEST(Measure, ReadsAllThreeKindsOfWebp) {
  const std::string riff = "RIFF\x20\0\0\0WEBP"s;
  EXPECT_EQ(edges(riff + "VP8X\x0A\0\0\0\0\0\0\0\x7F\x02\0\xDF\x01\0"s),
            (std::pair<std::int64_t, std::int64_t>{640, 480}));
  EXPECT_EQ(edges(riff + "VP8 \x0A\0\0\0\0\0\0\x9D\x01\x2A\x80\x02\xE0\x01"s),
            (std::pair<std::int64_t, std::int64_t>{640, 480}));
  const std::uint32_t bits = 639U | 479U << 14U;
  EXPECT_EQ(edges(riff + "VP8L\x0A\0\0\0\x2F"s + little(bits, 4) + std::string(5, '\0')),
            (std::pair<std::int64_t, std::int64_t>{640, 480}));
  EXPECT_FALSE(measure_bytes(riff + "VP9 "));
}

TEST(Measure, LeavesWhatItDoesNotKnow) {
  const auto measured = measure_bytes("just text");
  ASSERT_TRUE(measured);
  EXPECT_EQ(measured->mime, "");
  EXPECT_TRUE(std::holds_alternative<Unmeasured>(measured->facts));
}

}  // namespace
}  // namespace turnpike::provider
