#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include "net/parser.h"
#include "net/spool.h"
#include "net/text.h"

namespace turnpike::net {
namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;
using View = boost::beast::string_view;

constexpr std::size_t kFieldsExpected = 12;
constexpr std::uint64_t kReserveBytesMax = 64 * 1024;  // what a client only promises costs no more than this

// Everything of one message; made anew for each.
class Message final : public http::basic_parser<true> {
 public:
  explicit Message(std::uint32_t header_bytes_max) {
    header_limit(header_bytes_max);
    body_limit(boost::none);  // counted here, by the route's rule
  }

  bool refuse(int status, std::string message) {
    refusal = Refusal{.status = status, .message = std::move(message), .cause = {}};
    return false;
  }
  void refuse(error_code& ec, int status, std::string message) {
    refuse(status, std::move(message));
    ec = http::error::bad_value;
  }

  Request request;
  Refusal refusal{.status = 0, .message = {}, .cause = {}};
  BodyRule rule;
  std::optional<SpoolFile> spool;
  bool head_done = false;
  bool http10 = false;
  bool continue_expected = false;
  bool unknown_expectation = false;

 private:
  void on_request_impl(http::verb, View method, View target, int version, error_code& ec) override {
    http10 = version == 10;
    request.headers.reserve(kFieldsExpected);
    request.method = method;
    request.target = target;
    auto parsed = net::parse_target(target);
    if (!parsed) return refuse(ec, 400, std::string(parsed.error()));
    request.path = std::move(parsed->path);
    request.query = std::move(parsed->query);
  }

  void on_response_impl(int, View, int, error_code&) override {}

  void on_field_impl(http::field field, View name, View value, error_code& ec) override {
    if (head_done) return;  // trailers are read and dropped
    if (request.headers.size() == kFieldsMax) return refuse(ec, 431, "too many header fields");
    switch (field) {
      case http::field::content_length:
        // Beast lets equal repetitions pass; two parties that read them differently see different messages.
        if (request.header(name)) return refuse(ec, 400, "Content-Length is there more than once");
        if (!std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; }))
          return refuse(ec, 400, "Content-Length is not a number");
        break;
      case http::field::transfer_encoding:
        if (request.header(name)) return refuse(ec, 400, "Transfer-Encoding is there more than once");
        if (!equals_ignoring_case(value, "chunked"))
          return refuse(ec, 501, "of the transfer encodings only 'chunked' is understood");
        if (http10) return refuse(ec, 400, "HTTP/1.0 has no Transfer-Encoding");
        break;
      case http::field::host:
        if (request.header(name)) return refuse(ec, 400, "Host is there more than once");
        break;
      case http::field::expect:
        continue_expected = equals_ignoring_case(value, "100-continue");
        unknown_expectation = !continue_expected;
        break;
      default:
        break;
    }
    request.headers.emplace_back(name, value);
  }

  void on_header_impl(error_code& ec) override {
    head_done = true;
    if (!http10 && !request.header("host")) return refuse(ec, 400, "HTTP/1.1 needs a Host header");
    if (unknown_expectation) return refuse(ec, 417, "of the expectations only '100-continue' is understood");
  }

  void on_body_init_impl(const boost::optional<std::uint64_t>& length, error_code&) override {
    if (!rule.spool && length) request.body.reserve(std::min(*length, kReserveBytesMax));
  }

  std::size_t on_body_impl(View bytes, error_code& ec) override {
    request.body_bytes += bytes.size();
    if (request.body_bytes > rule.bytes_max) {
      refuse(ec, 413, "the body is too large");
    } else if (!spool) {
      request.body.append(bytes);
    } else if (const auto written = spool->append(bytes); !written) {
      refuse(ec, 500, "the body could not be stored");
      refusal.cause = written.error().message;
    }
    return bytes.size();
  }

  void on_chunk_header_impl(std::uint64_t, View, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, View bytes, error_code& ec) override {
    return on_body_impl(bytes, ec);
  }

  void on_finish_impl(error_code& ec) override {
    if (!spool) return;
    if (const auto closed = spool->close(); !closed) {
      refuse(ec, 500, "the body could not be stored");
      refusal.cause = closed.error().message;
    }
  }
};

}  // namespace

