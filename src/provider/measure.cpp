#include "provider/measure.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <vector>

namespace turnpike::provider {
namespace {

constexpr std::size_t kChunksMax = 64;            // of a WAV before its samples
constexpr std::size_t kSegmentsMax = 512;         // of a JPEG before its frame
constexpr std::size_t kBlocksMax = 4096;          // of a GIF before its first frame, and what they consist of
constexpr std::int64_t kEdgePixelsMax = 1 << 20;  // beyond: not believed

std::optional<std::string> read_at(int file, std::uint64_t offset, std::size_t bytes) {
  std::string data(bytes, '\0');
  std::size_t have = 0;
  while (have < bytes) {
    const ssize_t got = ::pread(file, data.data() + have, bytes - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    have += static_cast<std::size_t>(got);
  }
  return data;
}

std::uint32_t byte_at(std::string_view data, std::size_t at) {
  return static_cast<unsigned char>(data[at]);
}
std::uint32_t little16(std::string_view data, std::size_t at) {
  return byte_at(data, at) | byte_at(data, at + 1) << 8U;
}
std::uint32_t little24(std::string_view data, std::size_t at) {
  return little16(data, at) | byte_at(data, at + 2) << 16U;
}
std::uint32_t little32(std::string_view data, std::size_t at) {
  return little16(data, at) | little16(data, at + 2) << 16U;
}
std::uint32_t big16(std::string_view data, std::size_t at) {
  return byte_at(data, at) << 8U | byte_at(data, at + 1);
}
std::uint32_t big32(std::string_view data, std::size_t at) {
  return big16(data, at) << 16U | big16(data, at + 2);
}

std::optional<Measured> picture(std::string mime, std::int64_t width, std::int64_t height) {
  if (width <= 0 || height <= 0 || width > kEdgePixelsMax || height > kEdgePixelsMax) return std::nullopt;
  return Measured{std::move(mime), Picture{width, height}};
}

// RIFF/WAVE (Microsoft, Multimedia Programming Interface 1.0). Programs that stream, espeak-ng among them,
// cannot know the length when they write the header and put a wrong one there, so the file's own size has the
// last word.
std::optional<Measured> measure_wav(int file, std::uint64_t size) {
  std::uint64_t offset = 12;
  std::uint32_t bytes_a_second = 0;
  for (std::size_t i = 0; i < kChunksMax && offset + 8 <= size; ++i) {
    const auto header = read_at(file, offset, 8);
    if (!header) return std::nullopt;
    const std::uint64_t length = little32(*header, 4);
    const std::uint64_t begin = offset + 8;
    if (header->starts_with("fmt ")) {
      const auto format = length >= 16 ? read_at(file, begin, 16) : std::nullopt;
      if (!format) return std::nullopt;
      bytes_a_second = little32(*format, 8);
    } else if (header->starts_with("data")) {
      if (bytes_a_second == 0) return std::nullopt;
      const std::uint64_t there = size - begin;
      const std::uint64_t samples = length == 0 ? there : std::min(length, there);
      return Measured{"audio/wav", Audio{static_cast<std::int64_t>(samples * 1000 / bytes_a_second)}};
    }
    offset = begin + length + (length & 1U);
  }
  return std::nullopt;
}

std::optional<Measured> measure_png(std::string_view head) {
  if (head.size() < 24 || head.substr(12, 4) != "IHDR") return std::nullopt;
  return picture("image/png", big32(head, 16), big32(head, 20));
}

// Walks the segments to the frame header, SOF0..SOF15 but for DHT, JPG and DAC (ITU-T T.81, table B.1).
std::optional<Measured> measure_jpeg(int file, std::uint64_t size) {
  std::uint64_t offset = 2;
  for (std::size_t i = 0; i < kSegmentsMax && offset + 9 <= size; ++i) {
    const auto segment = read_at(file, offset, 9);
    if (!segment || byte_at(*segment, 0) != 0xFF) return std::nullopt;
    const std::uint32_t marker = byte_at(*segment, 1);
    if (marker == 0xFF) {  // fill byte
      ++offset;
      continue;
    }
    const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame) return picture("image/jpeg", big16(*segment, 7), big16(*segment, 5));
    const bool bare = marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8);
    offset += bare ? 2 : 2 + std::max<std::uint32_t>(big16(*segment, 2), 2);
  }
  return std::nullopt;
}

// The three headers of RFC 9649, 2.5 to 2.7.
std::optional<Measured> measure_webp(std::string_view head) {
  if (head.size() < 30) return std::nullopt;
  const std::string_view kind = head.substr(12, 4);
  if (kind == "VP8X") return picture("image/webp", little24(head, 24) + 1, little24(head, 27) + 1);
  if (kind == "VP8L" && byte_at(head, 20) == 0x2F) {
    const std::uint32_t bits = little32(head, 21);
    return picture("image/webp", (bits & 0x3FFFU) + 1, (bits >> 14U & 0x3FFFU) + 1);
  }
  if (kind == "VP8 " && head.substr(23, 3) == "\x9D\x01\x2A")
    return picture("image/webp", little16(head, 26) & 0x3FFFU, little16(head, 28) & 0x3FFFU);
  return std::nullopt;
}

std::uint64_t colour_table_bytes(std::uint32_t flags) {
  return (flags & 0x80U) == 0 ? 0 : 3ULL << ((flags & 7U) + 1);
}

// GIF89a, sections 18 to 26: the logical screen, then blocks. Decoders widen the screen for a frame that is
// larger, so the first frame counts as well.
std::optional<Measured> measure_gif(int file, std::string_view head) {
  if (head.size() < 13) return std::nullopt;
  std::uint64_t offset = 13 + colour_table_bytes(byte_at(head, 10));
  bool within_extension = false;
  for (std::size_t i = 0; i < kBlocksMax; ++i) {
    const auto first = read_at(file, offset, 1);
    if (!first) return std::nullopt;
    const std::uint32_t kind = byte_at(*first, 0);
    if (within_extension) {
      within_extension = kind != 0;  // a sub-block's length; none ends the extension
      offset += 1 + kind;
    } else if (kind == 0x21) {
      within_extension = true;
      offset += 2;
    } else if (kind == 0x2C) {
      const auto frame = read_at(file, offset + 1, 8);
      if (!frame) return std::nullopt;
      return picture("image/gif", std::max(little16(head, 6), little16(*frame, 0) + little16(*frame, 4)),
                     std::max(little16(head, 8), little16(*frame, 2) + little16(*frame, 6)));
    } else {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Measured> measure_picture(int file, std::uint64_t size) {
  const auto head = read_at(file, 0, static_cast<std::size_t>(std::min<std::uint64_t>(size, 13)));
  if (!head) return std::nullopt;
  if (head->starts_with("GIF87a") || head->starts_with("GIF89a")) return measure_gif(file, *head);
  return measure(file, size);
}

std::optional<Measured> measure(int file, std::uint64_t size) {
  const auto read = read_at(file, 0, static_cast<std::size_t>(std::min<std::uint64_t>(size, 30)));
  if (!read) return std::nullopt;
  const std::string_view head = *read;
  const bool riff = head.starts_with("RIFF") && head.size() >= 12;
  if (riff && head.substr(8, 4) == "WAVE") return measure_wav(file, size);
  if (riff && head.substr(8, 4) == "WEBP") return measure_webp(head);
  if (head.starts_with("\x89PNG\r\n\x1A\n")) return measure_png(head);
  if (head.starts_with("\xFF\xD8\xFF")) return measure_jpeg(file, size);
  return Measured{};
}

}  // namespace turnpike::provider
