// The head of an answer, as text. Inside net only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/http.h"

namespace turnpike::net {

struct Framing {
  std::optional<std::uint64_t> content_length;  // absent: chunked or, in HTTP/1.0, until the end
  bool chunked = false;
  bool keep_alive = true;
  bool http10 = false;
  bool upgrade = false;  // another protocol follows
};

// True if the status has no body by definition (1xx, 204, 304): no Content-Length is written for it.
bool is_bodiless(int status);
// False if a header would break out of its line or is no header at all: a bug of the handler's.
bool is_sendable(const Response& response);
// Replaces `out`. Headers of the framing that a handler wrote are left out.
void render_head(std::string& out, const Response& response, const Framing& framing, std::string_view date);

}  // namespace turnpike::net