struct RequestParser::Impl {
  explicit Impl(std::uint32_t bytes_max) : header_bytes_max(bytes_max) { message.emplace(bytes_max); }

  void fail(error_code ec) {
    state = ParseState::kFailed;
    if (message->refusal.status != 0) return;
    if (ec == http::error::header_limit) {
      message->refuse(431, "the header is too large");
    } else {
      message->refuse(400, "not a well-formed HTTP request: " + ec.message());
    }
  }
  std::size_t feed(std::string_view bytes);

  const std::uint32_t header_bytes_max;
  std::optional<Message> message;
  ParseState state = ParseState::kHead;
  std::size_t head_bytes = 0;
  bool begun = false;
};

std::size_t RequestParser::Impl::feed(std::string_view bytes) {
  error_code ec;
  const std::size_t taken = message->put(boost::asio::const_buffer(bytes.data(), bytes.size()), ec);
  if (ec && ec != http::error::need_more) {
    fail(ec);
    return taken;
  }
  if (state == ParseState::kHead) {
    head_bytes += taken;
    // What waits for the rest of its line counts too.
    const std::size_t pending = message->is_header_done() ? 0 : bytes.size() - taken;
    if (head_bytes + pending > header_bytes_max) {
      fail(http::error::header_limit);
      return taken;
    }
    if (message->is_header_done()) state = message->is_done() ? ParseState::kDone : ParseState::kHeadDone;
  } else if (message->is_done()) {
    state = ParseState::kDone;
  }
  return taken;
}

RequestParser::RequestParser(std::uint32_t header_bytes_max)
    : impl_(std::make_unique<Impl>(header_bytes_max)) {}
RequestParser::~RequestParser() = default;

void RequestParser::reset() {
  impl_->message.emplace(impl_->header_bytes_max);
  impl_->state = ParseState::kHead;
  impl_->head_bytes = 0;
  impl_->begun = false;
}

std::size_t RequestParser::feed(std::string_view bytes) {
  if (bytes.empty() || impl_->state == ParseState::kDone || impl_->state == ParseState::kFailed) return 0;
  impl_->begun = true;
  return impl_->feed(bytes);
}

ParseState RequestParser::state() const {
  return impl_->state;
}
bool RequestParser::begun() const {
  return impl_->begun;
}
Request& RequestParser::request() {
  return impl_->message->request;
}
bool RequestParser::keep_alive() const {
  return impl_->message->keep_alive();
}
bool RequestParser::http10() const {
  return impl_->message->http10;
}
bool RequestParser::expects_continue() const {
  return impl_->message->continue_expected && !impl_->message->http10;
}
std::optional<std::uint64_t> RequestParser::content_length() const {
  const auto length = impl_->message->content_length();
  return length ? std::optional<std::uint64_t>(*length) : std::nullopt;
}

bool RequestParser::take_body(const BodyRule& rule, const std::filesystem::path& spool_dir) {
  Message& message = *impl_->message;
  message.rule = rule;
  message.eager(true);
  impl_->state = ParseState::kFailed;
  if (content_length().value_or(0) > rule.bytes_max) return message.refuse(413, "the body is too large");
  if (rule.spool) {
    auto file = SpoolFile::create(spool_dir);
    if (!file) {
      message.refuse(500, "the body could not be stored");
      message.refusal.cause = file.error().message;
      return false;
    }
    message.request.body_file = file->path();
    message.spool = std::move(*file);
  }
  impl_->state = ParseState::kBody;
  return true;
}

const Refusal& RequestParser::refusal() const {
  return impl_->message->refusal;
}

}  // namespace turnpike::net
