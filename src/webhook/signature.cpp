#include "webhook/signature.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <stdexcept>

namespace turnpike::webhook {
namespace {

constexpr std::string_view kPrefix = "whsec_";
constexpr std::size_t kSecretBytes = 24;

const unsigned char* raw(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* raw(std::string& bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

std::string base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // OpenSSL ends it with a zero
  const int size = EVP_EncodeBlock(raw(text), raw(bytes), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

std::string from_base64(std::string_view text) {
  std::string bytes(text.size(), '\0');
  const int size = EVP_DecodeBlock(raw(bytes), raw(text), static_cast<int>(text.size()));
  if (size < 0 || text.size() % 4 != 0) return {};
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  bytes.resize(static_cast<std::size_t>(size) - padding);  // OpenSSL counts what it padded
  return bytes;
}

}  // namespace

std::string make_secret() {
  std::string bytes(kSecretBytes, '\0');
  if (RAND_bytes(raw(bytes), static_cast<int>(bytes.size())) != 1) {
    throw std::runtime_error("the system gives no random bytes");
  }
  return std::string(kPrefix) + base64(bytes);
}

std::string sign(std::string_view secret, std::string_view id, Wall at, std::string_view payload) {
  if (!secret.starts_with(kPrefix)) return {};
  const std::string key = from_base64(secret.substr(kPrefix.size()));
  if (key.empty()) return {};
  const std::string content = fmt::format("{}.{}.{}", id, unix_seconds(at), payload);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), raw(content), content.size(), digest.data(),
       &size);
  return "v1," + base64({reinterpret_cast<const char*>(digest.data()), size});
}

}  // namespace turnpike::webhook
