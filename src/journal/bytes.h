// Writing and reading packed bytes. Used by pack*.cpp alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace turnpike::journal {

class ByteWriter {
 public:
  explicit ByteWriter(std::string& out) : out_(out) {}

  void u8(std::uint8_t v) { out_.push_back(static_cast<char>(v)); }
  void varint(std::uint64_t v) {
    std::array<char, 10> bytes;  // NOLINT(cppcoreguidelines-pro-type-member-init): written before it is read
    std::size_t size = 0;
    while (v >= 0x80) {
      bytes[size++] = static_cast<char>(v | 0x80);
      v >>= 7;
    }
    bytes[size++] = static_cast<char>(v);
    out_.append(bytes.data(), size);
  }
  void zigzag(std::int64_t v) {
    varint((static_cast<std::uint64_t>(v) << 1) ^ static_cast<std::uint64_t>(v >> 63));
  }
  // The difference wraps, so that every pair of values comes back exactly.
  void difference(std::int64_t v, std::int64_t from) {
    zigzag(static_cast<std::int64_t>(static_cast<std::uint64_t>(v) - static_cast<std::uint64_t>(from)));
  }
  void fixed64(std::uint64_t v) {
    std::array<char, 8> bytes{};
    for (unsigned i = 0; i < 8; ++i) bytes[i] = static_cast<char>(v >> (8 * i));
    out_.append(bytes.data(), bytes.size());
  }
  void text(std::string_view v) {
    varint(v.size());
    out_.append(v);
  }

 private:
  std::string& out_;
};

// After the first read beyond the end or of a malformed value, ok() is false and all reads give zero.
class ByteReader {
 public:
  explicit ByteReader(std::string_view in) : in_(in) {}

  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && in_.empty(); }
  void spoil() {
    ok_ = false;
    in_ = {};
  }

  std::uint8_t u8() {
    if (in_.empty()) {
      spoil();
      return 0;
    }
    const auto v = static_cast<std::uint8_t>(in_.front());
    in_.remove_prefix(1);
    return v;
  }
  std::uint64_t varint() {
    std::uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = u8();
      if (shift == 63 && byte > 1) break;  // more than 64 bits
      v |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return v;
    }
    spoil();
    return 0;
  }
  std::int64_t zigzag() {
    const auto v = varint();
    return static_cast<std::int64_t>((v >> 1) ^ (~(v & 1) + 1));
  }
  std::int64_t difference(std::int64_t from) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(zigzag()) + static_cast<std::uint64_t>(from));
  }
  std::uint32_t u32() {
    const auto v = varint();
    if (v > UINT32_MAX) spoil();
    return static_cast<std::uint32_t>(v);
  }
  std::uint64_t fixed64() {
    std::uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 8) v |= static_cast<std::uint64_t>(u8()) << shift;
    return v;
  }
  std::string_view view() {
    const auto size = varint();
    if (size > in_.size()) {
      spoil();
      return {};
    }
    const auto v = in_.substr(0, size);
    in_.remove_prefix(size);
    return v;
  }
  std::string text() { return std::string(view()); }
  // A number of things that take at least `bytes_each` bytes each: more than can follow is malformed.
  std::size_t count(std::size_t bytes_each) {
    const auto n = varint();
    if (n > in_.size() / bytes_each) {
      spoil();
      return 0;
    }
    return static_cast<std::size_t>(n);
  }

 private:
  std::string_view in_;
  bool ok_ = true;
};

}  // namespace turnpike::journal
