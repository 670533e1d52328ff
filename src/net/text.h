// Pure helpers on the text of HTTP messages. Inside net only.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace turnpike::net {

bool equals_ignoring_case(std::string_view a, std::string_view b);
bool is_utf8(std::string_view text);
// A field name as RFC 9110 allows it (token), and a value that cannot end its line.
bool is_token(std::string_view text);
bool is_field_value(std::string_view text);

struct Target {
  std::string path;
  std::vector<std::pair<std::string, std::string>> query;
};
// Splits and decodes a request target (origin form, or absolute form with its authority dropped). The error
// is a sentence for the client: bad escape, NUL, "..", invalid UTF-8, not a path.
std::expected<Target, std::string_view> parse_target(std::string_view target);

// "OK" for 200; "Unknown" for what has no phrase.
std::string_view reason_phrase(int status);
// "Sun, 06 Nov 1994 08:49:37 GMT" of a Unix time.
std::string http_date(long long unix_seconds);

}  // namespace turnpike::net
