// HTTP/1.1 messages out of bytes, one at a time, and reusable. Beast does the syntax; what may pass is
// decided here. No I/O, but for a spooled body. Inside net only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "net/http.h"

namespace turnpike::net {

constexpr std::size_t kFieldsMax = 128;  // header fields of one message

enum class ParseState : std::uint8_t {
  kHead,      // the head is not complete
  kHeadDone,  // the head is complete and a body follows: say how to take it, then feed on
  kBody,
  kDone,
  kFailed,
};

// What a server must answer to a request that cannot pass.
struct Refusal {
  int status = 400;
  std::string message;
  std::string cause;  // for the log where the fault is ours (status 500)
};

class RequestParser {
 public:
  explicit RequestParser(std::uint32_t header_bytes_max);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  // Forgets the message before (and removes its spooled file); ready for the next.
  void reset();
  // Takes what it can of `bytes` and returns how much that was. With nothing taken and the state unchanged,
  // more bytes are needed behind these.
  std::size_t feed(std::string_view bytes);
  ParseState state() const;
  // True once a byte of this message was seen.
  bool begun() const;

  // From kHeadDone on:
  Request& request();
  bool keep_alive() const;
  bool http10() const;
  bool expects_continue() const;
  std::optional<std::uint64_t> content_length() const;
  // In kHeadDone: how the body is to be taken. False: refused (too large, no file): the state is kFailed.
  bool take_body(const BodyRule& rule, const std::filesystem::path& spool_dir);

  // In kFailed.
  const Refusal& refusal() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class ResponseParser {
 public:
  // Told of body bytes; false: enough, the state becomes kDone and the connection cannot be kept.
  using OnBytes = std::function<bool(std::string_view)>;

  // `body_bytes_max`: more than that fails with too_large().
  ResponseParser(bool to_head, std::uint64_t body_bytes_max, OnBytes on_bytes);
  ~ResponseParser();
  ResponseParser(const ResponseParser&) = delete;
  ResponseParser& operator=(const ResponseParser&) = delete;

  std::size_t feed(std::string_view bytes);
  // The server has closed: kDone if the message may end so, else kFailed.
  void feed_end();
  ParseState state() const;
  int status() const;
  Headers& headers();
  bool keep_alive() const;  // in kDone
  bool too_large() const;
  // In kFailed: what is wrong with the message.
  const std::string& fault() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace turnpike::net
