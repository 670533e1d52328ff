// The few cryptographic words the interface needs, over OpenSSL. Thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace turnpike::api {

// 32 raw bytes.
std::string sha256(std::string_view bytes);
std::string hmac_sha256(std::string_view key, std::string_view bytes);
// From the system's generator. Throws std::runtime_error where it has none to give.
std::string random_bytes(std::size_t count);
// Compares in a time that does not depend on where they differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);

// RFC 4648 section 5, without padding.
std::string base64url(std::string_view bytes);
// Empty if the text is no base64url without padding.
std::string base64url_decode(std::string_view text);

// A fresh key: `tp_` and 43 characters that carry 256 random bits.
std::string make_key_secret();

}  // namespace turnpike::api
